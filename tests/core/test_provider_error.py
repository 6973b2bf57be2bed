from typing import Any

import pytest

from lectr_extproc.core.provider_error import ProviderError, read_error

ERRORS: dict[str, tuple[dict[str, Any], ProviderError | None]] = {
    "OpenAI": (
        {"error": {"message": "m", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}},
        ProviderError("insufficient_quota", "insufficient_quota"),
    ),
    "a code that is a number": ({"error": {"message": "m", "code": 429}}, ProviderError("429")),
    "a code that is null": ({"error": {"message": "m", "type": "t", "code": None}}, ProviderError(None, "t")),
    "Anthropic": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "m", "details": None}},
        ProviderError(None, "overloaded_error"),
    ),
    "Anthropic's spend cap": (
        {"type": "error", "error": {"type": "rate_limit_error", "details": {"error_code": "spend_limit_reached"}}},
        ProviderError("spend_limit_reached", "rate_limit_error"),
    ),
    "Google": (
        {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "34.4s"}, "x"]}},
        ProviderError("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"),
    ),
    "Google with a reason": (
        {"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}},
        ProviderError("API_KEY_INVALID", "INVALID_ARGUMENT"),
    ),
    "a status that is a number": (
        {"error": {"code": "content_filter", "status": 400}},
        ProviderError("content_filter"),
    ),
    "xAI": ({"code": "invalid-argument", "error": "text"}, ProviderError("invalid-argument")),
    "Ollama": ({"error": "text"}, ProviderError()),
    "Mistral": ({"object": "error", "message": "m", "type": "t", "code": 3000}, ProviderError("3000", "t")),
    "a failed response": (
        {"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error"}}},
        ProviderError("server_error"),
    ),
    "a failed response without its error": ({"type": "response.failed", "response": {"error": None}}, ProviderError()),
    "an error event": ({"type": "error", "code": "rate_limit_exceeded"}, ProviderError("rate_limit_exceeded")),
    "an incomplete response": ({"type": "response.incomplete", "response": {"error": None}}, None),
    "an answer": ({"id": "1", "type": "message", "error": None}, None),
    "an answer whose type is odd": ({"type": ["error"]}, None),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_known_by_its_words_for_machines(name: str) -> None:
    document, expected = ERRORS[name]
    assert read_error(document, is_failure=False) == expected


FAILURES: dict[str, tuple[dict[str, Any], ProviderError]] = {
    "Bedrock": ({"message": "m"}, ProviderError()),
    "AWS's own JSON": ({"__type": "ThrottlingException", "message": "m"}, ProviderError(None, "ThrottlingException")),
    "Cohere": ({"id": "1", "message": "m", "error_type": "TOO_MANY_TOKENS"}, ProviderError(None, "TOO_MANY_TOKENS")),
    "Mistral's refusal of a key": ({"detail": "Unauthorized"}, ProviderError()),
}


@pytest.mark.parametrize("name", FAILURES)
def test_in_the_body_of_a_failed_call_the_root_counts_too(name: str) -> None:
    document, expected = FAILURES[name]
    assert read_error(document, is_failure=True) == expected
    assert read_error({"message": "m"}, is_failure=False) is None


@pytest.mark.parametrize("word", ["x" * 101, "line\nline", "schlüssel", "{}", "", True, 1.5, 10**200, ["x"]])
def test_what_is_no_word_for_machines_is_not_kept(word: object) -> None:
    assert read_error({"error": {"code": word, "type": word}}, is_failure=False) == ProviderError()
