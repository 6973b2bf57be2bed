"""Synthetic weeks: hours of eight kinds of features, with anomalies in them of which all is known.

A feature has a rhythm, noise that lasts from one hour to the next, and chance in each count. The first week is there to
learn from, and has no anomaly in it. The others have of each kind one a week, of a size and length drawn at random, at
hours in which there is usually work. Nothing is dismissed: later hours are compared with what was injected before.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import erf, exp, log, sqrt

from lectr_extproc.core.anomalies import Kind
from lectr_extproc.core.hours import BOUNDS_US, Group, Hour

BEGIN = 1_762_732_800 // 3600  # 2025-11-10, a Monday
WEEK = 168
WEEKS = 4
APART = 26
"Hours between two anomalies of one feature, so that each is told apart."
EVENTS = ("cost", "latency", "errors", "surge", "outage", "drift")
TELLS: Mapping[str, tuple[Kind, ...]] = {
    "cost": ("cost",),
    "latency": ("latency",),
    "errors": ("errors",),
    "surge": ("traffic_up", "cost"),
    "outage": ("traffic_down",),
    "drift": ("drift",),
}
"What may be told of an event; the first is what must be."


def _office(hour: int) -> float:
    day, at = divmod(hour % WEEK, 24)
    return 400 * (0.1 if day > 4 else 1) if 8 <= at < 18 else 5


def _daily(hour: int, *, low: float, high: float, peak: int, weekend: float) -> float:
    day, at = divmod(hour % WEEK, 24)
    distance = min((at - peak) % 24, (peak - at) % 24) / 12
    return (low + (high - low) * (1 - distance)) * (weekend if day > 4 else 1)


FEATURES: Mapping[str, tuple[Callable[[int], float], float]] = {
    "steady, day and night": (lambda _: 200, 0.12),
    "in office hours": (_office, 0.12),
    "by day, less on weekends": (lambda h: _daily(h, low=60, high=600, peak=14, weekend=0.6), 0.12),
    "in the evening, more on weekends": (lambda h: _daily(h, low=40, high=800, peak=20, weekend=1.3), 0.12),
    "at night, in two hours": (lambda h: 2000 if h % 24 in {2, 3} else 0, 0.12),
    "growing by a fifth a week": (
        lambda h: _daily(h, low=60, high=300, peak=14, weekend=0.8) * 1.2 ** (h / WEEK),
        0.12,
    ),
    "restless": (lambda _: 300, 0.3),
    "small, 60 calls an hour": (lambda _: 60, 0.12),
}
"Calls an hour that are to be expected, and the spread of the noise around them."


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was injected."""

    what: str
    group: Group
    first: int
    last: int
    size: float


def make(seed: int) -> tuple[dict[Group, dict[int, Hour]], list[Event]]:
    """The hours of every feature, and what is wrong with them."""
    chance = random.Random(seed)
    hours: dict[Group, dict[int, Hour]] = {}
    events: list[Event] = []
    for name, (expected, spread) in FEATURES.items():
        group: Group = ("acme", name)
        injected = list(_events(group, expected, chance))
        events += injected
        hours[group] = dict(_hours(expected, spread, injected, chance))
    return hours, events


def _events(group: Group, expected: Callable[[int], float], chance: random.Random) -> Iterator[Event]:
    for week in range(1, WEEKS):
        for what, slot in zip(chance.sample(EVENTS, len(EVENTS)), range(len(EVENTS)), strict=True):
            begin = week * WEEK + slot * (WEEK // len(EVENTS))
            busy = [hour for hour in range(begin, begin + WEEK // len(EVENTS)) if expected(hour) >= 50]
            if not busy:
                continue  # a weekend without work
            first = chance.choice(busy[: max(1, len(busy) // 2)])
            last = min(first + chance.randint(1, 8), begin + WEEK // len(EVENTS)) - 1
            yield Event(what, group, BEGIN + first, BEGIN + last, _size(what, chance))


def _size(what: str, chance: random.Random) -> float:
    low, high = {
        "cost": (2.0, 5.0),
        "latency": (1.8, 4.0),
        "errors": (0.1, 0.5),
        "surge": (2.5, 6.0),
        "outage": (0.0, 0.2),
        "drift": (0.2, 1.0),
    }[what]
    return chance.uniform(low, high)


def _hours(
    expected: Callable[[int], float], spread: float, events: list[Event], chance: random.Random
) -> Iterator[tuple[int, Hour]]:
    noises = {what: _noise(chance, size) for what, size in (("calls", spread), ("cost", 0.15), ("latency", 0.12))}
    for hour in range(WEEKS * WEEK):
        sizes = {event.what: event.size for event in events if event.first <= BEGIN + hour <= event.last}
        noise = {what: next(values) for what, values in noises.items()}
        wanted = expected(hour) * noise["calls"] * sizes.get("surge", 1) * sizes.get("outage", 1)
        calls = _count(wanted, chance)
        if not calls:
            continue
        errors = min(calls, _count(calls * (0.01 + sizes.get("errors", 0)), chance))
        milliseconds = 1500 * noise["latency"] * sizes.get("latency", 1)
        yield (
            BEGIN + hour,
            Hour(
                calls=calls,
                errors=errors,
                priced=calls,
                cost_micro_usd=round(calls * 20_000 * noise["cost"] * sizes.get("cost", 1)),
                named=calls - errors,
                drifted=min(calls - errors, _count((calls - errors) * sizes.get("drift", 0.001), chance)),
                slowness=_slowness(calls - errors, milliseconds, chance),
            ),
        )


def _noise(chance: random.Random, size: float) -> Iterator[float]:
    """Around 1, and half of it stays from one hour to the next."""
    level = 0.0
    while True:
        level = 0.5 * level + sqrt(0.75) * chance.gauss(0, size)
        yield exp(level)


def _count(expected: float, chance: random.Random) -> int:
    """A count of which so much is expected, near enough to Poisson's."""
    return max(0, round(chance.gauss(expected, sqrt(expected))))


def _slowness(calls: int, median_ms: float, chance: random.Random) -> dict[int, int]:
    """Log-normal durations, as many between each two bounds as chance has it."""
    below = [0.0, *(_share(bound / 1000 / median_ms) for bound in BOUNDS_US), 1.0]
    counts = {
        place: _count(calls * (below[place + 1] - below[place]), chance)
        for place in range(len(below) - 1)
        if calls * (below[place + 1] - below[place]) > 0.05
    }
    return {place: count for place, count in counts.items() if count}


def _share(times: float) -> float:
    return 0.5 * (1 + erf(log(times) / 0.5 / sqrt(2)))
