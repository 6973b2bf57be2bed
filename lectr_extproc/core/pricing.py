"""What a call costs: usage × price row × time, in whole pico-USD.

One USD per million tokens is 1,000,000 pico-USD per token, so list prices are integers and no sum of them is rounded.
A price that is not known is absent with a reason, never 0. Rows come from catalog/; this file knows no table and no
clock.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import zip_longest
from operator import mul
from types import MappingProxyType
from typing import Literal, NamedTuple

from lectr_extproc.core.answer import Answer
from lectr_extproc.core.usage import NO_USAGE, Usage
from lectr_extproc.core.words import MODEL_LIMIT

PricingStatus = Literal["priced", "provider_reported", "free", "no_usage", "unavailable"]

PICO = 10**12
"Pico-USD in one USD."

UNITS = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "request",
    "audio_input",
    "cache_read_audio",
    "image_input",
    "audio_output",
    "image_output",
    "web_search",
    "search_unit",
    "page",
    "audio_hour",
)
"""What has a price of its own. Every tuple of counts, prices or amounts below is in this order, the usual ones first: a
tuple that ends early has nothing of the rest."""

_OUTPUT = UNITS.index("output")
_EXTRAS = UNITS.index("web_search")
_AUDIO_HOUR = UNITS.index("audio_hour")
_SECONDS_PER_HOUR = 3600


def _places(*units: str) -> tuple[int, ...]:
    return tuple(map(UNITS.index, units))


_CACHE_READ = _places("cache_read", "cache_read_audio")
_CACHE_WRITE = _places("cache_write", "cache_write_1h")
_INPUT = _places("input", "audio_input", "image_input")
_GENERATED = _places("output", "reasoning", "audio_output", "image_output")
_BESIDE_TOKENS = _places("request", *UNITS[_EXTRAS:])

FALLBACK = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_input": "input",
    "cache_read_audio": "cache_read",
    "image_input": "input",
    "reasoning": "output",
    "audio_output": "output",
    "image_output": "output",
}
"Whose price a unit takes that has none; in an order in which each is settled before it is asked for."

_ORDINARY = frozenset(
    {"auto", "default", "standard", "on_demand", "service_tier_unspecified", "traffic_type_unspecified"}
)
"What providers call the service tier that everybody gets."

UNKNOWN_TIER = "this service tier has no price; the standard one was taken"

Level = tuple[int, ...]
"Pico-USD for one of each of UNITS (for an hour of audio), fallbacks settled, 0 where there is no price."


@dataclass(frozen=True, slots=True)
class Rates:
    """The prices of one model at one time in one service tier."""

    base: Level
    above: tuple[tuple[int, Level], ...] = ()
    "A request whose input exceeds the number of tokens pays this for all of it, output included. Ascending."
    lacks: tuple[int, ...] = ()
    "Positions in UNITS that have no price, not even another's."
    is_free: bool = False
    splits_output: bool = False
    "Images or video in the output have a price far from the text's: a call that does not tell them apart has no price."

    def level(self, input_tokens: int) -> Level:
        """The prices of a request of this size."""
        chosen = self.base
        for threshold, level in self.above:
            if input_tokens <= threshold:
                break
            chosen = level
        return chosen


Hours = tuple[tuple[int, Rates], ...]
"Rates by the second of the UTC day from which they hold; the first is 0."
Periods = tuple[tuple[int, Hours], ...]
"The same by the second since 1970 from which they hold, ascending; the first holds for all time before, too."


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Everything the table has on one model."""

    provider: str
    model: str
    "As the table spells it."
    source: str
    version: str
    standard: Periods
    tiers: Mapping[str, Periods] = field(default_factory=lambda: MappingProxyType({}))
    "By the lower-case word that the answer uses for its service tier, speed or processing."
    minimum_audio_s: int = 0
    regions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    "What tokens cost there, in per cent of the price, by the answer's lower-case word for the region."
    is_own: bool = False
    "No price list has this model: every price is the operator's."

    def rates(self, at_s: int, service_tier: str | None = None) -> tuple[Rates, str | None]:
        """The prices at a time, and a remark where they are not quite the ones asked for."""
        if not service_tier:
            return _at(self.standard, at_s), None
        word = service_tier.lower().removeprefix("on_demand_")  # Vertex says ON_DEMAND_FLEX
        if (periods := self.tiers.get(word)) is not None:
            return _at(periods, at_s), None
        return _at(self.standard, at_s), None if word in _ORDINARY else UNKNOWN_TIER


class Cost(NamedTuple):
    """What one call cost, or why nobody can say. A tuple, because a frozen dataclass takes twice as long to make."""

    status: PricingStatus
    reason: str | None = None
    row: Row | None = None
    amounts: tuple[int, ...] | None = None
    "Pico-USD by UNITS; None where only a total, or nothing, is known."
    total: int | None = None
    "Pico-USD."

    @property
    def usd(self) -> Decimal | None:
        """The total, exactly."""
        return None if self.total is None else usd(self.total)

    @property
    def cache_read(self) -> int | None:
        """Pico-USD for what came out of a cache."""
        return self._sum(_CACHE_READ)

    @property
    def cache_write(self) -> int | None:
        """Pico-USD for what was put into a cache."""
        return self._sum(_CACHE_WRITE)

    @property
    def input(self) -> int | None:
        """Pico-USD for what was read and neither put into a cache nor taken from one."""
        return self._sum(_INPUT)

    @property
    def output(self) -> int | None:
        """Pico-USD for what was generated."""
        return self._sum(_GENERATED)

    @property
    def extras(self) -> int | None:
        """Pico-USD for what is not tokens: searches, pages, hours of audio, the request itself."""
        return self._sum(_BESIDE_TOKENS)

    @property
    def source(self) -> Literal["local", "provider"] | None:
        """Whose arithmetic this is."""
        if self.status == "provider_reported":
            return "provider"
        return None if self.total is None else "local"

    def _sum(self, places: tuple[int, ...]) -> int | None:
        amounts = self.amounts
        return None if amounts is None else sum([amounts[place] for place in places if place < len(amounts)])


def usd(pico: int) -> Decimal:
    """Pico-USD as USD, exactly."""
    return Decimal(pico).scaleb(-12)


def rates(levels: Sequence[tuple[int, Mapping[str, int | None]]], *, splits_output: bool = False) -> Rates:
    """Settle what a table says: its base prices, then those above each threshold, by name; absent is not zero."""
    base, *above = [(threshold, _settled(prices)) for threshold, prices in levels]
    known = [price for price in base[1].values() if price is not None]
    return Rates(
        _level(base[1]),
        tuple((threshold, _level(prices)) for threshold, prices in above),
        lacks=tuple(i for i, unit in enumerate(UNITS) if base[1].get(unit) is None and unit != "request"),
        is_free=bool(known) and not any(known) and not above,
        splits_output=splits_output,
    )


def _settled(prices: Mapping[str, int | None]) -> dict[str, int | None]:
    settled = dict(prices)
    for unit, other in FALLBACK.items():
        if settled.get(unit) is None:
            settled[unit] = settled.get(other)
    return settled


def _level(prices: Mapping[str, int | None]) -> Level:
    return tuple(prices.get(unit) or 0 for unit in UNITS)


def _at(periods: Periods, at_s: int) -> Rates:
    hours = periods[0][1]
    for since, later in periods[1:]:
        if at_s < since:
            break
        hours = later
    found = hours[0][1]
    if len(hours) > 1:
        second = at_s % 86400
        for begin, held in hours:
            if second < begin:
                break
            found = held
    return found


def count(usage: Usage, minimum_audio_s: int = 0) -> tuple[int, ...]:
    """How many of each of UNITS a call used, no token twice. Audio is in seconds here.

    A provider whose parts exceed its total is believed about the total: Cohere counts what was cached before it
    takes off what it does not bill.
    """
    read = usage.cache_read_tokens or 0
    written = usage.cache_write_tokens or 0
    rest = 0
    if usage.input_tokens is not None:
        rest = usage.input_tokens - read - written
        if rest < 0:
            read = min(read, usage.input_tokens)
            written = min(written, usage.input_tokens - read)
            rest = usage.input_tokens - read - written
    said = usage.output_tokens or 0
    lasting = min(usage.cache_write_1h_tokens, written) if usage.cache_write_1h_tokens else 0
    heard = usage.audio_input_tokens or 0
    seen = usage.image_input_tokens or 0
    spoken = usage.audio_output_tokens or 0
    drawn = usage.image_output_tokens or 0
    searches = usage.web_search_requests or 0
    units = usage.search_units or 0
    pages = usage.pages or 0
    seconds = usage.audio_seconds or 0
    if not (heard or seen or spoken or drawn or searches or units or pages or seconds):
        thought = min(usage.reasoning_tokens, said) if usage.reasoning_tokens else 0
        return rest, said - thought, read, written - lasting, lasting, thought, 1
    read_audio = 0
    if heard:
        read_audio = min(usage.cache_read_audio_tokens or 0, read, heard)
        # How much of the audio came from the cache is not always told: then as little as the total allows.
        heard = min(heard - read_audio, rest)
    if seen:
        seen = min(seen, rest - heard)
    if spoken or drawn:
        spoken = min(spoken, said)
        drawn = min(drawn, said - spoken)
    thought = min(usage.reasoning_tokens or 0, said - spoken - drawn)
    return (
        rest - heard - seen,
        said - thought - spoken - drawn,
        read - read_audio,
        written - lasting,
        lasting,
        thought,
        1,
        heard,
        read_audio,
        seen,
        spoken,
        drawn,
        searches,
        units,
        pages,
        max(seconds, minimum_audio_s) if seconds else 0,
    )


_NO_USAGE = Cost("no_usage", "the provider reported no usage")
_UNKNOWN_MODEL = Cost("unavailable", "no price for this model")


def price(
    usage: Usage | None,
    row: Row | None,
    at_s: int,
    service_tier: str | None = None,
    *,
    region: str | None = None,
    reported: Decimal | None = None,
) -> Cost:
    """Price one call that started at `at_s`. What the provider itself says it charged (`reported`, USD) wins."""
    if reported is not None:
        return Cost("provider_reported", None, row, None, round(reported * PICO))
    if row is None:
        return _UNKNOWN_MODEL
    held, remark = row.rates(at_s, service_tier)
    if held.is_free:
        return Cost("free", remark, row, (), 0)
    if usage is None:
        return _NO_USAGE
    counts = count(usage, row.minimum_audio_s)
    if not counts[0] and not counts[_OUTPUT] and usage == NO_USAGE:
        return _NO_USAGE
    level = held.level(usage.input_tokens or 0)
    amounts = tuple(map(mul, counts, level))
    for unit in held.lacks:
        if unit >= len(counts):
            break
        if counts[unit]:
            if unit < _EXTRAS or not any(amounts):
                return Cost("unavailable", f"no price for {UNITS[unit]}", row)
            remark = f"without {counts[unit]} × {UNITS[unit]}, which has no price"
    if held.splits_output and counts[_OUTPUT] and usage.image_output_tokens is None:
        return Cost("unavailable", "images in the output have a price of their own and were not told apart", row)
    if region and (percent := row.regions.get(region.lower())):
        amounts = tuple(
            (amount * percent + 50) // 100 if i < _EXTRAS and UNITS[i] != "request" else amount
            for i, amount in enumerate(amounts)
        )
    if len(counts) > _AUDIO_HOUR:
        # A price per hour is divided into seconds only at the end.
        amounts = (*amounts[:-1], (amounts[-1] + _SECONDS_PER_HOUR // 2) // _SECONDS_PER_HOUR)
    return Cost("priced", remark, row, amounts, sum(amounts))


def together(cost: Cost, helpers: Iterable[Cost]) -> Cost:
    """The cost of an answer that other models worked on too. A charge that the provider reported has them in it."""
    total, amounts, remark = cost.total, cost.amounts, None
    if total is None or amounts is None:
        return cost
    for helper in helpers:
        if helper.total is None or helper.amounts is None:
            remark = "without another model's part in the answer, which has no price"
        else:
            total += helper.total
            amounts = tuple(a + b for a, b in zip_longest(amounts, helper.amounts, fillvalue=0))
    return remarked(cost._replace(total=total, amounts=amounts), remark)


def remarked(cost: Cost, remark: str | None) -> Cost:
    """The same cost, and one more reason why it is not quite exact."""
    return cost._replace(reason=f"{cost.reason}; {remark}" if cost.reason else remark) if remark else cost


_DATE_SUFFIX = re.compile(r"(?:-\d{8}|-\d{4}-\d{2}-\d{2}|@[\d-]+)$", re.ASCII)


def undated(model: str) -> str:
    """A model's name without the date of its version."""
    return _DATE_SUFFIX.sub("", model)


_VERSION_SUFFIX = re.compile(r"(?:-latest|-(?:\d\d-)?\d{4}|-0\d\d|-v\d+:\d+)$", re.ASCII)


def is_version_of(model: str, other: str) -> bool:
    """Whether two names are one model's, but for its version, its provider's prefix, a region or a folder before it."""
    one, two = (undated(_VERSION_SUFFIX.sub("", name.lower())) for name in (model, other))
    return one == two or one.endswith((f"/{two}", f".{two}")) or two.endswith((f"/{one}", f".{one}"))


class PriceTable:
    """Finds the row of a model, and remembers the last few thousand answers, misses included.

    The bound matters: clients choose the names.
    """

    def __init__(self, find: Callable[[str, str], Row | None], version: str, capacity: int = 4096) -> None:
        self.version = version
        self._find = find
        self._capacity = capacity
        self._found: dict[tuple[str, str], Row | None] = {}

    def __eq__(self, other: object) -> bool:
        """Whether both find the same: settings that change nothing are told by it."""
        return isinstance(other, PriceTable) and (self.version, self._find) == (other.version, other._find)

    __hash__ = None  # type: ignore[assignment]  # nothing keeps tables by their content

    def row(self, provider: str | None, *models: str | None) -> Row | None:
        """The row of the first of these models that has one, as written or without its date. Never by a prefix."""
        if provider is None:
            return None
        for model in models:
            if model and len(model) <= MODEL_LIMIT:
                key = (provider, model)
                try:
                    row = self._found[key]
                except KeyError:
                    row = self._learn(key)
                if row is not None:
                    return row
        return None

    def _learn(self, key: tuple[str, str]) -> Row | None:
        provider, model = key
        row = self._find(provider, model)
        if row is None and (without_date := undated(model)) != model:
            row = self._find(provider, without_date)
        if len(self._found) >= self._capacity:
            del self._found[next(iter(self._found))]
        self._found[key] = row
        return row

    def __len__(self) -> int:
        return len(self._found)


def price_answer(
    answer: Answer,
    usage: Usage | None,
    prices: PriceTable,
    at_s: int,
    *,
    provider: str | None,
    sent: str | None,
    requested: str | None,
) -> Cost:
    """Price one answer by the model that answered; by the one sent if none answered by name, or a version of it did.

    `usage` is the answer's own, or what was made of it.
    """
    answered = answer.model_answered
    row, remark = prices.row(provider, answered) if answered else prices.row(provider, sent, requested), None
    if answered and row is None:
        row = _stand_in(answered, prices, at_s, provider, sent, requested)
        remark = "price of the model that was sent" if row else f"the model that answered is {answered}"
    cost = price(usage, row, at_s, answer.service_tier, region=answer.region, reported=answer.reported_cost)
    if cost.source == "local" or cost.status == "unavailable":
        cost = remarked(cost, remark)
    if not answer.helpers:
        return cost
    helpers = (price(h.usage, prices.row(provider, h.model), at_s, answer.service_tier) for h in answer.helpers)
    return together(cost, helpers)


def _stand_in(answered: str, prices: PriceTable, at_s: int, provider: str | None, *models: str | None) -> Row | None:
    """The row of the model sent, where another that nobody has a price for answered.

    A provider may answer with another model altogether, whose price is anybody's guess, and never nothing. A server of
    the operator's own calls its models what it likes, paths for instance.
    """
    for model in models:
        row = prices.row(provider, model)
        if model and row and (row.is_own or (is_version_of(answered, model) and not row.rates(at_s)[0].is_free)):
            return row
    return None
