"""Hours that are unlike those of the week before: in cost, latency, errors, traffic, or in the models that answered.

An hour of an org's feature is compared with the same hour of the seven days before it, so that days and nights are no
news; its cost and traffic with working days alone, or with weekends alone. Nothing is remembered but what was
dismissed: the same ledger tells the same anomalies, by the same ids.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import sqrt
from statistics import median
from typing import Any, Literal, NamedTuple

from lectr_extproc.core.hours import HOUR_S, MICRO, Group, Hour, p95_ms

Kind = Literal["cost", "latency", "errors", "traffic_up", "traffic_down", "drift"]
Measure = Literal["cost", "latency", "errors", "traffic", "drift"]

BASELINE_DAYS = 7
QUIET_HOURS = 24
"""After so long without another unusual hour an anomaly is over. Shorter, and one that lasts for days would come anew
each morning where nobody works at night."""
_READ_HOURS = QUIET_HOURS + 24 * BASELINE_DAYS + 1
"Before the feed begins: whether its first hours continue something, and what these are compared with."
FEWEST_HOURS = 5
"That an hour is compared with: of one week there are five working days."
_SIGMA = 1.8
"""Times the median of how far hours are from their own median, for a standard deviation: 1.48 where there are many, and
a fifth more where there are five."""
_SAMPLE = 10
"A rate or a percentile of fewer calls is not compared with."


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """What is unusual enough to be told."""

    days: int = 7
    "Of the feed."
    sigmas: float = 2
    after_hours: int = 48
    min_calls: int = 50
    "An hour."
    min_change: float = 0.75
    "Of the usual cost, latency or traffic; downwards as large a factor."
    min_points: float = 0.05
    "Of an error rate, or of the part of the answers that another model gave."
    min_cost_usd: float = 1
    "An hour."


class Dismissal(NamedTuple):
    """An anomaly that somebody does not want to hear of, and the hours that are no measure of what is usual."""

    id: str
    org: str | None
    feature: str | None
    kind: str
    first_hour: int
    last_hour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """Unusual hours in a row. The figures are those of the most unusual one."""

    id: str
    kind: Kind
    severity: Literal["warning", "critical"]
    org: str | None
    feature: str | None
    began: datetime
    detected: datetime
    "At the end of its first hour, or of the second where only that made sure."
    ended: datetime | None
    "After its last unusual hour; None while another one would still belong to it."
    baseline: float
    observed: float
    sigmas: float
    first_hour: int
    last_hour: int
    dismissed: bool

    def dismissal(self) -> Dismissal:
        """What is kept of it once it is dismissed."""
        return Dismissal(self.id, self.org, self.feature, self.kind, self.first_hour, self.last_hour)


class Learning(NamedTuple):
    """A feature that is too new."""

    org: str | None
    feature: str | None
    hours_left: int


# --- what is unusual --------------------------------------------------------------------------------------------------


def since_s(now_s: int, rule: Watching) -> int:
    """From when on the ledger is to be read."""
    return (now_s // HOUR_S - 24 * rule.days - _READ_HOURS) * HOUR_S


class _Seen(NamedTuple):
    value: float
    sample: int
    "So many calls it is a figure of."


def _measures(hour: Hour) -> Iterator[tuple[Measure, _Seen]]:
    """What an hour says; what it does not say is absent."""
    yield "traffic", _Seen(hour.calls, hour.calls)
    if hour.priced:
        yield "cost", _Seen(hour.cost_micro_usd / MICRO, hour.calls)
    if hour.calls >= _SAMPLE:
        yield "errors", _Seen(hour.errors / hour.calls, hour.calls)
    if hour.named >= _SAMPLE:
        yield "drift", _Seen(hour.drifted / hour.named, hour.named)
    if (timed := sum(hour.slowness.values())) >= _SAMPLE:
        yield "latency", _Seen(p95_ms(hour.slowness), timed)


_NOTHING = _Seen(0, 0)
_KINDS: tuple[tuple[Kind, Measure], ...] = (
    ("cost", "cost"),
    ("latency", "latency"),
    ("errors", "errors"),
    ("traffic_up", "traffic"),
    ("traffic_down", "traffic"),
    ("drift", "drift"),
)


_VOLUMES = frozenset({"cost", "traffic_up", "traffic_down"})
"Of which weekends have others than working days."


class Usual(NamedTuple):
    """What an hour is compared with. Medians, so that one anomaly does not hide the next."""

    value: float
    spread: float
    "A standard deviation, about."


class Verdict(NamedTuple):
    """One hour beside what is usual."""

    baseline: float
    observed: float
    sigmas: float


def judge(kind: Kind, seen: _Seen, usual: Usual, rule: Watching) -> Verdict | None:
    """What an unusual hour is; None for others.

    A spread of nothing would make anything unusual. So it is never less than chance makes of so many calls, nor than
    the least change worth telling, divided by the sigmas: what is told exceeds both.
    """
    value = usual.value
    if kind == "traffic_down" and value < rule.min_calls:
        return None
    chance, least = 0.0, rule.min_change * value
    if kind == "cost":
        least = max(least, rule.min_cost_usd)
    elif kind == "traffic_down":
        chance, least = sqrt(value), least / (1 + rule.min_change)
    elif kind == "traffic_up":
        chance = sqrt(max(value, 1))
    elif kind != "latency":
        part = (value * seen.sample + 1) / (seen.sample + 2)
        chance, least = sqrt(part * (1 - part) / seen.sample), rule.min_points
    sigmas = (seen.value - value) / max(usual.spread, chance, least / rule.sigmas)
    if (-sigmas if kind == "traffic_down" else sigmas) < rule.sigmas:
        return None
    return Verdict(value, seen.value, sigmas)


def find(
    hours: Mapping[Group, Mapping[int, Hour]], dismissals: Sequence[Dismissal], now_s: int, rule: Watching
) -> list[Anomaly]:
    """What began in the days of the feed, the latest first. The hour that has not ended is not looked at."""
    until = now_s // HOUR_S
    begin = until - 24 * rule.days
    dismissed = frozenset(one.id for one in dismissals)
    found: list[Anomaly] = []
    for group, seen in hours.items():
        if not _is_busy(seen.values(), rule):
            continue
        values: dict[Measure, dict[int, _Seen]] = {measure: {} for _, measure in _KINDS}
        for number, hour in seen.items():
            for measure, figure in _measures(hour):
                values[measure][number] = figure
        since = min(seen)
        for number in range(since, until):
            if number not in seen:  # nobody called, which costs nothing
                values["traffic"][number] = values["cost"][number] = _NOTHING
        first = max(begin - QUIET_HOURS, since + rule.after_hours)
        for kind, measure in _KINDS:
            skipped = {
                number
                for one in dismissals
                if (one.org, one.feature, one.kind) == (*group, kind)
                for number in range(one.first_hour, one.last_hour + 1)
            }
            unusual = _unusual(kind, values[measure], range(first, until), skipped, rule)
            runs = [run for run in _runs(_confirmed(unusual, rule)) if run[0][0] >= begin]
            found += [_anomaly(kind, group, run, rule, until=until, dismissed=dismissed) for run in runs]
    return sorted(found, key=lambda one: (one.began, one.id), reverse=True)


def _is_busy(hours: Iterable[Hour], rule: Watching) -> bool:
    """Whether anything of a feature is ever judged: clients name features, and may name one for each call."""
    return any(hour.calls >= rule.min_calls for hour in hours)


def _unusual(
    kind: Kind, values: Mapping[int, _Seen], judged: range, skipped: set[int], rule: Watching
) -> Iterator[tuple[int, Verdict]]:
    for number in judged:
        if (seen := values.get(number)) is None:
            continue
        if kind != "traffic_down" and seen.sample < rule.min_calls:
            continue
        against = _usual(values, number, skipped, of_like_days=kind in _VOLUMES)
        verdicts = [verdict for usual in against if (verdict := judge(kind, seen, usual, rule))]
        if verdicts and len(verdicts) == len(against):
            yield number, min(verdicts, key=_distance)


def _usual(values: Mapping[int, _Seen], number: int, skipped: set[int], *, of_like_days: bool) -> list[Usual]:
    """What was usual at that hour of the days before.

    Where these are few, as for a weekend, whose like were two, or in a feature's first week: what was usual at that
    hour and the two beside it, and also what was usual at that hour of any day. What is unlike both is unusual.
    """

    def known(days: Iterable[int], later: int = 0) -> list[float]:
        return [values[day + later].value for day in days if day + later in values and day + later not in skipped]

    days = [number - 24 * day for day in range(1, BASELINE_DAYS + 1)]
    like = [day for day in days if not of_like_days or _is_weekend(day) == _is_weekend(number)]
    before, same, after = (known(like, later) for later in (-1, 0, 1))
    if len(same) >= FEWEST_HOURS:
        return [_typical(same, before, same, after)]
    around, any_day = [*before, *same, *after], known(days)
    if len(around) < FEWEST_HOURS:
        return []
    return [_typical(hours, hours) for hours in (around, any_day) if hours]


def _typical(hours: Sequence[float], *varied: Sequence[float]) -> Usual:
    return Usual(median(hours), _SIGMA * median(abs(value - median(some)) for some in varied for value in some))


def _is_weekend(hour: int) -> bool:
    """Of UTC. Where others are free on other days, these days' hours vary more, and less is told."""
    return (hour // 24 + 3) % 7 > 4  # 1970 began on a Thursday


def _confirmed(unusual: Iterable[tuple[int, Verdict]], rule: Watching) -> Iterator[tuple[int, Verdict]]:
    """Those that are not alone, or far off: of all hours there are, chance makes some unusual."""
    before: tuple[int, Verdict] | None = None
    is_told = False
    for number, verdict in unusual:
        follows = before is not None and number == before[0] + 1
        if before and follows and not is_told:
            yield before
        is_told = follows or _is_far(verdict, rule)
        if is_told:
            yield number, verdict
        before = number, verdict


def _distance(verdict: Verdict) -> float:
    return abs(verdict.sigmas)


def _is_far(verdict: Verdict, rule: Watching) -> bool:
    return _distance(verdict) >= 2 * rule.sigmas


_Run = list[tuple[int, Verdict]]


def _runs(unusual: Iterable[tuple[int, Verdict]]) -> Iterator[_Run]:
    run: _Run = []
    for number, verdict in unusual:
        if run and number - run[-1][0] > QUIET_HOURS:
            yield run
            run = []
        run.append((number, verdict))
    if run:
        yield run


def _anomaly(kind: Kind, group: Group, run: _Run, rule: Watching, *, until: int, dismissed: frozenset[str]) -> Anomaly:
    org, feature = group
    first, last = run[0][0], run[-1][0]
    worst = max((verdict for _, verdict in run), key=_distance)
    id_ = hashlib.sha256(repr((org, feature, kind, first)).encode()).hexdigest()[:12]
    return Anomaly(
        id=id_,
        kind=kind,
        severity="critical" if _is_far(worst, rule) else "warning",
        org=org,
        feature=feature,
        began=_moment(first),
        detected=_moment(first + (1 if _is_far(run[0][1], rule) else 2)),
        ended=_moment(last + 1) if until - last > QUIET_HOURS else None,
        baseline=worst.baseline,
        observed=worst.observed,
        sigmas=round(worst.sigmas, 1),
        first_hour=first,
        last_hour=last,
        dismissed=id_ in dismissed,
    )


def _moment(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * HOUR_S, UTC)


def learning(hours: Mapping[Group, Mapping[int, Hour]], now_s: int, rule: Watching) -> list[Learning]:
    """The features that are not watched yet, and for how long."""
    until = now_s // HOUR_S
    left = [
        (group, min(seen) + rule.after_hours - until) for group, seen in hours.items() if _is_busy(seen.values(), rule)
    ]
    return [Learning(*group, hours_left) for group, hours_left in left if hours_left > 0]


# --- as it is shown ---------------------------------------------------------------------------------------------------


def as_json(found: Iterable[Anomaly], new: Iterable[Learning]) -> dict[str, Any]:
    """For programs: moments as text, what is not known absent."""
    return {
        "anomalies": [_known(asdict(one)) for one in found],
        "learning": [_known(one._asdict()) for one in new],
    }


def told(one: Anomaly) -> dict[str, Any]:
    """The same of one, for a webhook."""
    return {"event": "anomaly", **_known(asdict(one))}


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in fields.items()
        if value is not None and name not in {"first_hour", "last_hour"}
    }


_SHOWN: Mapping[Kind, tuple[str, str]] = {
    "cost": ("cost", "${:,.2f} an hour"),
    "latency": ("latency", "p95 of {:,.0f} ms"),
    "errors": ("errors", "{:.1%} of calls"),
    "traffic_up": ("more traffic", "{:,.0f} calls an hour"),
    "traffic_down": ("less traffic", "{:,.0f} calls an hour"),
    "drift": ("another model answers", "{:.1%} of calls"),
}


def as_text(found: Iterable[Anomaly], new: Iterable[Learning]) -> str:
    """For people: a line each."""
    lines = [_line(one) for one in found] or ["nothing unusual"]
    lines += [
        f"{one.org or '-'}, feature {one.feature or '-'}: watched in {one.hours_left} hours, when enough is known of it"
        for one in new
    ]
    return "\n".join(lines)


def what(one: Anomaly) -> str:
    """What is unusual, in words."""
    word, figure = _SHOWN[one.kind]
    return f"{word}, {figure.format(one.observed)}, usually {figure.format(one.baseline)}"


def _line(one: Anomaly) -> str:
    until = f"{one.ended:%m-%d %H:%M}" if one.ended else "now"
    return (
        f"{one.id}  {one.began:%Y-%m-%d %H:%M} to {until}  {one.severity}  {one.org or '-'}, feature"
        f" {one.feature or '-'}: {what(one)} ({one.sigmas:+.1f} σ){'  dismissed' if one.dismissed else ''}"
    )
