"""How models do now, as a choice reads it: who has failed too often, and how soon each was measured to answer."""

from collections.abc import Mapping
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
class Health:
    """A view, not a copy: what it shows changes while calls are decided."""

    sick: Mapping[Target, int] = field(default_factory=lambda: MappingProxyType({}))
    "Until when (s since 1970) a target is not to be asked first."


UNKNOWN = Health()
"What is known where nobody has called anybody."
