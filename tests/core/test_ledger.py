"""A record and its row: both ways, whatever is in it."""

import dataclasses
import hashlib
import re
import sqlite3
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.ledger import (
    ATTEMPT_COLUMNS,
    COLUMNS,
    INSERT_ATTEMPT,
    INSERT_CALL,
    NUMBER,
    TEXT,
    TEXT_LIMIT,
    Column,
    attempt_of,
    attempt_row_of,
    migrations,
    record_of,
    row_of,
)
from lectr_extproc.core.pricing import UNITS, Cost, Row
from lectr_extproc.core.record import Attempt, CallRecord, LogEntry
from lectr_extproc.core.tries import Try
from lectr_extproc.core.usage import COUNTS, Usage
from tests.core.given import recorded

IDENTITY = "INTEGER PRIMARY KEY"
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
COUNT = st.none() | st.integers(0, 2**53)
MILLISECONDS = st.none() | st.integers(0, 10**13).map(lambda us: us / 1000)
PRICES = st.none() | st.builds(
    Row, provider=TEXTS, model=TEXTS, source=TEXTS, version=TEXTS, standard=st.just(()), tiers=st.just({})
)
AMOUNTS = st.none() | st.lists(st.integers(0, 2**70), max_size=len(UNITS)).map(tuple)
COSTS = st.builds(
    Cost,
    st.sampled_from(["priced", "provider_reported", "free", "no_usage", "unavailable"]),
    st.none() | TEXTS,
    PRICES,
    AMOUNTS,
    st.none() | st.integers(0, 2**63 - 1),
)
USAGES = st.builds(Usage, **dict.fromkeys(COUNTS, COUNT)).map(lambda usage: None if usage == Usage() else usage)
TRIES = st.builds(
    Try,
    provider=TEXTS,
    model=TEXTS,
    host=TEXTS,
    began_ms=st.integers(0, 2**53),
    status=COUNT,
    why=st.none() | TEXTS,
    wait_s=COUNT,
    duration_ms=MILLISECONDS,
)
BY_TYPE: dict[object, st.SearchStrategy[Any]] = {
    "str": TEXTS,
    "str | None": st.none() | TEXTS,
    "int": st.integers(0, 2**63 - 1),
    "int | None": COUNT,
    "float | None": MILLISECONDS,
    "bool": st.booleans(),
    "tuple[str, ...]": st.lists(TEXTS, max_size=3).map(tuple),
    "Usage | None": USAGES,
    "Tries": st.none() | st.lists(TRIES, min_size=1, max_size=3).map(tuple),
    "Cost | None": st.none() | COSTS,
    "ErrorSource | None": st.sampled_from([None, "client", "gateway", "provider"]),
    "TokenSource": st.sampled_from(["provider", "estimated", "none"]),
}


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    def named(type_: Any) -> str:
        return (getattr(type_, "__name__", None) if isinstance(type_, type) else None) or str(type_).rpartition(".")[2]

    by_field = {"error_source": "ErrorSource | None", "token_source": "TokenSource", "usage": "Usage | None"}
    by_field["cost"], by_field["tries"] = "Cost | None", "Tries"
    by_field["notes"] = by_field["finish_reasons"] = by_field["flags"] = "tuple[str, ...]"
    return st.builds(
        kind,
        **{field.name: BY_TYPE[by_field.get(field.name) or named(field.type)] for field in dataclasses.fields(kind)},
    )


def as_it_is(text: str) -> str:
    return text


@given(any_of(CallRecord))
def test_a_record_comes_back_from_its_row_as_it_was(record: CallRecord) -> None:
    assert record_of(row_of(record, as_it_is)) == record


@given(any_of(Attempt))
def test_an_attempt_comes_back_from_its_row_as_it_was(attempt: Attempt) -> None:
    assert attempt_of(attempt_row_of(attempt, as_it_is)) == attempt


def test_a_record_of_which_nothing_is_known_comes_back_as_that() -> None:
    record = recorded(LogEntry(start_ns=0))
    assert record_of(row_of(record, as_it_is)) == record


def test_each_field_of_a_record_has_its_column_and_so_has_each_count() -> None:
    fields = {field.name for field in dataclasses.fields(CallRecord)}
    of = {part: [column.of for column in COLUMNS if column.part == part] for part in ("", "usage", "cost", "cost.row")}
    assert sorted([*of[""], "usage", "cost"]) == sorted(fields)
    assert of["usage"] == list(COUNTS)
    assert sorted([*of["cost"], "row"]) == sorted(Cost._fields)
    assert of["cost.row"] == ["provider", "model", "source", "version"]
    assert [column.of for column in ATTEMPT_COLUMNS] == [field.name for field in dataclasses.fields(Attempt)]


def stored(**changes: Any) -> dict[str, Any]:
    row = row_of(dataclasses.replace(recorded(LogEntry(start_ns=1)), **changes), as_it_is)
    return dict(zip((column.name for column in COLUMNS), row, strict=True))


ODD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a NUL, which PostgreSQL refuses": ({"feature": "a\0b"}, {"feature": "ab"}),
    "half a surrogate pair": ({"feature": "a\ud800"}, {"feature": "a?"}),
    "a number beyond 63 bits": (
        {"request_bytes": 2**63, "attempts": -(2**63)},
        {"request_bytes": None, "attempts": -(2**63)},
    ),
    "a charge beyond 63 bits": ({"cost": Cost("priced", total=2**63)}, {"cost_pico_usd": None}),
    "a text without end": ({"path": "/" * 5000}, {"path": "/" * TEXT_LIMIT}),
    "a long list, which would be no JSON if it were cut": ({"notes": ("n" * 2000,)}, {"notes": f'["{"n" * 2000}"]'}),
}


@pytest.mark.parametrize(("given_", "kept"), ODD.values(), ids=ODD.keys())
def test_what_no_database_takes_costs_itself_alone(given_: dict[str, Any], kept: dict[str, Any]) -> None:
    row = stored(**given_)
    assert {name: row[name] for name in kept} == kept


def test_whatever_a_client_wrote_is_cleaned_before_it_is_kept() -> None:
    record = dataclasses.replace(recorded(LogEntry(start_ns=1)), feature="secret", notes=("a secret",), method="secret")
    row = row_of(record, lambda text: text.replace("secret", "…"))
    assert "secret" not in repr(row)
    assert record_of(row).notes == ("a …",)


def test_amounts_stay_with_their_units_when_the_order_of_these_changes() -> None:
    kept = row_of(dataclasses.replace(recorded(LogEntry(start_ns=1)), cost=Cost("priced", amounts=(1, 2))), as_it_is)
    assert '{"input":"1","output":"2"}' in kept
    later = tuple('{"output":"2","gone":"9"}' if value == '{"input":"1","output":"2"}' else value for value in kept)
    cost = record_of(later).cost
    assert cost is not None
    assert cost.amounts == (0, 2)


def tables(connection: sqlite3.Connection) -> dict[str, list[str]]:
    return {
        name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in ("calls", "attempts")
    }


def test_the_first_version_of_the_schema_is_never_changed() -> None:
    """Ledgers exist that were made with it: a new column says `since`, and comes to them by a migration."""
    first = "\n".join(migrations(IDENTITY)[0])
    assert (
        hashlib.sha256(first.encode()).hexdigest() == "ad67cf98f4b810514a21844a88ddd2f3a0421de08616578dab12b56ad5f3e2f7"
    )


def test_a_later_version_only_adds_so_that_an_older_program_goes_on_writing() -> None:
    """A program names the columns it writes: what it does not know must be a table, or a column that may be empty."""
    adds = re.compile(r"CREATE (TABLE|INDEX) \w+ .*|ALTER TABLE \w+ ADD COLUMN \w+ (TEXT|BIGINT)", re.DOTALL)
    later = [statement for version in migrations(IDENTITY)[1:] for statement in version]
    assert [statement for statement in later if not adds.fullmatch(statement)] == []


def test_a_later_column_is_added_to_the_tables_that_exist_and_to_new_ones_alike() -> None:
    connection = sqlite3.connect(":memory:")
    first = tuple(column for column in COLUMNS if column.since == 1)
    later = (*first, Column("region", TEXT, since=2), Column("zone", TEXT, since=3))
    attempts = (*ATTEMPT_COLUMNS, Column("number", NUMBER, since=3))
    versions = migrations(IDENTITY, later, attempts)
    assert versions[0] == migrations(IDENTITY)[0]
    assert [len(statements) for statements in versions[1:3]] == [2, 2]
    for statements in versions:
        for statement in statements:
            connection.execute(statement)
    assert tables(connection) == {
        "calls": ["seq", *(column.name for column in later)],
        "attempts": [column.name for column in attempts],
    }
    connection.close()


INSERTS: dict[str, tuple[str, Callable[[], tuple[Any, ...]]]] = {
    "a call, by its id": (INSERT_CALL, lambda: row_of(recorded(LogEntry(start_ns=1)), as_it_is)),
    "an attempt, by its call and its start": (
        INSERT_ATTEMPT,
        lambda: attempt_row_of(
            Attempt(
                request_id="r",
                started_ns=1,
                duration_ms=None,
                cluster="",
                address="",
                status=None,
                flags=(),
                details="",
            ),
            as_it_is,
        ),
    ),
}


@pytest.mark.parametrize(("insert", "row"), INSERTS.values(), ids=INSERTS.keys())
def test_what_comes_twice_is_kept_once(insert: str, row: Callable[[], tuple[Any, ...]]) -> None:
    connection = sqlite3.connect(":memory:")
    for statement in chain.from_iterable(migrations(IDENTITY)):
        connection.execute(statement)
    assert [connection.execute(insert, row()).rowcount for _ in range(2)] == [1, 0]
    connection.close()


def test_what_calls_share_is_kept_and_given_back_with_each_of_them() -> None:
    """It is made once for all of them: none may see another's."""
    price = Row(provider="p", model="m", source="s", version="1", standard=())
    some = [
        dataclasses.replace(
            recorded(LogEntry(start_ns=n)),
            call_id=f"{n}",
            usage=Usage(input_tokens=n) if n % 2 else None,
            cost=Cost("priced", None, price, (n,), n) if n % 3 else None,
        )
        for n in range(7)
    ]
    assert [record_of(row_of(record, as_it_is)) for record in some] == some
    for clean in (as_it_is, str.upper):
        assert {row_of(record, clean)[-3] for record in some} == {None, clean("m")}
