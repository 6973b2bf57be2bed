"""Whatever a provider answers and wherever a client hangs up: bytes pass as they come, and each call has its row."""

import contextlib
import gzip

from tests.e2e.answers import WORDS, data
from tests.e2e.calls import CHAT, JSON, asking, new_id, works
from tests.e2e.faults import Stage
from tests.e2e.gateway import Apart, memory_kib, wait_until
from tests.e2e.provider import Answer, Cut, Gate, Piece, Provider, sse_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import Providers

MAY_GROW_KIB = 32 << 10
"What gRPC holds of a stream on its way: no more for 256 MiB than for 64."


def assert_unharmed(stage: Stage) -> None:
    assert works(stage.gateway)
    counts = stage.gateway.healthz().json()["counts"]
    assert {name: count for name, count in counts.items() if name.endswith(("_failed", "_unreadable"))} == {}


# --- providers --------------------------------------------------------------------------------------------------------


def said(body: bytes, **headers: str) -> Answer:
    """A document whose bytes are as given."""
    named = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(headers=list(named.items()), pieces=(body,))


ANSWER = b'{"id": "1", "object": "chat.completion", "model": "gpt-4o", "choices": [], "usage": %b}'
USAGE = b'{"prompt_tokens": %b, "completion_tokens": %b}'
ONE_LINE = b'data: {"choices": [{"delta": {"content": "'
BROKEN_STREAMS: dict[str, tuple[Piece, ...]] = {
    "half an event, and hangs up": (b'data: {"choi', Cut.CLOSE),
    "half an event, and resets": (b'data: {"choi', Cut.RESET),
    "half an event, and is silent": (b'data: {"choi', Cut.SILENCE),
    "half an event, as if that were all": (b'data: {"choi',),
    "an error inside a 200": (data({"error": {"message": "no", "type": "server_error", "code": "busy"}}),),
    "events of zeros": (bytes(100_000), b"\n\n"),
    "events of no encoding": (b"data: \xff\xfe\xc3\n\n", b"data: {\x80}\n\n"),
    "line ends of every kind": (b"data: {}\r\rdata: {}\n\r\n\r\n", b":\n" * 1000),
    "an event too long to be read": (*[ONE_LINE + b"x" * 400_000] * 3, b'"}}]}\n\n', data(WORDS[1])),
}
BROKEN_DOCUMENTS = {
    "no JSON": said(b"<html>"),
    "half a document": said(ANSWER[:40]),
    "zeros": said(bytes(100_000)),
    "lists in lists": said(b"[" * 100_000),
    "mappings in mappings": said(b'{"usage":' * 50_000),
    "counts beyond reason": said(ANSWER % (USAGE % (b"1e400", b"9" * 400))),
    "counts below zero": said(ANSWER % (USAGE % (b"-5", b"-0.5"))),
    "counts of another kind": said(ANSWER % (USAGE % (b'"7"', b"[]"))),
    "the largest counts there are": said(ANSWER % (USAGE % (b"9223372036854775808", b"18446744073709551615"))),
    "usage of another kind": said(ANSWER % b"[null]"),
    "names twice": said(ANSWER % (USAGE % (b'1, "prompt_tokens": 2', b"3"))),
    "a model's name of a megabyte": said(b'{"model": "%b", "usage": %b}' % (b"m" * 1_000_000, USAGE % (b"1", b"2"))),
    "a model's name of control characters": said(b'{"model": "\\u0000\\u001b[31m\\ud800", "usage": {}}'),
    "what is not gzip": said(ANSWER % b"{}", content_encoding="gzip"),
    "half a gzip": said(gzip.compress(ANSWER)[:30], content_encoding="gzip"),
    "a coding nobody knows": said(ANSWER % b"{}", content_encoding="gzip, snappy, x" + ", gzip" * 500),
    "64 MiB of nothing in 64 KiB": said(gzip.compress(bytes(64 << 20)), content_encoding="gzip"),
    "a status nobody knows": Answer(status=299, pieces=(b"?",)),
    "a content type nobody knows": said(b"x" * 1000, content_type="text/" + "x" * 5000),
}


def stream_of(gateway: Apart, provider: Provider, *pieces: Piece, call_id: str = "") -> bytes:
    """What a client sees of a stream after its first words, until it ends or breaks off."""
    gate, seen = Gate(), list[bytes]()
    provider.answer_with(sse_answer([data(WORDS[0]), gate, *pieces]))
    with Connection(gateway.port) as connection:
        body = asking(stream=True, stream_options={"include_usage": True})
        connection.send("POST", CHAT, [*JSON.items(), ("x-request-id", call_id or new_id())], body)
        assert connection.read_head().status == 200
        chunks = connection.chunks()
        assert next(chunks) == data(WORDS[0])
        gate.open()
        with contextlib.suppress(EOFError, ConnectionError):
            seen.extend(chunks)
    return b"".join(seen)


def test_whatever_a_provider_streams_the_client_gets_its_bytes_and_the_call_its_row(
    stage: Stage, providers: Providers
) -> None:
    ids = {name: new_id() for name in BROKEN_STREAMS}
    for name, pieces in BROKEN_STREAMS.items():
        seen = stream_of(stage.gateway, providers["openai"], *pieces, call_id=ids[name])
        sent = b"".join(piece for piece in pieces if isinstance(piece, bytes))
        # A connection that breaks takes along what is on its way.
        assert sent.startswith(seen) if pieces[-1] in (Cut.CLOSE, Cut.RESET) else seen == sent, name
    wait_until(lambda: set(ids.values()) <= stage.statuses().keys(), "a row of each")
    assert [stage.statuses()[call_id] for call_id in ids.values()] == [[200]] * len(ids)
    categories = {row.request_id: row.error_category for row in stage.rows()}
    assert {name: category for name, call_id in ids.items() if (category := categories[call_id])} == {
        "half an event, and hangs up": "stream_interrupted",
        "half an event, and resets": "stream_interrupted",
        "half an event, and is silent": "timeout",
        "an error inside a 200": "stream_error",
    }
    assert_unharmed(stage)


def test_whatever_a_provider_answers_the_client_gets_its_bytes_and_the_call_its_row(
    stage: Stage, providers: Providers
) -> None:
    ids = {name: new_id() for name in BROKEN_DOCUMENTS}
    for name, answer in BROKEN_DOCUMENTS.items():
        providers["openai"].answer_with(answer)
        with Connection(stage.gateway.port) as connection:
            connection.send("POST", CHAT, [*JSON.items(), ("x-request-id", ids[name])], asking())
            head = connection.read_head()
            assert (head.status, connection.read_body(head)) == (answer.status, answer.body), name
    wait_until(lambda: set(ids.values()) <= stage.statuses().keys(), "a row of each")
    kept = {name: stage.statuses()[call_id] for name, call_id in ids.items()}
    assert kept == {name: [answer.status] for name, answer in BROKEN_DOCUMENTS.items()}
    assert_unharmed(stage)


def test_a_line_of_64_mebibytes_passes_and_lectr_does_not_grow(stage: Stage, providers: Providers) -> None:
    piece = ONE_LINE + b"x" * (1 << 20)
    stream_of(stage.gateway, providers["openai"], piece)
    before = memory_kib(stage.gateway.process, "VmHWM")
    assert len(stream_of(stage.gateway, providers["openai"], *[piece] * 64)) == 64 * len(piece)
    assert memory_kib(stage.gateway.process, "VmHWM") - before < MAY_GROW_KIB


# --- clients ----------------------------------------------------------------------------------------------------------

BODY = asking(stream=True)
HANG_UPS: dict[str, tuple[bytes, Answer | None, int | None]] = {
    "within its body": (BODY[:-9], None, None),
    "before the answer": (BODY, Answer(head=b"", pieces=(Cut.SILENCE,)), None),
    "within the answer": (BODY, sse_answer([data(WORDS[0]), Cut.SILENCE]), 200),
    "after the answer": (BODY, sse_answer([data(WORDS[0])]), 200),
}


def test_wherever_a_client_hangs_up_its_call_has_one_row(stage: Stage, providers: Providers) -> None:
    expected: dict[str, int | None] = {}
    for body, answer, status in [*HANG_UPS.values()] * 3:
        expected[call_id := new_id()] = status
        with Connection(stage.gateway.port) as connection:
            framing = [("x-request-id", call_id), ("content-length", str(len(BODY)))]
            if answer:
                providers["openai"].answer_with(answer)
            connection.send("POST", CHAT, [*JSON.items(), *framing], body)
            if answer:
                providers["openai"].next_request()
            if status:
                assert connection.read_head().status == status
                assert next(connection.chunks()).startswith(data(WORDS[0]))

    wait_until(lambda: expected.keys() <= stage.statuses().keys(), "a row of each")
    assert {call_id: stage.statuses()[call_id] for call_id in expected} == {
        call_id: [status] for call_id, status in expected.items()
    }
    assert_unharmed(stage)
