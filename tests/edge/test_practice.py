import importlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lectr_extproc.edge import practice
from lectr_extproc.edge.admin import http_server
from tests.reading import reader

if TYPE_CHECKING:  # each takes a second to import, which every worker would spend
    import anthropic
    import openai

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


# --- the official SDKs, over a port -----------------------------------------------------------------------------------


@asynccontextmanager
async def openai_sdk(provider: str = "openai") -> AsyncIterator["openai.AsyncOpenAI"]:
    async with http_server(practice.practice_app(), "127.0.0.1:0") as port:
        base = f"http://127.0.0.1:{port}/{provider}/v1"
        async with importlib.import_module("openai").AsyncOpenAI(
            api_key="practice", base_url=base, max_retries=0
        ) as client:
            yield client


@asynccontextmanager
async def anthropic_sdk() -> AsyncIterator["anthropic.AsyncAnthropic"]:
    async with http_server(practice.practice_app(), "127.0.0.1:0") as port:
        base = f"http://127.0.0.1:{port}/anthropic"
        async with importlib.import_module("anthropic").AsyncAnthropic(
            api_key="practice", base_url=base, max_retries=0
        ) as client:
            yield client


@pytest.fixture(scope="module")
def sdks() -> None:
    """Imported before a test's own time runs: on a busy machine that may take as long as a test may."""
    for name in SDKS:
        importlib.import_module(name)


CHAT: Any = {"model": "gpt-4o", "messages": MESSAGES}
MESSAGE: Any = {"model": "claude-sonnet-4", "messages": MESSAGES, "max_tokens": 100}


@pytest.mark.usefixtures("sdks")
async def test_openais_sdk_reads_its_answers() -> None:
    async with openai_sdk() as client:
        chat = await client.chat.completions.create(**CHAT)
        assert "playing openai" in str(chat.choices[0].message.content)
        assert chat.usage is not None
        assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens
        embedding = await client.embeddings.create(model="text-embedding-3-small", input="Hello")
        assert len(embedding.data[0].embedding) == 8
        response = await client.responses.create(model="gpt-4o", input="Hello")
        assert (response.status, "playing openai" in response.output_text) == ("completed", True)
        assert [model.id async for model in client.models.list()] == ["practice"]


@pytest.mark.usefixtures("sdks")
async def test_openais_sdk_reads_its_streams() -> None:
    async with openai_sdk() as client:
        whole = (await client.chat.completions.create(**CHAT)).choices[0].message.content
        stream = await client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        responses = await client.responses.create(model="gpt-4o", input="Hello", stream=True)
        heard = [event async for event in responses]
        assert "".join(event.delta for event in heard if event.type == "response.output_text.delta")
        assert heard[-1].type == "response.completed"
        async with client.responses.stream(model="gpt-4o", input="Hello") as accumulated:
            assert "playing openai" in (await accumulated.get_final_response()).output_text
        *told, last = chunks
        assert "".join(chunk.choices[0].delta.content or "" for chunk in told) == whole
        assert (told[-1].choices[0].finish_reason, last.choices) == ("stop", [])
        assert last.usage is not None
        assert last.usage.completion_tokens == len(str(whole).split(" "))


@pytest.mark.usefixtures("sdks")
async def test_anthropics_sdk_reads_its_answers_and_streams() -> None:
    async with anthropic_sdk() as client:
        answer = await client.messages.create(**MESSAGE)
        async with client.messages.stream(**MESSAGE) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            final = await stream.get_final_message()
        assert text == final.content[0].text == answer.content[0].text  # type: ignore[union-attr]
        assert "playing anthropic" in text
        assert (final.stop_reason, final.usage.output_tokens) == (answer.stop_reason, answer.usage.output_tokens)
        assert (await client.messages.count_tokens(model="claude", messages=MESSAGE["messages"])).input_tokens > 0


SDKS: dict[str, Callable[[], AbstractAsyncContextManager[Any]]] = {"openai": openai_sdk, "anthropic": anthropic_sdk}


@pytest.mark.usefixtures("sdks")
@pytest.mark.parametrize("sdk", SDKS)
async def test_an_error_is_one_the_sdk_knows(sdk: str) -> None:
    async with SDKS[sdk]() as client:
        with pytest.raises(importlib.import_module(sdk).BadRequestError, match="needs a `model`"):
            await client.post("/v1/messages", body={}, cast_to=object)
