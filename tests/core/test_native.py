import json
from typing import Any

import pytest

from lectr_extproc.catalog.answers import ANSWERS
from lectr_extproc.core.answer import Answer
from lectr_extproc.core.native import NativeUsage, native_answer
from lectr_extproc.core.usage import Usage
from tests.reading import reader

# Provider, the usage object it sends in a chat completion, and what is made of it.
CHAT: dict[str, tuple[str, dict[str, Any], Usage]] = {
    "OpenAI, with a cache and reasoning": (
        "openai",
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 8},
            "completion_tokens_details": {"reasoning_tokens": 12},
        },
        Usage(input_tokens=100, output_tokens=20, cache_read_tokens=64, cache_write_tokens=8, reasoning_tokens=12),
    ),
    "Gemini's layer, with thinking in the total only": (
        "gemini",
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 45},
        Usage(input_tokens=10, output_tokens=35, reasoning_tokens=30),
    ),
    "xAI, with reasoning beside the completion": (
        "xai",
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 45,
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        Usage(input_tokens=10, output_tokens=35, reasoning_tokens=30),
    ),
    "a completion that only the total tells of": (
        "openai",
        {"prompt_tokens": 10, "total_tokens": 14},
        Usage(input_tokens=10, output_tokens=4),
    ),
    "zeros that were said": (
        "openai",
        {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3},
        Usage(input_tokens=3, output_tokens=0),
    ),
}


def as_envoy_reads(usage: dict[str, Any]) -> NativeUsage:
    """Envoy's message about a chat completion: counts as they were sent (seen on 1.40.0)."""
    read, written = usage.get("prompt_tokens_details", {}), usage.get("completion_tokens_details", {})
    return NativeUsage(
        is_chat=True,
        model="m-1",
        input_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
        total_tokens=usage.get("total_tokens"),
        cached_tokens=read.get("cached_tokens"),
        cache_creation_tokens=read.get("cache_write_tokens"),
        reasoning_tokens=written.get("reasoning_tokens"),
    )


@pytest.mark.parametrize(("provider", "usage", "expected"), CHAT.values(), ids=CHAT)
def test_envoys_reading_of_a_chat_is_corrected_like_our_own(
    provider: str, usage: dict[str, Any], expected: Usage
) -> None:
    ours = reader("openai.chat", provider)
    ours.feed(json.dumps({"model": "m-1", "usage": usage}).encode())
    ours.close()
    theirs = native_answer(as_envoy_reads(usage), provider, ANSWERS)
    assert theirs == ours.answer() == Answer(usage=expected, model_answered="m-1", is_complete=True)


def test_anthropics_counts_are_taken_as_envoy_added_them_up() -> None:
    ours = reader("anthropic.messages", "anthropic")
    counts = {"input_tokens": 10, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30, "output_tokens": 5}
    ours.feed(json.dumps({"model": "claude-1", "usage": counts}).encode())
    ours.close()
    theirs = NativeUsage(
        is_chat=False,
        model="claude-1",
        input_tokens=100,
        output_tokens=5,
        cached_tokens=60,
        cache_creation_tokens=30,
        total_tokens=105,
    )
    assert native_answer(theirs, "anthropic", ANSWERS) == ours.answer()


@pytest.mark.parametrize("provider", ["gemini", None])
@pytest.mark.parametrize("is_chat", [True, False])
def test_what_envoy_did_not_find_is_absent(provider: str | None, is_chat: bool) -> None:
    found = native_answer(NativeUsage(is_chat=is_chat, model="m-1"), provider, ANSWERS)
    assert (found.usage, found.model_answered) == (None, "m-1")
    assert native_answer(NativeUsage(is_chat=is_chat), provider, {}).usage is None
