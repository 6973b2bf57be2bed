"""Model names to providers, over the real tables. The ids are facts: names that clients send."""

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.detect import Detected, detect, prefixes

SEED_MODELS = {
    "openai": (
        "gpt-4o",
        "gpt-4o-mini",
        "gpt-4-turbo",
        "gpt-4",
        "gpt-4.1",
        "gpt-4.1-mini",
        "gpt-4.1-nano",
        "gpt-3.5-turbo",
        "o1",
        "o1-mini",
        "o3",
        "o3-mini",
        "o4-mini",
        "gpt-5.2",
        "gpt-5.1",
        "gpt-5",
        "gpt-5-mini",
        "gpt-5-nano",
        "gpt-5.3-chat-latest",
        "gpt-5.3-codex",
        "gpt-5.1-codex-mini",
        "gpt-5.4",
    ),
    "anthropic": (
        "claude-3-opus-20240229",
        "claude-3-5-sonnet-20241022",
        "claude-3-sonnet-20240229",
        "claude-3-5-haiku-20241022",
        "claude-3-haiku-20240307",
        "claude-3-5-sonnet",
        "claude-opus-4-6",
        "claude-sonnet-4-6",
        "claude-sonnet-4-5",
        "claude-haiku-4-5",
        "claude-opus-4-1",
        "claude-sonnet-4-1",
        "claude-opus-4-7",
    ),
    "gemini": (
        "gemini-1.5-pro",
        "gemini-1.5-flash",
        "gemini-2.0-flash",
        "gemini-2.5-pro",
        "gemini-2.5-flash",
        "gemini-2.5-flash-lite",
        "gemini-3.1-pro-preview",
        "gemini-3-pro-preview",
        "gemini-3-flash-preview",
        "gemini-2.0-flash-lite",
    ),
    "groq": (
        "llama-3.2-90b-vision",
        "llama-3.1-70b-versatile",
        "llama-3.1-8b-instant",
        "mixtral-8x7b-32768",
        "gemma2-9b-it",
        "llama-3.3-70b-versatile",
        "meta-llama/llama-4-scout-17b-16e-instruct",
    ),
    "mistral": (
        "mistral-large-latest",
        "mistral-small-latest",
        "mistral-nemo",
        "codestral-latest",
        "ministral-8b-latest",
    ),
    "cohere": (
        "command-r-plus",
        "command-r",
        "command-a-03-2025",
        "command-nightly",
        "c4ai-aya-expanse-8b",
        "c4ai-aya-expanse-32b",
        "embed-english-v3.0",
    ),
    "xai": (
        "grok-3",
        "grok-3-fast",
        "grok-3-mini",
        "grok-3-mini-fast",
        "grok-3-mini-beta",
        "grok-3-beta",
    ),
    "ollama": (
        "ollama/llama3.2",
        "ollama/llama3.1:8b",
        "ollama/qwen3:4b",
        "ollama/qwen3:8b",
        "ollama/mistral",
        "ollama/phi4-mini",
        "ollama/gemma3:4b",
        "ollama/deepseek-r1:7b",
    ),
    "bedrock": (
        "nvidia.nemotron-nano-3-30b",
        "nvidia.nemotron-nano-9b-v2",
        "zai.glm-4.7-flash",
        "qwen.qwen3-32b-v1:0",
        "openai.gpt-oss-120b-1:0",
        "zai.glm-4.7",
        "deepseek.v3.2",
        "mistral.mistral-large-3-675b-instruct",
        "moonshotai.kimi-k2.5",
        "minimax.minimax-m2.1",
        "qwen.qwen3-next-80b-a3b",
        "us.meta.llama4-maverick-17b-instruct-v1:0",
        "us.meta.llama4-scout-17b-instruct-v1:0",
        "mistral.devstral-2-123b",
        "qwen.qwen3-coder-480b-a35b-v1:0",
        "nvidia.nemotron-super-3-120b",
        "qwen.qwen3-235b-a22b-2507-v1:0",
        "zai.glm-5",
    ),
    "cerebras": (
        "llama3.1-8b",
        "qwen-3-235b-a22b-instruct-2507",
    ),
}


def provider_of(model: str, *, ollama: bool = True) -> str | None:
    found = detect(model, MODELS, PROVIDERS, ollama=ollama)
    return found.provider if found else None


def sent_of(model: str) -> str | None:
    found = detect(model, MODELS, PROVIDERS, ollama=True)
    return found.model_sent if found else None


SEEDS = {model: provider for provider, models in SEED_MODELS.items() for model in models}


@pytest.mark.parametrize("ollama", [True, False])
def test_every_seed_model_is_detected(ollama: bool) -> None:
    assert {model: provider_of(model, ollama=ollama) for model in SEEDS} == SEEDS


def test_the_provider_gets_the_name_as_written_or_without_its_own_prefix() -> None:
    assert {model: sent_of(model) for model in SEEDS} == {
        model: model if model in MODELS.exact else model.removeprefix(f"{provider}/")
        for model, provider in SEEDS.items()
    }


NEWER = {
    "gpt-4o-2024-08-06": "openai",
    "gpt-4.1-mini-2025-04-14": "openai",
    "gpt-6": "openai",
    "gpt-6.1-turbo-preview": "openai",
    "chatgpt-4o-latest": "openai",
    "o1": "openai",
    "o3-pro-2025-06-10": "openai",
    "o9-mini": "openai",
    "text-embedding-3-large": "openai",
    "text-embedding-ada-002": "openai",
    "ft:gpt-4o-mini-2024-07-18:acme:support:abc123": "openai",
    "ft:o4-mini:acme::x": "openai",
    "whisper-1": "openai",
    "tts-1-hd": "openai",
    "dall-e-3": "openai",
    "omni-moderation-latest": "openai",
    "sora-2": "openai",
    "gpt-image-2": "openai",
    "gpt-realtime-2": "openai",
    "gpt-5.9-codex-max": "openai",
    "codex-mini-latest": "openai",
    "computer-use-preview": "openai",
    "text-moderation-latest": "openai",
    "davinci-002": "openai",
    "babbage-002": "openai",
    "text-davinci-003": "openai",
    "code-davinci-002": "openai",
    "claude-opus-4-6-20260205": "anthropic",
    "claude-sonnet-9": "anthropic",
    "claude-3-5-sonnet-latest": "anthropic",
    "gemini-9.9-ultra-exp-0815": "gemini",
    "gemini-2.5-flash-preview-09-2025": "gemini",
    "gemma-3n-e4b-it": "gemini",
    "imagen-4.0-generate-001": "gemini",
    "veo-4": "gemini",
    "lyria-3": "gemini",
    "learnlm-3.0-flash": "gemini",
    "gemini-embedding-002": "gemini",
    "grok-9-fast": "xai",
    "grok-imagine-2": "xai",
    "grok": "xai",
    "grok-code-fast-1": "xai",
    "command-a-reasoning-08-2025": "cohere",
    "command-r7b-12-2024": "cohere",
    "rerank-v3.5": "cohere",
    "embed-v4.0": "cohere",
    "embed-multilingual-v9.0": "cohere",
    "c4ai-aya-vision-64b": "cohere",
    "aya-expanse-64b": "cohere",
    "command": "cohere",
    "mistral-large-2512": "mistral",
    "open-mixtral-8x22b": "mistral",
    "labs-devstral-small-2512": "mistral",
    "devstral-2512": "mistral",
    "mistral-ocr-latest": "mistral",
    "codestral-embed": "mistral",
    "ministral-14b-2701": "mistral",
    "magistral-medium-latest": "mistral",
    "pixtral-large-2701": "mistral",
    "voxtral-mini-tts": "mistral",
    "mathstral-7b": "mistral",
    "llama-3.9-70b-versatile": "groq",
    "llama-3.3-70b-specdec": "groq",
    "llama-guard-3-8b": "groq",
    "playai-tts": "groq",
    "allam-3-9b": "groq",
    "llama3-groq-90b-tool-use-preview": "groq",
    "llama-3.1-405b-reasoning": "groq",
    "llama3-70b-8192": "groq",
    "llama3-8b-8192": "groq",
    "qwen-3-32b": "cerebras",
    "zai-glm-4.7": "cerebras",
    "qwen-3.9-coder-480b": "cerebras",
    "llama3.9-9b": "cerebras",
    "deepseek-reasoner": "deepseek",
    "deepseek-v4": "deepseek",
    "deepseek-coder": "deepseek",
    "deepseek-chat-v5": "deepseek",
    "amazon.nova-pro-v1:0": "bedrock",
    "anthropic.claude-3-haiku-20240307-v1:0": "bedrock",
    "global.anthropic.claude-sonnet-4-5-20250929-v1:0": "bedrock",
    "us-gov.amazon.nova-lite-v1:0": "bedrock",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0": "bedrock",
    "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:endpoint/x": "bedrock",
}


def test_a_dated_or_newer_member_of_a_family_is_detected() -> None:
    assert {model: provider_of(model) for model in NEWER} == NEWER


@pytest.mark.parametrize("suffix", ["-20261120", "-2026-11-20", "-0905", "@20261120"])
def test_a_date_behind_a_seed_model_changes_nothing(suffix: str) -> None:
    assert {model: provider_of(model + suffix) for model in SEEDS} == SEEDS
    assert {model: sent_of(model + suffix) for model in SEEDS} == {
        model: (model if model in MODELS.exact else model.removeprefix(f"{provider}/")) + suffix
        for model, provider in SEEDS.items()
    }


FAMILY_SEEDS = [model for model in SEEDS if model not in MODELS.exact and ":" not in model and "/" not in model]
# Cerebras' own spelling is a whole name and no family; a longer one may be anybody's.
WORDED = [model for model in FAMILY_SEEDS if model != "llama3.1-8b"]


@pytest.mark.parametrize("suffix", ["-latest", "-preview"])
def test_a_word_behind_a_seed_model_changes_nothing(suffix: str) -> None:
    assert {model: provider_of(model + suffix) for model in WORDED} == {model: SEEDS[model] for model in WORDED}


def test_every_alternative_of_every_family_finds_a_name_here() -> None:
    names = {model.lower(): provider for model, provider in (SEEDS | NEWER | COLLIDING).items()}
    for family in MODELS.families:
        for part in outermost(family.pattern.pattern):
            assert any(re.match(part, name) for name, provider in names.items() if provider == family.provider), part


def outermost(pattern: str) -> list[str]:
    """A pattern split at those of its bars that are in no brackets."""
    depth, parts = 0, [""]
    for character in pattern:
        depth += (character == "(") - (character == ")")
        if character == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


@pytest.mark.parametrize("spelt", [str.upper, str.title])
def test_letter_case_does_not_matter_to_a_family_and_is_kept(spelt: Callable[[str], str]) -> None:
    written = {spelt(model): SEEDS[model] for model in FAMILY_SEEDS}
    assert {model: detect(model, MODELS, PROVIDERS, ollama=True) for model in written} == {
        model: Detected(provider, "prefix", model) for model, provider in written.items()
    }


# What the names of one row have in common would, read alone, send some of them to another provider of the row.
COLLISIONS: dict[str, dict[str, str | None]] = {
    "Groq's suffix makes a longer name of Cerebras' whole one": {
        "llama-3.3-70b-versatile": "groq",
        "llama-3.3-70b": "cerebras",
    },
    "a dash, no dash and a colon are three providers' Llama": {
        "llama-3.1-8b-instant": "groq",
        "llama3.1-8b": "cerebras",
        "llama3.1:8b": "ollama",
        "ollama/llama3.1:8b": "ollama",
    },
    "four providers spell gpt-oss and none of them is OpenAI": {
        "openai.gpt-oss-120b-1:0": "bedrock",
        "openai/gpt-oss-120b": "groq",
        "gpt-oss-120b": "cerebras",
        "gpt-oss:120b": "ollama",
    },
    "a dot, a dash, a slash and a colon behind mistral": {
        "mistral.mistral-large-3-675b-instruct": "bedrock",
        "mistral.devstral-2-123b": "bedrock",
        "mistral-large-latest": "mistral",
        "ollama/mistral": "ollama",
        "mistral:7b": "ollama",
    },
    "Mistral's open models at Groq and at home": {
        "mixtral-8x7b-32768": "groq",
        "mistral-saba-24b": "groq",
        "open-mixtral-8x7b": "mistral",
    },
    "five providers spell Gemma": {
        "gemma2-9b-it": "groq",
        "gemma-3-27b-it": "gemini",
        "gemma3:4b": "ollama",
        "gemma-4-31b": "cerebras",
        "google.gemma-3-4b-it": "bedrock",
    },
    "four providers have a DeepSeek": {
        "deepseek.v3.2": "bedrock",
        "deepseek-chat": "deepseek",
        "deepseek-r1-distill-llama-70b": "groq",
        "deepseek-r1:7b": "ollama",
    },
    "Bedrock's :0 behind a Qwen is no tag": {
        "qwen.qwen3-32b-v1:0": "bedrock",
        "qwen/qwen3-32b": "groq",
        "qwen-3-235b-a22b-instruct-2507": "cerebras",
        "qwen3:8b": "ollama",
    },
    "one Llama 4 in the spellings of three, and one that only a header or the settings place": {
        "meta-llama/llama-4-scout-17b-16e-instruct": "groq",
        "us.meta.llama4-scout-17b-instruct-v1:0": "bedrock",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo": None,
        "llama-4-scout-17b-16e-instruct": "cerebras",
    },
    "a name that begins another of the same provider": {
        "command-r": "cohere",
        "command-r7b": "cohere",
        "o1": "openai",
        "o1-mini": "openai",
        "gpt-4": "openai",
        "gpt-4.1": "openai",
        "gpt-4o": "openai",
    },
    "three providers call their models embeddings": {
        "text-embedding-3-small": "openai",
        "text-embedding-004": "gemini",
        "embed-english-v3.0": "cohere",
    },
    "Groq's own prefix is part of two names, and xAI's Grok is a letter away": {
        "groq/compound": "groq",
        "grok-3": "xai",
    },
}
COLLIDING = {model: provider for names in COLLISIONS.values() for model, provider in names.items()}


@pytest.mark.parametrize("names", COLLISIONS.values(), ids=COLLISIONS)
def test_names_that_look_alike_are_told_apart(names: dict[str, str | None]) -> None:
    assert {model: provider_of(model) for model in names} == names


@pytest.mark.parametrize("model", [model for model, provider in COLLIDING.items() if provider == "ollama"])
def test_without_ollama_a_tag_is_nobodys(model: str) -> None:
    assert provider_of(model, ollama=False) == ("ollama" if model.startswith("ollama/") else None)


LOOKALIKES = [
    "o100k",
    "o0-mini",
    "claudette",
    "geminis-x",
    "grokking",
    "commander",
    "mistralai",
    "gpt4",
    "llama3.1-8bx",
]


@pytest.mark.parametrize("model", LOOKALIKES)
def test_a_name_that_only_begins_like_a_family_is_unknown(model: str) -> None:
    assert provider_of(model) is None


def test_every_model_has_a_provider_that_there_is() -> None:
    assert {*MODELS.exact.values(), *(family.provider for family in MODELS.families)} <= PROVIDERS.keys()


def test_a_family_has_no_groups_of_its_own() -> None:
    assert [family.pattern.groups for family in MODELS.families] == [0] * len(MODELS.families)


def test_an_exact_id_stands_in_the_table_because_no_rule_would_find_it() -> None:
    rules = type(MODELS)(exact={}, families=MODELS.families)
    needless = [
        model
        for model, provider in MODELS.exact.items()
        if detect(model, rules, PROVIDERS, ollama=False) == Detected(provider, "prefix", model)
    ]
    assert needless == []


def test_every_prefix_and_synonym_leads_to_its_provider() -> None:
    for provider in PROVIDERS.values():
        for prefix in prefixes(provider):
            assert detect(f"{prefix}/x", MODELS, PROVIDERS, ollama=False) == Detected(provider.id, "prefix", "x")


@given(st.sampled_from(sorted(set(itertools.chain(SEEDS, NEWER, COLLIDING)))), st.text(st.characters(), max_size=8))
def test_whatever_stands_behind_a_known_name_nothing_is_raised(model: str, more: str) -> None:
    detect(model + more, MODELS, PROVIDERS, ollama=True)
