"""How many of the injected anomalies are told, and how many of those that are told were injected."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from lectr_extproc.core.anomalies import Anomaly, Watching, find
from lectr_extproc.core.hours import HOUR_S
from tests.weeks.weeks import BEGIN, FEATURES, TELLS, WEEK, WEEKS, Event, make

SEEDS = range(200, 204)
RULE = Watching(days=(WEEKS - 1) * 7)
NOW_S = (BEGIN + WEEKS * WEEK) * HOUR_S


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the weeks of one seed."""

    events: list[Event]
    told: list[Anomaly]

    def found(self, event: Event) -> bool:
        """Whether what must be told of it was."""
        return any(one.kind == TELLS[event.what][0] and _meets(one, event) for one in self.told)

    def was_injected(self, one: Anomaly) -> bool:
        """Whether something that was injected explains it."""
        return any(one.kind in TELLS[event.what] and _meets(one, event) for event in self.events)


def _meets(one: Anomaly, event: Event) -> bool:
    return (one.org, one.feature) == event.group and one.first_hour <= event.last and one.last_hour >= event.first


@cache
def outcomes() -> tuple[Outcome, ...]:
    """Of every seed."""
    made = map(make, SEEDS)
    return tuple(Outcome(events, find(hours, [], NOW_S, RULE)) for hours, events in made)


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of some anomalies."""

    injected: int
    found: int
    told: int
    right: int

    @property
    def recall(self) -> float:
        return self.found / self.injected

    @property
    def precision(self) -> float:
        return self.right / self.told


def score(*, what: str | None = None, feature: str | None = None) -> Score:
    """Of one kind of event, of one feature, or of all."""
    events = [
        (outcome, event)
        for outcome in outcomes()
        for event in outcome.events
        if what in {None, event.what} and feature in {None, event.group[1]}
    ]
    told = [
        (outcome, one)
        for outcome in outcomes()
        for one in outcome.told
        if (what is None or one.kind == TELLS[what][0]) and feature in {None, one.feature}
    ]
    return Score(
        injected=len(events),
        found=sum(outcome.found(event) for outcome, event in events),
        told=len(told),
        right=sum(outcome.was_injected(one) for outcome, one in told),
    )


def report() -> Iterator[str]:
    """What is published, line by line."""
    total = score()
    weeks = len(SEEDS) * len(FEATURES) * (WEEKS - 1)
    yield f"{weeks} weeks of features, {total.injected} anomalies"
    yield f"{'':<34}injected   told   precision   recall"
    for name, one in {
        "all": total,
        **{what: score(what=what) for what in TELLS},
        **{name: score(feature=name) for name in FEATURES},
    }.items():
        yield f"{name:<34}{one.injected:>8}{one.told:>7}{one.precision:>12.1%}{one.recall:>9.1%}"
    yield f"told without cause: {total.told - total.right}, {(total.told - total.right) / weeks:.2f} a feature and week"
