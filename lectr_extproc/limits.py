"""`lectr limits`: how far each limit is used, read from the ledger's database; and what they say of a call."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lectr_extproc.core.exceeded import CODES, moment, shown
from lectr_extproc.core.limits import Ask, Exceeded, Limit, judge, used_now
from lectr_extproc.core.snapshot import Snapshot

Read = Callable[[Sequence[Limit]], Mapping[str, Mapping[int, int]]]
"What is counted of limits: by name, and by the bucket's first second."


def limits_of(snapshot: Snapshot, org: str | None = None) -> list[Limit]:
    """Every limit once, whichever key's calls see it; those for all of an org first."""
    rows = [row for one in snapshot.callers if one.limits for row in one.limits.rows]
    found = {(row.name, row.most): row for row in rows if org in (None, row.org)}
    return sorted(found.values(), key=lambda row: (row.org, row.of != "the organisation", row.of))


def report(limits: Sequence[Limit], read: Read, now_ns: int) -> list[dict[str, Any]]:
    """What `lectr limits --json` prints: money in USD, as text."""
    counted = read(limits)
    lines = []
    for row in limits:
        used, resets_s = used_now(row, counted[row.name], now_ns)
        lines.append(
            {
                "org": row.org,
                "for": row.of,
                "limit": row.what,
                "used": shown(row, used),
                "most": shown(row, row.most),
                "resets_at": resets_s and moment(resets_s),
            }
        )
    return lines


def as_rows(
    limits: Sequence[Limit], counted: Mapping[str, Mapping[int, int]] | None, now_ns: int
) -> list[dict[str, Any]]:
    """The same for the console: amounts as numbers, but money as text; without the counters, what is limited."""
    rows = []
    for row in limits:
        used, resets_s = used_now(row, counted[row.name], now_ns) if counted is not None else (None, None)
        rows.append(
            {
                "org": row.org,
                "for": row.of,
                "limit": row.what,
                "unit": row.unit,
                "used": None if used is None else _amount(row, used),
                "most": _amount(row, row.most),
                "share": None if used is None else round(used / max(row.most, 1), 4),
                "resets_at": resets_s,
                "over": row.over,
                "warn_at": [per_cent / 100 for per_cent in row.warn_at],
            }
        )
    return rows


def _amount(row: Limit, amount: int) -> str | int:
    return shown(row, amount) if row.unit == "usd" else amount


def as_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """The same as a table."""
    columns = {"org": "org", "for": "for", "limit": "limit", "used": "used", "most": "of", "resets_at": "resets at"}
    rows = [[*columns.values()], *([line[name] or "-" for name in columns] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def verdicts(ask: Ask, read: Read | None, now_ns: int) -> tuple[list[dict[str, Any]], Limit | None]:
    """What each limit says of a call, and the first without room; without its counters, what would be held of it."""
    counted = read([hold.limit for hold in ask.holds]) if read else None
    lines = []
    full = None
    for hold in ask.holds:
        row, verdict = hold.limit, None
        if counted is not None:
            verdict = "fits"
            if isinstance(judge(hold, counted[row.name], now_ns), Exceeded):
                verdict = f"429 {CODES[row.kind]}" if row.over is None else f"a model of the tier {row.over} instead"
                full = full or row
        lines.append(
            {
                "limit": row.what,
                "for": row.of,
                "holds": shown(row, hold.amount),
                "most": shown(row, row.most),
                "verdict": verdict,
            }
        )
    return lines, full
