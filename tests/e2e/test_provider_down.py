"""A provider that cannot be reached or never answers: fixed words of ours. One that answers an error: its own."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lectr_extproc.core.refusal import REFUSALS
from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, JSON, asking, call, error_of, new_id, works
from tests.e2e.gateway import Build, Gateway
from tests.e2e.provider import Answer, Cut, Headers
from tests.e2e.scene import Providers, contacted, settings_for
from tests.ports import free_port

SHAPES = {CHAT: "openai", CLAUDE_MESSAGES: "anthropic"}


@pytest.fixture(scope="module")
def impatient(build: Build, listening: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Groq refuses connections, Gemini's machine swallows them, the others hang for as long as a test says."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # the queue of one that nobody accepts, and one for luck
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        settings: dict[str, Any] = settings_for(listening)
        settings["envoy"] = {"stream_idle_timeout_s": 1, "connect_timeout_s": 0.3}
        by_id = {section["id"]: section for section in settings["providers"]}
        by_id["groq"]["base_url"] = f"http://127.0.0.1:{free_port()}"
        by_id["gemini"]["base_url"] = f"http://127.0.0.1:{full.getsockname()[1]}"
        yield stack.enter_context(Gateway(build, settings, tmp_path_factory.mktemp("impatient")))


FAILURES: dict[str, tuple[str, str, Answer | None, int, str, str]] = {
    "refuses the connection": ("groq", "groq/x", None, 503, "provider_unreachable", "unreachable"),
    "never takes the connection": ("gemini", "gemini-2.5-pro", None, 503, "provider_unreachable", "unreachable"),
    "hangs up on the request": (
        "openai", "gpt-4o", Answer(head=b"", pieces=(Cut.CLOSE,)), 503, "provider_unreachable", "unreachable",
    ),
    "resets the connection": (
        "openai", "gpt-4o", Answer(head=b"", pieces=(Cut.RESET,)), 503, "provider_unreachable", "unreachable",
    ),
    "hangs up within its headers": (
        "openai", "gpt-4o", Answer(head=b"HTTP/1.1 200 OK\r\nx-half: ", pieces=(Cut.CLOSE,)), 503,
        "provider_unreachable", "unreachable",
    ),
    "does not speak HTTP": (
        "openai", "gpt-4o", Answer(head=b"SSH-2.0-OpenSSH\r\n\r\n", pieces=(Cut.CLOSE,)), 503, "provider_unreachable",
        "unreachable",
    ),
    "never answers": ("openai", "gpt-4o", Answer(head=b"", pieces=(Cut.SILENCE,)), 504, "provider_timeout", "timeout"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILURES)
def test_a_provider_that_fails_to_answer_is_named_in_fixed_words(
    impatient: Gateway, providers: Providers, case: str
) -> None:
    name, model, answer, status, code, category = FAILURES[case]
    ids = {path: new_id() for path in SHAPES}
    for path, shape in SHAPES.items():
        if answer:
            providers["openai"].answer_with(answer)
        got = call(impatient, path, body=asking(model), call_id=ids[path])
        assert error_of(got) == (status, "application/json", shape, code)
        assert not any(word in got.text for word in ("upstream", "127.0.0.1", "reset", "SSH", "x-half", "delayed"))
    assert len(contacted(providers)) == (2 if answer else 0), "a pinned call is sent once"

    for path, call_id in ids.items():
        record = impatient.record(call_id)
        said = tuple(record.get(key) for key in ("provider", "status", "error_code", "error_category", "path"))
        assert said == (name, status, code, category, path)
        assert record["error_source"] == "provider"
    assert works(impatient)


OWN_ERRORS: dict[str, tuple[int, Headers, bytes, str]] = {
    "too large": (
        413,
        [("content-type", "application/json")],
        b'{"error": {"message": "413 of mine"}}\n',
        "request_too_large",
    ),
    "too many": (429, [("retry-after", "7"), ("content-type", "text/plain")], b"slow down", "rate_limit"),
    "broken": (500, [("content-type", "text/html")], b"<html>500</html>", "server_error"),
    "a bad gateway": (502, [], b"bad gateway", "server_error"),
    "overloaded": (503, [("content-type", "application/json")], b'{"error": {"code": "busy"}}', "overloaded"),
    "late": (504, [("content-type", "application/json")], b"{}", "timeout"),
    "overloaded, at Anthropic": (529, [("content-type", "application/json")], b'{"type": "error"}', "overloaded"),
    "unauthorised": (401, [("www-authenticate", "Bearer")], b"", "authentication"),
}


def test_a_providers_own_error_passes_byte_for_byte(gateway: Gateway, providers: Providers) -> None:
    ids = {(name, path): new_id() for name in OWN_ERRORS for path in SHAPES}
    for (name, path), call_id in ids.items():
        status, headers, body, _ = OWN_ERRORS[name]
        model, provider = ("gpt-4o", "openai") if path == CHAT else ("claude-opus-4-9", "anthropic")
        providers[provider].answer_with(Answer(status=status, headers=headers, pieces=(body,)))  # type: ignore[index]
        got = call(gateway, path, headers=JSON, body=asking(model), call_id=call_id)
        assert (got.status_code, got.content) == (status, body)
        kept = [(key, value) for key, value in got.headers.items() if key not in ("date", "content-length")]
        assert sorted(kept) == sorted(headers)

    for (name, _), call_id in ids.items():
        record = gateway.record(call_id)
        status, *_, category = OWN_ERRORS[name]
        assert (record["status"], record["error_category"], record["error_source"]) == (status, category, "provider")
        assert record.get("error_code") not in REFUSALS, "it is not ours"
