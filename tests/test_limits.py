"""What `lectr limits` prints, and what `lectr explain` says of limits."""

import json
import time
from pathlib import Path

import pytest

from lectr_extproc.cli import main
from lectr_extproc.core.limits import Ask, Hold
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store
from lectr_extproc.limits import limits_of
from lectr_extproc.settings import load
from tests.commands import Capture, explained

USD = 10**12
TEXT = """
orgs:
- name: acme
  keys: [{sha256: %s, label: web}, {sha256: %s, label: app}]
  limits:
    daily_usd: 50
    rolling: [{usd: 5, window: 1h}]
    requests_per_minute: 60
    narrower:
    - {for: {key: web}, monthly_usd: 9}
    - {for: {feature: search}, tokens_per_minute: 1000, over: economy}
    - {for: {model: gpt-4o}, parallel_streams: 3}
- name: other
  keys: [{sha256: %s}]
  limits: {daily_usd: 1}
- name: free
  keys: [{sha256: %s}]
ledger: {url: 'sqlite://%s/ledger.db'}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lectr.yaml"
    path.write_text(TEXT % (*(letter * 64 for letter in "abcd"), tmp_path))
    return path


@pytest.fixture
def ledger(file: Path) -> Store:
    store = Store(Sqlite(file.parent / "ledger.db"))
    store.migrate()
    return store


def use(store: Store, file: Path, **amounts: int) -> None:
    """Take so much of the limits of acme, by kind."""
    rows = {row.kind: row for row in limits_of(load(file.read_text()).snapshot, "acme")}
    now_ns = time.time_ns()
    holds = tuple(Hold(rows[kind], n, rows[kind].starts(now_ns // 10**9)) for kind, n in amounts.items())  # type: ignore[index]
    assert store.counters.reserve([Ask("call", holds)], now_ns).verdicts == [None]


def test_every_limit_is_shown_with_what_is_used_of_it(file: Path, ledger: Store, capsys: Capture) -> None:
    use(ledger, file, daily=USD // 2, rolling=USD, requests=30, streams=1)
    assert main(["limits", "--config", str(file), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    told = {(line["org"], line["for"], line["limit"]): (line["used"], line["most"]) for line in lines}
    used, most = told.pop(("acme", "the organisation", "requests per minute"))
    assert (28 <= int(used) <= 30, most) == (True, "60")
    assert told == {
        ("acme", "the organisation", "daily USD"): ("0.5", "50"),
        ("acme", "the organisation", "USD in 3600 s"): ("1", "5"),
        ("acme", "key 'web'", "monthly USD"): ("0", "9"),
        ("acme", "feature 'search'", "tokens per minute"): ("0", "1000"),
        ("acme", "model 'gpt-4o'", "parallel streams"): ("1", "3"),
        ("other", "the organisation", "daily USD"): ("0", "1"),
    }
    resets = {line["limit"]: line["resets_at"] for line in lines if line["org"] == "acme"}
    assert resets["daily USD"].endswith("T00:00:00Z")
    assert resets["monthly USD"] is None


def test_people_get_a_table(file: Path, ledger: Store, capsys: Capture) -> None:
    assert main(["limits", "--config", str(file), "--org", "other"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["org", "for", "limit", "used", "of", "resets", "at"]
    assert line.split() == ["other", "the", "organisation", "daily", "USD", "0", "1", "-"]


def test_a_ledger_that_is_not_there_is_an_error_that_says_so(file: Path, capsys: Capture) -> None:
    assert main(["limits", "--config", str(file)]) == 1
    assert "there is no ledger" in capsys.readouterr().err


def test_explain_says_what_would_be_held_and_whether_it_fits(file: Path, ledger: Store, capsys: Capture) -> None:
    arguments = ("--config", file, "--model", "gpt-4o", "--header", "X-Lectr-Feature: search")
    use(ledger, file, tokens=900)
    found = {line["limit"]: line for line in explained(capsys, *arguments)["limits"]}
    assert found["daily USD"]["verdict"] == found["requests per minute"]["verdict"] == "fits"
    assert found["tokens per minute"]["verdict"] == "a model of the tier economy instead"
    assert float(found["daily USD"]["holds"]) == pytest.approx(4096 * 10e-6, abs=1e-3)
    assert {line["for"] for line in found.values()} == {"the organisation", "feature 'search'"}
    assert main(["explain", *map(str, arguments)]) == 0
    assert "limit              daily USD of the organisation: holds 0.04" in capsys.readouterr().out


def test_explain_goes_without_counters_and_says_nothing_of_orgs_without_limits(file: Path, capsys: Capture) -> None:
    found = explained(capsys, "--config", file, "--model", "gpt-4o")["limits"]
    assert {line["verdict"] for line in found} == {None}
    assert "limits" not in explained(capsys, "--config", file, "--model", "gpt-4o", "--org", "free")
    assert main(["explain", "--config", str(file), "--model", "gpt-4o"]) == 0
    assert "nobody can say now" in capsys.readouterr().out


def test_explain_says_who_is_refused(file: Path, ledger: Store, capsys: Capture) -> None:
    use(ledger, file, daily=499 * USD // 10 + USD // 10)
    found = explained(capsys, "--config", file, "--model", "gpt-4o")["limits"]
    (verdict,) = [line["verdict"] for line in found if line["limit"] == "daily USD"]
    assert verdict == "429 daily_spend_limit_exceeded"


def test_explain_says_which_candidate_is_not_asked_as_its_model_has_no_room(
    file: Path, ledger: Store, capsys: Capture, tmp_path: Path
) -> None:
    use(ledger, file, streams=3)
    content = tmp_path / "call.json"
    said = []
    for models in (["gpt-4.1", "gpt-4o"], ["gpt-4o", "gpt-4.1"]):
        asked = {"model": models[0], "fallback": models[1:], "stream": True, "messages": []}
        content.write_text(json.dumps(asked))
        header = ("--header", "Authorization: Bearer sk-proj-0123456789abcdefghij")
        found = explained(capsys, "--config", file, "--body", content, *header)
        said += [line["reason"] for line in found["plan"]["dropped"]]
        said += [line["verdict"] for line in found["limits"] if line["for"] == "model 'gpt-4o'"]
    assert said == ["limit", "429 concurrent_streams_exceeded"], "who pins a model is refused"
