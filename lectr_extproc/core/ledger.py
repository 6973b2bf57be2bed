"""What is kept of a call, and in which columns: a record becomes a row and the row a record again.

A column is one line of COLUMNS. One that comes later names the version of the schema that it came with (`since`), and
is added to the tables that exist. Statements are written so that SQLite and PostgreSQL both understand them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal, NamedTuple

import orjson

from lectr_extproc.core.pricing import UNITS, Cost, Row
from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.core.usage import Usage

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
    keep: Callable[[Any], Value] | None = None
    give: Callable[[Any], Any] | None = None


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(orjson.loads(text)) if text else ()


def _amounts_kept(amounts: tuple[int, ...]) -> str:
    """By name and not by position: rows outlive the order of UNITS. As texts: JSON's numbers end at 64 bits."""
    return orjson.dumps({unit: str(amount) for unit, amount in zip(UNITS, amounts, strict=False)}).decode()


def _amounts(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    kept = {_PLACES[unit]: int(amount) for unit, amount in orjson.loads(text).items() if unit in _PLACES}
    return tuple([kept.get(place, 0) for place in range(max(kept, default=-1) + 1)])


_PLACES = {unit: place for place, unit in enumerate(UNITS)}

TEXT = Codec("TEXT")
WORD = Codec("TEXT", give=lambda text: text or "")
NUMBER = Codec("BIGINT")
FLAG = Codec("BIGINT", int, bool)
# Milliseconds with three decimals are whole microseconds, which add up without rounding.
MICROSECONDS = Codec(
    "BIGINT", lambda ms: None if ms is None else round(ms * 1000), lambda us: None if us is None else us / 1000
)
LIST = Codec("TEXT", lambda texts: orjson.dumps(texts).decode() if texts else None, _list)
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


def row_of(record: CallRecord, clean: Clean, columns: Sequence[Column] = COLUMNS) -> tuple[Value, ...]:
    """The row of a record, total: what cannot be kept is absent. `clean` takes keys out of what clients wrote."""
    cost = record.cost
    parts = {"": record, "usage": record.usage, "cost": cost, "cost.row": cost.row if cost else None}
    row: list[Value] = []
    for stretch in _stretches(tuple(columns)):
        part = parts[stretch.part]
        row += [None] * len(stretch.codecs) if part is None else _kept(stretch, part, clean)
    return tuple(row)


def attempt_row_of(attempt: Attempt, clean: Clean) -> tuple[Value, ...]:
    """The row of an attempt."""
    (stretch,) = _stretches(ATTEMPT_COLUMNS)
    return tuple(_kept(stretch, attempt, clean))


class _Stretch(NamedTuple):
    """Neighbours that stand in one part of the record, read by one call: there are sixty columns in each row."""

    part: Part
    begins: int
    ends: int
    fields: tuple[str, ...]
    codecs: tuple[Codec, ...]
    read: Callable[[Any], tuple[Any, ...]]
    made: tuple[tuple[int, Callable[[Any], Any]], ...]
    "What is made of the values that are not given back as they are."


@lru_cache(16)
def _stretches(columns: tuple[Column, ...]) -> list[_Stretch]:
    found: list[_Stretch] = []
    for part, neighbours in groupby(columns, key=attrgetter("part")):
        group = list(neighbours)
        begins = found[-1].ends if found else 0
        fields = tuple(column.of for column in group)
        read = attrgetter(*fields) if len(fields) > 1 else partial(_alone, fields[0])
        made = tuple((i, column.codec.give) for i, column in enumerate(group) if column.codec.give is not None)
        codecs = tuple(column.codec for column in group)
        found.append(_Stretch(part, begins, begins + len(group), fields, codecs, read, made))
    return found


def _alone(field: str, part: Any) -> tuple[Any]:
    return (getattr(part, field),)


def _kept(stretch: _Stretch, part: Any, clean: Clean) -> list[Value]:
    row: list[Value] = []
    for codec, value in zip(stretch.codecs, stretch.read(part), strict=True):
        kept = value if value is None or codec.keep is None else codec.keep(value)
        if isinstance(kept, str):
            kept = kept if codec is AMOUNTS else _storable(kept, codec is LIST, clean)
        elif kept is not None and not -_BEYOND <= kept < _BEYOND:
            kept = None
        row.append(kept)
    return row


@lru_cache(4096)
def _storable(text: str, is_json: bool, clean: Clean) -> str:
    """A text as both databases take it. Most texts of a call are those of others, too."""
    # PostgreSQL takes no NUL, and neither takes half a surrogate pair.
    if not text.isascii() or "\0" in text:
        text = text.replace("\0", "").encode("utf-8", "replace").decode()
    return clean(text if is_json else text[:TEXT_LIMIT])  # JSON that is cut is none


def record_of(row: Sequence[Value], columns: Sequence[Column] = COLUMNS) -> CallRecord:
    """The record of a row. Of the price that was used its name and version are back, not the price itself."""
    parts: dict[Part, dict[str, Any]] = {"": {}, "usage": {}, "cost": {}, "cost.row": {}}
    for stretch in _stretches(tuple(columns)):
        values = row[stretch.begins : stretch.ends]
        if stretch.part == "" or values.count(None) < len(values):
            parts[stretch.part].update(_given(stretch, values))
    usage, cost, price = parts["usage"], parts["cost"], parts["cost.row"]
    return CallRecord(
        **parts[""],
        usage=Usage(**usage) if usage else None,
        cost=Cost(**cost, row=_price(**price) if price.get("model") is not None else None)
        if cost.get("status") is not None
        else None,
    )


def _given(stretch: _Stretch, kept: Sequence[Value]) -> dict[str, Any]:
    values: list[Any] = list(kept)
    for i, make in stretch.made:
        values[i] = make(values[i])
    return dict(zip(stretch.fields, values, strict=True))


@lru_cache(1024)
def _price(**name: Any) -> Row:
    """Made once: the calls of a day have few different ones."""
    return Row(**name, standard=())


def attempt_of(row: Sequence[Value]) -> Attempt:
    """The attempt of a row."""
    return Attempt(**_given(_stretches(ATTEMPT_COLUMNS)[0], row))


# --- statements -------------------------------------------------------------------------------------------------------

_SET_ASIDE = """CREATE TABLE set_aside (name TEXT NOT NULL, first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL,
calls BIGINT NOT NULL, reason TEXT NOT NULL, again BIGINT NOT NULL, PRIMARY KEY (name, first_seq))"""
LATER_TABLES: Mapping[int, Sequence[str]] = {2: [_SET_ASIDE]}
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
