"""What is kept of a call, and in which columns: a record becomes a row and the row a record again.

A column is one line of COLUMNS. One that comes later names the version of the schema that it came with (`since`), and
is added to the tables that exist. Statements are written so that SQLite and PostgreSQL both understand them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import Any, Literal, NamedTuple

import orjson

from lectr_extproc.core.pricing import UNITS, Cost, Row
from lectr_extproc.core.record import OWN, Attempt, CallRecord
from lectr_extproc.core.tries import Try
from lectr_extproc.core.usage import COUNTS, Usage

Value = str | int | None
Clean = Callable[[str], str]
Part = Literal["", "usage", "cost", "cost.row"]

TEXT_LIMIT = 1024
"Longer texts are cut: what a client names should not fill a disk."
_BEYOND = 2**63
"Neither SQLite nor PostgreSQL keeps a larger integer; a number that needs more is absent."


@dataclass(frozen=True, slots=True, eq=False)
class Codec:
    """How one kind of value is kept, and what is made of it again, None included. Without a function: as it is."""

    sql: Literal["TEXT", "BIGINT"]
    keep: Callable[[Any, Clean], Value]
    "Total: what cannot be kept is absent."
    give: Callable[[Any], Any] | None = None


def _text_kept(text: str, clean: Clean) -> str:
    return clean(_storable(text)[:TEXT_LIMIT])


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL, and neither takes half a surrogate pair."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _number_kept(number: int, _: Clean) -> int | None:
    return number if -_BEYOND <= number < _BEYOND else None


def _list_kept(texts: tuple[str, ...], clean: Clean) -> str | None:
    """Never cut: that would be no JSON."""
    return clean(_storable(orjson.dumps(texts).decode())) if texts else None


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(orjson.loads(text)) if text else ()


def _tries(text: str | None) -> tuple[Try, ...] | None:
    return tuple(Try(**each) for each in orjson.loads(text)) if text else None


def _amounts_kept(amounts: tuple[int, ...], _: Clean) -> str:
    """By name and not by position: rows outlive the order of UNITS. As texts: JSON's numbers end at 64 bits."""
    return _AMOUNTS[len(amounts)] % amounts


def _amounts(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    kept = {_PLACES[unit]: int(amount) for unit, amount in orjson.loads(text).items() if unit in _PLACES}
    return tuple([kept.get(place, 0) for place in range(max(kept, default=-1) + 1)])


_PLACES = {unit: place for place, unit in enumerate(UNITS)}
_AMOUNTS = ["{" + ",".join([f'"{unit}":"%d"' for unit in UNITS[:size]]) + "}" for size in range(len(UNITS) + 1)]

TEXT = Codec("TEXT", _text_kept)
WORD = Codec("TEXT", _text_kept, lambda text: text or "")
NUMBER = Codec("BIGINT", _number_kept)
FLAG = Codec("BIGINT", lambda flag, _: int(flag), bool)
# Milliseconds with three decimals are whole microseconds, which add up without rounding.
MICROSECONDS = Codec(
    "BIGINT", lambda ms, clean: _number_kept(round(ms * 1000), clean), lambda us: None if us is None else us / 1000
)
LIST = Codec("TEXT", _list_kept, _list)
TRIES = Codec("TEXT", _list_kept, _tries)
AMOUNTS = Codec("TEXT", _amounts_kept, _amounts)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column: its name, how its values are kept, and where in the record they stand."""

    name: str
    codec: Codec
    of: str = ""
    "The field, if it is called otherwise."
    part: Part = ""
    since: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", self.of or self.name)


COLUMNS = (
    Column("call_id", WORD),
    Column("started_ns", NUMBER),
    Column("duration_us", MICROSECONDS, "duration_ms"),
    Column("first_byte_us", MICROSECONDS, "first_byte_ms"),
    Column("gateway_us", MICROSECONDS, "gateway_ms"),
    Column("provider_first_byte_us", MICROSECONDS, "provider_first_byte_ms"),
    Column("org", TEXT),
    Column("provider", TEXT),
    Column("provider_source", TEXT),
    Column("provider_unknown", FLAG),
    Column("provider_detected", TEXT),
    Column("model_requested", TEXT),
    Column("model_sent", TEXT),
    Column("model_answered", TEXT),
    Column("dialect", TEXT),
    Column("method", WORD),
    Column("path", WORD),
    Column("streaming", FLAG),
    Column("status", NUMBER),
    Column("error_category", TEXT),
    Column("error_source", TEXT),
    Column("error_code", TEXT),
    Column("feature", TEXT),
    Column("task", TEXT),
    Column("task_known", TEXT),
    Column("attempts", NUMBER),
    Column("request_bytes", NUMBER),
    Column("response_bytes", NUMBER),
    Column("request_id", TEXT),
    Column("credential", TEXT),
    Column("notes", LIST),
    Column("host", TEXT),
    Column("observed", TEXT),
    Column("token_source", WORD),
    Column("service_tier", TEXT),
    Column("response_id", TEXT),
    Column("finish_reasons", LIST),
    Column("traceparent", TEXT),
    Column("rule", TEXT, since=3),
    Column("rule_arm", TEXT, since=3),
    Column("tier", TEXT, since=4),
    Column("auto_tier", TEXT, since=4),
    Column("auto_score", NUMBER, since=4),
    Column("candidates", NUMBER, since=4),
    Column("tries", TRIES, since=7),
    Column("auto_signals", TEXT, since=9),
    Column("dropped", TEXT, since=9),
    Column("input_tokens", NUMBER, part="usage"),
    Column("output_tokens", NUMBER, part="usage"),
    Column("cache_read_tokens", NUMBER, part="usage"),
    Column("cache_write_tokens", NUMBER, part="usage"),
    Column("cache_write_1h_tokens", NUMBER, part="usage"),
    Column("reasoning_tokens", NUMBER, part="usage"),
    Column("audio_input_tokens", NUMBER, part="usage"),
    Column("audio_output_tokens", NUMBER, part="usage"),
    Column("cache_read_audio_tokens", NUMBER, part="usage"),
    Column("image_input_tokens", NUMBER, part="usage"),
    Column("image_output_tokens", NUMBER, part="usage"),
    Column("web_search_requests", NUMBER, part="usage"),
    Column("web_fetch_requests", NUMBER, part="usage"),
    Column("tool_requests", NUMBER, part="usage"),
    Column("search_units", NUMBER, part="usage"),
    Column("audio_seconds", NUMBER, part="usage"),
    Column("pages", NUMBER, part="usage"),
    Column("pricing_status", TEXT, "status", "cost"),
    Column("pricing_reason", TEXT, "reason", "cost"),
    Column("cost_pico_usd", NUMBER, "total", "cost"),
    Column("cost_parts", AMOUNTS, "amounts", "cost"),
    Column("price_provider", TEXT, "provider", "cost.row"),
    Column("price_model", TEXT, "model", "cost.row"),
    Column("price_source", TEXT, "source", "cost.row"),
    Column("price_version", TEXT, "version", "cost.row"),
)
"A call, the columns that people look at first."

ATTEMPT_COLUMNS = (
    Column("request_id", WORD),
    Column("started_ns", NUMBER),
    Column("duration_us", MICROSECONDS, "duration_ms"),
    Column("cluster", WORD),
    Column("address", WORD),
    Column("status", NUMBER),
    Column("flags", LIST),
    Column("details", WORD),
)
"An attempt at a call that failed."


class _Stretch(NamedTuple):
    """Columns that stand in one part of the record, read by one call: there are seventy in each row."""

    part: Part
    fields: tuple[str, ...]
    read: Callable[[Any], tuple[Any, ...]]
    keeps: tuple[Callable[[Any, Clean], Value], ...]
    gives: tuple[tuple[int, Callable[[Any], Any]], ...]
    "What is made of the values that are not given back as they are."


def _stretches(columns: Iterable[Column]) -> list[_Stretch]:
    found = []
    for part, neighbours in groupby(columns, key=attrgetter("part")):
        group = list(neighbours)
        fields = [column.of for column in group]
        gives = [(i, column.codec.give) for i, column in enumerate(group) if column.codec.give is not None]
        keeps = [column.codec.keep for column in group]
        found.append(_Stretch(part, tuple(fields), attrgetter(*fields), tuple(keeps), tuple(gives)))
    return found


_OWN_OF: Mapping[Part, Collection[str]] = {"": OWN, "usage": COUNTS, "cost": ("total", "amounts"), "cost.row": ()}
_shared = [column for column in COLUMNS if column.of not in _OWN_OF[column.part]]
_own = [column for column in COLUMNS if column not in _shared]
_SHARED, _OWN, (_ATTEMPT,) = map(_stretches, (_shared, _own, ATTEMPT_COLUMNS))
_shared_of, _own_of = (itemgetter(*map(COLUMNS.index, columns)) for columns in (_shared, _own))
_in_order = itemgetter(*map([*_shared, *_own].index, COLUMNS))


def row_of(record: CallRecord, clean: Clean) -> tuple[Value, ...]:
    """The row of a record, total: what cannot be kept is absent. `clean` takes keys out of what clients wrote."""
    cost = record.cost
    parts = {"": record, "usage": record.usage, "cost": cost, "cost.row": cost.row if cost else None}
    shared = tuple([_read(stretch, parts[stretch.part]) for stretch in _SHARED])
    row = list(_shared_kept(shared, clean))
    for stretch in _OWN:
        row += _kept(stretch, _read(stretch, parts[stretch.part]), clean)
    in_order: tuple[Value, ...] = _in_order(row)
    return in_order


def attempt_row_of(attempt: Attempt, clean: Clean) -> tuple[Value, ...]:
    """The row of an attempt."""
    return tuple(_kept(_ATTEMPT, _ATTEMPT.read(attempt), clean))


@lru_cache(1024)
def _shared_kept(parts: tuple[tuple[Any, ...] | None, ...], clean: Clean) -> tuple[Value, ...]:
    """What many calls share is made once."""
    return tuple(chain.from_iterable(_kept(stretch, part, clean) for stretch, part in zip(_SHARED, parts, strict=True)))


def _read(stretch: _Stretch, part: Any) -> tuple[Any, ...] | None:
    return None if part is None else stretch.read(part)


def _kept(stretch: _Stretch, values: tuple[Any, ...] | None, clean: Clean) -> list[Value]:
    if values is None:
        return [None] * len(stretch.keeps)
    return [None if value is None else keep(value, clean) for keep, value in zip(stretch.keeps, values, strict=True)]


def record_of(row: Sequence[Value]) -> CallRecord:
    """The record of a row. Of the price that was used its name and version are back, not the price itself."""
    shared, pricing = _shared_given(_shared_of(row))
    own, usage, cost = _given(_OWN, _own_of(row))
    return CallRecord(
        **shared,
        **own,
        usage=Usage(**usage) if usage else None,
        cost=pricing._replace(**cost) if pricing and cost else pricing,
    )


@lru_cache(1024)
def _shared_given(values: tuple[Value, ...]) -> tuple[dict[str, Any], Cost | None]:
    fields, cost, price = _given(_SHARED, values)
    row = Row(**price, standard=()) if price.get("model") is not None else None
    return fields, Cost(**cost, row=row) if cost.get("status") is not None else None


def _given(stretches: Sequence[_Stretch], kept: Sequence[Value]) -> list[dict[str, Any]]:
    """The fields of each part; none of one of which nothing was kept."""
    given: list[dict[str, Any]] = []
    end = 0
    for stretch in stretches:
        begin, end = end, end + len(stretch.fields)
        values: list[Any] = list(kept[begin:end])
        if stretch.part and values.count(None) == len(values):
            given.append({})
            continue
        for i, give in stretch.gives:
            values[i] = give(values[i])
        given.append(dict(zip(stretch.fields, values, strict=True)))
    return given


def attempt_of(row: Sequence[Value]) -> Attempt:
    """The attempt of a row."""
    (fields,) = _given([_ATTEMPT], row)
    return Attempt(**fields)


# --- statements -------------------------------------------------------------------------------------------------------

_SET_ASIDE = """CREATE TABLE set_aside (name TEXT NOT NULL, first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL,
calls BIGINT NOT NULL, reason TEXT NOT NULL, again BIGINT NOT NULL, PRIMARY KEY (name, first_seq))"""
_DISMISSED = """CREATE TABLE dismissed (id TEXT PRIMARY KEY, org TEXT, feature TEXT, kind TEXT NOT NULL,
first_hour BIGINT NOT NULL, last_hour BIGINT NOT NULL)"""
_TOLD = "CREATE TABLE told (id TEXT PRIMARY KEY, hour BIGINT NOT NULL)"
_COUNTERS = """CREATE TABLE limit_counters (name TEXT NOT NULL, starts BIGINT NOT NULL, used BIGINT NOT NULL,
PRIMARY KEY (name, starts))"""
_HOLDS = """CREATE TABLE limit_holds (call_id TEXT NOT NULL, name TEXT NOT NULL, starts BIGINT NOT NULL,
unit TEXT NOT NULL, amount BIGINT NOT NULL, step_ns BIGINT NOT NULL, expires_s BIGINT NOT NULL,
PRIMARY KEY (call_id, name))"""
_HOLDS_EXPIRE = "CREATE INDEX limit_holds_expire ON limit_holds (expires_s)"
_WARNINGS = """CREATE TABLE limit_warnings (name TEXT NOT NULL, starts BIGINT NOT NULL, most BIGINT NOT NULL,
per_cent BIGINT NOT NULL, PRIMARY KEY (name, starts, most, per_cent))"""
_BREAKERS = """CREATE TABLE breakers (provider TEXT NOT NULL, model TEXT NOT NULL, host TEXT NOT NULL,
failures BIGINT NOT NULL, failed_ms BIGINT NOT NULL, until_s BIGINT, is_asked BIGINT NOT NULL,
PRIMARY KEY (provider, model, host))"""
LATER_TABLES: Mapping[int, Sequence[str]] = {
    2: [_SET_ASIDE],
    5: [_COUNTERS, _HOLDS, _HOLDS_EXPIRE, _WARNINGS],
    6: [_BREAKERS],
    8: [_DISMISSED, _TOLD],
}
"By the version of the schema they came with."


def migrations(
    identity: str, calls: Sequence[Column] = COLUMNS, attempts: Sequence[Column] = ATTEMPT_COLUMNS
) -> list[list[str]]:
    """The statements that lead to each version of the schema from the one before it; `identity` numbers the rows."""
    tables = {"calls": calls, "attempts": attempts}
    latest = max(*LATER_TABLES, *(column.since for columns in tables.values() for column in columns))
    first = [
        f"CREATE TABLE calls (seq {identity}, {_typed(calls)}, UNIQUE (call_id))",
        "CREATE INDEX calls_started ON calls (started_ns)",
        # Each attempt has a start of its own, so the two tell attempts apart, and what is joined comes first.
        f"CREATE TABLE attempts ({_typed(attempts)}, UNIQUE (request_id, started_ns))",
        "CREATE INDEX attempts_started ON attempts (started_ns)",
        "CREATE TABLE cursors (name TEXT PRIMARY KEY, seq BIGINT NOT NULL, holder TEXT, until_ms BIGINT NOT NULL)",
    ]
    later = [
        [
            *LATER_TABLES.get(version, ()),
            *(
                f"ALTER TABLE {table} ADD COLUMN {column.name} {column.codec.sql}"
                for table, columns in tables.items()
                for column in columns
                if column.since == version
            ),
        ]
        for version in range(2, latest + 1)
    ]
    return [first, *later]


def _typed(columns: Sequence[Column]) -> str:
    return ", ".join(f"{column.name} {column.codec.sql}" for column in columns if column.since == 1)


def _insert(table: str, columns: Sequence[Column]) -> str:
    names, marks = ", ".join(column.name for column in columns), ", ".join("?" for _ in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 - our own names


INSERT_CALL = _insert("calls", COLUMNS)
INSERT_ATTEMPT = _insert("attempts", ATTEMPT_COLUMNS)
CALL_NAMES = ", ".join(column.name for column in COLUMNS)
ATTEMPT_NAMES = ", ".join(column.name for column in ATTEMPT_COLUMNS)
