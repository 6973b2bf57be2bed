from collections import Counter
from datetime import date

from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.prices import price_table
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.catalog.ranking import ALIASES, CHECKED, RANKING
from lectr_extproc.core.auto import TIERS
from lectr_extproc.core.detect import detect


def test_every_model_is_one_of_the_lineup_with_a_price_and_is_there_once() -> None:
    prices = price_table()
    assert {(row.provider, row.model) for row in RANKING} <= LINEUP.keys()
    assert all(prices.row(row.provider, row.model) for row in RANKING)
    assert [model for model, count in Counter((row.provider, row.model) for row in RANKING).items() if count > 1] == []


def test_every_tier_has_models_of_several_providers_that_are_not_retired() -> None:
    for tier in TIERS:
        there = [row for row in RANKING if row.tier == tier and not LINEUP[row.provider, row.model].is_retired(CHECKED)]
        assert len({row.provider for row in there}) >= 3, tier


def test_figures_can_be_what_they_are_said_to_be() -> None:
    assert date(2026, 11, 1) <= CHECKED
    for row in RANKING:
        assert all(figure is None or 0 < figure <= 100 for figure in (row.quality, row.coding))
        assert row.first_token_ms is None or 50 <= row.first_token_ms <= 30_000
        assert all(source.startswith("https://") for source in row.sources)


def test_a_model_that_speaks_one_api_only_is_not_said_to_speak_its_providers_others() -> None:
    assert all("openai.chat" not in (row.apis or ()) for row in RANKING if "codex" in row.model)
    assert all(row.apis and "openai.embeddings" not in row.apis for row in RANKING)


def test_the_aliases_of_every_org_are_models_of_providers_that_there_are() -> None:
    found = {name: detect(models[0], MODELS, PROVIDERS, ollama=False) for name, models in ALIASES.items()}
    assert {name: one.provider if one else None for name, one in found.items()} == {
        "embed-small": "openai",
        "embed-large": "openai",
        "embed-titan": "bedrock",
    }


def test_bedrocks_models_are_chosen_for_the_one_api_that_they_all_may_have() -> None:
    assert {row.apis for row in RANKING if row.provider == "bedrock"} == {frozenset({"openai.chat"})}
