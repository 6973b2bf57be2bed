import random
import sqlite3
from typing import Any

import pytest

from lectr_extproc.core.hours import (
    BOUNDS_US,
    MOST_PAIRS,
    Hour,
    drifted,
    hours_of,
    p95_ms,
    pairs_statement,
    statement,
)
from lectr_extproc.core.ledger import INSERT_CALL, migrations, row_of
from lectr_extproc.core.pricing import Cost
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.report import Filters
from tests.core.finished import STARTED_S, call

HOUR = STARTED_S // 3600
EVERY_CALL = Filters()


def added_up(*calls: CallRecord, filters: Filters = EVERY_CALL) -> dict[Any, dict[int, Hour]]:
    connection = sqlite3.connect(":memory:")
    for statements in migrations("INTEGER PRIMARY KEY"):
        for sql in statements:
            connection.execute(sql)
    connection.executemany(INSERT_CALL, [row_of(one, str) for one in calls])
    pairs = drifted(connection.execute(*pairs_statement(filters)))
    found = hours_of(connection.execute(*statement(filters, pairs)))
    connection.close()
    return found


def test_calls_are_added_up_by_org_feature_and_hour() -> None:
    later = (STARTED_S + 3600) * 10**9
    found = added_up(call(), call(), call(started_ns=later), call(feature=None), call(org="dal"), call(org=None))
    assert {group: {number: hour.calls for number, hour in hours.items()} for group, hours in found.items()} == {
        ("acme", "search"): {HOUR: 2, HOUR + 1: 1},
        ("acme", None): {HOUR: 1},
        ("dal", "search"): {HOUR: 1},
        (None, "search"): {HOUR: 1},
    }
    assert added_up(call(), call(org="dal"), filters=Filters(org="dal")).keys() == {("dal", "search")}


def test_what_is_not_known_of_a_call_is_counted_as_nothing_at_all() -> None:
    unknown = call(cost=Cost("unavailable"), model_answered=None, duration_ms=None)
    found = added_up(unknown, call(model_sent=None))["acme", "search"][HOUR]
    assert (found.calls, found.priced, found.cost_micro_usd, found.named) == (2, 1, 250_000, 0)
    assert sum(found.slowness.values()) == 1


def test_calls_that_failed_are_counted_and_not_timed() -> None:
    found = added_up(call(), call(error_category="rate_limit", duration_ms=1.0))["acme", "search"][HOUR]
    assert (found.calls, found.errors, list(found.slowness.values())) == (2, 1, [1])


def test_another_model_than_was_sent_is_told_from_a_version_of_it() -> None:
    version, other = call(), call(model_answered="gpt-4o-mini-2024-07-18")
    found = added_up(version, version, other, call(model_answered=None))["acme", "search"][HOUR]
    assert (found.named, found.drifted) == (2, 1)


def test_more_pairs_of_models_than_a_statement_takes_are_left_out() -> None:
    sql, values = statement(Filters(org="acme"), [("a", "b")] * (MOST_PAIRS + 1))
    assert sql.count("?") == len(values) == 2 * MOST_PAIRS + 1


DURATIONS = {"the shortest": 0, "below the first bound": 999, "on it": 1000, "on the last": BOUNDS_US[-1]}


@pytest.mark.parametrize("microseconds", DURATIONS.values(), ids=DURATIONS.keys())
def test_a_duration_is_counted_between_the_bounds_around_it(microseconds: int) -> None:
    found = added_up(call(duration_ms=microseconds / 1000))["acme", "search"][HOUR]
    ((place, count),) = found.slowness.items()
    assert count == 1
    assert place == sum(bound <= microseconds for bound in BOUNDS_US)


@pytest.mark.parametrize("seed", range(5))
def test_the_percentile_is_nearly_that_of_the_sorted_durations(seed: int) -> None:
    chance = random.Random(seed)
    durations = sorted(chance.lognormvariate(14, 0.6) for _ in range(2000))
    slowness: dict[int, int] = {}
    for one in durations:
        place = sum(bound <= one for bound in BOUNDS_US)
        slowness[place] = slowness.get(place, 0) + 1
    assert p95_ms(slowness) == pytest.approx(durations[1899] / 1000, rel=0.05)


def test_percentiles_end_where_the_bounds_do() -> None:
    assert p95_ms({0: 100}) == pytest.approx(0.95)
    assert p95_ms({len(BOUNDS_US): 1}) == BOUNDS_US[-1] / 1000
