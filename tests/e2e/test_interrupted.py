"""A chosen model's stream that breaks off says so, and the client's SDK raises. A pinned one's is left as it is."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.e2e.answers import Flavour
from tests.e2e.calls import JSON, asking, call, new_id
from tests.e2e.candidates import failing_over, refusal
from tests.e2e.conftest import Launch, once
from tests.e2e.gateway import Build, Gateway
from tests.e2e.provider import Cut, Gate, Piece, sse_answer
from tests.e2e.scene import PROMPT, Providers, secret, settings_for
from tests.e2e.sdks import anthropic_client, openai_client

STAYS: dict[Flavour, str] = {
    "openai": "gpt-4.1-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
}


@pytest.fixture(scope="module")
def choosing(build: Build, listening: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = settings_for(listening)
    for provider in settings["providers"]:
        provider["models"] = [STAYS[provider["id"]]] if provider["id"] in STAYS else []
    with Gateway(build, settings, tmp_path_factory.mktemp("choosing")) as gateway:
        yield gateway


def event(**document: Any) -> bytes:
    name = f"event: {document['type']}\n" if "type" in document else ""
    return f"{name}data: {json.dumps(document)}\n\n".encode()


def words(client: openai.OpenAI, model: str = "economy") -> Iterator[str]:
    with client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": PROMPT}], stream=True
    ) as chunks:
        yield from (chunk.choices[0].delta.content or "" for chunk in chunks)


def chat(gateway: Gateway, call_id: str, seen: list[str]) -> None:
    with openai_client(gateway, **{"x-request-id": call_id}) as client:
        seen.extend(words(client))


def responses(gateway: Gateway, call_id: str, seen: list[str]) -> None:
    with openai_client(gateway, **{"x-request-id": call_id}) as client:
        for one in client.responses.create(model="economy", input=PROMPT, stream=True):
            assert one.type == "response.output_text.delta"
            seen.append(one.delta)


def messages(gateway: Gateway, call_id: str, seen: list[str]) -> None:
    with anthropic_client(gateway) as client:
        for one in client.messages.create(
            model="economy",
            max_tokens=9,
            messages=[{"role": "user", "content": PROMPT}],
            stream=True,
            extra_headers={"x-request-id": call_id},
        ):
            assert one.type == "content_block_delta"
            assert one.delta.type == "text_delta"
            seen.append(one.delta.text)


class GoogleError(Exception):
    """What Google's SDK makes of an event with an error in it."""


def gemini(gateway: Gateway, call_id: str, seen: list[str]) -> None:
    headers = {**JSON, "x-goog-api-key": secret("AIza"), "x-request-id": call_id}
    del headers["Authorization"]
    path = "/v1beta/models/economy:streamGenerateContent?alt=sse"
    body = json.dumps({"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]})
    for line in call(gateway, path, headers=headers, body=body).text.split("\n\n"):
        document = json.loads(line.removeprefix("data: ") or "{}")
        if "error" in document:
            raise GoogleError(document["error"]["details"][0]["reason"].lower())
        seen += [document["candidates"][0]["content"]["parts"][0]["text"]] if document else []


Client = Callable[[Gateway, str, list[str]], None]
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Fjords "}}
TEXT = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0}
APIS: dict[str, tuple[Client, Flavour, bytes, bytes, type[Exception]]] = {
    "OpenAI's chat": (
        chat, "openai", event(id="c", choices=[{"index": 0, "delta": {"content": "Fjords "}}]),
        event(error={"message": "m", "code": "server_is_sad"}), openai.APIError,
    ),
    "OpenAI's responses": (
        responses, "openai", event(**TEXT, delta="Fjords ", sequence_number=1, logprobs=[]),
        event(type="error", code="server_is_sad", message="m", sequence_number=2), openai.APIError,
    ),
    "Anthropic's messages": (
        messages, "anthropic", event(**DELTA),
        event(type="error", error={"type": "server_is_sad", "message": "m"}), anthropic.APIStatusError,
    ),
    "Gemini's own": (
        gemini, "gemini", event(candidates=[{"content": {"parts": [{"text": "Fjords "}]}}]),
        event(error={"code": 500, "message": "m", "details": [{"reason": "server_is_sad"}]}), GoogleError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("api", APIS)
def test_a_stream_that_ends_too_early_or_in_an_error_is_raised_and_recorded(
    choosing: Gateway, providers: Providers, api: str
) -> None:
    ask, flavour, word, error, raised = APIS[api]
    ends: dict[str, tuple[tuple[Piece, ...], tuple[str, str]]] = {
        "too early": ((word, word), ("stream_interrupted", "stream_interrupted")),
        "within an event": ((word, word + word[:20]), ("stream_interrupted", "stream_interrupted")),
        "in an error": ((word, word, error), ("stream_error", "server_is_sad")),
        "in an error of two pieces": ((word, word + error[:15], error[15:], word), ("stream_error", "server_is_sad")),
    }
    for end, (pieces, (category, code)) in ends.items():
        call_id, seen = new_id(), list[str]()
        providers[flavour].answer_with(sse_answer(pieces))
        with pytest.raises(raised, match="stream_interrupted" if raised is not openai.APIError else "broke"):
            ask(choosing, call_id, seen)
        assert seen == ["Fjords "] * 2, end
        record = choosing.record(call_id)
        assert (record["error_category"], record["error_code"]) == (category, code), end
        assert (record["error_source"], record["status"], record["observed"]) == ("provider", 200, "stream")


def test_the_code_is_the_same_for_every_provider(choosing: Gateway, providers: Providers, call_id: str) -> None:
    _, _, word, error, _ = APIS["OpenAI's chat"]
    providers["openai"].answer_with(sse_answer([word, error]))
    with pytest.raises(openai.APIError) as raised:
        chat(choosing, call_id, [])
    assert raised.value.code == "stream_interrupted"
    assert "server_is_sad" in raised.value.message


def test_a_connection_that_breaks_stays_broken_and_is_recorded(
    choosing: Gateway, providers: Providers, call_id: str
) -> None:
    gate = Gate()
    providers["openai"].answer_with(sse_answer([APIS["OpenAI's chat"][2], gate, Cut.RESET]))
    with openai_client(choosing, **{"x-request-id": call_id}) as client:
        stream = words(client)
        assert next(stream) == "Fjords "
        gate.open()
        with pytest.raises((httpx.TransportError, openai.APIConnectionError)):
            next(stream)
    record = choosing.record(call_id)
    assert (record["error_category"], record["error_source"]) == ("stream_interrupted", "provider")


def test_a_pinned_stream_is_as_the_provider_sent_it(choosing: Gateway, providers: Providers) -> None:
    _, _, word, error, _ = APIS["OpenAI's chat"]
    for pieces in ((word, word[:20]), (word, error, word)):
        providers["openai"].answer_with(sse_answer(pieces))
        answer = call(choosing, body=asking("gpt-4.1-mini", stream=True))
        assert answer.content == b"".join(pieces)


@once
def test_whoever_was_asked_after_another_is_guarded_too(
    launch: Launch, providers: Providers, tmp_path: Path, call_id: str
) -> None:
    gateway = launch(failing_over(providers, tmp_path))
    providers["openai"].answer_with(refusal(503))
    providers["anthropic"].answer_with(sse_answer([APIS["OpenAI's chat"][2]]))
    with openai_client(gateway, **{"x-request-id": call_id}) as client:
        stream = words(client, "any")
        assert next(stream) == "Fjords "
        with pytest.raises(openai.APIError, match="broke"):
            next(stream)
    record = gateway.record(call_id)
    assert (record["provider"], record["error_category"]) == ("anthropic", "stream_interrupted")
