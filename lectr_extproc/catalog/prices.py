"""Price rows, compiled: the operator's own prices, over our overlay, over genai-prices' data. Asked by exact name only.

genai-prices is always asked with the provider, and only for prices: its reading of usage lacks the corrections that
providers need. A row is compiled when its model is first seen, from the package's own answers at each date and hour at
which one of its prices changes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from types import MappingProxyType
from typing import NamedTuple

from genai_prices import types
from genai_prices.data import providers as _bundled

from lectr_extproc.catalog.overlay import ANY, MINIMUM_AUDIO_S, PRICES, REGIONS, TIERS, OverlayPrice
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.detect import prefixes
from lectr_extproc.core.pricing import FALLBACK, PICO, Hours, Periods, PriceTable, Rates, Row, rates, undated
from lectr_extproc.core.tables import Provider

THEIR_PROVIDERS: Mapping[str, str] = MappingProxyType(
    {id_: {"gemini": "google", "xai": "x-ai", "bedrock": "aws"}.get(id_, id_) for id_ in PROVIDERS}
)
"What genai-prices calls our providers."

PER: Mapping[str, int] = MappingProxyType(
    {"web_search": 1000, "search_unit": 1000, "page": 1000, "request": 1000, "audio_hour": 1}
)
"How many of a unit a written price is for; 1,000,000 (tokens) of every other."

_THEIR_KEYS: Mapping[str, tuple[str, ...]] = {
    "input": ("input_mtok",),
    "cache_read": ("cache_read_mtok",),
    "cache_write": ("cache_write_mtok",),
    "cache_write_1h": ("cache_write_1h_mtok",),
    "audio_input": ("input_audio_mtok",),
    "cache_read_audio": ("cache_audio_read_mtok",),
    "image_input": ("input_image_mtok",),
    "output": ("output_mtok",),
    "reasoning": ("output_reasoning_mtok",),
    "audio_output": ("output_audio_mtok",),
    "image_output": ("output_image_mtok",),
    "web_search": ("web_searches_kcount",),
    "search_unit": ("rerank_searches_kcount",),
    "page": ("input_document_kpages",),
    "audio_hour": ("input_audio_hours", "audio_hours"),
    "request": ("requests_kcount",),
}
_SPLIT_OUTPUT = ("output_image_mtok", "output_video_mtok")

_TIER_KEYS = ("service_tier", "speed", "processing")
"Which of a call's circumstances an answer's service tier is, in genai-prices' words."

Prices = dict[str, Decimal]
"USD by unit, as written in a price list."
Steps = list[tuple[int, Prices]]
"The same from each number of input tokens on; the first is the base."


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A price the operator set: what is given replaces the standard price, and a discount is taken off at the end.

    Tiers, and prices above a threshold, keep their proportion to the standard price that was replaced.
    """

    provider: str
    model: str | None = None
    "None: a discount on every model of the provider."
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    discount: Decimal | None = None
    "Between 0 and 1. One of a model's own replaces the provider's."
    since: date | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Sheet:
    """What one table says of one model, whenever and in whichever tier it is asked."""

    model: str
    source: str
    prices: Callable[[datetime, str | None], Steps]
    dates: frozenset[date] = frozenset()
    times: frozenset[time] = frozenset()
    tiers: frozenset[str] = frozenset()
    splits_output: bool = False
    theirs: int = 0
    "Which of genai-prices' models this is, whatever it is called: a provider may have two of one name."


class PriceList(NamedTuple):
    """What genai-prices published at some time, newer than what came with this installation."""

    providers: Sequence[types.Provider]
    version: str


_BEGINNING = date(1970, 1, 1)
_MIDNIGHT = time(tzinfo=UTC)


@cache
def bundled_version() -> str:
    """The version of the genai-prices data that came with this installation."""
    return version("genai-prices")


def price_table(
    overrides: Sequence[Override] = (),
    providers: Sequence[types.Provider] | None = None,
    data_version: str | None = None,
    rows: Mapping[str, Provider] = PROVIDERS,
) -> PriceTable:
    """The catalogue's prices as one value; without arguments those of this installation."""
    newest = max(*(row.checked for row in PRICES.values()), *(row.checked for row in TIERS))
    name = f"genai-prices {data_version or bundled_version()}, overlay {newest}{', settings' if overrides else ''}"
    return PriceTable(_Finder(_bundled if providers is None else providers, overrides, name, rows), name)


class _Finder:
    """Compiles the row of a model from the tables that know it."""

    def __init__(
        self,
        providers: Sequence[types.Provider],
        overrides: Sequence[Override],
        name: str,
        rows: Mapping[str, Provider],
    ) -> None:
        self._providers = list(providers)
        self._by_id = {provider.id: provider for provider in providers}
        self._overrides = overrides
        self._version = name
        self._offered_by = rows
        self._rows: dict[tuple[str, int, tuple[int, ...]], Row] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Finder) and (
            (self._providers, self._overrides, self._offered_by)
            == (other._providers, other._overrides, other._offered_by)
        )

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, provider: str, model: str) -> Row | None:
        offered_by = self._offered_by.get(provider)
        kind = offered_by.kind if offered_by else provider
        names = _names(offered_by, model)
        sheet = next(filter(None, (self._sheet(kind, name) for name in names)), None)
        known_as = {*names, *map(undated, names), sheet.model if sheet else names[0]}
        overrides = [o for o in self._overrides if o.provider == provider]
        own = [o for o in overrides if o.model is not None and o.model.lower() in known_as]
        if sheet is None and not any(o.prices for o in own):
            return None
        shared = [o for o in overrides if o.model is None]
        if sheet is None or not sheet.theirs:
            return compiled(kind, sheet or Sheet(names[-1], "settings", _unpriced), own, shared, self._version)
        # Their models are not many; the spellings of one are.
        key = (provider, sheet.theirs, tuple(map(id, own)))
        if key not in self._rows:
            self._rows[key] = compiled(kind, sheet, own, shared, self._version)
        return self._rows[key]

    def _sheet(self, provider: str, model: str) -> Sheet | None:
        if (row := PRICES.get((provider, model))) is not None:
            return _overlay_sheet(row, model)
        theirs = self._by_id.get(THEIR_PROVIDERS.get(provider, ""))
        if theirs is not None and (found := theirs.find_model(model, all_providers=self._providers)) is not None:
            return sheet_of(theirs, found) if _spells(found.match, model) else None
        if (row := PRICES.get((provider, ANY))) is not None:
            return _overlay_sheet(row, model)
        return None


def _names(row: Provider | None, model: str) -> list[str]:
    """A model's name as written, and without its provider's own prefix."""
    name = model.lower()
    prefix, slash, rest = name.partition("/")
    return [name, rest] if slash and rest and row is not None and prefix in prefixes(row) else [name]


# --- what the tables say ----------------------------------------------------------------------------------------------


def _unpriced(_at: datetime, _tier: str | None) -> Steps:
    return [(0, {})]


def _overlay_sheet(row: OverlayPrice, model: str) -> Sheet:
    return Sheet(model=model, source="overlay", prices=lambda _at, _tier: [(0, dict(row.prices))])


def sheet_of(provider: types.Provider, model: types.ModelInfo) -> Sheet:
    """What genai-prices says of a model that this provider offers."""
    # A model that it has only through another provider has that one's prices, but not its service tiers.
    variants = (model.price_variants or ()) if any(model is own for own in provider.models) else ()
    conditional = [] if isinstance(model.prices, types.ModelPrice) else model.prices
    conditions = [step.constraint for step in (*conditional, *variants)]
    everything = [*(step.prices for step in conditional), *(variant.prices for variant in variants)]
    if isinstance(model.prices, types.ModelPrice):
        everything.append(model.prices)

    def prices(at: datetime, tier: str | None) -> Steps:
        return _steps(model, model.get_prices(at, dict.fromkeys(_TIER_KEYS, tier) if tier else None))

    return Sheet(
        model=model.id,
        source="genai-prices",
        prices=prices,
        dates=frozenset(c.start_date for c in conditions if isinstance(c, types.StartDateConstraint)),
        times=frozenset(
            moment
            for c in conditions
            if isinstance(c, types.TimeOfDateConstraint)
            for moment in (c.start_time, c.end_time)
        ),
        tiers=frozenset(word for v in variants for key, word in v.when.items() if key in _TIER_KEYS),
        theirs=id(model),
        splits_output=any(getattr(held, key) is not None for held in everything for key in _SPLIT_OUTPUT),
    )


def _steps(model: types.ModelInfo, held: types.ModelPrice) -> Steps:
    given: dict[str, Decimal | types.TieredPrices] = {}
    for unit, keys in _THEIR_KEYS.items():
        for price in (getattr(held, key) for key in keys):
            if price is not None:
                given.setdefault(unit, price)
    if not given and model.id.endswith(":free"):
        return [(0, {"input": Decimal(0), "output": Decimal(0)})]
    thresholds = {
        tier.start for price in given.values() if isinstance(price, types.TieredPrices) for tier in price.tiers
    }
    return [(start, {unit: _from(price, start) for unit, price in given.items()}) for start in (0, *sorted(thresholds))]


def _from(price: Decimal | types.TieredPrices, start: int) -> Decimal:
    if isinstance(price, types.TieredPrices):
        return next((tier.price for tier in reversed(price.tiers) if 0 < tier.start <= start), price.base)
    return price


_VERSION = re.compile(
    r"(?:[-@:._]?(?:v?\d+[bk]?|preview|latest|exp|experimental|stable|instruct|it|text|native|audio|thinking))*",
    re.ASCII,
)


def _spells(match: types.MatchLogic, name: str) -> bool:
    """Whether a rule that found this name says all of it, or all but a version: the rest could be another model."""
    match match:
        case types.ClauseOr():
            return any(_spells(clause, name) for clause in match.or_)
        case types.ClauseAnd():
            return all(_spells(clause, name) for clause in match.and_)
        case types.ClauseStartsWith() | types.ClauseContains():
            said = match.starts_with if isinstance(match, types.ClauseStartsWith) else match.contains
            _, found, rest = name.partition(said.lower())
            return bool(found) and match.is_match(name) and (name.startswith("ft:") or bool(_VERSION.fullmatch(rest)))
        case _:
            return match.is_match(name)


# --- compiling --------------------------------------------------------------------------------------------------------


def compiled(
    provider: str, sheet: Sheet, own: Sequence[Override] = (), shared: Sequence[Override] = (), name: str = ""
) -> Row:
    """Everything a sheet says, at every date and hour and in every tier in which it says something else."""
    ratios = _ratios(provider, sheet)
    dates = sorted({_BEGINNING, *sheet.dates, *(o.since for o in (*own, *shared) if o.since)})
    seconds = sorted({0, *map(_second, sheet.times)})

    def periods(tier: str | None) -> Periods:
        found: list[tuple[int, Hours]] = []
        for day in dates:
            since = int(datetime.combine(day, _MIDNIGHT).timestamp())
            hours = tuple((second, held(since + second, day, tier)) for second in seconds)
            # Most dates are another tier's.
            if not found or found[-1][1] != hours:
                found.append((since, hours))
        return tuple(found)

    def held(at_s: int, day: date, tier: str | None) -> Rates:
        at = datetime.fromtimestamp(at_s, UTC)
        steps = sheet.prices(at, None if tier in ratios else tier)
        if tier in ratios:
            steps = [
                (start, {u: p if u in PER else p * ratios[tier] for u, p in prices.items()}) for start, prices in steps
            ]
        steps = _overridden(steps, sheet.prices(at, None)[0][1], _in_force(own, day), _in_force(shared, day))
        levels = [(start, {unit: _pico(unit, price) for unit, price in prices.items()}) for start, prices in steps]
        return rates(levels, splits_output=sheet.splits_output)

    return Row(
        provider=provider,
        model=sheet.model,
        source="settings" if own or shared else sheet.source,
        version=name,
        standard=periods(None),
        tiers=MappingProxyType({tier: periods(tier) for tier in sorted(sheet.tiers | ratios.keys())}),
        minimum_audio_s=MINIMUM_AUDIO_S.get((provider, sheet.model), 0),
        regions=REGIONS.get(provider, MappingProxyType({})),
        is_own=sheet.source == "settings",
    )


def _second(moment: time) -> int:
    moment = (
        datetime.combine(_BEGINNING, moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).time()
    )
    return moment.hour * 3600 + moment.minute * 60 + moment.second


def _ratios(provider: str, sheet: Sheet) -> dict[str, Decimal]:
    ratios: dict[str, Decimal] = {}
    for row in TIERS:
        if row.provider == provider and row.tier not in sheet.tiers and (not row.models or sheet.model in row.models):
            ratios.setdefault(row.tier, row.ratio)
    return ratios


def _in_force(overrides: Sequence[Override], day: date) -> Override | None:
    """The one that began last; of two that began together the later in the file."""
    begun = [o for o in overrides if o.since is None or o.since <= day]
    return max(reversed(begun), key=lambda o: o.since or _BEGINNING, default=None)


def _overridden(steps: Steps, standard: Prices, own: Override | None, shared: Override | None) -> Steps:
    if own and own.prices:
        steps = [(start, _replaced(prices, standard, own.prices)) for start, prices in steps]
    discount = own.discount if own and own.discount is not None else shared.discount if shared else None
    if discount is None:
        return steps
    return [(start, {unit: price * (1 - discount) for unit, price in prices.items()}) for start, prices in steps]


def _replaced(prices: Prices, standard: Prices, given: Mapping[str, Decimal]) -> Prices:
    """What is given, and what it carries along: a cheaper input makes cached input cheaper by as much."""
    is_free = given.get("input") == given.get("output") == 0
    replaced: Prices = {}
    for unit, price in prices.items():
        leader: str | None = unit
        while leader is not None and leader not in given:
            leader = FALLBACK.get(leader)
        was = standard.get(leader) if leader else None
        if leader and was:
            replaced[unit] = price * given[leader] / was
        elif unit in given or not (is_free and unit in PER):
            replaced[unit] = given.get(unit, price)
    return {**given, **replaced}


def _pico(unit: str, price: Decimal) -> int:
    """Whole pico-USD; what is behind that comes from float arithmetic in somebody's price list."""
    return round(price * PICO / PER.get(unit, 1_000_000))


def written(unit: str, pico: int) -> Decimal:
    """A price as price lists write it."""
    return (Decimal(pico) * PER.get(unit, 1_000_000)).scaleb(-12)
