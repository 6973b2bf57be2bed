import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from lectr_extproc import doctor, status
from lectr_extproc.cli import main
from lectr_extproc.doctor import Examined, as_text, examine
from lectr_extproc.gateway.finding import error, warning
from lectr_extproc.gateway.running import Running
from lectr_extproc.settings import load
from tests.gateway.examples import bootstrap, dump_of

Capture = pytest.CaptureFixture[str]

WELL: Mapping[str, Any] = {"degraded": [], "clusters": [each.cluster for each in load("{}").snapshot.upstreams]}
RUNNING = Running(
    version=(1, 40, 0),
    server={"state": "LIVE"},
    dump=dump_of(bootstrap()),
    clusters={},
    counters={},
)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What lectr and Envoy say, and where Envoy was asked."""
    said: dict[str, Any] = {"lectr": WELL, "envoy": RUNNING, "at": []}

    def ask(_: object) -> Any:
        if isinstance(said["lectr"], Exception):
            raise said["lectr"]
        return said["lectr"]

    monkeypatch.setattr(status, "ask", ask)
    monkeypatch.setattr(doctor, "look_at", lambda admin: said["at"].append(admin) or said["envoy"])
    return said


def test_where_all_is_well_nothing_is_said(said: dict[str, Any], capsys: Capture) -> None:
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "Envoy 1.40.0, profile native: nothing is wrong\n"
    assert main(["doctor", "--envoy-admin", "http://10.0.0.9:9901"]) == 0
    assert said["at"] == ["127.0.0.1:9901", "http://10.0.0.9:9901"]


def test_a_lectr_that_is_away_is_an_error(said: dict[str, Any], capsys: Capture) -> None:
    said["lectr"] = status.StatusError("no lectr answers at 127.0.0.1:8088 (admin.listen)")
    assert main(["doctor", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    (finding,) = answer.pop("findings")
    assert answer == {"envoy": "1.40.0", "profile": "native"}
    assert finding["severity"] == "error"
    assert finding["what"] == "no lectr answers at 127.0.0.1:8088 (admin.listen)"
    assert set(finding) == {"severity", "what", "why", "do", "see"}


def test_a_lectr_that_is_degraded_is_a_warning_and_no_failure(said: dict[str, Any], capsys: Capture) -> None:
    said["lectr"] = {**WELL, "degraded": ["ledger"]}
    assert main(["doctor"]) == 0
    assert "warning  lectr is degraded: ledger\n    why  calls go on" in capsys.readouterr().out


def test_a_lectr_of_other_settings_is_told_and_envoy_not_blamed_for_it(said: dict[str, Any], capsys: Capture) -> None:
    said["lectr"] = {**WELL, "clusters": ["practice"]}
    said["envoy"] = replace(RUNNING, dump=dump_of(bootstrap(upstreams=())))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("warning  lectr sends calls to other addresses than these settings\n")
    assert out.endswith("0 errors, 1 warnings\n")


def test_errors_come_first_and_are_counted() -> None:
    examined = examine_with(warning("w", "y", "d", "s"), error("e", "y", "one\ntwo", "s"))
    assert as_text(examined) == (
        "error    e\n    why  y\n    do   one\n         two\n    see  s\n\n"
        "warning  w\n    why  y\n    do   d\n    see  s\n\n"
        "Envoy 1.40.0, profile native: 1 errors, 1 warnings\n"
    )


def examine_with(*findings: Any) -> Examined:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "look_at", lambda _: RUNNING)
        patch.setattr(doctor, "check_running", lambda *_: [*findings])
        patch.setattr(status, "ask", lambda _: WELL)
        return examine(load("{}"))
