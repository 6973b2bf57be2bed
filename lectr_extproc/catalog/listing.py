"""What `lectr models` and `lectr price` show, and which cheaper models are worth suggesting."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.prices import PER, written
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.detect import detect
from lectr_extproc.core.pricing import FALLBACK, UNITS, Level, PriceTable, PricingStatus, Rates, count, price, usd
from lectr_extproc.core.tables import Known, Models, Provider
from lectr_extproc.core.usage import Usage

_SMALL_CALL = Usage(input_tokens=3000, output_tokens=1000)
"By what savings are told where no traffic was seen: three parts read to one written, below every threshold."


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A cheaper model, and the part of the cost that it saves."""

    model: str
    saving: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A model of the lineup, at a time. Prices are in USD as price lists write them."""

    provider: str
    model: str
    window: int | None
    max_output: int | None
    prices: Mapping[str, Decimal]
    above: Mapping[int, Mapping[str, Decimal]]
    source: str | None
    retires: date | None
    retired: bool
    suggestions: tuple[Suggestion, ...]
    note: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """One part of a cost: so many of a unit, at a price for `per` of them."""

    unit: str
    count: int
    price: Decimal
    per: int
    usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The cost of one call, line by line."""

    provider: str | None
    model: str
    priced_as: str | None
    at: datetime
    service_tier: str | None
    status: PricingStatus
    reason: str | None
    lines: tuple[Line, ...]
    usd: Decimal | None
    source: str | None
    version: str


def suggestions(
    table: PriceTable, provider: str, model: str, at_s: int, usage: Usage = _SMALL_CALL
) -> tuple[Suggestion, ...]:
    """The lineup's cheaper models for this usage: those that are still offered, are priced and do save."""
    known = LINEUP.get((provider, model))
    now = price(usage, table.row(provider, model), at_s).total
    if known is None or not now:
        return ()
    costs = [
        (target, price(usage, table.row(provider, target), at_s).total)
        for target in known.to
        if not LINEUP[provider, target].is_retired(_moment(at_s).date())
    ]
    return tuple(
        Suggestion(target, round(1 - Decimal(cost) / now, 3))
        for target, cost in costs
        if cost is not None and cost < now
    )


def list_models(
    table: PriceTable, at_s: int, provider: str | None = None, lineup: Mapping[tuple[str, str], Known] = LINEUP
) -> list[Listed]:
    """Every model of the lineup, or those of one provider."""
    return [_listed(table, owner, known, at_s) for (owner, _), known in lineup.items() if provider in {None, owner}]


def _listed(table: PriceTable, provider: str, known: Known, at_s: int) -> Listed:
    row = table.row(provider, known.model)
    rates = row.rates(at_s)[0] if row else None
    return Listed(
        provider=provider,
        model=known.model,
        window=known.window,
        max_output=known.max_output,
        prices=_named(rates, rates.base) if rates else {},
        above={threshold: _named(rates, level) for threshold, level in rates.above} if rates else {},
        source=row.source if row else None,
        retires=known.retires,
        retired=known.is_retired(_moment(at_s).date()),
        suggestions=suggestions(table, provider, known.model, at_s),
        note=known.note,
    )


def _named(rates: Rates, level: Level) -> dict[str, Decimal]:
    """The prices that say something: those there are, and that are not just another unit's."""
    prices = dict(zip(UNITS, level, strict=True))
    lacking = {UNITS[i] for i in rates.lacks}
    return {
        unit: _short(written(unit, pico))
        for unit, pico in prices.items()
        if unit not in lacking and pico != prices.get(FALLBACK.get(unit, "")) and (pico or unit != "request")
    }


def explain(
    table: PriceTable,
    provider: str | None,
    model: str,
    usage: Usage,
    *,
    at_s: int,
    service_tier: str | None = None,
    models: Models = MODELS,
    providers: Mapping[str, Provider] = PROVIDERS,
) -> Explained:
    """What a call would cost and why. Without a provider it is the one whose model this is."""
    found = None if provider else detect(model, models, providers, ollama=True)
    owner = found.provider if found else provider
    row = table.row(owner, model)
    cost = price(usage, row, at_s, service_tier)
    lines = []
    if row is not None and cost.amounts is not None:
        counts = count(usage, row.minimum_audio_s)
        level = row.rates(at_s, service_tier)[0].level(usage.input_tokens or 0)
        lines = [
            Line(unit, number, _short(written(unit, pico)), PER.get(unit, 1_000_000), _short(usd(amount)))
            for unit, number, pico, amount in zip(UNITS, counts, level, cost.amounts, strict=False)
            if amount
        ]
    return Explained(
        provider=owner,
        model=model,
        priced_as=row.model if row else None,
        at=_moment(at_s),
        service_tier=service_tier,
        status=cost.status,
        reason=cost.reason,
        lines=tuple(lines),
        usd=None if cost.usd is None else _short(cost.usd),
        source=row.source if row else None,
        version=table.version,
    )


def models_text(models: Sequence[Listed]) -> str:
    """A table for people."""
    rows: list[tuple[str, ...]] = [
        ("provider", "model", "window", "input", "output", "cached", "USD per million tokens")
    ]
    for m in models:
        prices = (_text(m.prices.get(unit)) for unit in ("input", "output", "cache_read"))
        rows.append((m.provider, m.model, f"{m.window:,}" if m.window else "", *prices, "; ".join(_remarks(m))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column in {2, 3, 4, 5} else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _remarks(model: Listed) -> Iterator[str]:
    for threshold, prices in model.above.items():
        yield f"above {threshold:,}: {_text(prices['input'])}/{_text(prices['output'])}"
    if model.retired:
        yield f"retired {model.retires}" if model.retires else "retired"
    elif model.retires:
        yield f"retires {model.retires}"
    for suggestion in model.suggestions:
        yield f"{suggestion.model} saves {suggestion.saving:.0%}"
    if model.note:
        yield model.note


def explained_text(cost: Explained) -> str:
    """The lines of a bill for people, ending with the total."""
    tier = f", {cost.service_tier} tier" if cost.service_tier else ""
    priced_as = f" (priced as {cost.priced_as})" if cost.priced_as not in {None, cost.model} else ""
    lines = [f"{cost.model}{priced_as} at {cost.provider or 'an unknown provider'}, {cost.at:%Y-%m-%d %H:%M} UTC{tier}"]
    for line in cost.lines:
        if line.unit == "audio_hour":
            what = f"{line.count:,} s × ${_text(line.price)} per hour"
        else:
            what = f"{line.count:,} × ${_text(line.price)} per {line.per:,}"
        lines.append(f"  {line.unit.replace('_', ' '):<18}{what:<36}${_text(line.usd)}")
    total = "$0.00 (pricing unavailable)" if cost.usd is None else f"${_text(cost.usd)}"
    lines.append(f"  {'total':<54}{total}")
    if cost.reason or cost.status == "free":
        lines.append(f"  {cost.reason or 'free'}")
    if cost.source:
        lines.append(f"  price from {cost.source} ({cost.version})")
    return "\n".join(lines)


def _moment(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _short(number: Decimal) -> Decimal:
    """Without the zeros that only say how exactly it was calculated."""
    return Decimal(f"{number.normalize():f}")


def _text(number: Decimal | None) -> str:
    return "" if number is None else f"{number:f}"
