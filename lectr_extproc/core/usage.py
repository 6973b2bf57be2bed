"""What an answer says it used, in one normal form: input includes cache, output includes reasoning, absent is not zero.

Where a dialect says it is data (`UsageShape`, rows in catalog/answers.py). What a provider means by it is at most one
small function, from the usage object it sent to the same object in the dialect's own sense.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from decimal import Decimal
from functools import cache, cached_property
from itertools import islice
from math import ceil
from typing import Any

from lectr_extproc.core.quick import quick_dataclass
from lectr_extproc.core.tables import CatalogError

JsonObject = Mapping[str, Any]

Correction = Callable[[JsonObject], JsonObject]
"A usage object as the provider sent it -> as the dialect means it."

CostReading = Callable[[JsonObject], Decimal | None]
"A usage object -> what the provider says the call cost, in USD."

MEMBERS = 32
"More members than any usage object has: what a stream adds to them without end is not kept."

HELPERS = 64
"How many other models are told of."

COUNT_LIMIT = 2**53
"Metadata carries numbers as doubles; a larger count would arrive as another one."


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What is priced. Parts stand as the provider gave them: who subtracts one from its whole bounds it first."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    "Part of cache_write_tokens."
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    cache_read_audio_tokens: int | None = None
    "Part of cache_read_tokens."
    image_input_tokens: int | None = None
    image_output_tokens: int | None = None
    web_search_requests: int | None = None
    web_fetch_requests: int | None = None
    tool_requests: int | None = None
    "Server-side tool calls that are not told apart."
    search_units: int | None = None
    audio_seconds: int | None = None
    pages: int | None = None


COUNTS = tuple(f.name for f in fields(Usage))
NO_USAGE = Usage()


class Path:
    """Where a value stands: `a.b`, `a[].b` for each element, `a[kind=X].b` for each element whose `kind` is X."""

    __slots__ = ("first", "names", "steps", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.steps = tuple(_step(step) for step in text.split(".")) if text else ()
        self.first = self.steps[0][0] if self.steps else ""
        self.names = None if any(each for _, each, _, _ in self.steps) else [name for name, _, _, _ in self.steps]

    def __call__(self, value: object) -> list[Any]:
        """Every value found there, none of them null."""
        if self.names is not None:  # most are: names alone, and one value at most
            for name in self.names:
                if not isinstance(value, dict) or (value := value.get(name)) is None:
                    return []
            return [value]
        found: list[Any] = [value]
        for name, each, key, wanted in self.steps:
            found = [v[name] for v in found if isinstance(v, dict) and v.get(name) is not None]
            if each:
                members = (m for v in found if isinstance(v, list) for m in v)
                found = [m for m in members if key is None or (isinstance(m, dict) and m.get(key) == wanted)]
            if not found:
                return found
        return found

    def total(self, value: object) -> int | None:
        """What the counts found there add up to, if there are any."""
        if self.names is None:
            numbers = [n for n in map(count, self(value)) if n is not None]
            return sum(numbers) if numbers else None
        for name in self.names:
            if not isinstance(value, dict) or (value := value.get(name)) is None:
                return None
        return count(value)


def _step(text: str) -> tuple[str, bool, str | None, str | None]:
    name, bracket, condition = text.partition("[")
    key, equals, wanted = condition.rstrip("]").partition("=")
    return name, bool(bracket), key if equals else None, wanted if equals else None


@dataclass(frozen=True, slots=True)
class Reading:
    """One count and where it stands; of several places the first that has a number speaks."""

    paths: tuple[Path, ...]
    count: str

    def __post_init__(self) -> None:
        if self.count not in COUNTS:
            raise CatalogError(f"reading {self.paths[0].text!r}: there is no count {self.count!r}")


def reading(path: str, count: str, *alternatives: str) -> Reading:
    """A row of a usage shape. Several readings of one count add up."""
    return Reading(tuple(map(Path, (path, *alternatives))), count)


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """Work another model did for the same answer, outside its totals."""

    model: str
    usage: Usage


def as_sent(usage: JsonObject) -> JsonObject:
    """The provider and the dialect mean the same."""
    return usage


def nothing(_document: JsonObject) -> Mapping[str, int]:
    """All counts are in the usage object."""
    return {}


def no_helpers(_usage: JsonObject) -> Iterable[tuple[str, JsonObject]]:
    """No other model works for this one."""
    return ()


@dataclass(frozen=True, kw_only=True)
class UsageShape:
    """One way to write usage: where the object stands in a document, and what its members count."""

    places: tuple[str, ...]
    "The last object seen at any of them speaks; an empty path is the document itself."
    readings: tuple[Reading, ...]
    source: str
    checked: date
    accumulates: bool = False
    "Later objects overwrite member by member, so that what only the first one said stays."
    unfinished: Mapping[str, frozenset[str]] = field(default_factory=dict)
    "Members that are only a beginning where they stand at this place."
    means: Correction = as_sent
    means_at: Mapping[str, Correction] = field(default_factory=dict)
    "Providers whose words mean something else, by id."
    beside: Callable[[JsonObject], Mapping[str, int]] = nothing
    "Counts to be found in the document around the usage object; one inside it takes precedence."
    helpers: Callable[[JsonObject], Iterable[tuple[str, JsonObject]]] = no_helpers
    "Other models that worked on the answer, each with its own usage object in this shape."

    @cached_property
    def members(self) -> frozenset[str]:
        """The members of a usage object that mean something to us."""
        return frozenset(path.first for row in self.readings for path in row.paths)

    @cached_property
    def where(self) -> tuple[tuple[Path, frozenset[str]], ...]:
        """`places`, compiled, each with what is unfinished there."""
        return tuple((Path(place), self.unfinished.get(place, frozenset())) for place in self.places)

    def read(self, usage: JsonObject, provider: str, beside: Mapping[str, int] | None = None) -> Usage | None:
        """A usage object of this provider's in the normal form."""
        return self.counted(self.means_at.get(provider, self.means)(usage), beside)

    def counted(self, usage: JsonObject, beside: Mapping[str, int] | None = None) -> Usage | None:
        """One that means what the dialect means."""
        counts: dict[str, int] = {}
        for row in self.readings:
            for path in row.paths:
                if path.first in usage and (number := path.total(usage)) is not None:
                    counts[row.count] = counts.get(row.count, 0) + number
                    break
        return Usage(**{**(beside or {}), **counts}) if counts else None


class UsageReader:
    """Takes the documents of one answer in order, and knows at any moment what they said."""

    __slots__ = ("_beside", "_best", "_found", "_provider", "_shapes")

    def __init__(self, shapes: tuple[UsageShape, ...], provider: str) -> None:
        self._provider = provider
        self._shapes = shapes
        self._best = len(shapes)
        "Shapes stand in order of trust: one that has spoken silences those after it."
        self._found: JsonObject = {}
        self._beside: Mapping[str, int] = {}

    def take(self, document: JsonObject) -> None:
        """Look for usage in one document."""
        for rank, shape in enumerate(self._shapes[: self._best + 1]):
            for path, unfinished in shape.where:
                for found in path(document):
                    if isinstance(found, dict) and any(found.get(member) is not None for member in shape.members):
                        self._keep(rank, shape, {k: v for k, v in found.items() if k not in unfinished})
                        self._beside = {**self._beside, **shape.beside(document)}
                        return

    def _keep(self, rank: int, shape: UsageShape, found: JsonObject) -> None:
        if shape.accumulates and rank == self._best:
            merged = {**self._found, **{key: value for key, value in found.items() if value is not None}}
            found = dict(islice(merged.items(), MEMBERS))
        self._best, self._found = rank, found

    @property
    def raw(self) -> JsonObject:
        """The provider's own usage object."""
        return self._found

    def usage(self) -> Usage | None:
        """The counts so far, in the normal form."""
        if not self._found:
            return None
        return self._shapes[self._best].read(self._found, self._provider, self._beside)

    def helpers(self) -> tuple[ModelUsage, ...]:
        """Other models that worked on the answer, with what each of them used."""
        if not self._found:
            return ()
        shape = self._shapes[self._best]
        counted = ((model, shape.counted(usage)) for model, usage in islice(shape.helpers(self._found), HELPERS))
        return tuple(ModelUsage(model, usage) for model, usage in counted if usage is not None)


def count(value: object) -> int | None:
    """A number of things, or None if it cannot be one. A fraction (of a second) counts as begun."""
    if type(value) is int:
        return value if 0 <= value < COUNT_LIMIT else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < COUNT_LIMIT:
        return None
    return ceil(value)


def number(usage: JsonObject, path: str) -> int:
    """A count that a correction calculates with; what is absent adds nothing."""
    return _path(path).total(usage) or 0


_path = cache(Path)
"Of the few that stand in corrections."
