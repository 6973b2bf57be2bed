"""Whatever fails around a call: clients get an answer, each answered call has one row, each served one a span."""

import psycopg
import pytest

from tests.e2e.calls import NO_ANSWER
from tests.e2e.conftest import once
from tests.e2e.faults import FAULTS, SETTLES_WITHIN_S, Fault, Stage, staged
from tests.e2e.gateway import SAID, Build, wait_until
from tests.e2e.scene import Providers
from tests.postgres import Postgres


def assert_each_call_has_its_row_and_its_span(stage: Stage, fault: Fault) -> None:
    with stage.under_traffic():
        fault.happens(stage)
    counts = stage.settle()
    assert (counts.recorded, counts.exported, counts.twice) == (counts.answered, counts.served, 0), counts
    assert set(stage.outcomes.values()) <= fault.statuses
    if NO_ANSWER not in fault.statuses:
        assert counts.answered == counts.sent
    spans = {(span.trace_id, span.span_id) for span in stage.collector.taken}
    assert len(spans) == len(stage.collector.calls()), "what was sent without an answer is sent again, as the same span"
    assert stage.ledger_says("dropped") == stage.ledger_says("unwritable") == 0


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.is_envoys])
def test_whoever_is_killed_hangs_or_restarts_each_answered_call_has_its_row_and_its_span(
    stage: Stage, name: str
) -> None:
    assert_each_call_has_its_row_and_its_span(stage, FAULTS[name])


@once
@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if not fault.is_envoys])
def test_whatever_lectr_can_neither_read_nor_write_nor_send_each_call_is_answered_and_has_its_row_and_its_span(
    stage: Stage, name: str
) -> None:
    assert_each_call_has_its_row_and_its_span(stage, FAULTS[name])


@once
def test_a_postgresql_that_restarts_costs_no_row_and_no_span(
    build: Build, providers: Providers, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def restarts(stage: Stage) -> None:
        postgres.stop()
        wait_until(lambda: stage.ledger_says("problem") and stage.ledger_says("waiting") > 20, "rows that wait")
        postgres.start()
        wait_until(lambda: stage.ledger_says("problem") is None, "a ledger that is written", SETTLES_WITHIN_S)

    url = postgres.new_database("faults")
    with staged(build, providers, tmp_path_factory.mktemp("stage"), url) as stage:
        assert_each_call_has_its_row_and_its_span(stage, Fault(happens=restarts))
    with psycopg.connect(url) as connection:  # no file that is searched for secrets at the end
        rows = [str(row) for row in connection.execute("SELECT * FROM calls")]
    assert rows
    SAID.extend(rows)
