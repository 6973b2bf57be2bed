"""Every finished call is in the ledger, whatever becomes of lectr; an attempt that failed is there beside it."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.report import Filters
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store
from tests.e2e.calls import KEYS, asking, call, new_id, works
from tests.e2e.conftest import Launch, LaunchApart, once
from tests.e2e.gateway import Gateway, wait_until
from tests.e2e.scene import HUSH, ORG, Providers, secret, settings_for
from tests.ports import free_port


@contextmanager
def ledger_of(gateway: Gateway) -> Iterator[Store]:
    """The ledger of a gateway that runs, or ran."""
    store = Store(Sqlite(gateway.processes.directory / "lectr" / "ledger.db", read_only=True))
    try:
        yield store
    finally:
        store.close()


def rows(gateway: Gateway) -> dict[str | None, CallRecord]:
    with ledger_of(gateway) as store:
        last = store.read_after(store.seq_before_last(100, Filters()), 100)  # others may have called, and much
        return {record.request_id: record for _, record in last}


def row(gateway: Gateway, request_id: str) -> CallRecord:
    wait_until(lambda: request_id in rows(gateway), "a row")
    return rows(gateway)[request_id]


def test_a_call_ends_as_a_row_with_what_its_line_says(gateway: Gateway, call_id: str) -> None:
    call(gateway, headers={**KEYS, "Content-Type": "application/json", "X-Lectr-Feature": "search"}, call_id=call_id)
    kept, line = row(gateway, call_id), gateway.record(call_id)
    assert (kept.org, kept.feature, kept.status, kept.call_id) == (ORG, "search", 200, line["call_id"])
    assert kept.usage is not None
    assert kept.usage.input_tokens == line["usage"]["input_tokens"]
    assert kept.cost is not None
    assert f"{kept.cost.usd:f}" == line["cost"]
    assert gateway.healthz().json()["ledger"]["problem"] is None


@once
def test_what_people_ask_the_ledger_is_answered_while_lectr_runs(launch: Launch, providers: Providers) -> None:
    gateway = launch(settings_for(providers))
    ids = [new_id() for _ in range(3)]
    for one in ids:
        call(gateway, call_id=one)
    call(gateway, body=asking("no-such-model"), call_id=(unknown := new_id()))
    for one in (*ids, unknown):
        row(gateway, one)
    report: dict[str, Any] = json.loads(gateway.ask("report", "--json"))
    by_model = {line["model"]: line for line in report["model"]}
    assert by_model["gpt-4o"]["requests"] == 3
    assert float(by_model["gpt-4o"]["cost_usd"]) > 0
    assert "cost_usd" not in by_model["no-such-model"]
    assert "$0.00 (pricing unavailable)" in gateway.ask("report")


@once
def test_a_key_where_a_name_belongs_reaches_no_file(gateway: Gateway, call_id: str) -> None:
    call(
        gateway,
        headers={**KEYS, "Content-Type": "application/json", "X-Lectr-Task": secret("sk-proj-")},
        call_id=call_id,
    )
    assert row(gateway, call_id).task == "sk-…"
    written = [file for file in (gateway.processes.directory / "lectr").iterdir() if HUSH.encode() in file.read_bytes()]
    assert written == []


@once
def test_a_lectr_that_is_killed_leaves_its_rows_and_the_next_one_goes_on(
    launch_apart: LaunchApart, providers: Providers
) -> None:
    gateway = launch_apart(settings_for(providers))
    before, after = new_id(), new_id()
    call(gateway, call_id=before)
    first = row(gateway, before)
    gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait()
    gateway.process = gateway.serve()
    wait_until(lambda: works(gateway), "a lectr that is back")
    call(gateway, call_id=after)
    row(gateway, after)
    assert rows(gateway)[before] == first


@once
def test_calls_are_served_where_the_ledger_cannot_be_kept(launch: Launch, providers: Providers, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("something else" * 100)
    gateway = launch({**settings_for(providers), "ledger": {"url": f"sqlite://{tmp_path}/ledger.db"}})
    call(gateway, call_id=(served := new_id()))
    assert gateway.record(served)["status"] == 200
    wait_until(lambda: gateway.healthz().json()["ledger"]["written"], "a call in memory")
    health = gateway.healthz().json()
    assert (health["status"], health["ledger"]["url"]) == ("degraded", "memory")
    assert "not a database" in health["ledger"]["problem"]
    assert gateway.lines("the ledger is in memory")


def test_only_an_attempt_that_failed_is_told_and_is_joined_by_its_call(launch: Launch, providers: Providers) -> None:
    settings = settings_for(providers)
    by_id = {section["id"]: section for section in settings["providers"]}
    by_id["groq"]["base_url"] = f"http://127.0.0.1:{(port := free_port())}"
    gateway = launch(settings)
    call(gateway, call_id=(well := new_id()))
    call(gateway, body=asking("groq/x"), call_id=(failed := new_id()))
    row(gateway, well)
    row(gateway, failed)
    with ledger_of(gateway) as store:
        wait_until(lambda: store.attempts_of([failed]), "an attempt")
        (attempt,) = store.attempts_of([failed, well])
    assert (attempt.request_id, attempt.status, attempt.address) == (failed, None, f"127.0.0.1:{port}")
    assert attempt.flags == ("upstream_connection_failure",)
    assert attempt.started_ns >= rows(gateway)[failed].started_ns
