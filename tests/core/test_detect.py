import random
import re
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.detect import Detected, detect, own_name, prefixes
from lectr_extproc.core.tables import Family, Models

SMALL = Models(
    registered=MappingProxyType({"Our/Model": "custom", "openai/mine": "custom", "Mixed-Case-7b": "custom"}),
    exact=MappingProxyType({"openai/gpt-oss-120b": "groq", "Mixed-Case": "cerebras"}),
    families=(
        Family("bedrock", re.compile(r"mistral\.[a-z0-9]")),
        Family("mistral", re.compile(r"mistral(?:-|$)")),
    ),
)

CASES: dict[str, tuple[str, bool, Detected | None]] = {
    "a registered name": ("Our/Model", False, Detected("custom", "registry", "Our/Model")),
    "a registered name in another case": ("our/model", False, None),
    "a registered name before the prefix it seems to carry": (
        "openai/mine",
        False,
        Detected("custom", "registry", "openai/mine"),
    ),
    "an exact id": ("Mixed-Case", False, Detected("cerebras", "exact", "Mixed-Case")),
    "an exact id in another case": ("mixed-case", False, None),
    "an exact id before the prefix it seems to carry": (
        "openai/gpt-oss-120b",
        False,
        Detected("groq", "exact", "openai/gpt-oss-120b"),
    ),
    "an exact id with a date": (
        "openai/gpt-oss-120b-0905",
        False,
        Detected("groq", "exact", "openai/gpt-oss-120b-0905"),
    ),
    "an exact id with something else": (
        "openai/gpt-oss-120b-x1",
        False,
        Detected("openai", "prefix", "gpt-oss-120b-x1"),
    ),
    "a prefix, which goes": ("openai/gpt-5", False, Detected("openai", "prefix", "gpt-5")),
    "a synonym as prefix": ("google/gemini-x", False, Detected("gemini", "prefix", "gemini-x")),
    "a word that is only a prefix": ("models/gemini-x", False, Detected("gemini", "prefix", "gemini-x")),
    "a prefix, and the rest has a slash": ("together/org/Model", False, Detected("together", "prefix", "org/Model")),
    "a prefix before a tag": ("ollama/llama3.1:8b", True, Detected("ollama", "prefix", "llama3.1:8b")),
    "a prefix with nothing behind it": ("openai/", False, None),
    "a slash with nothing before it": ("/gpt-4o", False, None),
    "a prefix nobody has": ("nobody/gpt-4o", False, None),
    "the first family that matches": ("mistral.large", False, Detected("bedrock", "prefix", "mistral.large")),
    "a family in another case, sent as written": (
        "Mistral-Large",
        False,
        Detected("mistral", "prefix", "Mistral-Large"),
    ),
    "a family's name alone": ("mistral", False, Detected("mistral", "prefix", "mistral")),
    "a longer word than the family's": ("mistralish", False, None),
    "a tag with Ollama": ("Qwen3:8b", True, Detected("ollama", "prefix", "Qwen3:8b")),
    "a namespace and a tag with Ollama": ("me/qwen3:8b", True, Detected("ollama", "prefix", "me/qwen3:8b")),
    "a tag without Ollama": ("qwen3:8b", False, None),
    "two colons": ("a:b:c", True, None),
    "nothing": ("", True, None),
}


@pytest.mark.parametrize(("model", "ollama", "expected"), CASES.values(), ids=CASES)
def test_names_are_tried_as_registered_exact_prefix_family_tag(
    model: str, ollama: bool, expected: Detected | None
) -> None:
    assert detect(model, SMALL, PROVIDERS, ollama=ollama) == expected


OWN_NAMES = {
    "its own prefix goes": ("groq/llama-3.1-8b-instant", "groq", "llama-3.1-8b-instant"),
    "a synonym of its own goes": ("google/gemini-x", "gemini", "gemini-x"),
    "anyone else's stays": ("openai/gpt-5", "openrouter", "openai/gpt-5"),
    "an id that only looks like a prefix stays": ("openai/gpt-oss-120b", "openai", "openai/gpt-oss-120b"),
    "a registered name that only looks like a prefix stays": ("openai/mine", "openai", "openai/mine"),
    "a prefix with nothing behind it stays": ("groq/", "groq", "groq/"),
    "no prefix": ("gpt-4o", "openai", "gpt-4o"),
}


@pytest.mark.parametrize(("model", "provider", "sent"), OWN_NAMES.values(), ids=OWN_NAMES)
def test_a_provider_chosen_by_name_gets_the_name_it_knows(model: str, provider: str, sent: str) -> None:
    assert own_name(model, PROVIDERS[provider], SMALL) == sent


def test_no_word_before_the_slash_names_two_providers() -> None:
    words = [word for provider in PROVIDERS.values() for word in prefixes(provider)]
    assert len(words) == len(set(words))


LIKELY = st.text(alphabet="gptclaudemisrnov0123456789-./:_ \n\x00é\udcff", max_size=30)


@given(st.text(st.characters()) | LIKELY, st.booleans())
def test_detection_never_raises_and_only_names_providers_there_are(model: str, ollama: bool) -> None:
    found = detect(model, MODELS, PROVIDERS, ollama=ollama)
    assert found is None or (found.provider in PROVIDERS and found.model_sent)


@given(LIKELY, st.randoms())
def test_the_order_of_the_tables_is_of_no_consequence(model: str, chance: random.Random) -> None:
    rows, exact = list(PROVIDERS.items()), list(MODELS.exact.items())
    chance.shuffle(rows)
    chance.shuffle(exact)
    shuffled = Models(exact=dict(exact), families=MODELS.families)
    assert detect(model, shuffled, dict(rows), ollama=True) == detect(model, MODELS, PROVIDERS, ollama=True)
