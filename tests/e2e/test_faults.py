"""Whatever fails around a call: clients get an answer, and each answered call has one row in the ledger."""

import pytest

from tests.collector import Collector
from tests.e2e.calls import NO_ANSWER
from tests.e2e.faults import FAULTS, SETTLES_WITHIN_S, Fault, Stage, staged
from tests.e2e.gateway import BUILDS, Build, wait_until
from tests.e2e.scene import Providers
from tests.postgres import Postgres


def assert_each_answered_call_has_its_row(stage: Stage, fault: Fault) -> None:
    with stage.under_traffic():
        fault.happens(stage)
    counts = stage.settle()
    assert (counts.recorded, counts.twice) == (counts.answered, 0), counts
    assert set(stage.outcomes.values()) <= fault.statuses
    if NO_ANSWER not in fault.statuses:
        assert counts.answered == counts.sent
    assert stage.ledger_says("dropped") == stage.ledger_says("unwritable") == 0


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.is_envoys])
def test_whoever_is_killed_hangs_or_restarts_each_answered_call_has_its_row(stage: Stage, name: str) -> None:
    assert_each_answered_call_has_its_row(stage, FAULTS[name])


@pytest.mark.parametrize("build", BUILDS[:1], indirect=True, ids=str)
@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if not fault.is_envoys])
def test_whatever_lectr_can_neither_read_nor_write_each_call_is_answered_and_has_its_row(
    stage: Stage, name: str
) -> None:
    assert_each_answered_call_has_its_row(stage, FAULTS[name])


@pytest.mark.parametrize("build", BUILDS[:1], indirect=True, ids=str)
def test_a_postgresql_that_restarts_costs_no_row(
    build: Build, providers: Providers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def restarts(stage: Stage) -> None:
        server.stop()
        wait_until(lambda: stage.ledger_says("problem") and stage.ledger_says("waiting") > 20, "rows that wait")
        server.start()
        wait_until(lambda: stage.ledger_says("problem") is None, "a ledger that is written", SETTLES_WITHIN_S)

    with Postgres() as server:
        url = server.new_database("faults")
        with staged(build, providers, tmp_path_factory.mktemp("stage"), url) as stage:
            assert_each_answered_call_has_its_row(stage, Fault(happens=restarts))


@pytest.mark.parametrize("build", BUILDS[:1], indirect=True, ids=str)
def test_a_collector_that_is_down_busy_or_hangs_costs_neither_a_call_nor_its_row_nor_its_span(
    build: Build,
    providers: Providers,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails_in_every_way(stage: Stage) -> None:
        for status, answers in ((503, True), (429, True), (200, False)):
            asked = collector.asked
            collector.status = status
            (collector.goes.set if answers else collector.goes.clear)()
            wait_until(lambda: collector.asked >= asked + 2, f"an outbox that tries again after {status}", 30)  # noqa: B023
            stage.sees(200)
            collector.status, taken = 200, len(collector.taken)
            collector.goes.set()
            wait_until(lambda: len(collector.taken) > taken, f"spans after {status}", 30)  # noqa: B023

    with Collector() as collector:
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1")
        directory = tmp_path_factory.mktemp("stage")
        with staged(build, providers, directory, f"sqlite://{directory}/ledger.db") as stage:
            assert_each_answered_call_has_its_row(stage, Fault(happens=fails_in_every_way))
            wait_until(lambda: collector.calls().keys() == stage.outcomes.keys(), "a span of each", 30)
    # What was sent without an answer is sent again, as the same span.
    assert len({(span.trace_id, span.span_id) for span in collector.taken}) == len(stage.outcomes)
