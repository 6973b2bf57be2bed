"""The commands that read the ledger."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lectr_extproc.cli import main
from lectr_extproc.cli_ledger import follow
from lectr_extproc.core.pricing import Cost
from lectr_extproc.core.report import Filters
from lectr_extproc.core.usage import Usage
from lectr_extproc.edge.store import SetAside, Store, Unavailable
from tests.commands import Capture, file_of_nothing_around, said
from tests.core.finished import DAY_S, STARTED_S, call
from tests.edge.ledgers import Moody


@pytest.fixture(autouse=True, name="file")
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return file_of_nothing_around(tmp_path, monkeypatch)


def test_report_says_what_calls_add_up_to(capsys: Capture, ledger: Store) -> None:
    ledger.write([call(), call(org="dal", cost=Cost("unavailable"))], [])
    shown = said(capsys, "report")
    assert re.search(r"^openai, gpt-4o +2 +0 +2,500\.0  2,500\.0  \$0\.25 and 1 unpriced$", shown, re.MULTILINE)
    assert re.search(r"^dal  .* \$0\.00 \(pricing unavailable\)$", shown, re.MULTILINE)
    told = json.loads(said(capsys, "report", "--json"))
    assert list(told) == ["total", "model", "feature", "task", "day", "org"]
    assert "cost_usd" not in next(line for line in told["org"] if line["org"] == "dal")


def test_report_counts_only_what_is_asked_for(capsys: Capture, ledger: Store) -> None:
    ledger.write([call(), call(org="dal"), call(started_ns=0)], [])
    for filters, requests in (
        (["--org", "dal"], 1),
        (["--since", "2026-11-20"], 2),
        (["--until", "2026-11-20T12:00"], 1),
        (["--rule", "canary"], 0),
        (["--provider", "openai", "--model", "gpt-4o", "--feature", "search", "--task", "summarisation"], 3),
    ):
        assert json.loads(said(capsys, "report", "--json", *filters))["total"][0]["requests"] == requests


def test_report_without_a_ledger_says_where_it_looked(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "none"))
    for command in (["report"], ["tail"], ["outbox"], ["outbox", "retry"], ["recommend"], ["anomalies", "dismiss"]):
        assert main(command) == 1
        place = tmp_path / "none" / "lectr" / "ledger.db"
        assert capsys.readouterr().err == f"lectr: the ledger cannot be read: there is no ledger at {place} yet\n"


def test_recommend_names_a_cheaper_model_with_what_it_saves(
    capsys: Capture, ledger: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(time, "time", lambda: STARTED_S + 10 * DAY_S)
    usage = Usage(input_tokens=100_000, output_tokens=100)
    calls = [call(usage=usage, token_source="provider") for _ in range(100)]
    ledger.write([*calls, *(replace(one, call_id=f"dal{n}", org="dal") for n, one in enumerate(calls))], [])
    (one,) = json.loads(said(capsys, "recommend", "--json", "--org", "acme"))
    assert (one["feature"], one["model"], one["target"]) == ("search", "gpt-4o", "gpt-4o-mini")
    assert (one["cost_usd"], one["saving_usd"], one["confidence"]) == ("75.30", "70.78", "medium")
    assert said(capsys, "recommend", "--feature", "search").count("saves $70.78 of $75.30 a month") == 2
    for none in (["--feature", "another"], ["--org", "another"], ["--days", "9"]):
        assert said(capsys, "recommend", *none) == "nothing to recommend\n"
    tmp_path.joinpath("lectr.yaml").write_text(
        f"orgs: [{{name: dal, keys: [{{sha256: {'ab' * 32}}}], blocked: {{models: [gpt-4o-mini]}}}}]\n"
        "recommend: {min_saving_usd: 70}"
    )
    assert [one["org"] for one in json.loads(said(capsys, "recommend", "--json"))] == ["acme"]


def test_anomalies_are_told_until_they_are_dismissed(
    capsys: Capture, ledger: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour_s = STARTED_S // 3600 * 3600
    monkeypatch.setattr(time, "time", lambda: hour_s + 3600)
    failed = {"error_category": "overloaded", "error_source": "provider"}
    ledger.write(
        [
            call(started_ns=(hour_s - 3600 * back) * 10**9, **(failed if back == 0 and number < 5 else {}))
            for back in range(24 * 4)
            for number in range(10)
        ],
        [],
    )
    Path("lectr.yaml").write_text("anomalies: {min_calls: 10, after_hours: 72}")
    shown = said(capsys, "anomalies")
    assert shown.endswith("acme, feature search: errors, 50.0% of calls, usually 0.0% of calls (+5.7 σ)\n")
    told = json.loads(said(capsys, "anomalies", "--json", "--org", "acme", "--feature", "search", "--days", "1"))
    ((found,), new) = told.values()
    assert (found["kind"], found["dismissed"], new) == ("errors", False, [])
    assert said(capsys, "anomalies", "--feature", "another") == "nothing unusual\n"
    assert said(capsys, "anomalies", "dismiss", found["id"]) == f"{found['id']} is dismissed\n"
    assert said(capsys, "anomalies") == "nothing unusual\n"
    assert said(capsys, "anomalies", "--all").endswith("  dismissed\n")
    for unknown in (["another"], []):
        assert main(["anomalies", "dismiss", *unknown]) == 1
        name = unknown[0] if unknown else "-"
        assert capsys.readouterr().err == f"lectr: there is no anomaly {name} in the last 7 days\n"


def test_outbox_shows_how_far_spans_have_been_sent_and_what_was_refused(capsys: Capture, ledger: Store) -> None:
    assert said(capsys, "outbox") == "nothing is sent: no lectr with this ledger has had an OTLP endpoint\n"
    ledger.begin("otlp")
    assert said(capsys, "outbox").splitlines() == [
        "done with     0",
        "sent by       nobody now",
        "not sent yet  0",
        "set aside     0",
    ]
    ledger.write([call(), call(), call()], [])
    ledger.lease("otlp", "gw-1:71", 60)
    ledger.advance("otlp", "gw-1:71", 2, SetAside(1, 2, 2, "HTTP 401 Unauthorized"))
    assert said(capsys, "outbox").splitlines() == [
        "done with     2",
        "sent by       gw-1:71",
        "not sent yet  1, the first began 2026-11-20 12:00:00",
        "set aside     2",
        "  1 to 2: 2 calls, HTTP 401 Unauthorized",
    ]


def test_outbox_shows_the_last_of_many_ranges(capsys: Capture, ledger: Store) -> None:
    ledger.begin("otlp")
    ledger.lease("otlp", "gw-1:71", 60)
    for seq in range(1, 51, 2):
        ledger.advance("otlp", "gw-1:71", seq, SetAside(seq, seq, 1, "HTTP 401"))
    shown = said(capsys, "outbox").splitlines()
    assert shown[3:6] == ["set aside     25", "  the last 20 of 25 ranges:", "  11 to 11: 1 calls, HTTP 401"]
    assert shown[-1] == "  49 to 49: 1 calls, HTTP 401"


def test_outbox_retry_has_what_was_refused_sent_again(capsys: Capture, ledger: Store) -> None:
    ledger.begin("otlp")
    ledger.lease("otlp", "one", 60)
    ledger.advance("otlp", "one", 2, SetAside(1, 2, 2, "HTTP 401"))
    assert said(capsys, "outbox", "retry") == "1 range will be sent again by the lectr that sends\n"
    assert [part.again for part in ledger.set_aside("otlp", 9)] == [1]
    assert said(capsys, "outbox").splitlines()[-1] == "  1 to 2: 2 calls, HTTP 401, is sent again"


def test_tail_shows_the_last_calls_and_then_each_new_one(ledger: Store) -> None:
    calls = [call() for _ in range(5)]
    ledger.write(calls[:3], [])
    waits = 0

    def another_is_written() -> None:
        nonlocal waits
        ledger.write([calls[3 + waits]], [])
        waits += 1

    found = follow(ledger, Filters(), 2, wait=another_is_written)
    assert [next(found).call_id for _ in range(4)] == [one.call_id for one in calls[1:]]
    assert waits == 2


def test_tail_goes_on_when_the_database_is_back(capsys: Capture) -> None:
    moody = Moody()
    store = Store(moody)
    store.migrate()
    waits = 0

    def wait() -> None:
        nonlocal waits
        waits += 1
        if waits == 1:
            moody.mood = Unavailable("the server is shutting down")
        elif waits == 4:
            moody.mood = None
            store.write([late], [])

    late = call()
    assert next(follow(store, Filters(), 2, wait)) == late
    assert waits == 4
    assert capsys.readouterr().err.splitlines() == [
        "lectr: the ledger cannot be read now: the server is shutting down",
        "lectr: the ledger is read again",
    ]
    store.close()


@pytest.mark.parametrize("json_", [False, True])
def test_tail_prints_a_line_for_each_call_until_it_is_stopped(
    capfd: pytest.CaptureFixture[str], ledger: Store, monkeypatch: pytest.MonkeyPatch, json_: bool
) -> None:
    ledger.write([call(), call(org="dal", feature="søk")], [])

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lectr_extproc.cli_ledger.time.sleep", stop)
    assert main(["tail", "--org", "dal", *(["--json"] if json_ else [])]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert (json.loads(line)["feature"] == "søk") if json_ else ("feature=søk" in line)
