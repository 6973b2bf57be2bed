from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from genai_prices import types
from genai_prices.data import providers as theirs

from lectr_extproc.catalog.overlay import ANY, MINIMUM_AUDIO_S, PRICES, TIERS, OverlayPrice, TierRatio
from lectr_extproc.catalog.prices import THEIR_PROVIDERS, sheet_of
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.tables import CatalogError

TODAY = datetime(2026, 11, 20, 12, tzinfo=UTC)
BY_ID = {provider.id: provider for provider in theirs}


def what_they_say(row: OverlayPrice) -> tuple[Decimal, Decimal] | None:
    """Input and output of genai-prices' own row for the same name, if it has one with prices."""
    provider = BY_ID.get(THEIR_PROVIDERS[row.provider])
    model = provider.find_model(row.model, all_providers=theirs) if provider and row.model != ANY else None
    if provider is None or model is None:
        return None
    prices = sheet_of(provider, model).prices(TODAY, None)[0][1]
    return (prices["input"], prices["output"]) if prices else None


@pytest.mark.parametrize("row", PRICES.values(), ids=lambda row: f"{row.provider}/{row.model}")
def test_a_row_stays_only_as_long_as_genai_prices_needs_it(row: OverlayPrice) -> None:
    assert what_they_say(row) == row.instead_of, (
        "genai-prices has changed here: is this row still needed, or still right?"
    )
    assert row.instead_of != (row.prices.get("input"), row.prices.get("output"))


@pytest.mark.parametrize("row", TIERS, ids=lambda row: f"{row.provider}/{row.tier}/{row.ratio}")
def test_a_ratio_stays_only_as_long_as_genai_prices_lacks_prices_for_the_tier(row: TierRatio) -> None:
    provider = BY_ID[THEIR_PROVIDERS[row.provider]]
    models = [model for model in provider.models if model.prices]
    names = row.models or {model.id for model in models}
    found = [(provider, provider.find_model(name, all_providers=theirs)) for name in names]
    assert any(model is not None and row.tier not in sheet_of(owner, model).tiers for owner, model in found)


def test_every_row_belongs_to_a_provider_and_says_where_it_comes_from() -> None:
    rows: list[OverlayPrice | TierRatio] = [*PRICES.values(), *TIERS]
    for row in rows:
        assert row.provider in PROVIDERS, row
        assert row.source.startswith("https://"), row
        assert row.checked <= date(2026, 11, 20), row


def test_every_price_says_why_it_is_there_and_stands_once() -> None:
    assert all(row.reason for row in PRICES.values())
    assert all(key == (row.provider, row.model) for key, row in PRICES.items())
    named = [(row.provider, row.tier, model) for row in TIERS for model in row.models or {ANY}]
    assert len(set(named)) == len(named)
    assert all(model is not None for _, model in MINIMUM_AUDIO_S)


def test_a_ratio_for_some_models_comes_before_the_one_for_all() -> None:
    seen: set[tuple[str, str]] = set()
    for row in TIERS:
        assert not row.models or (row.provider, row.tier) not in seen
        if not row.models:
            seen.add((row.provider, row.tier))


def price_row(**changed: object) -> OverlayPrice:
    fields = {"provider": "openai", "model": "m", "prices": {"input": Decimal(1)}, "reason": "r", "source": "s"}
    return OverlayPrice(**{**fields, **changed})  # type: ignore[arg-type]


def tier_row(ratio: str, tier: str) -> TierRatio:
    return TierRatio(provider="openai", tier=tier, ratio=Decimal(ratio), source="s")


BAD: dict[str, Callable[[], object]] = {
    "a misspelt unit": lambda: price_row(prices={"inptu": Decimal(1)}),
    "a price below zero": lambda: price_row(prices={"input": Decimal(-1)}),
    "a name that no lookup finds": lambda: price_row(model="GPT-4"),
    "a ratio of nothing": lambda: tier_row("0", "flex"),
    "a percentage taken for a ratio": lambda: tier_row("50", "flex"),
    "a tier that no lookup finds": lambda: tier_row("1", "Flex"),
}


@pytest.mark.parametrize("row", BAD.values(), ids=BAD)
def test_a_row_that_cannot_be_right_is_refused(row: Callable[[], object]) -> None:
    with pytest.raises(CatalogError):
        row()


def test_their_types_are_the_ones_we_read() -> None:
    """A new kind of condition or rule would be read as none; then prices.py has to learn it."""
    kinds = {
        type(step.constraint)
        for provider in theirs
        for model in provider.models
        for step in (
            *([] if isinstance(model.prices, types.ModelPrice) else model.prices),
            *(model.price_variants or ()),
        )
    }
    assert kinds == {type(None), types.StartDateConstraint, types.TimeOfDateConstraint}
