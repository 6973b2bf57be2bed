"""An org's routing rules: which calls each is for, and what becomes of them. Thousands cost as much as a few.

Rules that ask about the same things share a table by what they ask for, so a call is looked up once in each of at most
sixteen tables, however many rules there are. Of those found the first one wins.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import product
from operator import itemgetter
from typing import NamedTuple

from lectr_extproc.core.words import Wanted


class Terms(NamedTuple):
    """What a rule asks about a call, None for anything; or a call, as rules see it."""

    feature: str | None = None
    task: str | None = None
    "One of the known ones."
    provider: str | None = None
    "The one the client named, or the one found for the model."
    model: str | None = None
    "As the client wrote it."

    def differs(self, call: "Terms") -> str | None:
        """The first thing that a call lacks."""
        asked = zip(Terms._fields, self, call, strict=True)
        return next(
            (f"{name} is {is_ or 'not said'}" for name, wanted, is_ in asked if wanted not in (None, is_)), None
        )

    def __str__(self) -> str:
        asked = [f"{name}={wanted}" for name, wanted in zip(Terms._fields, self, strict=True) if wanted is not None]
        return " ".join(asked) or "every call"


_EVERY_CALL = Terms()


@dataclass(frozen=True, slots=True)
class Arm:
    """What may become of a call: another model or the choice of one, another provider, both, or neither."""

    model: str | None = None
    provider: str | None = None
    weight: int = 1
    tier: Wanted | None = None
    "A model of this tier is chosen."

    @property
    def changes(self) -> bool:
        """Whether it is more than to leave the call as it is."""
        return bool(self.model or self.provider or self.tier)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.provider, self.model or self.tier))) or "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Calls of one kind, and what becomes of them."""

    name: str
    when: Terms = _EVERY_CALL
    arms: tuple[Arm, ...]
    sticky: str | None = None
    "The header whose values stay with their arms, in lower case."
    enabled: bool = True

    def arm(self, org: str, value: str) -> Arm:
        """The arm of a value, each arm for its weight's share of them: weighted rendezvous hashing.

        Every arm draws a time of its own for each value, the shorter the heavier it is, and the first one has it. So an
        arm whose weight changes wins or loses values, and none of them moves between two others.
        """
        if len(self.arms) == 1:
            return self.arms[0]
        return min(self.arms, key=lambda arm: _time(arm, (org, self.name, str(arm), value)))


def _time(arm: Arm, about: Sequence[str]) -> float:
    """Exponentially distributed, with the weight as its rate: the shortest of several is each one's by its weight."""
    drawn = blake2b("\0".join(about).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    uniform = ((int.from_bytes(drawn) >> 11) + 0.5) / 2**53  # above 0
    return -math.log(uniform) / arm.weight if arm.weight else math.inf


_Get = Callable[[Terms], object]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one org, the first to be asked first."""

    ordered: tuple[Rule, ...]
    _tables: tuple[tuple[int, _Get, dict[object, int]], ...] = field(init=False, repr=False, compare=False)
    "The place of the first rule in a table, what of a call is looked up there, and the rules' places by it."

    def __post_init__(self) -> None:
        tables: dict[tuple[int, ...], dict[object, int]] = {}
        for place, rule in enumerate(self.ordered):
            asked = tuple(i for i, wanted in enumerate(rule.when) if wanted is not None)
            if rule.enabled:
                tables.setdefault(asked, {}).setdefault(_part(asked)(rule.when), place)
        found = [(next(iter(table.values())), _part(asked), table) for asked, table in tables.items()]
        object.__setattr__(self, "_tables", tuple(found))

    def match(self, call: Terms) -> Rule | None:
        """The first enabled rule that is for this call."""
        best = len(self.ordered)
        for first, part, table in self._tables:
            if first > best:  # and so are all that follow
                break
            best = min(best, table.get(part(call), best))
        return self.ordered[best] if best < len(self.ordered) else None

    def hidden(self) -> Iterator[tuple[Rule, Rule]]:
        """Each rule that never matches, and the one before it that takes all of its calls."""
        taken: dict[Terms, int] = {}
        for place, rule in enumerate(self.ordered):
            broader = map(Terms._make, product(*({wanted, None} for wanted in rule.when)))
            if rule.enabled and (by := [taken[terms] for terms in broader if terms in taken]):
                yield rule, self.ordered[min(by)]
            elif rule.enabled:
                taken[rule.when] = place


def _part(asked: tuple[int, ...]) -> _Get:
    return itemgetter(*asked) if asked else _nothing


def _nothing(_: Terms) -> object:
    return None
