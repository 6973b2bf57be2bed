import json
from typing import Any

import pytest

from lectr_extproc.catalog.declared import DECLARED
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.declared import LOOKED_INTO, declared

DOCUMENTS: dict[str, tuple[str, int, Any, str | None]] = {
    "OpenAI's exceeded context": (
        "openai",
        400,
        {"error": {"message": "Your input exceeds the limit.", "code": "context_length_exceeded"}},
        "context",
    ),
    "vLLM's": ("custom", 400, {"object": "error", "message": "This model's maximum context length is 4096"}, "context"),
    "Anthropic's": (
        "anthropic",
        400,
        {"error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}},
        "context",
    ),
    "Gemini's": (
        "gemini",
        400,
        {"error": {"message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."}},
        "context",
    ),
    "Cohere's": ("cohere", 400, {"message": "too many tokens", "error_type": "TOO_MANY_TOKENS"}, "context"),
    "Bedrock's": ("bedrock", 400, {"message": "Input is too long for requested model."}, "context"),
    "OpenAI's spent quota": ("openai", 403, {"error": {"code": "insufficient_quota"}}, "quota"),
    "Anthropic's spent credit": (
        "anthropic",
        400,
        {"error": {"message": "Your credit balance is too low to access the Anthropic API."}},
        "quota",
    ),
    "DeepSeek's": ("deepseek", 402, {"error": {"message": "Insufficient Balance"}}, "quota"),
    "Groq's tokens a minute": ("groq", 413, {"error": {"code": "rate_limit_exceeded"}}, "quota"),
    "anybody's bad key": ("mistral", 401, {"detail": "Unauthorized"}, "key"),
    "Gemini's bad key": ("gemini", 400, {"error": {"details": [{"reason": "API_KEY_INVALID"}]}}, "key"),
    "xAI's": ("xai", 400, {"code": "invalid-argument", "error": "Incorrect API key provided: xa***"}, "key"),
    "Bedrock's bad key": ("bedrock", 403, {"message": "The security token included in the request is invalid."}, "key"),
    "a wrong parameter": (
        "openai",
        400,
        {"error": {"message": "Unknown parameter", "code": "unknown_parameter"}},
        None,
    ),
    "a model that is not there": ("openai", 404, {"error": {"code": "model_not_found"}}, None),
    "a refused content": ("azure", 400, {"error": {"code": "content_filter"}}, None),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_what_providers_say_is_read_for_what_it_means(case: str) -> None:
    provider, status, document, why = DOCUMENTS[case]
    said = json.dumps(document).encode()
    assert declared(DECLARED, provider, status, said, key_is_held=True) == why


def test_each_row_is_about_a_provider_and_statuses_that_are_looked_into_and_has_a_source() -> None:
    for row in DECLARED:
        assert row.provider in {"", *PROVIDERS}
        assert row.statuses <= LOOKED_INTO
        assert row.source.startswith("https://")
        assert row.statuses or row.says
