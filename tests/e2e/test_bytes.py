"""The provider's answer is the client's answer: status, headers, body bytes and the moment of each chunk."""

import gzip
import json

import pytest

from tests.e2e.answers import VENDOR_HEADERS, WORDS, data
from tests.e2e.gateway import Gateway
from tests.e2e.provider import Answer, Gate, Headers, Piece, gzipped, json_answer, sse_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import MESSAGES, OPENAI_KEY, ORG_KEY, Providers

NOT_END_TO_END = ("connection", "keep-alive", "transfer-encoding", "date")
"Hop-by-hop, and the date that a proxy adds where the provider left it out (RFC 9110, 6.6.1)."

KEYS: Headers = [("X-Lectr-Key", ORG_KEY), ("Authorization", f"Bearer {OPENAI_KEY}"), ("Accept-Encoding", "gzip")]
PINNED = {"model": "gpt-4o", "messages": MESSAGES}


def end_to_end(headers: Headers) -> Headers:
    return [(name.lower(), value) for name, value in headers if name.lower() not in NOT_END_TO_END]


def post(connection: Connection, document: object, path: str = "/v1/chat/completions") -> None:
    connection.send("POST", path, [*KEYS, ("Content-Type", "application/json")], json.dumps(document).encode())


ANSWERS: dict[str, Answer] = {
    "a completion with every header of its vendor": json_answer({"object": "x"}, headers=VENDOR_HEADERS["openai"]),
    "a body that is not quite JSON": Answer(
        status=500,
        headers=[("content-type", "application/json")],
        pieces=(b'{"error": {"type": "api_error"}}  \r\n\n',),
    ),
    "an error without content type": Answer(status=404, headers=[("x-first", "1")], pieces=(b"no such deployment",)),
    "headers that repeat and interleave": Answer(
        headers=[("warning", "b"), ("set-cookie", "b=2"), ("warning", "a"), ("set-cookie", "a=1"), ("warning", "b")],
        pieces=(b"{}",),
    ),
    "a status that few send": Answer(status=529, headers=[("retry-after", "3.5")], pieces=(b"{}",)),
    "an empty body": Answer(status=200, headers=[("content-type", "text/plain")]),
    "an answer without a body": Answer(status=204, headers=[("x-request-id", "req_1")]),
    "a large body": Answer(headers=[("content-type", "application/json")], pieces=(b'{"a": "' + b"x" * 2**20 + b'"}',)),
    "a chunked body": Answer(
        headers=[("content-type", "application/json")], pieces=(b'{"us', b'age"', b": {}}"), chunked=True
    ),
    "a compressed body": gzipped(json_answer({"usage": {"prompt_tokens": 1, "completion_tokens": 1}})),
    "a body that claims to be compressed": Answer(
        headers=[("content-encoding", "gzip"), ("content-type", "application/json")], pieces=(b'{"usage": {}}',)
    ),
    "bytes that are no text": Answer(
        headers=[("content-type", "audio/mpeg")], pieces=(bytes(range(256)) * 100,), chunked=True
    ),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_arrives_as_the_provider_sent_it(gateway: Gateway, providers: Providers, answer: Answer) -> None:
    providers["openai"].answer_with(answer)
    with Connection(gateway.port) as connection:
        post(connection, PINNED)
        head = connection.read_head()
        body = b"" if answer.status == 204 else connection.read_body(head)

    assert head.status == answer.status
    assert end_to_end(head.headers) == end_to_end(answer.rendered_headers())
    assert body == answer.body


STREAMS = {
    "one that asks for its usage": PINNED | {"stream": True, "stream_options": {"include_usage": True}},
    "one that does not": PINNED | {"stream": True},
}


@pytest.mark.parametrize("request_body", STREAMS.values(), ids=STREAMS.keys())
def test_a_chunk_is_with_the_client_before_the_next_is_sent(
    gateway: Gateway, providers: Providers, request_body: dict[str, object]
) -> None:
    events = [data({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": word}}]}) for word in WORDS]
    gates = [Gate() for _ in events]
    gated: list[Piece] = [piece for pair in zip(events, gates, strict=True) for piece in pair]
    providers["openai"].answer_with(sse_answer([*gated, b"data: [DONE]\n\n"], VENDOR_HEADERS["openai"]))

    with Connection(gateway.port) as connection:
        post(connection, request_body)
        head = connection.read_head()
        chunks = connection.chunks()
        for event, gate in zip(events, gates, strict=True):
            assert next(chunks) == event
            gate.open()
        assert b"".join(chunks) == b"data: [DONE]\n\n"

    expected = [("content-type", "text/event-stream; charset=utf-8"), *VENDOR_HEADERS["openai"]]
    assert end_to_end(head.headers) == expected


def test_a_chunk_cut_within_a_character_passes_as_it_is_cut(gateway: Gateway, providers: Providers) -> None:
    whole = data({"choices": [{"index": 0, "delta": {"content": "tromsø"}}]}).replace(b"\\u00f8", "ø".encode())
    cut = whole.index("ø".encode()) + 1
    gate = Gate()
    providers["openai"].answer_with(sse_answer([whole[:cut], gate, whole[cut:]]))

    with Connection(gateway.port) as connection:
        post(connection, STREAMS["one that asks for its usage"])
        connection.read_head()
        chunks = connection.chunks()
        assert next(chunks) == whole[:cut]
        gate.open()
        assert b"".join(chunks) == whole[cut:]


def test_a_stream_of_fixed_length_keeps_its_length(gateway: Gateway, providers: Providers) -> None:
    body = data({"choices": [{"index": 0, "delta": {"content": "all at once"}}]}) + b"data: [DONE]\n\n"
    answer = Answer(headers=[("content-type", "text/event-stream"), ("content-length", str(len(body)))], pieces=(body,))
    providers["openai"].answer_with(answer)

    with Connection(gateway.port) as connection:
        post(connection, STREAMS["one that asks for its usage"])
        head = connection.read_head()
        assert end_to_end(head.headers) == answer.headers
        assert connection.read_body(head) == body


def test_a_compressed_stream_passes_compressed(gateway: Gateway, providers: Providers) -> None:
    body = gzip.compress(b"".join([*map(str.encode, WORDS)]), mtime=0)
    gate = Gate()
    pieces: list[Piece] = [body[:10], gate, body[10:]]
    providers["openai"].answer_with(sse_answer(pieces, [("content-encoding", "gzip")]))

    with Connection(gateway.port) as connection:
        post(connection, STREAMS["one that asks for its usage"])
        head = connection.read_head()
        chunks = connection.chunks()
        assert next(chunks) == body[:10]
        gate.open()
        assert b"".join(chunks) == body[10:]
    assert head.values("content-encoding") == ["gzip"]
