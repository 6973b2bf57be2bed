"""What the calls of each hour add up to, per org and feature: the statements, and their rows as values.

Durations are counted between bounds instead of being sorted, which a database does in half of the time.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from lectr_extproc.core.pricing import is_version_of
from lectr_extproc.core.report import Filters

Group = tuple[str | None, str | None]
"Org and feature."

HOUR_S = 3600
MICRO = 10**6
"Pico-USD in a micro-USD, and micro-USD in one."
_HOUR_NS = HOUR_S * 10**9

BOUNDS_US = tuple(round(1000 * 1.25**step) for step in range(69))
"""From a millisecond to an hour, each a quarter above the one before. Calls are counted between them, which a
database does quickly; within a quarter the percentile is interpolated, and off by some per cent at most."""


@dataclass(slots=True)
class Hour:
    """What the calls of one hour add up to."""

    calls: int = 0
    errors: int = 0
    priced: int = 0
    cost_micro_usd: int = 0
    named: int = 0
    "Calls whose answer says which model it is from."
    drifted: int = 0
    "Those of them that another model answered than was sent."
    slowness: dict[int, int] = field(default_factory=dict)
    "How many calls that went well took between which of the bounds."


def pairs_statement(filters: Filters) -> tuple[str, list[Any]]:
    """The question which models were sent and which answered, for `drifted`."""
    where, values = filters.where()
    named = "model_sent IS NOT NULL AND model_answered IS NOT NULL"
    return f"SELECT DISTINCT model_sent, model_answered FROM calls WHERE {named} AND {where}", values  # noqa: S608


def drifted(pairs: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """Those where another model answered. A dated version of what was sent is what was sent."""
    return [(sent, answered) for sent, answered in pairs if not is_version_of(answered, sent)]


MOST_PAIRS = 10_000
"Two values each of the 32,766 that SQLite takes in one statement. Clients choose names, and could choose many."


def statement(filters: Filters, pairs: Sequence[tuple[str, str]]) -> tuple[str, list[Any]]:
    """The question whose rows `hours_of` reads; `pairs` are those of `drifted`."""
    where, values = filters.where()
    pairs = pairs[:MOST_PAIRS]
    other = f"(model_sent, model_answered) IN (VALUES {', '.join(['(?, ?)'] * len(pairs))})" if pairs else "1 = 0"
    sql = (
        f"SELECT org, feature, started_ns / {_HOUR_NS} AS hour,"  # noqa: S608 - our own names and numbers
        f" {slowness_of('error_category IS NULL')} AS slowness,"
        " count(*), sum(CASE WHEN error_category IS NULL THEN 0 ELSE 1 END),"
        f" count(cost_pico_usd), sum(cost_pico_usd / {MICRO}),"
        " sum(CASE WHEN model_sent IS NULL OR model_answered IS NULL THEN 0 ELSE 1 END),"
        f" sum(CASE WHEN {other} THEN 1 ELSE 0 END)"
        f" FROM calls WHERE {where} GROUP BY hour, feature, org, slowness"
    )
    return sql, [*(name for pair in pairs for name in pair), *values]


def slowness_of(counted: str) -> str:
    """An expression: between which of the bounds a call's duration is, of the calls that are counted."""
    return f"CASE WHEN {counted} THEN {_between(0, len(BOUNDS_US))} END"


def _between(low: int, high: int) -> str:
    """By halves: of 69 bounds seven are compared with."""
    if low == high:
        return str(low) if low else "CASE WHEN duration_us IS NOT NULL THEN 0 END"
    middle = (low + high) // 2
    at_least = f"duration_us >= {BOUNDS_US[middle]}"
    return f"CASE WHEN {at_least} THEN {_between(middle + 1, high)} ELSE {_between(low, middle)} END"


def hours_of(rows: Iterable[Sequence[Any]]) -> dict[Group, dict[int, Hour]]:
    """The rows, by org and feature and then by the hour since 1970."""
    found: dict[Group, dict[int, Hour]] = {}
    last, hour = None, Hour()
    for org, feature, number, slowness, calls, errors, priced, cost, named, other in rows:
        if (key := (org, feature, number)) != last:
            last, hour = key, found.setdefault((org, feature), {}).setdefault(int(number), Hour())
        hour.calls += calls
        hour.errors += int(errors)
        hour.priced += priced
        hour.cost_micro_usd += int(cost or 0)
        hour.named += int(named)
        hour.drifted += int(other)
        if slowness is not None:
            hour.slowness[slowness] = calls
    return found


def p95_ms(slowness: Mapping[int, int]) -> float:
    """Of 100 calls 95 took no longer, about."""
    places = sorted(slowness)
    totals = list(accumulate(slowness[place] for place in places))
    rank = totals[-1] * 0.95
    at = bisect_left(totals, rank)
    place = places[at]
    low = BOUNDS_US[place - 1] if place else 0
    high = BOUNDS_US[min(place, len(BOUNDS_US) - 1)]
    within = 1 - (totals[at] - rank) / slowness[place]
    return (low + (high - low) * within) / 1000
