"""What the scripted providers answer: each provider's documented shapes, with texts and numbers of our own.

Only what differs between providers is spelled per provider: where a stream reports usage, the shape of an error, the
headers that identify the vendor. The official SDKs are the readers these answers are checked with.
"""

import json
from collections.abc import Iterator
from typing import Any, Literal

from tests.e2e.provider import Answer, Headers, Received, Respond, json_answer, sse_answer

Flavour = Literal["openai", "anthropic", "groq", "gemini", "azure"]
Json = dict[str, Any]

CREATED = 1_795_000_000
WORDS = ["Envoy ", "carries ", "the ", "state."]
TEXT = "".join(WORDS)
INPUT_TOKENS, OUTPUT_TOKENS = 21, 8
TOOL_ARGUMENTS = ['{"city"', ': "Bergen"', "}"]

ANSWERED_MODELS = {"gpt-4o": "gpt-4o-2024-08-06", "gpt-4o-mini": "gpt-4o-mini-2024-07-18"}

VENDOR_HEADERS: dict[Flavour, Headers] = {
    "openai": [
        ("x-request-id", "req_0a1b2c3d4e5f"),
        ("openai-organization", "fjord-works"),
        ("openai-processing-ms", "31"),
        ("x-ratelimit-remaining-requests", "9998"),
        ("set-cookie", "__cf_bm=first; path=/; Secure"),
        ("set-cookie", "_cfuvid=second; path=/; Secure"),
        ("server", "cloudflare"),
    ],
    "anthropic": [
        ("request-id", "req_011Fjord"),
        ("anthropic-ratelimit-requests-remaining", "3999"),
        ("anthropic-organization-id", "5f0c8a52-0000-4000-8000-000000000001"),
        ("via", "1.1 google"),
    ],
    "groq": [("x-groq-region", "dls"), ("x-ratelimit-remaining-tokens", "11950")],
    "gemini": [("server-timing", "gfet4t7; dur=212"), ("server", "scaffolding on HTTPServer2")],
    "azure": [("apim-request-id", "9d3c0f5e"), ("x-ms-region", "Norway East"), ("x-ratelimit-remaining-tokens", "119")],
}

CHAT_USAGE: Json = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
MESSAGES_USAGE: Json = {
    "input_tokens": INPUT_TOKENS,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": OUTPUT_TOKENS,
    "service_tier": "standard",
}


def answer_as(flavour: Flavour) -> Respond:
    """The default answers of one provider, chosen by the end of the path."""

    def respond(received: Received) -> Answer:
        for suffix, answer in ANSWERS.items():
            if received.path.endswith(suffix):
                return answer(flavour, received)
        return error(flavour, 404)

    return respond


def answered_model(received: Received) -> str:
    path = received.path.split("/")
    requested = path[path.index("deployments") + 1] if "deployments" in path else received.json().get("model", "")
    return ANSWERED_MODELS.get(requested, requested)


def data(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def event(document: Json) -> bytes:
    """An event whose name is the document's own type, as Anthropic and the Responses API send them."""
    return f"event: {document['type']}\n".encode() + data(document)


# --- OpenAI's chat completions, spoken by all five


def chat(flavour: Flavour, received: Received) -> Answer:
    request = received.json()
    if request.get("stream"):
        return sse_answer(chat_events(flavour, received), VENDOR_HEADERS[flavour])
    message: Json = {"role": "assistant", "content": TEXT, "refusal": None}
    if request.get("tools"):
        message |= {"content": None, "tool_calls": [tool_call("".join(TOOL_ARGUMENTS))]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(request)}
    document: Json = {
        "id": "chatcmpl-fjord1",
        "object": "chat.completion",
        "created": CREATED,
        "model": answered_model(received),
        "choices": [choice],
        "usage": CHAT_USAGE,
    }
    if flavour == "openai":
        document |= {"service_tier": "default", "system_fingerprint": "fp_fjord"}
    return json_answer(document, headers=VENDOR_HEADERS[flavour])


def chat_events(flavour: Flavour, received: Received) -> list[bytes]:
    """The stream as each provider ends it: usage in a chunk of its own, beside the finish reason, or under `x_groq`."""
    request = received.json()
    asked = bool((request.get("stream_options") or {}).get("include_usage"))
    own_chunk = flavour in ("openai", "azure") and asked
    frame: Json = {
        "id": "chatcmpl-fjord2",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": answered_model(received),
    }
    if own_chunk:
        frame["usage"] = None
    chunks: list[Json] = []
    if flavour == "azure":
        filtered = [{"prompt_index": 0, "content_filter_results": {}}]
        chunks.append(frame | {"model": "", "choices": [], "prompt_filter_results": filtered})

    def chunk(delta: Json, finish_reason: str | None = None) -> Json:
        return frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}

    chunks.extend(map(chunk, chat_deltas(request)))
    last = chunk({}, finish_reason(request))
    if flavour == "groq":
        last["x_groq"] = {"id": "req_fjord", "usage": CHAT_USAGE}
    elif asked and not own_chunk:
        last["usage"] = CHAT_USAGE
    chunks.append(last)
    if own_chunk:
        chunks.append(frame | {"choices": [], "usage": CHAT_USAGE})
    return [*map(data, chunks), b"data: [DONE]\n\n"]


def chat_deltas(request: Json) -> Iterator[Json]:
    if not request.get("tools"):
        yield {"role": "assistant", "content": ""}
        yield from ({"content": word} for word in WORDS)
        return
    yield {"role": "assistant", "content": None, "tool_calls": [{"index": 0} | tool_call("")]}
    for part in TOOL_ARGUMENTS:
        yield {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}


def tool_call(arguments: str) -> Json:
    return {"id": "call_fjord", "type": "function", "function": {"name": "weather", "arguments": arguments}}


def finish_reason(request: Json) -> str:
    return "tool_calls" if request.get("tools") else "stop"


# --- OpenAI's other endpoints


def embeddings(flavour: Flavour, received: Received) -> Answer:
    document = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 0.125]}],
        "model": answered_model(received),
        "usage": {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS},
    }
    return json_answer(document, headers=VENDOR_HEADERS[flavour])


def responses(flavour: Flavour, received: Received) -> Answer:
    text = {"type": "output_text", "text": TEXT, "annotations": []}
    item: Json = {"id": "msg_fjord", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    document: Json = {
        "id": "resp_fjord",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": None,
        "model": answered_model(received),
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": "default",
        "usage": {
            "input_tokens": INPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": OUTPUT_TOKENS,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        },
    }
    if not received.json().get("stream"):
        return json_answer(document, headers=VENDOR_HEADERS[flavour])
    started = document | {"status": "in_progress", "output": [], "usage": None, "service_tier": "auto"}
    part = {"item_id": "msg_fjord", "output_index": 0, "content_index": 0}
    events: list[Json] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": item | {"status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **part, "part": text | {"text": ""}},
        *({"type": "response.output_text.delta", **part, "delta": word, "logprobs": []} for word in WORDS),
        {"type": "response.output_text.done", **part, "text": TEXT, "logprobs": []},
        {"type": "response.content_part.done", **part, "part": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": document},
    ]
    numbered = (event(document | {"sequence_number": number}) for number, document in enumerate(events))
    return sse_answer(numbered, VENDOR_HEADERS[flavour])


def models(flavour: Flavour, received: Received) -> Answer:
    if flavour == "anthropic":
        listed: list[Json] = [
            {
                "type": "model",
                "id": "claude-sonnet-4-6",
                "display_name": "Claude Sonnet 4.6",
                "created_at": "2026-02-17T00:00:00Z",
            }
        ]
        page = {"data": listed, "has_more": False, "first_id": listed[0]["id"], "last_id": listed[-1]["id"]}
        return json_answer(page, headers=VENDOR_HEADERS[flavour])
    listed = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": flavour} for name in ("gpt-4o", "gpt-4o-mini")
    ]
    return json_answer({"object": "list", "data": listed}, headers=VENDOR_HEADERS[flavour])


# --- Anthropic's messages


def messages(flavour: Flavour, received: Received) -> Answer:
    request = received.json()
    block: Json = {"type": "text", "text": TEXT}
    if request.get("tools"):
        block = {"type": "tool_use", "id": "toolu_fjord", "name": "weather", "input": {"city": "Bergen"}}
    document: Json = {
        "id": "msg_fjord",
        "type": "message",
        "role": "assistant",
        "model": answered_model(received),
        "content": [block],
        "stop_reason": "tool_use" if request.get("tools") else "end_turn",
        "stop_sequence": None,
        "usage": MESSAGES_USAGE,
    }
    if not request.get("stream"):
        return json_answer(document, headers=VENDOR_HEADERS[flavour])
    return sse_answer(map(event, message_events(document)), VENDOR_HEADERS[flavour])


def message_events(document: Json) -> Iterator[Json]:
    """The same message as a stream: usage begins in `message_start` and is completed by `message_delta`."""
    begun: Json = {"content": [], "stop_reason": None, "usage": MESSAGES_USAGE | {"output_tokens": 1}}
    yield {"type": "message_start", "message": document | begun}
    block = document["content"][0]
    empty: Json = {"text": ""} if block["type"] == "text" else {"input": {}}
    if block["type"] == "text":
        deltas = [{"type": "text_delta", "text": word} for word in WORDS]
    else:
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in TOOL_ARGUMENTS]
    yield {"type": "content_block_start", "index": 0, "content_block": block | empty}
    yield {"type": "ping"}
    yield from ({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas)
    yield {"type": "content_block_stop", "index": 0}
    ending = {"stop_reason": document["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ending, "usage": {"output_tokens": OUTPUT_TOKENS}}
    yield {"type": "message_stop"}


def count_tokens(flavour: Flavour, received: Received) -> Answer:
    return json_answer({"input_tokens": INPUT_TOKENS}, headers=VENDOR_HEADERS[flavour])


ANSWERS = {
    "/chat/completions": chat,
    "/embeddings": embeddings,
    "/responses": responses,
    "/models": models,
    "/messages": messages,
    "/messages/count_tokens": count_tokens,
}


# --- Errors

OPENAI_ERRORS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", "context_length_exceeded"),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
}
ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
GEMINI_ERRORS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
}


def error(flavour: Flavour, status: int) -> Answer:
    """An error as this provider words it."""
    message = f"the scripted {flavour} refuses with {status}"
    headers = VENDOR_HEADERS[flavour] + ([("retry-after", "7")] if status == 429 else [])
    document: object
    match flavour:
        case "anthropic":
            kind = ANTHROPIC_ERRORS[status]
            document = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011Fjord"}
        case "gemini":
            document = [{"error": {"code": status, "message": message, "status": GEMINI_ERRORS[status]}}]
        case "azure" if status == 401:
            document = {"error": {"code": "401", "message": message}}
        case _:
            kind, code = OPENAI_ERRORS[status]
            document = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return json_answer(document, status, headers)
