"""What an org may use, and whether a call still fits: limits, their windows, and what is held of them for a call.

A limit is a counter with a name. Money is counted in buckets of time, which add up to a day, a month or a window that
slides; requests and tokens per minute are a bucket that refills, kept as the one moment when it will be full again
(the generic cell rate algorithm); streams are counted as they are. Where counters are kept is not known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, NamedTuple

import orjson

from lectr_extproc.core.auto import Tier

Kind = Literal["daily", "monthly", "rolling", "requests", "tokens", "streams"]
Unit = Literal["usd", "requests", "tokens", "streams"]

_DAY_S = 86_400
_MINUTE_NS = 60 * 10**9
BUCKETS = 60
"In a window that slides: it counts up to one of them longer than it says."

_UNITS: Mapping[Kind, Unit] = {
    "daily": "usd",
    "monthly": "usd",
    "rolling": "usd",
    "requests": "requests",
    "tokens": "tokens",
    "streams": "streams",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """So much of one thing, for the calls of an org, or for those of one key, feature or model."""

    org: str
    kind: Kind
    most: int
    "Pico-USD, requests, tokens or streams."
    window_s: int = 0
    "Of a rolling one."
    key: str | None = None
    "The label of one of the org's keys."
    feature: str | None = None
    model: str | None = None
    over: Tier | None = None
    "What becomes of a call beyond it: a model of this tier, and no refusal."
    warn_at: tuple[int, ...] = ()
    "Per cent."
    name: str = field(init=False)
    "Of its counter. What may change in the settings without a new count is no part of it."
    unit: Unit = field(init=False)

    def __post_init__(self) -> None:
        parts = (self.org, self.kind, self.window_s, self.key, self.feature, self.model)
        object.__setattr__(self, "name", orjson.dumps(parts).decode())
        object.__setattr__(self, "unit", _UNITS[self.kind])

    @property
    def of(self) -> str:
        """Whose calls it is for, as people read it."""
        scopes = (("key", self.key), ("feature", self.feature), ("model", self.model))
        return ", ".join(f"{scope} {name!r}" for scope, name in scopes if name is not None) or "the organisation"

    @property
    def what(self) -> str:
        """What it bounds, as people read it."""
        match self.kind:
            case "daily" | "monthly":
                return f"{self.kind} USD"
            case "rolling":
                return f"USD in {self.window_s} s"
            case "requests" | "tokens":
                return f"{self.kind} per minute"
            case _:
                return "parallel streams"

    def is_for(self, feature: str | None, *models: str | None) -> bool:
        """Whether a call counts. Of its key nothing is asked: an org as one key's calls see it has no other keys'."""
        return self.feature in (None, feature) and (self.model is None or self.model in models)

    @property
    def step_ns(self) -> int:
        """How long one more takes to fit again, of what refills by the minute; and else 1, which changes nothing."""
        return -(-_MINUTE_NS // self.most) if self.kind in {"requests", "tokens"} else 1

    def starts(self, at_s: int) -> int:
        """The bucket that a moment is in, by its first second."""
        match self.kind:
            case "daily":
                return at_s - at_s % _DAY_S
            case "monthly":
                return _month(at_s - at_s % _DAY_S)[0]
            case "rolling":
                return at_s - at_s % self._width_s
            case _:
                return 0

    def since(self, at_s: int) -> int:
        """The first bucket that counts at a moment."""
        return self.starts(at_s - self.window_s)

    def ends(self, starts: int) -> int:
        """When what is in a bucket no longer counts."""
        match self.kind:
            case "daily":
                return starts + _DAY_S
            case "monthly":
                return _month(starts)[1]
            case _:
                return starts + self._width_s + self.window_s

    @property
    def _width_s(self) -> int:
        return -(-self.window_s // BUCKETS)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgLimits:
    """All that is limited for an org, as the calls of one of its keys see it."""

    rows: tuple[Limit, ...]
    is_closed: bool = False
    "Nobody is let through while the counters cannot be had."
    assumed_output: int
    "How many tokens a call is taken to write that does not bound its answer, until it is over."


class Hold(NamedTuple):
    """What a call takes of one limit until it is over and settled."""

    limit: Limit
    amount: int
    starts: int


class Ask(NamedTuple):
    """What a call wants to take, all or nothing."""

    call_id: str
    holds: tuple[Hold, ...]
    is_cheaper: bool = False
    "It is what limits leave that have a cheaper tier in the place of a refusal: these count it, and let it through."


class Exceeded(NamedTuple):
    """The limit that a call does not fit into, and how far it is used."""

    hold: Hold
    used: int
    "Spent, or held for calls that are not over."
    resets_s: int
    "When the call may fit, in seconds since 1970."
    held: int = 0
    "How much of what is used is only held: of money, that is."

    def less(self, held: int, now_ns: int) -> "Exceeded":
        """The same where so much is held. A call that fits into the rest may do so as soon as others are over."""
        would_fit = self.used - held + self.hold.amount <= self.hold.limit.most
        return self._replace(held=held, resets_s=now_ns // 10**9 + 1 if would_fit else self.resets_s)


class Warned(NamedTuple):
    """A limit that is used up to a threshold, as is told once for each window."""

    limit: Limit
    per_cent: int
    used: int
    resets_s: int | None
    held: int = 0
    "How much of what is used is only held for calls that are not over."
    place: tuple[str, int, int, int] = ("", 0, 0, 0)
    "What is told once: limit, window, bound and threshold."


def judge(hold: Hold, buckets: Mapping[int, int], now_ns: int) -> Exceeded | int:
    """What a hold adds to its bucket; or why it does not fit."""
    limit, amount = hold.limit, hold.amount
    if limit.unit in {"requests", "tokens"}:
        step = limit.step_ns
        full_at = buckets.get(0, 0)
        held = max(full_at, now_ns)
        # A call larger than the whole minute fits into a bucket that is full.
        after = held + min(amount, limit.most) * step
        free_at = after - limit.most * step
        if free_at > now_ns:
            used = -(-(held - now_ns) // step)
            return Exceeded(hold, min(used, limit.most), -(-free_at // 10**9))
        return held - full_at + amount * step
    now_s = now_ns // 10**9
    counted = sorted((starts, used) for starts, used in buckets.items() if starts >= limit.since(now_s))
    total = sum(used for _, used in counted)
    if total + amount <= limit.most:
        return amount
    if limit.kind == "streams":
        return Exceeded(hold, total, now_s + 1)
    left, resets_s = total, limit.ends(limit.starts(now_s))
    for starts, used in counted:
        left -= used
        if left + amount <= limit.most:
            resets_s = limit.ends(starts)
            break
    return Exceeded(hold, total, resets_s)


def used_now(limit: Limit, buckets: Mapping[int, int], now_ns: int) -> tuple[int, int | None]:
    """How much of a limit is used, and when that is over; None where nothing is used, or nobody knows."""
    if limit.unit in {"requests", "tokens"}:
        behind = max(0, buckets.get(0, 0) - now_ns)
        return -(-behind // limit.step_ns), -(-buckets[0] // 10**9) if behind else None
    now_s = now_ns // 10**9
    counted = {starts: used for starts, used in buckets.items() if used and starts >= limit.since(now_s)}
    return sum(counted.values()), limit.ends(max(counted)) if counted and limit.kind != "streams" else None


@lru_cache(64)
def _month(day_s: int) -> tuple[int, int]:
    """The first second of the month that a day is in, and of the next one."""
    first = datetime.fromtimestamp(day_s, UTC).replace(day=1)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()), int(after.timestamp())
