import re
from datetime import date
from pathlib import Path

import pytest

from lectr_extproc.catalog.lineup import CHECKED, LINEUP, SOURCES
from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.prices import price_table
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.candidates import ABILITIES
from lectr_extproc.core.detect import detect
from lectr_extproc.core.tables import CatalogError, Known

TABLE = price_table()


def test_every_model_is_priced_and_belongs_to_its_provider() -> None:
    for provider, model in LINEUP:
        found = detect(model, MODELS, PROVIDERS, ollama=True)
        assert found is not None, model
        assert found.provider == provider, model
        assert TABLE.row(provider, model) is not None, model


def test_every_suggestion_is_a_model_of_the_same_provider() -> None:
    suggested = {(provider, target) for (provider, _), row in LINEUP.items() for target in row.to}
    assert suggested - LINEUP.keys() == set()


def test_models_that_stay_have_cheaper_ones_that_stay() -> None:
    staying = {key for key, known in LINEUP.items() if known.retires is None and not known.gone}
    advised = {
        provider for provider, model in staying if {(provider, to) for to in LINEUP[provider, model].to} & staying
    }
    assert {"openai", "anthropic", "gemini", "groq", "mistral", "deepseek"} <= advised


def test_suggestions_never_run_in_a_circle() -> None:
    def follow(provider: str, model: str, before: tuple[str, ...]) -> None:
        assert model not in before
        for target in LINEUP[provider, model].to:
            follow(provider, target, (*before, model))

    for provider, model in LINEUP:
        follow(provider, model, ())


# The windows that price lists and seed documents disagree about, each checked 2026-11-20.
WINDOWS = {
    ("openai", "gpt-5"): (272_000, 128_000),
    ("openai", "gpt-4.1"): (1_047_576, 32_768),
    ("anthropic", "claude-opus-4-6"): (1_000_000, 128_000),
    ("anthropic", "claude-sonnet-4-5"): (200_000, 64_000),
    ("gemini", "gemini-2.5-pro"): (1_048_576, 65_536),
    ("mistral", "mistral-large-latest"): (262_144, None),
    ("cohere", "command-nightly"): (128_000, None),
    ("bedrock", "us.meta.llama4-scout-17b-instruct-v1:0"): (10_000_000, 8192),
    ("ollama", "ollama/mistral"): (8192, None),
    ("ollama", "ollama/phi4-mini"): (None, None),
}


@pytest.mark.parametrize("key", WINDOWS, ids="/".join)
def test_a_window_is_the_largest_input(key: tuple[str, str]) -> None:
    assert (LINEUP[key].window, LINEUP[key].max_output) == WINDOWS[key]


RETIRED = {
    "long ago": ("anthropic", "claude-3-5-haiku-20241022", True),
    "nobody knows when": ("openai", "o1-mini", True),
    "ten days from now": ("anthropic", "claude-sonnet-4-5", False),
    "never so far": ("openai", "gpt-4o", False),
    "never existed": ("anthropic", "claude-sonnet-4-1", True),
}


@pytest.mark.parametrize(("provider", "model", "expected"), RETIRED.values(), ids=RETIRED)
def test_a_retired_model_is_told_by_the_day(provider: str, model: str, *, expected: bool) -> None:
    assert LINEUP[provider, model].is_retired(CHECKED) is expected


def test_a_model_retires_on_its_day_and_not_before() -> None:
    ending = Known("m", 1, retires=date(2026, 12, 11))
    assert [ending.is_retired(date(2026, 12, day)) for day in (10, 11, 12)] == [False, True, True]


def test_each_provider_with_models_of_its_own_has_some_to_call() -> None:
    alive = {provider for (provider, _), known in LINEUP.items() if not known.is_retired(CHECKED)}
    # OpenRouter's exact ids choose a model; they are none, and what a call costs is said by the answer.
    exact = {provider for model, provider in MODELS.exact.items() if not model.startswith("openrouter/")}
    assert {family.provider for family in MODELS.families} | exact <= alive


def test_what_hears_and_embeds_is_listed_too() -> None:
    wanted = {("openai", "whisper-1"), ("openai", "text-embedding-3-small"), ("groq", "whisper-large-v3")}
    assert wanted | {("gemini", "gemini-embedding-001"), ("mistral", "mistral-embed"), ("cohere", "embed-v4.0")} <= (
        LINEUP.keys()
    )


def test_the_models_of_the_readme_are_alive_and_whose_it_says() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    examples = re.findall(r'create\(model="([^"]+)", messages=.*# (.+)', text)
    named = {row.name: row.id for row in PROVIDERS.values()}
    assert len(examples) == 4
    assert not any(LINEUP[named[name], model].is_retired(CHECKED) for model, name in examples)


def test_the_lineup_says_where_it_comes_from() -> None:
    assert all(source.startswith("https://") for source in SOURCES)


def test_what_a_model_lacks_is_an_ability() -> None:
    lacks = {ability for known in LINEUP.values() for ability in known.lacks}
    assert {"vision", "reasoning"} <= lacks <= {*ABILITIES, "reasoning"}


@pytest.mark.parametrize("known", [{"to": ("m",)}, {"window": 0}, {"max_output": 0}], ids=str)
def test_a_row_that_cannot_be_right_is_refused(known: dict[str, int]) -> None:
    with pytest.raises(CatalogError):
        Known(**{"model": "m", "window": 1, **known})  # type: ignore[arg-type]
