"""The practice provider: answers like the real ones, so that `lectr run` works before anyone has a provider key.

It stands in only for providers whose key is not in the environment, on a loopback port of its own, and says so in
every answer. The first segment of its paths names the provider it plays.
"""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

CHUNK_PAUSE_S = 0.02
"Fast enough to test with, slow enough to see a stream stream."

KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


def practice_app() -> Starlette:
    """An ASGI app that plays every provider."""
    return Starlette(routes=[Route("/{provider}/{path:path}", _answer, methods=["GET", "POST"])])


async def _answer(request: Request) -> Response:
    provider, path = request.path_params["provider"], "/" + request.path_params["path"]
    try:
        asked = orjson.loads(await request.body() or b"{}")
    except orjson.JSONDecodeError:
        asked = None
    if not isinstance(asked, dict):
        return _error(400, "invalid_request_error", "The practice provider could not read the body as a JSON object.")
    model = asked.get("model") or _model_in(path)
    if path.endswith("/models"):
        return JSONResponse({"object": "list", "data": [{"id": "practice", "object": "model", "owned_by": provider}]})
    if not isinstance(model, str):
        return _error(400, "invalid_request_error", "The practice provider needs a `model`.")
    arrived = ", ".join(name for name in KEY_HEADERS if name in request.headers) or "no header"
    text = (
        f"This is lectr's practice provider playing {provider}; no provider was called. "
        f"Your request for {model} came as {request.method} {path}, the key in {arrived}."
    )
    words = [word if i == 0 else f" {word}" for i, word in enumerate(text.split(" "))]
    read, written = max(1, len(await request.body()) // 4), len(words)
    stream = asked.get("stream") is True
    if path.endswith("/chat/completions"):
        options = asked.get("stream_options")
        wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        return _sse(_chat_chunks(model, words, read, wants_usage)) if stream else _chat(model, text, read, written)
    if path.endswith("/messages"):
        return _sse(_named(_message_events(model, words, read))) if stream else _message(model, text, read, written)
    if path.endswith("/messages/count_tokens"):
        return JSONResponse({"input_tokens": read})
    if path.endswith("/embeddings"):
        return _embedding(model, read)
    if path.endswith("/responses"):
        answer = _response(model, text, read, written)
        return _sse(_named(_response_events(answer, words))) if stream else JSONResponse(answer)
    if path.endswith(":generateContent"):
        return JSONResponse(_gemini(model, text, read, written))
    if path.endswith(":streamGenerateContent"):
        parts = [_gemini(model, word, read, n, ends=n == written) for n, word in enumerate(words, 1)]
        return _sse(map(_data, parts)) if request.query_params.get("alt") == "sse" else JSONResponse(parts)
    if path.endswith("/v2/chat"):
        return _sse(_cohere_chunks(words, read)) if stream else JSONResponse(_cohere(text, read, written))
    if path.endswith("/converse"):
        return JSONResponse(_converse(text, read, written))
    return _error(404, "not_found_error", f"The practice provider has no {path}.")


_MODEL = re.compile(r"/deployments/([^/]+)|/models/([^/:]+):|/model/([^/]+)/")


def _model_in(path: str) -> str | None:
    """Azure's, Gemini's and Bedrock's own paths name the model."""
    found = _MODEL.search(path)
    return found[found.lastindex or 0] if found else None


def _error(status: int, kind: str, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": kind}}, status)


def _chat(model: str, text: str, read: int, written: int) -> Response:
    return JSONResponse(
        {
            "id": f"chatcmpl-{secrets.token_hex(8)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                    "logprobs": None,
                }
            ],
            "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
        }
    )


def _chat_chunks(model: str, words: list[str], read: int, wants_usage: bool) -> Iterable[bytes]:
    head = {
        "id": f"chatcmpl-{secrets.token_hex(8)}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }
    deltas: list[tuple[dict[str, str], str | None]] = [({"content": word}, None) for word in words]
    for delta, finish in [({"role": "assistant", "content": ""}, None), *deltas, ({}, "stop")]:
        yield _data({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    if wants_usage:
        usage = {"prompt_tokens": read, "completion_tokens": len(words), "total_tokens": read + len(words)}
        yield _data({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _message(model: str, text: str, read: int, written: int) -> Response:
    usage = {"input_tokens": read, "output_tokens": written}
    return JSONResponse(
        {**_message_head(model, usage), "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    )


def _message_head(model: str, usage: dict[str, int]) -> dict[str, Any]:
    return {
        "id": f"msg_{secrets.token_hex(8)}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _message_events(model: str, words: list[str], read: int) -> Iterable[dict[str, Any]]:
    return [
        {"type": "message_start", "message": _message_head(model, {"input_tokens": read, "output_tokens": 1})},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": w}} for w in words),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": len(words)},
        },
        {"type": "message_stop"},
    ]


def _embedding(model: str, read: int) -> Response:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5] * 8}]
    usage = {"prompt_tokens": read, "total_tokens": read}
    return JSONResponse({"object": "list", "model": model, "data": data, "usage": usage})


def _response(model: str, text: str, read: int, written: int) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": content}
    return {
        "id": f"resp_{secrets.token_hex(8)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "model": model,
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        },
    }


def _response_events(answer: dict[str, Any], words: list[str]) -> Iterable[dict[str, Any]]:
    (message,) = answer["output"]
    (part,) = message["content"]
    item, place = {"output_index": 0}, {"item_id": message["id"], "output_index": 0, "content_index": 0}
    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", **item, "item": {**message, "status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in words),
        {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", **item, "item": message},
        {"type": "response.completed", "response": answer},
    ]
    return ({**event, "sequence_number": n} for n, event in enumerate(events))


def _gemini(model: str, text: str, read: int, written: int, *, ends: bool = True) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text}]}
    finish = {"finishReason": "STOP"} if ends else {}
    usage = {"promptTokenCount": read, "candidatesTokenCount": written, "totalTokenCount": read + written}
    return {
        "candidates": [{"content": content, **finish, "index": 0}],
        "usageMetadata": usage,
        "modelVersion": model,
    }


def _cohere(text: str, read: int, written: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    return {"id": "practice", "message": message, **_cohere_end(read, written)}


def _cohere_end(read: int, written: int) -> dict[str, Any]:
    counts = {"input_tokens": read, "output_tokens": written}
    return {"finish_reason": "COMPLETE", "usage": {"billed_units": counts, "tokens": counts}}


def _cohere_chunks(words: list[str], read: int) -> Iterable[bytes]:
    texts = ({"message": {"content": {"text": word}}} for word in words)
    yield from _named(
        [
            {"type": "message-start", "id": "practice", "delta": {"message": {"role": "assistant"}}},
            *({"type": "content-delta", "index": 0, "delta": delta} for delta in texts),
            {"type": "message-end", "delta": _cohere_end(read, len(words))},
        ]
    )
    yield b"data: [DONE]\n\n"


def _converse(text: str, read: int, written: int) -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": read, "outputTokens": written, "totalTokens": read + written},
        "metrics": {"latencyMs": 1},
    }


def _named(events: Iterable[dict[str, Any]]) -> Iterable[bytes]:
    for event in events:
        yield b"event: " + event["type"].encode() + b"\n" + _data(event)


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _sse(chunks: Iterable[bytes]) -> Response:
    async def paced() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk
            await asyncio.sleep(CHUNK_PAUSE_S)

    return StreamingResponse(paced(), media_type="text/event-stream")
