"""What calls add up to, as the console shows it: what may be asked, the statement for it, and its rows as JSON.

Calls are counted by group and between bounds of duration (hours.py), so that no percentile needs them sorted, and of
the groups only those with most calls leave the database. What a question costs is bounded by how many calls it reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from lectr_extproc.core.hours import HOUR_S, MICRO, slowness_of
from lectr_extproc.core.pricing import usd
from lectr_extproc.core.report import Filters

By = Literal["models", "features", "tasks", "orgs", "providers"]

COLUMNS: Mapping[By, Mapping[str, str]] = {
    "models": {"provider": "provider", "model": "coalesce(model_sent, model_requested)"},
    "features": {"feature": "feature"},
    "tasks": {"task": "coalesce(task_known, task)"},
    "orgs": {"org": "org"},
    "providers": {"provider": "provider"},
}
"How calls are grouped: what tells groups apart, and the column it is in."

CALLS, MOST_CALLS = 100_000, 1_000_000
"So many calls a question reads, unless it says how many; and at most. A hundred thousand take a fraction of a second."
MOST_GROUPS = 100
MOST_CHOICES = 200
DAY_S = 86_400
MOST_POINTS = 120
STEPS_S = (60, 300, 900, HOUR_S, 3 * HOUR_S, 6 * HOUR_S, DAY_S, 7 * DAY_S)
"Between two points of a trend. Longer ranges take several weeks."
_LAST_S = 2**63 // 10**9 - 1

NAMES = ("org", "provider", "model", "feature", "task")
"What calls can be chosen by; written with nothing behind it, those without one."


class Misasked(ValueError):  # noqa: N818
    """A question with a parameter that is not understood, and which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which calls, in which range."""

    filters: Filters
    calls: int
    is_complete: bool = True
    "There were no more calls in the range than may be read; else it begins later than was asked for."
    asked_since_s: int

    @property
    def since_s(self) -> int:
        """From where on calls are read."""
        return self.filters.since_s or 0

    @property
    def until_s(self) -> int:
        """Up to where."""
        return self.filters.until_s or 0

    def within(self, beyond_ns: int | None) -> "Question":
        """The same without what began up to then, so that as many calls are left as may be read."""
        if beyond_ns is None:
            return self
        filters = replace(self.filters, since_s=max(self.since_s, beyond_ns // 10**9 + 1))
        return replace(self, filters=filters, is_complete=False)

    def as_json(self) -> dict[str, Any]:
        """The range as each answer begins with it."""
        return {
            "since": self.asked_since_s,
            "until": self.until_s,
            "covers_since": self.since_s,
            "complete": self.is_complete,
        }


def question(parameters: Mapping[str, str], now_s: int) -> Question:
    """What a URL asks for; the last day, where it does not say."""
    until_s = number(parameters, "until", now_s, 1, _LAST_S)
    since_s = number(parameters, "since", max(0, until_s - DAY_S), 0, _LAST_S)
    if since_s >= until_s:
        raise Misasked("since: it is not before until")
    calls = number(parameters, "calls", CALLS, 1, MOST_CALLS)
    filters = Filters(since_s=since_s, until_s=until_s, **named(parameters))
    return Question(filters=filters, calls=calls, asked_since_s=since_s)


def named(parameters: Mapping[str, str]) -> dict[str, str]:
    """What calls are to be chosen by."""
    return {name: parameters[name] for name in NAMES if name in parameters}


def number(parameters: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """A whole number of a URL; `default` where it has none."""
    if (text := parameters.get(name)) is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise Misasked(f"{name}: write a whole number from {least} to {most}")
    return int(text)


# --- statements -------------------------------------------------------------------------------------------------------

BEYOND = (
    "SELECT started_ns FROM calls WHERE started_ns >= ? AND started_ns < ? ORDER BY started_ns DESC LIMIT 1 OFFSET ?"
)
"The question when the first call began that is one too many, of a range and a number of calls; read from the index."

_SUMS = {
    "calls": "count(*)",
    "failed": "sum(CASE WHEN error_category IS NULL THEN 0 ELSE 1 END)",
    "theirs": "sum(CASE WHEN error_source = 'provider' THEN 1 ELSE 0 END)",
    "unpriced": "sum(CASE WHEN pricing_status = 'unavailable' THEN 1 ELSE 0 END)",
    "priced": "count(cost_pico_usd)",
    # In two halves: a sum of pico-USD would leave 64 bits at nine million dollars.
    "micro": f"sum(cost_pico_usd / {MICRO})",
    "rest": f"sum(cost_pico_usd - cost_pico_usd / {MICRO} * {MICRO})",
    "microseconds": "sum(duration_us)",
    "input": "sum(input_tokens)",
    "output": "sum(output_tokens)",
}
_EXTREMES = {"fastest": "min", "slowest": "max"}
"Of the durations between two bounds: what is looked for between them is somewhere between these."


def statement(columns: Sequence[str], filters: Filters, most: int = MOST_GROUPS) -> tuple[str, list[Any]]:
    """The question whose rows `figures_of` reads: the groups with most calls, and what all others are together.

    A group without a name has an empty one, since databases differ in how they compare nothing with nothing.
    """
    where, values = filters.where()
    names = [f"group_{i}" for i in range(len(columns))]
    groups = ", ".join(names)
    inner = ", ".join(f"{column} AS {name}" for column, name in zip(columns, names, strict=True))
    ends = {name: f"{function}(duration_us)" for name, function in _EXTREMES.items()}
    sums = ", ".join(f"{sql} AS {name}" for name, sql in {**_SUMS, **ends}.items())
    outer = [f"{function}({name})" for name, function in {**dict.fromkeys(_SUMS, "sum"), **_EXTREMES}.items()]
    place = f"CASE WHEN place <= {most} THEN place ELSE {most + 1} END"
    sql = (
        f"WITH counted AS MATERIALIZED (SELECT {inner}, {slowness_of('1 = 1')} AS slowness, {sums}"  # noqa: S608
        f" FROM calls WHERE {where} GROUP BY slowness, {groups}),"
        f" ranked AS (SELECT {groups}, row_number() OVER (ORDER BY sum(calls) DESC, {groups}) AS place"
        f" FROM counted GROUP BY {groups})"
        f" SELECT {place} AS place, max(place), {', '.join(f'min({name})' for name in names)}, slowness,"
        f" {', '.join(outer)}"
        f" FROM counted JOIN ranked USING ({groups}) GROUP BY 1, slowness ORDER BY 1"
    )
    return sql, values


def groups_statement(by: By, filters: Filters) -> tuple[str, list[Any]]:
    """That of a view."""
    return statement([f"coalesce({column}, '')" for column in COLUMNS[by].values()], filters)


def trend_statement(asked: Question) -> tuple[str, list[Any]]:
    """That of the trend: a group for each step."""
    return statement([f"started_ns / {step_s(asked) * 10**9}"], asked.filters, MOST_POINTS + 1)


def choices_statement(filters: Filters) -> tuple[str, list[Any]]:
    """The question whose rows `choices_of` reads: what calls can be chosen by, less what is rare."""
    where, values = filters.where()
    sql = (
        "SELECT org, provider, coalesce(model_sent, model_requested) AS model, feature,"  # noqa: S608
        f" coalesce(task_known, task) AS known, count(*) AS calls FROM calls WHERE {where}"
        " GROUP BY org, provider, model, feature, known ORDER BY calls DESC LIMIT 5000"
    )
    return sql, values


# --- rows as figures --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Figures:
    """What the calls of one group add up to; None where nobody knows."""

    calls: int = 0
    failed: int = 0
    theirs: int = 0
    unpriced: int = 0
    priced: int = 0
    micro: int | None = None
    rest: int | None = None
    microseconds: int | None = None
    input: int | None = None
    output: int | None = None
    slowness: dict[int, "Alike"] = field(default_factory=dict)

    def add(self, slowness: int | None, row: Sequence[Any]) -> None:
        """The calls of a row, all of which took about as long."""
        *sums, fastest, slowest = row
        for name, value in zip(_SUMS, sums, strict=True):
            if value is not None:  # what is not known is no part of what is
                setattr(self, name, (getattr(self, name) or 0) + int(value))
        if slowness is not None:
            before = self.slowness.get(slowness, Alike(0, fastest, slowest))
            self.slowness[slowness] = Alike(
                before.calls + int(sums[0]), min(before.fastest_us, fastest), max(before.slowest_us, slowest)
            )

    @property
    def pico_usd(self) -> int | None:
        """What those calls cost whose cost is known; None if there is none."""
        return None if self.micro is None or self.rest is None else self.micro * MICRO + self.rest

    def as_json(self) -> dict[str, Any]:
        """The figures that every view has."""
        timed = sum(alike.calls for alike in self.slowness.values())
        return {
            "requests": self.calls,
            "errors": self.failed,
            "error_rate": round(self.failed / self.calls, 6) if self.calls else None,
            "provider_errors": self.theirs,
            "unpriced": self.unpriced,
            "cost_usd": money(self.pico_usd),
            "average_ms": round((self.microseconds or 0) / timed / 1000, 3) if timed else None,
            "p95_ms": self._p95_ms(timed),
            "input_tokens": self.input,
            "output_tokens": self.output,
        }

    def _p95_ms(self, timed: int) -> float | None:
        """Of 100 calls 95 took no longer (nearest rank), about: among calls that took about as long, by their place."""
        rank = -(-timed * 95 // 100)
        for _, alike in sorted(self.slowness.items()):
            if rank <= alike.calls:
                within = (rank - 1) / max(1, alike.calls - 1)
                return round((alike.fastest_us + (alike.slowest_us - alike.fastest_us) * within) / 1000, 3)
            rank -= alike.calls
        return None


class Alike(NamedTuple):
    """Calls whose durations are between the same bounds."""

    calls: int
    fastest_us: int
    slowest_us: int


def money(pico: int | None) -> str | None:
    """An amount in USD, exact to the last digit that is not zero."""
    if pico is None:
        return None
    text = f"{usd(pico):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class Group(NamedTuple):
    """One group and what its calls add up to; the names of the group that stands for all others are None."""

    names: tuple[Any, ...] | None
    figures: Figures


def figures_of(
    rows: Iterable[Sequence[Any]], columns: int, most: int = MOST_GROUPS
) -> tuple[list[Group], Figures, int]:
    """The groups by how many calls they have, what all calls add up to, and how many groups there are beyond."""
    groups: dict[int, Group] = {}
    total, last = Figures(), 0
    for place, highest, *rest in rows:
        names, slowness, sums = rest[:columns], rest[columns], rest[columns + 1 :]
        group = groups.setdefault(place, Group(tuple(names) if place <= most else None, Figures()))
        for figures in (group.figures, total):
            figures.add(slowness, sums)
        last = max(last, highest)
    return list(groups.values()), total, max(0, last - most)


def view(by: By, asked: Question, rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """A view by groups."""
    names = list(COLUMNS[by])
    groups, total, more = figures_of(rows, len(names))
    named = [dict(zip(names, (name or None for name in group.names), strict=True)) for group in groups if group.names]
    lines = [name | group.figures.as_json() for name, group in zip(named, groups, strict=False)]
    shown = {"range": asked.as_json(), "total": total.as_json(), "rows": lines, "more": more}
    if by == "features":
        untagged = sum(group.figures.calls for group in groups if group.names == ("",))
        shown["untagged_share"] = round(untagged / total.calls, 6) if total.calls else None
    return shown


def step_s(asked: Question) -> int:
    """How far apart the points of a trend are."""
    span_s = asked.until_s - asked.since_s
    week_s = STEPS_S[-1]
    return next(
        (step for step in STEPS_S if span_s <= MOST_POINTS * step), -(-span_s // (MOST_POINTS * week_s)) * week_s
    )


def overview(asked: Question, rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """What all calls of the range add up to, and how that came about."""
    step = step_s(asked)
    groups, total, _ = figures_of(rows, 1, MOST_POINTS + 1)
    found = {group.names[0]: group.figures for group in groups if group.names}
    span_s = asked.until_s - asked.since_s
    points = range(asked.since_s // step, (asked.until_s - 1) // step + 1)
    cost = total.pico_usd
    return {
        "range": asked.as_json(),
        "total": {
            **total.as_json(),
            "cost_per_hour_usd": money(None if cost is None else round(cost * HOUR_S / span_s / MICRO) * MICRO),
            "requests_per_minute": round(total.calls * 60 / span_s, 3),
        },
        "trend": {
            "step_s": step,
            "points": [{"at": number * step} | _point(found.get(number, Figures())) for number in points],
        },
    }


def _point(figures: Figures) -> dict[str, Any]:
    shown = figures.as_json()
    return {name: shown[name] for name in ("requests", "errors", "unpriced", "cost_usd", "average_ms", "p95_ms")}


def choices_of(asked: Question, rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """What calls can be chosen by, the most used first; None where some have none."""
    found: list[dict[str | None, int]] = [{} for _ in NAMES]
    for *values, calls in rows:
        for counted, value in zip(found, values, strict=True):
            counted[value] = counted.get(value, 0) + calls
    lists = [
        sorted(counted, key=lambda value: (-counted[value], value is None, value))[:MOST_CHOICES] for counted in found
    ]
    return {"range": asked.as_json(), **{f"{name}s": values for name, values in zip(NAMES, lists, strict=True)}}
