"""The ledger's tables, the same promises on SQLite files and on a real PostgreSQL."""

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from lectr_extproc.core.anomalies import Dismissal
from lectr_extproc.core.hours import Hour
from lectr_extproc.core.recommend import Advising, Part
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.report import GROUPS, Filters
from lectr_extproc.core.usage import Usage
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import EVERY_CALL, SetAside, Store, Totals, Unusable, Written
from tests.core.finished import DAY_S, STARTED_S, call
from tests.edge.ledgers import Open, attempt, ids


@pytest.fixture
def store(another: Open) -> Store:
    return another()


def test_calls_come_back_as_they_were_in_the_order_they_were_written(store: Store, another: Open) -> None:
    first, second = call(), call(feature="føroyar")
    assert store.write([first], []) == Written(1)
    assert store.write([second], []) == Written(1)
    found = another().read_after(0, 10)
    assert [record for _, record in found] == [first, second]
    assert another().read_after(found[0][0], 10) == found[1:]
    assert another().read_after(0, 1) == found[:1]


def test_the_same_batch_twice_is_kept_once(store: Store, another: Open) -> None:
    batch, attempts = [call(), call()], [attempt()]
    assert [store.write(batch, attempts), another().write(batch, attempts)] == [Written(2), Written(0)]
    assert store.write([batch[0], new := call()], []) == Written(1)
    assert ids(store) == [batch[0].call_id, batch[1].call_id, new.call_id]
    assert store.attempts_of(["r"]) == attempts


def test_a_key_that_a_client_put_where_a_name_belongs_is_not_kept(store: Store) -> None:
    store.write([call(feature="sk-proj-0123456789abcdefghij")], [])
    ((_, kept),) = store.read_after(0, 1)
    assert kept.feature == "sk-…"


def test_attempts_are_found_by_their_call_in_the_order_of_time(store: Store) -> None:
    later, sooner, other = attempt(started_ns=9), attempt(started_ns=2), attempt("other")
    store.write([], [later, other, sooner])
    assert store.attempts_of(["r"]) == [sooner, later]
    assert store.attempts_of(["r", "other", "nobody"]) == [sooner, later, other]
    assert store.attempts_of([]) == []
    assert store.attempts_of(["r", "other"], 3, 9) == [later]
    assert store.attempts() == [sooner, later, other]


def test_two_that_start_at_once_make_one_schema(unmade: Open) -> None:
    together = threading.Barrier(4)

    def start(store: Store) -> None:
        together.wait()
        store.migrate()
        store.write([call()], [])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, [unmade() for _ in range(4)]))
    reader = unmade()
    reader.check()
    assert len(ids(reader)) == 4


def test_a_newer_schema_than_the_program_knows_is_refused(store: Store, unmade: Open) -> None:
    with store._database.transaction(writes=True) as transaction:
        transaction.run("UPDATE schema_version SET version = 99")
    for refused in (unmade().migrate, unmade().check):
        with pytest.raises(Unusable, match="its schema has version 99, and this lectr knows 9"):
            refused()


def test_an_older_schema_is_brought_up_to_date_and_what_is_in_it_stays(store: Store, another: Open) -> None:
    store.write([call()], [])
    newer = another()
    newer._migrations = [*newer._migrations, ["ALTER TABLE calls ADD COLUMN region TEXT"]]
    newer.migrate()
    newer.migrate()
    with newer._database.transaction(writes=False) as transaction:
        assert transaction.run("SELECT region FROM calls") == [(None,)]


def test_who_writes_goes_on_when_a_newer_program_brings_the_schema_up_to_date(store: Store, unmade: Open) -> None:
    store.write([first := call()], [])
    reader, newer = unmade(), unmade()
    reader.check()
    newer._migrations = [*newer._migrations, ["ALTER TABLE calls ADD COLUMN region TEXT"]]
    newer.migrate()
    for of_old in (store.migrate, store.check, reader.check):
        of_old()
    assert store.write([second := call()], [attempt()]) == Written(1)
    assert ids(store) == ids(newer) == ids(reader) == [first.call_id, second.call_id]
    with pytest.raises(Unusable, match="version 10"):
        unmade().check()


def test_a_migration_that_fails_leaves_the_schema_as_it_was(store: Store, another: Open) -> None:
    newer = another()
    newer._migrations = [*newer._migrations, ["ALTER TABLE calls ADD COLUMN region TEXT", "ALTER TABLE nothing"]]
    with pytest.raises(Exception, match=r"nothing|syntax|incomplete"):
        newer.migrate()
    store.check()


def test_a_database_without_a_ledger_is_told_apart_from_an_empty_one(unmade: Open) -> None:
    with pytest.raises(Unusable, match="there is no ledger in it yet"):
        unmade().check()


def test_numbers_only_grow_for_readers_while_several_write(store: Store, another: Open) -> None:
    """A reader that went by number would miss a call whose lower number appeared later."""
    writers = [another() for _ in range(3)]
    seen: list[int] = []

    def write(writer: Store) -> None:
        for _ in range(30):
            writer.write([call(), call()], [])

    with ThreadPoolExecutor(len(writers)) as pool:
        writing = [pool.submit(write, writer) for writer in writers]
        while True:
            are_done = all(done.done() for done in writing)
            found = store.read_after(seen[-1] if seen else 0, 1000)
            seen += [seq for seq, _ in found]
            if are_done and not found:
                break
        for done in writing:
            done.result()
    assert len(seen) == 180


def test_what_is_written_where_it_is_read_is_not_read_back(store: Store) -> None:
    store.begin("otlp")
    written = [call(request_id=f"r{n}") for n in range(5)]
    store.write(written[:3], [])
    store.write(written[3:], [])
    found = store.read_after(0, 9)
    assert [seq for seq, _ in found] == [1, 2, 3, 4, 5]
    assert all(one is kept for one, (_, kept) in zip(written, found, strict=True))
    assert store.read_after(1, 2) == found[1:3]
    assert store.read_after(5, 9) == []


def test_what_others_wrote_in_between_is_read(store: Store, another: Open) -> None:
    store.begin("otlp")
    written = [call(request_id=f"r{n}") for n in range(5)]
    for who, one in zip((another(), store, another(), store, another()), written, strict=True):
        who.write([one], [])
    read: list[tuple[int, CallRecord]] = []
    while found := store.read_after(len(read), 9):
        read += found
    assert [record.call_id for _, record in read] == [one.call_id for one in written]


def test_what_was_kept_already_or_was_cleaned_is_read_as_it_was_kept(store: Store) -> None:
    store.begin("otlp")
    first, cleaned = call(request_id="r"), call(request_id="sk-proj-0123456789abcdefghij")
    store.write([first], [])
    store.write([first, cleaned], [])
    store.write([cleaned], [])
    store.write([third := call(request_id="r3")], [])
    found = store.read_after(0, 9)
    assert [record.call_id for _, record in found] == [first.call_id, cleaned.call_id, third.call_id]
    assert found[1][1].request_id == "sk-…"
    assert [store.read_after(seq, 9) for seq, _ in found] == [found[1:], found[2:], []]


def test_only_so_much_is_held_for_who_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lectr_extproc.edge.store.FRESH", 3)
    store.begin("otlp")
    written = [call(request_id=f"r{n}") for n in range(5)]
    for one in written:
        store.write([one], [])
    assert store._fresh is not None
    assert len(store._fresh) == 3
    assert [ids(store, after) for after in range(6)] == [[one.call_id for one in written[after:]] for after in range(6)]


def test_the_last_calls_are_found_from_the_end(store: Store) -> None:
    written = [call() for _ in range(5)]
    for one in written:
        store.write([one], [])
    for count in (0, 2, 5, 9):
        expected = [one.call_id for one in written[max(0, 5 - count) :]]
        assert ids(store, store.seq_before_last(count)) == expected
    assert store.read_after(0, 9, Filters(org="nobody")) == []


def test_a_report_adds_up_the_same_in_both(store: Store) -> None:
    store.write([call(), call(duration_ms=None, cost=None), call(org=None, started_ns=(STARTED_S + DAY_S) * 10**9)], [])
    report = store.report(Filters())
    assert list(report) == list(GROUPS)
    (total,) = report["total"]
    assert (total.requests, total.cost_usd, total.average_ms, total.p95_ms) == (3, Decimal("0.5"), 2500.0, 2500.0)
    assert [line.group for line in report["day"]] == [("2026-11-20",), ("2026-11-21",)]
    assert {line.group: line.requests for line in report["org"]} == {("acme",): 2, (None,): 1}
    every = Filters(
        since_s=0, until_s=2**33, org="acme", provider="openai", model="gpt-4o", feature="search", task="summarisation"
    )
    assert store.report(every)["total"][0].requests == 2


def test_what_recommendations_are_made_from_is_added_up_the_same_in_both(store: Store) -> None:
    usage = Usage(input_tokens=1000, output_tokens=200, cache_read_tokens=7)
    told = {"usage": usage, "token_source": "provider", "service_tier": "flex"}
    failed = call(error_source="provider", error_category="overloaded", usage=None)
    later = call(started_ns=(STARTED_S + DAY_S) * 10**9, **{**told, "usage": Usage(input_tokens=300_000)})
    store.write([call(**told), call(**told), failed, later, call(candidates=2), call(model_sent=None)], [])
    ((key, seen),) = store.traffic(EVERY_CALL, Advising()).items()
    assert key == ("acme", "search", "openai", "gpt-4o", "summarisation")
    assert (seen.calls, seen.errors, seen.counted, seen.since_ns) == (4, 1, 3, STARTED_S * 10**9)
    assert (seen.short_prompts, seen.short_outputs, seen.most_input, seen.most_output) == (2, 2, 300_000, 200)
    assert sorted(seen.parts) == [
        Part(1, Usage(input_tokens=300_000), "flex", 12),
        Part(2, Usage(input_tokens=2000, output_tokens=400, cache_read_tokens=14), "flex", 12),
    ]
    assert store.traffic(Filters(org="dal"), Advising()) == {}


def test_hours_are_added_up_the_same_in_both(store: Store) -> None:
    other, later = call(model_answered="gpt-4o-mini"), (STARTED_S + 3600) * 10**9
    failed = call(error_category="overloaded", error_source="provider", cost=None, started_ns=later)
    store.write([call(), call(duration_ms=None), other, call(feature=None, org=None), failed], [])
    hour, found = STARTED_S // 3600, store.hours(EVERY_CALL)
    alike = {"calls": 1, "priced": 1, "cost_micro_usd": 250_000, "named": 1}
    assert found == {
        ("acme", "search"): {
            hour: Hour(calls=3, priced=3, cost_micro_usd=750_000, named=3, drifted=1, slowness={36: 2}),
            hour + 1: Hour(calls=1, errors=1, named=1),
        },
        (None, None): {hour: Hour(**alike, slowness={36: 1})},
    }
    assert store.hours(Filters(since_s=STARTED_S + 3600)).keys() == {("acme", "search")}


def test_an_anomaly_is_dismissed_once(store: Store, another: Open) -> None:
    one, other = Dismissal("1", "acme", None, "cost", 5, 7), Dismissal("2", None, "search", "drift", 1, 2)
    assert store.dismissals() == []
    for dismissed in (one, other, one._replace(last_hour=9)):
        store.dismiss(dismissed)
    assert sorted(another().dismissals()) == [one, other]


def test_what_is_told_is_claimed_by_one_and_forgotten_after_a_month(store: Store, another: Open) -> None:
    assert [one.claim("a", 5) for one in (store, another(), store)] == [True, False, False]
    assert store.claim("b", 5 + 24 * 30)
    assert not another().claim("a", 6)
    assert store.claim("c", 6 + 24 * 30)
    assert another().claim("a", 6 + 24 * 30)


# --- cursors ----------------------------------------------------------------------------------------------------------


def test_how_soon_streams_began_is_told_of_those_that_went_well_at_once(store: Store) -> None:
    stream = {"streaming": True, "host": "api.openai.com", "provider_first_byte_ms": 20.5, "attempts": 1}
    others: list[dict[str, Any]] = [
        {"streaming": False},
        {"error_category": "overloaded"},
        {"attempts": 2},
        {"provider": None},
        {"model_sent": None},
        {"host": None},
        {"provider_first_byte_ms": None},
        {"started_ns": STARTED_S * 10**9 - 1},
    ]
    told = ("openai", "gpt-4o", "api.openai.com", 20_500)
    assert store.first_bytes(0, 100) == []
    store.write(
        [call(**stream), *(call(**{**stream, **other}) for other in others), call(**stream, model_sent="o")], []
    )
    rows = [tuple(row) for row in store.first_bytes(STARTED_S * 10**9, 100)]
    assert sorted(rows) == [told, ("openai", "o", "api.openai.com", 20_500)]
    assert len(store.first_bytes(0, 100)) == 3
    assert [row[1] for row in store.first_bytes(0, 1)] == ["o"]


def test_one_at_a_time_reads_with_a_cursor(store: Store, another: Open) -> None:
    store.begin("otlp")
    store.begin("other")
    assert store.lease("otlp", "one", 60) == 0
    assert another().lease("otlp", "two", 60) is None
    assert store.lease("otlp", "one", 60) == 0
    assert another().lease("other", "two", 60) == 0


def test_a_lease_that_has_ended_or_was_given_back_is_anybodys_and_the_cursor_stays(store: Store) -> None:
    store.begin("otlp")
    store.lease("otlp", "one", 60)
    assert store.advance("otlp", "one", 7)
    assert store.lease("otlp", "one", 0) == 7
    assert store.lease("otlp", "two", 60) == 7


def test_who_asks_for_a_cursor_before_it_begins_gets_none_of_the_past(store: Store) -> None:
    store.write([call(), call()], [])
    assert store.lease("otlp", "one", 60) is None
    store.begin("otlp")
    assert store.lease("otlp", "one", 60) == 2


def test_a_lease_from_before_the_clock_was_set_back_keeps_nobody_out(store: Store) -> None:
    store.begin("otlp")
    store.lease("otlp", "dead", 3600)
    assert store.lease("otlp", "one", 1800) is None
    assert store.lease("otlp", "one", 0) is None
    assert store.lease("otlp", "one", 1700) == 0


def test_a_cursor_advances_only_for_who_holds_it_and_never_back(store: Store) -> None:
    store.begin("otlp")
    store.lease("otlp", "one", 60)
    assert not store.advance("otlp", "two", 5)
    assert store.advance("otlp", "one", 5)
    assert store.advance("otlp", "one", 5)
    assert not store.advance("otlp", "one", 4)
    assert store.lease("otlp", "one", 60) == 5


def test_the_oldest_call_that_a_cursor_is_not_done_with_is_known(store: Store) -> None:
    assert store.lag("otlp") == (0, None)
    store.begin("otlp")
    store.write([call(started_ns=5), call(started_ns=6)], [])
    assert store.lag("otlp") == (2, 5)
    store.lease("otlp", "one", 60)
    (first, _), (second, _) = store.read_after(0, 9)
    store.advance("otlp", "one", first)
    assert store.lag("otlp") == (1, 6)
    store.advance("otlp", "one", second)
    assert store.lag("otlp") == (0, None)


def test_a_new_cursor_begins_with_what_is_written_from_then_on_and_an_old_one_goes_on(store: Store) -> None:
    assert store.cursor("otlp") is None
    store.begin("empty")
    store.write([call(), call()], [])
    store.begin("otlp")
    store.begin("empty")
    assert [cursor.seq for name in ("empty", "otlp") if (cursor := store.cursor(name))] == [0, 2]


ONE, TWO = SetAside(1, 4, 3, "HTTP 401"), SetAside(5, 9, 5, "HTTP 401")


def test_what_is_refused_in_a_row_for_one_reason_is_one_stretch(store: Store) -> None:
    store.begin("otlp")
    store.lease("otlp", "one", 60)
    other = SetAside(10, 10, 1, "HTTP 413")
    for refused in (ONE, TWO, other):
        assert store.advance("otlp", "one", refused.last, refused)
    assert not store.advance("otlp", "two", 20, SetAside(11, 20, 10, "another"))
    assert store.set_aside("otlp", 9) == [SetAside(1, 9, 8, "HTTP 401"), other]
    assert store.set_aside("other", 9) == []


def test_a_stretch_that_is_tried_again_grows_shorter_and_what_is_refused_again_stays(store: Store) -> None:
    store.begin("otlp")
    store.lease("otlp", "one", 60)
    store.advance("otlp", "one", 9, SetAside(1, 9, 8, "HTTP 401"))
    assert store.ask_again("otlp") == 1
    (was,) = store.set_aside("otlp", 9)
    rest = was._replace(first=5, calls=5)
    assert not store.tried_again("otlp", "two", was, rest)
    assert store.tried_again("otlp", "one", was, ONE, rest)
    assert store.set_aside("otlp", 9) == [ONE, rest]
    assert store.tried_again("otlp", "one", rest, None)
    assert store.set_aside("otlp", 9) == [ONE]


def test_what_is_set_aside_has_a_bound_and_its_sums_and_its_next_are_asked_for(store: Store) -> None:
    store.begin("otlp")
    store.lease("otlp", "one", 60)
    assert (store.set_aside_totals("otlp"), store.next_again("otlp")) == (Totals(0, 0, 0), None)
    parts = [SetAside(seq, seq + 1, 2, "HTTP 401") for seq in (1, 4, 7, 10)]
    for part in parts:
        store.advance("otlp", "one", part.last, part)
    assert store.set_aside_totals("otlp") == Totals(4, 8, 0)
    assert store.set_aside("otlp", 2) == parts[2:]
    assert (store.trim("otlp", 4), store.trim("otlp", 3), store.trim("other", 0)) == (0, 2, 0)
    store.ask_again("otlp")
    assert (store.set_aside_totals("otlp"), store.next_again("otlp")) == (Totals(3, 6, 3), parts[1]._replace(again=1))


# --- retention --------------------------------------------------------------------------------------------------------


def test_old_calls_are_forgotten_the_oldest_first_and_a_few_at_a_time(store: Store) -> None:
    calls = [call(started_ns=n) for n in (3, 1, 2, 9)]
    store.write(calls, [attempt(started_ns=n) for n in (3, 1, 2, 9)])
    assert store.forget(5, 5, 2) == (4, 0)
    assert [record.started_ns for _, record in store.read_after(0, 9)] == [3, 9]
    assert [kept.started_ns for kept in store.attempts_of(["r"])] == [3, 9]
    assert [store.forget(5, 5, 2), store.forget(5, 5, 2)] == [(2, 0), (0, 0)]
    assert [kept.started_ns for kept in store.attempts_of(["r"])] == [9]


def test_what_a_cursor_is_not_done_with_stays_until_it_is_older_still(store: Store) -> None:
    store.begin("otlp")
    store.write([call(started_ns=n) for n in (1, 3, 4, 9)], [])
    first = store.read_after(0, 1)[0][0]
    store.lease("otlp", "one", 60)
    store.advance("otlp", "one", first)
    assert store.forget(5, 2, 10) == (1, 0)
    assert [record.started_ns for _, record in store.read_after(0, 9)] == [3, 4, 9]
    assert store.forget(5, 4, 10) == (1, 1)
    store.advance("otlp", "one", first + 9, SetAside(first, first + 2, 3, "HTTP 401"))
    assert store.forget(5, 2, 10) == (1, 0)
    assert [record.started_ns for _, record in store.read_after(0, 9)] == [9]
    assert store.set_aside("otlp", 9) == []


def test_a_bound_pushes_the_oldest_out_and_tells_how_many() -> None:
    store = Store(Sqlite(None), bound=3)
    store.migrate()
    calls = [call() for _ in range(5)]
    assert store.write(calls[:2], [attempt(started_ns=1)]) == Written(2)
    assert store.write(calls[2:], []) == Written(3, 2)
    assert ids(store) == [one.call_id for one in calls[2:]]
    assert store.attempts_of(["r"]) == []
    store.begin("otlp")
    assert store.write([call()], []) == Written(1, 1)
    assert store.write([call() for _ in range(4)], []) == Written(4, 4, 2)
    known = calls[0].started_ns
    attempts = [attempt(started_ns=known + n) for n in range(5)]
    assert store.write([], attempts) == Written(0, attempts_pushed_out=2)
    assert store.attempts_of(["r"]) == attempts[2:]
    assert store.write([], attempts[4:]) == Written(0)
    store.close()
