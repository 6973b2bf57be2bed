"""How models do now, as a choice reads it: who has failed too often, and how soon each was measured to answer."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple


class Target(NamedTuple):
    """A model where it is asked. An org's own address is one of its own: what fails there concerns nobody else."""

    provider: str
    model: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaking:
    """When a target is no longer asked first, and for how long."""

    failures: int = 3
    "In a row."
    within_s: float = 60
    "Of each other."
    open_s: float = 30
    "Then one call tries; for so long at most the others wait for what becomes of it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """When what was measured takes the place of what others published."""

    calls: int = 50
    "So many at least."
    within_h: float = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A view, not a copy: what it shows changes while calls are decided."""

    sick: Mapping[Target, int] = field(default_factory=lambda: MappingProxyType({}))
    "Until when (s since 1970) a target is not to be asked first."
    first_token_ms: Mapping[Target, int] = field(default_factory=lambda: MappingProxyType({}))
    "How soon streams began, where there were enough of them lately: the median."


UNKNOWN = Health()
"What is known where nobody has called anybody."


def medians(measured: Iterable[tuple[str, str, str, int]], least: int) -> dict[Target, int]:
    """Of the microseconds measured at each target, in milliseconds; of fewer than that none."""
    found: defaultdict[Target, list[int]] = defaultdict(list)
    for *target, microseconds in measured:
        found[Target(*target)].append(microseconds)
    return {target: round(sorted(each)[len(each) // 2] / 1000) for target, each in found.items() if len(each) >= least}
