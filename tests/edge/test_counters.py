"""The counters of limits, the same promises on SQLite files and on a real PostgreSQL."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lectr_extproc.core.limits import Ask, Exceeded, Hold, Kind, Limit
from lectr_extproc.core.spending import Settlement
from lectr_extproc.edge.counters import EXPIRES_S, KEPT_S
from lectr_extproc.edge.store import Store
from tests.core.finished import STARTED_S, call
from tests.edge.ledgers import Open

_names = itertools.count(1)
NOW = STARTED_S * 10**9
SECOND = 10**9


@pytest.fixture
def store(another: Open) -> Store:
    return another()


def limit(most: int = 100, kind: Kind = "daily", **more: Any) -> Limit:
    return Limit(org="acme", kind=kind, most=most, **more)


DAY = limit()


def ask(*rows: Limit, amount: int = 10, call_id: str = "", at_s: int = STARTED_S, is_cheaper: bool = False) -> Ask:
    holds = tuple(Hold(row, amount, row.starts(at_s)) for row in rows)
    return Ask(call_id or f"call-{next(_names)}", holds, is_cheaper)


def fits(store: Store, *asks: Ask, now_ns: int = NOW) -> list[bool]:
    return [verdict is None for verdict in store.counters.reserve(asks, now_ns).verdicts]


def used(store: Store, row: Limit = DAY) -> int:
    return sum(store.counters.read([row], NOW)[row.name].values())


def settled(call_id: str, usd: int | None, *holds: Hold, tokens: int | None = None) -> Settlement:
    return Settlement(call_id, {"usd": usd, "tokens": tokens, "requests": 1, "streams": 0}, holds)


def finish(store: Store, settlement: Settlement) -> None:
    """The record of a call is written, and settles it."""
    store.write([call(call_id=settlement.call_id)], [], [settlement])


def test_what_is_held_cannot_be_taken_by_another(store: Store, another: Open) -> None:
    assert fits(store, ask(DAY, amount=60)) == [True]
    assert fits(another(), ask(DAY, amount=41), ask(DAY, amount=40), ask(DAY, amount=1)) == [False, True, False]
    assert used(store) == 100


def test_a_call_takes_all_that_it_asks_for_or_nothing(store: Store) -> None:
    feature = limit(5, feature="search")
    (found,) = store.counters.reserve([one := ask(DAY, feature)], NOW).verdicts
    assert found == Exceeded(one.holds[1], 0, feature.ends(feature.starts(STARTED_S)))
    assert used(store) == 0


def test_who_is_refused_is_told_how_much_is_only_held(store: Store) -> None:
    fits(store, ask(DAY, amount=60, call_id="open"), ask(DAY, amount=40, call_id="over"))
    finish(store, settled("over", 40))
    (found,) = store.counters.reserve([ask(DAY)], NOW).verdicts
    assert found is not None
    assert (found.used, found.held, found.resets_s) == (100, 60, STARTED_S + 1)


def test_a_hundred_at_once_from_several_processes_never_take_more_than_there_is(another: Open) -> None:
    stores = [another() for _ in range(4)]
    rows = (DAY, limit(500, "monthly"), limit(13, "requests"), limit(1000, "rolling", window_s=3600))
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda i: fits(stores[i % 4], ask(*rows, amount=7)), range(100))
    assert sum(itertools.chain.from_iterable(answers)) == 1  # seven requests each, of thirteen
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda i: fits(stores[i % 4], *(ask(DAY, amount=3) for _ in range(5))), range(20))
    assert sum(itertools.chain.from_iterable(answers)) == 31
    assert used(stores[0]) == 100


def test_a_record_puts_what_was_used_in_the_place_of_what_was_held(store: Store, another: Open) -> None:
    assert fits(store, ask(DAY, amount=90, call_id="c")) == [True]
    finish(store, settled("c", 4, Hold(DAY, 4, DAY.starts(STARTED_S))))
    assert used(another()) == 4
    finish(another(), settled("c", 4, Hold(DAY, 4, DAY.starts(STARTED_S))))
    assert used(store) == 4, "it came twice"


def test_what_nobody_can_say_stays_as_it_was_held_and_a_failure_gives_back(store: Store) -> None:
    fits(store, ask(DAY, amount=10, call_id="unknown"), ask(DAY, amount=10, call_id="failed"))
    finish(store, settled("unknown", None))
    finish(store, settled("failed", 0))
    assert used(store) == 10
    assert store.counters.give_back([], STARTED_S + EXPIRES_S) == 0, "both are over"


def test_the_limit_of_a_model_that_did_not_answer_gets_all_of_it_back(store: Store) -> None:
    assert fits(store, ask(DAY, amount=60, call_id="a")) == [True]
    finish(store, settled("a", 50)._replace(others=frozenset({DAY.name})))
    assert used(store) == 0


def test_a_call_that_nothing_was_held_for_is_counted_once(store: Store) -> None:
    hold = Hold(DAY, 7, DAY.starts(STARTED_S))
    for _ in range(2):
        finish(store, settled("c", 7, hold))
    store.write([call(call_id="d"), call(call_id="d")], [], [settled("d", 7, hold), settled("d", 7, hold)])
    assert used(store) == 14


def test_a_call_that_comes_back_late_is_counted_where_it_began(store: Store) -> None:
    assert fits(store, ask(DAY, amount=50, call_id="c")) == [True]
    assert store.counters.give_back([], STARTED_S + EXPIRES_S - 1) == 0
    assert store.counters.give_back([], STARTED_S + EXPIRES_S) == 1
    assert used(store) == 0
    finish(store, settled("c", 20, Hold(DAY, 20, DAY.starts(STARTED_S))))
    assert used(store) == 20


def test_a_call_that_began_before_midnight_is_held_of_the_day_that_it_is_judged_by(store: Store) -> None:
    began = ask(DAY, amount=60, at_s=DAY.starts(STARTED_S) - 1), ask(DAY, amount=60, at_s=DAY.starts(STARTED_S) - 1)
    assert fits(store, *began) == [True, False]
    assert used(store) == 60


def test_who_has_gone_gives_back_at_once(store: Store) -> None:
    fits(store, ask(DAY, call_id="gone"), ask(DAY, call_id="here"))
    assert store.counters.give_back(["gone"], STARTED_S) == 1
    assert used(store) == 10


def test_tokens_by_the_minute_are_settled_in_the_bucket_that_refills(store: Store) -> None:
    row = limit(600, "tokens")
    assert fits(store, ask(row, amount=600, call_id="c"), ask(row, amount=1)) == [True, False]
    finish(store, settled("c", 0, tokens=300))
    assert fits(store, ask(row, amount=301), ask(row, amount=300)) == [False, True]
    assert fits(store, ask(row, amount=100), now_ns=NOW + 10 * SECOND) == [True]
    fits(store, ask(row, call_id="given back", amount=600), now_ns=NOW + 300 * SECOND)
    store.counters.give_back(["given back"], STARTED_S)
    assert fits(store, ask(row, amount=600), now_ns=NOW + 300 * SECOND) == [True]


def test_streams_are_given_back_when_they_end(store: Store) -> None:
    row = limit(2, "streams")
    assert fits(store, *(ask(row, amount=1, call_id=name) for name in "abc")) == [True, True, False]
    finish(store, settled("a", 99))
    assert fits(store, ask(row, amount=1)) == [True]


def test_a_counter_with_two_bounds_counts_a_call_once(store: Store) -> None:
    soft, hard = limit(20, over="economy"), limit(30)
    assert fits(store, ask(soft, hard), ask(soft, hard), ask(soft, hard)) == [True, True, False]
    assert used(store) == 20
    cheaper = [ask(soft, hard, is_cheaper=True) for _ in range(2)]
    assert fits(store, *cheaper) == [True, False]
    assert used(store) == 30


def test_a_cheaper_call_is_counted_beyond_what_leaves_it_by_the_minute_too(store: Store) -> None:
    row = limit(1, "requests", over="economy")
    assert fits(store, ask(row, amount=1), ask(row, amount=1, is_cheaper=True)) == [True, True]
    assert store.counters.read([row], NOW)[row.name][0] == NOW + 120 * SECOND


def test_no_number_is_too_large_to_be_counted(store: Store) -> None:
    row = limit(1, "tokens")
    assert fits(store, ask(row, amount=10**6, call_id="c")) == [True]
    finish(store, settled("c", 10**30, Hold(DAY, 10**30, DAY.starts(STARTED_S)), tokens=10**30))
    assert used(store) == 10**17


def test_what_is_long_over_is_forgotten(store: Store) -> None:
    fits(store, ask(DAY, call_id="c"), ask(limit(9, "requests"), amount=1, call_id="d"))
    finish(store, settled("c", 10))
    store.counters.give_back(["d"], STARTED_S + KEPT_S - 86_400)
    assert used(store) == 10
    store.counters.give_back([], STARTED_S + KEPT_S)
    assert used(store) == 0


# --- warnings ---------------------------------------------------------------------------------------------------------


def warned(store: Store, *asks: Ask, now_ns: int = NOW) -> list[int]:
    return [warning.per_cent for warning in store.counters.reserve(asks, now_ns).warned]


def test_a_threshold_is_told_once_for_a_window_by_whichever_process(store: Store, another: Open) -> None:
    row = limit(warn_at=(50, 80, 100))
    assert warned(store, ask(row, amount=49)) == []
    assert warned(store, ask(row, amount=31)) == [50, 80]
    assert warned(store, ask(row, amount=1)) == []
    assert warned(another(), ask(row, amount=1)) == []
    assert warned(another(), ask(row, amount=50)) == [100], "a refusal is all of it"
    tomorrow = STARTED_S + 86_400
    assert warned(store, ask(row, amount=50, at_s=tomorrow), now_ns=tomorrow * SECOND) == [50]
    raised = limit(200, warn_at=(50, 80, 100))
    assert warned(store, ask(raised, amount=18)) == [50], "half of more than it was"


def test_a_threshold_that_nobody_heard_of_is_told_once_more(store: Store, another: Open) -> None:
    row = limit(warn_at=(50, 80))
    told = store.counters.reserve([ask(row, amount=90)], NOW).warned
    assert [(one.per_cent, one.used, one.held) for one in told] == [(50, 90, 90), (80, 90, 90)]
    store.counters.tell_again(told[0])
    assert warned(another(), ask(row, amount=1)) == [50]
    assert warned(another(), ask(row, amount=1)) == []


def test_a_call_that_never_fits_warns_of_nothing(store: Store) -> None:
    row = limit(warn_at=(50, 100))
    assert warned(store, ask(row, amount=101)) == []
    assert warned(store, ask(row, amount=40), ask(row, amount=61)) == [100], "the first that does not fit any more"


def test_a_window_that_slides_warns_once_in_its_length(store: Store) -> None:
    row = limit(100, "rolling", window_s=3600, warn_at=(80,))
    assert warned(store, ask(row, amount=80)) == [80]
    (warning,) = store.counters.reserve(
        [ask(limit(80, "rolling", window_s=3600, warn_at=(100,)), amount=1)], NOW
    ).warned
    assert (warning.per_cent, warning.used) == (100, 80)
    assert warned(store, ask(row, amount=1), now_ns=NOW + 60 * SECOND) == []
    later = STARTED_S + 7200
    assert warned(store, ask(row, amount=90, at_s=later), now_ns=later * SECOND) == [80]
