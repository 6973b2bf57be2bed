import json
from typing import Any

import httpx
import pytest

from lectr_extproc.edge import practice
from tests.reading import reader

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(practice, "CHUNK_PAUSE_S", 0)


async def ask(path: str, asked: object = None, raw: bytes | None = None, **headers: str) -> httpx.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx.ASGITransport(practice.practice_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://practice") as client:
        if asked is None and raw is None:
            return await client.get(path, headers=headers)
        return await client.post(path, content=json.dumps(asked) if raw is None else raw, headers=headers)


def events(answer: httpx.Response) -> list[Any]:
    """What stands behind `data:` in a stream."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) if line != "[DONE]" else line for line in lines]


async def test_it_says_what_it_is_and_how_the_call_arrived() -> None:
    answer = await ask(
        "/groq/openai/v1/chat/completions", {"model": "m", "messages": MESSAGES}, authorization="Bearer k"
    )
    text = answer.json()["choices"][0]["message"]["content"]
    assert "practice provider playing groq; no provider was called" in text
    assert "Your request for m came as POST /openai/v1/chat/completions, the key in authorization." in text


async def test_it_never_repeats_a_key_or_a_prompt() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "my secret prompt"}]}
    answer = await ask("/openai/v1/chat/completions", asked, authorization="Bearer hunter2", x_api_key="hunter3")
    assert "the key in authorization, x-api-key" in answer.text
    assert not any(secret in answer.text for secret in ("hunter2", "hunter3", "my secret prompt"))


async def test_a_call_without_a_key_is_told_so() -> None:
    assert "the key in no header" in (await ask("/openai/v1/chat/completions", {"model": "m"})).text


async def test_a_chat_completion_counts_what_it_says() -> None:
    body = (await ask("/openai/v1/chat/completions", {"model": "m", "messages": MESSAGES})).json()
    (choice,) = body["choices"]
    usage = body["usage"]
    assert (body["object"], body["model"], choice["finish_reason"]) == ("chat.completion", "m", "stop")
    assert usage["completion_tokens"] == len(choice["message"]["content"].split(" "))
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize(("options", "has_usage"), [({}, False), ({"stream_options": {"include_usage": True}}, True)])
async def test_a_stream_has_usage_only_when_it_is_asked_for(options: dict[str, Any], has_usage: bool) -> None:
    asked = {"model": "m", "messages": MESSAGES, "stream": True}
    whole = (await ask("/openai/v1/chat/completions", {**asked, "stream": False})).json()
    *chunks, last, end = events(await ask("/openai/v1/chat/completions", {**asked, **options}))
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    assert end == "[DONE]"
    assert said == whole["choices"][0]["message"]["content"]
    assert ("usage" in last) is has_usage
    assert bool(last["choices"]) is not has_usage


@pytest.mark.parametrize("options", [None, [], "x", {"include_usage": "yes"}])
async def test_odd_stream_options_are_no_wish_for_usage(options: object) -> None:
    asked = {"model": "m", "stream": True, "stream_options": options}
    assert not any("usage" in event for event in events(await ask("/openai/v1/chat/completions", asked))[:-1])


async def test_it_plays_anthropic() -> None:
    body = (await ask("/anthropic/v1/messages", {"model": "claude", "messages": MESSAGES, "max_tokens": 9})).json()
    assert (body["type"], body["role"], body["stop_reason"]) == ("message", "assistant", "end_turn")
    assert body["usage"].keys() == {"input_tokens", "output_tokens"}


async def test_it_streams_as_anthropic_does() -> None:
    answer = await ask("/anthropic/v1/messages", {"model": "claude", "stream": True})
    streamed = events(answer)
    assert [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")] == [
        event["type"] for event in streamed
    ]
    kinds = list(dict.fromkeys(event["type"] for event in streamed))
    assert kinds == [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"),
        "message_stop",
    ]
    assert streamed[-2]["usage"]["output_tokens"] == sum(event["type"] == "content_block_delta" for event in streamed)


PLAYED = {
    "models": ("/openai/v1/models", None, "object", "list"),
    "counting tokens": ("/anthropic/v1/messages/count_tokens", {"model": "claude"}, "input_tokens", 4),
    "embeddings": ("/openai/v1/embeddings", {"model": "m", "input": "x"}, "object", "list"),
    "responses": ("/openai/v1/responses", {"model": "m", "input": "x"}, "status", "completed"),
    "a deployment instead of a model": ("/azure/openai/deployments/d/chat/completions", {}, "model", "d"),
}


@pytest.mark.parametrize(("path", "asked", "name", "value"), PLAYED.values(), ids=PLAYED)
async def test_it_plays_the_other_apis(path: str, asked: object, name: str, value: object) -> None:
    answer = await ask(path, asked)
    assert (answer.status_code, answer.json()[name]) == (200, value)


REFUSED: dict[str, tuple[str, bytes, int, str]] = {
    "no JSON": ("/openai/v1/chat/completions", b"{", 400, "could not read the body"),
    "JSON that is no object": ("/openai/v1/chat/completions", b"[]", 400, "could not read the body"),
    "no model": ("/openai/v1/chat/completions", b"{}", 400, "needs a `model`"),
    "a model that is a number": ("/openai/v1/chat/completions", b'{"model": 1}', 400, "needs a `model`"),
    "a path that ends before its deployment": ("/azure/openai/deployments", b"{}", 400, "needs a `model`"),
    "a path it does not play": ("/openai/v1/files", b'{"model": "m"}', 404, "has no /v1/files"),
    "a binary stream": ("/bedrock/model/m/converse-stream", b"{}", 404, "has no /model/m/converse-stream"),
}


@pytest.mark.parametrize(("path", "body", "status", "message"), REFUSED.values(), ids=REFUSED)
async def test_what_it_cannot_play_is_an_error_in_openais_shape(
    path: str, body: bytes, status: int, message: str
) -> None:
    answer = await ask(path, raw=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


NATIVE: dict[str, tuple[str, dict[str, Any], str]] = {
    "Gemini": ("/gemini/v1beta/models/m:generateContent", {}, "gemini.generate"),
    "Gemini's stream": ("/gemini/v1beta/models/m:streamGenerateContent?alt=sse", {}, "gemini.generate"),
    "Gemini's stream as a list": ("/gemini/v1beta/models/m:streamGenerateContent", {}, "gemini.generate"),
    "Cohere": ("/cohere/v2/chat", {"model": "m"}, "cohere.chat"),
    "Cohere's stream": ("/cohere/v2/chat", {"model": "m", "stream": True}, "cohere.chat"),
    "Bedrock": ("/bedrock/model/us.x.m-v1:0/converse", {}, "bedrock.converse"),
    "a streamed response": ("/openai/v1/responses", {"model": "m", "stream": True}, "openai.responses"),
}


@pytest.mark.parametrize(("path", "asked", "dialect"), NATIVE.values(), ids=NATIVE)
async def test_our_own_readers_read_what_it_says_in_each_api(path: str, asked: object, dialect: str) -> None:
    answer = await ask(path, asked)
    reading = reader(dialect, "openai", content_type=answer.headers["content-type"])
    assert reading is not None
    reading.feed(answer.content)
    reading.close()
    read = reading.answer()
    assert (answer.status_code, read.is_complete) == (200, True)
    assert read.usage is not None
    assert read.usage.input_tokens == max(1, len(json.dumps(asked)) // 4)
    assert read.usage.output_tokens
    assert "practice" in answer.text
