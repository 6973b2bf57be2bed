"""What the calls in the ledger add up to: one statement for each way to group them, and the lines that show it.

Money is added up as integers, in two halves: a sum of pico-USD would leave 64 bits at nine million dollars.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from lectr_extproc.core.pricing import Cost, usd
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.usage import Usage

_DAY_NS = 86_400 * 10**9
_MICRO = 10**6
"Pico-USD in a micro-USD, the larger of the two halves."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

GROUPS: Mapping[str, tuple[str, ...]] = {
    "total": (),
    "model": ("provider", "coalesce(model_sent, model_requested)"),
    "feature": ("feature",),
    "task": ("coalesce(task_known, task)",),
    "day": (f"started_ns / {_DAY_NS}",),
    "org": ("org",),
}
"How calls are grouped, by the columns that tell groups apart."

TITLES = {"model": "provider, model"}
UNKNOWN_COST = "$0.00 (pricing unavailable)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which calls; None leaves one out, and an empty name means those without one."""

    since_s: int | None = None
    until_s: int | None = None
    org: str | None = None
    provider: str | None = None
    model: str | None = None
    "As requested, sent or answered."
    feature: str | None = None
    task: str | None = None
    "The client's word, or the one lectr knows for it."
    rule: str | None = None

    def where(self) -> tuple[str, list[Any]]:
        """A condition, and the values of its question marks."""
        moments = {"started_ns >= ?": self.since_s, "started_ns < ?": self.until_s}
        bounds = {condition: at_s * 10**9 for condition, at_s in moments.items() if at_s is not None}
        names = {name: value for name in _NAMED if (value := getattr(self, name)) is not None}
        conditions = [*bounds, *(_NAMED[name][0 if value else 1] for name, value in names.items())]
        return " AND ".join(conditions) or "1 = 1", [*bounds.values(), *filter(None, names.values())]


_NAMED: Mapping[str, tuple[str, str]] = {
    "org": ("org = ?", "org IS NULL"),
    "provider": ("provider = ?", "provider IS NULL"),
    "model": ("? IN (model_requested, model_sent, model_answered)", "coalesce(model_requested, model_sent) IS NULL"),
    "feature": ("feature = ?", "feature IS NULL"),
    "task": ("? IN (task, task_known)", "task IS NULL"),
    "rule": ("rule = ?", "rule IS NULL"),
}
"The condition for calls with a name, and for those without."


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the calls of one group add up to."""

    group: tuple[str | None, ...]
    requests: int
    errors: int
    unpriced: int
    "Calls that cost something nobody can say."
    cost_usd: Decimal | None
    "Of those whose cost is known; None if there is none."
    average_ms: float | None
    p95_ms: float | None
    "Of 100 calls 95 took no longer (nearest rank)."


def statement(by: str, filters: Filters) -> tuple[str, list[Any]]:
    """The question for one way to group, to be answered by rows for `line_of`."""
    where, values = filters.where()
    columns = GROUPS[by]
    named = "".join(f"{column} AS group_{i}, " for i, column in enumerate(columns))
    groups = "".join(f"group_{i}, " for i in range(len(columns)))
    over = f"PARTITION BY {', '.join(columns)} " if columns else ""
    money = f"cost_pico_usd / {_MICRO}"
    # Ranks are counted here and not by a percentile function, which SQLite lacks.
    return (
        f"SELECT {groups}count(*) AS requests, sum(failed), sum(unpriced), count(micro), sum(micro), sum(rest),"  # noqa: S608
        " count(duration_us), sum(duration_us), min(CASE WHEN place * 100 >= timed * 95 THEN duration_us END)"
        f" FROM (SELECT {named}duration_us,"
        " CASE WHEN error_category IS NULL THEN 0 ELSE 1 END AS failed,"
        " CASE WHEN pricing_status = 'unavailable' THEN 1 ELSE 0 END AS unpriced,"
        f" {money} AS micro, cost_pico_usd - {money} * {_MICRO} AS rest,"
        f" row_number() OVER ({over}ORDER BY duration_us NULLS LAST) AS place,"
        f" count(duration_us) OVER ({over.rstrip()}) AS timed"
        f" FROM calls WHERE {where}) AS counted"
        + (f" GROUP BY {groups.rstrip(', ')}" if columns else "")
        + " ORDER BY requests DESC"
        + "".join(f", group_{i}" for i in range(len(columns))),
        values,
    )


def line_of(by: str, row: Sequence[Any]) -> Line:
    """One row of the answer."""
    *group, requests, failed, unpriced, priced, micro, rest, timed, microseconds, p95 = row
    if by == "day":
        group = [(_EPOCH + timedelta(days=int(group[0]))).date().isoformat()]
    return Line(
        group=tuple(group),
        requests=requests,
        errors=int(failed or 0),
        unpriced=int(unpriced or 0),
        cost_usd=usd(int(micro) * _MICRO + int(rest)) if priced else None,
        average_ms=round(int(microseconds) / timed / 1000, 3) if timed else None,
        p95_ms=None if p95 is None else p95 / 1000,
    )


def lines_of(by: str, rows: Sequence[Sequence[Any]]) -> list[Line]:
    """All of them; days in their order, everything else by how often it was asked for."""
    lines = [line_of(by, row) for row in rows]
    return sorted(lines, key=lambda line: str(line.group)) if by == "day" else lines


def as_json(report: Mapping[str, Sequence[Line]]) -> dict[str, Any]:
    """For programs: money as text, what is not known absent."""
    return {by: [_fields(by, line) for line in lines] for by, lines in report.items()}


def _fields(by: str, line: Line) -> dict[str, Any]:
    names = TITLES.get(by, by).split(", ")
    values = {
        **dict(zip(names, line.group, strict=False)),
        "requests": line.requests,
        "errors": line.errors,
        "unpriced": line.unpriced,
        "cost_usd": None if line.cost_usd is None else f"{line.cost_usd:f}",
        "average_ms": line.average_ms,
        "p95_ms": line.p95_ms,
    }
    return {name: value for name, value in values.items() if value is not None}


def as_text(report: Mapping[str, Sequence[Line]]) -> str:
    """For people: one table for each way to group."""
    return "\n\n".join(_table(by, lines) for by, lines in report.items())


_HEADINGS = ("requests", "errors", "average ms", "p95 ms", "cost")


def _table(by: str, lines: Sequence[Line]) -> str:
    rows = [(TITLES.get(by, by), *_HEADINGS), *(_cells(line) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:-1]), row[-1]]) for row in rows
    )


def _cells(line: Line) -> tuple[str, ...]:
    return (
        ", ".join(part if part is not None else "-" for part in line.group),
        f"{line.requests:,}",
        f"{line.errors:,}",
        "-" if line.average_ms is None else f"{line.average_ms:,.1f}",
        "-" if line.p95_ms is None else f"{line.p95_ms:,.1f}",
        cost_text(line.cost_usd, line.unpriced),
    )


def cost_text(cost: Decimal | None, unpriced: int = 0) -> str:
    """A cost for people, exact to the last digit that is not zero; what is not known is never a mere zero."""
    if cost is None:
        return UNKNOWN_COST if unpriced else "-"
    whole, _, digits = f"{cost:f}".partition(".")
    known = f"${int(whole):,}.{digits.rstrip('0').ljust(2, '0')}"
    return f"{known} and {unpriced:,} unpriced" if unpriced else known


def call_text(record: CallRecord) -> str:
    """One call on one line, for people."""
    usage, cost = record.usage or Usage(), record.cost or Cost("no_usage")
    moment = _EPOCH + timedelta(microseconds=record.started_ns // 1000)
    counts = (usage.input_tokens, usage.output_tokens)
    labels = (("feature", record.feature), ("task", record.task), ("rule", record.rule))
    cells = (
        moment.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00"),
        str(record.status or "-").rjust(3),
        ("-" if record.duration_ms is None else f"{record.duration_ms:,.0f} ms").rjust(9),
        record.org or "-",
        f"{record.provider or '-'}/{record.model_sent or record.model_requested or '-'}",
        "→".join("-" if count is None else str(count) for count in counts) + " tokens",
        cost_text(cost.usd, int(cost.status == "unavailable")),
        *(f"{name}={value}" for name, value in labels if value),
        *((record.error_code or record.error_category,) if record.error_category else ()),
    )
    return "  ".join(cells)
