"""Every call leaves exactly one record, and what it says is so."""

import json
from collections import Counter
from typing import Any

import pytest

from tests.e2e.answers import WORDS, data
from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, JSON, asking, call, new_id
from tests.e2e.conftest import Launch
from tests.e2e.gateway import Build, Gateway, Record
from tests.e2e.provider import Answer, Cut, Gate, Piece, Received, sse_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import OPENAI_KEY, ORG, ORG_KEY, Providers, secret, settings_for

CLOCKS = ("duration_ms", "first_byte_ms", "gateway_ms", "provider_first_byte_ms")
OF_THE_LINE = {"time", "level", "event", "call_id", "started_ns", "request_id"}
CALLS = 300


def told(record: Record) -> Record:
    """What a record says apart from ids and clocks."""
    return {name: value for name, value in record.items() if name not in (*OF_THE_LINE, *CLOCKS)}


def assert_plausible(record: Record) -> None:
    """The clocks of one call fit together."""
    assert 0 < record["gateway_ms"] <= record["first_byte_ms"] <= record["duration_ms"]
    assert 0 < record["provider_first_byte_ms"] <= record["first_byte_ms"]


def test_a_plain_call_is_recorded_whole(gateway: Gateway, providers: Providers, call_id: str) -> None:
    body = asking("openai/gpt-4o", stream=False)
    labels = {"X-Lectr-Feature": "support-chat", "X-Lectr-Task": "Summarization"}
    answer = call(gateway, f"{CHAT}?a={secret('')}", headers={**JSON, **labels}, body=body, call_id=call_id)

    record = gateway.record(call_id)
    assert_plausible(record)
    assert (record["event"], record["level"], record["request_id"]) == ("call", "info", call_id)
    assert len(record["call_id"]) == 32
    said = told(record)
    if gateway.build.profile == "native":
        assert said.pop("model_answered") == "gpt-4o-2024-08-06"
    assert said == {
        "org": ORG,
        "provider": "openai",
        "provider_source": "prefix",
        "model_requested": "openai/gpt-4o",
        "model_sent": "gpt-4o",
        "dialect": "openai.chat",
        "method": "POST",
        "path": CHAT,
        "status": 200,
        "feature": "support-chat",
        "task": "Summarization",
        "task_known": "summarisation",
        "attempts": 1,
        "request_bytes": len(body),
        "response_bytes": len(answer.content),
    } | {name: said[name] for name in said if name not in KNOWN}


KNOWN = {
    "org", "provider", "provider_source", "model_requested", "model_sent", "dialect", "method", "path", "status",
    "feature", "task", "task_known", "attempts", "request_bytes", "response_bytes", "error_category", "error_code",
    "error_source", "notes", "provider_unknown", "provider_detected", "streaming",
}  # fmt: skip


def test_a_stream_is_recorded_once_it_is_over(gateway: Gateway, providers: Providers, call_id: str) -> None:
    gate = Gate()
    pieces: list[Piece] = [data(WORDS[0]), gate, data(WORDS[1])]
    providers["anthropic"].answer_with(sse_answer(pieces))
    with Connection(gateway.port) as connection:
        headers = [*JSON.items(), ("x-request-id", call_id)]
        connection.send("POST", CLAUDE_MESSAGES, headers, asking("claude-opus-4-9", stream=True))
        connection.read_head()
        chunks = connection.chunks()
        assert next(chunks) == data(WORDS[0])
        assert call_id not in gateway.output
        gate.open()
        assert list(chunks) == [data(WORDS[1])]

    record = gateway.record(call_id)
    assert_plausible(record)
    seen = {name: record.get(name) for name in ("streaming", "status", "provider", "dialect", "error_category")}
    assert seen == {
        "streaming": True,
        "status": 200,
        "provider": "anthropic",
        "dialect": "anthropic.messages",
        "error_category": None,
    }


ENDS: dict[str, tuple[tuple[Piece, ...], bool, dict[str, Any]]] = {
    "a caller who leaves before the answer": (
        (Cut.SILENCE,),
        True,
        {"error_category": "client_disconnect", "error_source": "client"},
    ),
    "a caller who leaves within the answer": (
        (data(WORDS[0]), Cut.SILENCE),
        True,
        {"error_category": "client_disconnect", "error_source": "client", "status": 200},
    ),
    "a provider that resets within its answer": (
        (data(WORDS[0]), Cut.RESET),
        False,
        {"error_category": "stream_interrupted", "error_source": "provider", "status": 200},
    ),
    "a provider that closes within its answer": (
        (data(WORDS[0]), Cut.CLOSE),
        False,
        {"error_category": "stream_interrupted", "error_source": "provider", "status": 200},
    ),
}


def test_a_call_that_breaks_off_is_recorded_as_what_it_was(gateway: Gateway, providers: Providers) -> None:
    ids = {name: new_id() for name in ENDS}
    for name, (pieces, hangs_up, _) in ENDS.items():
        has_begun = isinstance(pieces[0], bytes)
        gate = Gate()  # a provider that breaks off at once has not answered yet, as far as the client can tell
        answer = sse_answer([pieces[0], gate, *pieces[1:]])
        providers["openai"].answer_with(answer if has_begun else Answer(head=b"", pieces=pieces))
        with Connection(gateway.port) as connection:
            connection.send("POST", CHAT, [*JSON.items(), ("x-request-id", ids[name])], asking(stream=True))
            if has_begun:
                connection.read_head()
                chunks = connection.chunks()
                assert next(chunks) == pieces[0]
                gate.open()
            providers["openai"].next_request()
            if not hangs_up:
                with pytest.raises((EOFError, ConnectionResetError)):
                    next(chunks)

    for name, (*_, expected) in ENDS.items():
        record = gateway.record(ids[name])
        assert {key: record.get(key) for key in expected} == expected, name
        assert (record["provider"], record["model_requested"], record["org"]) == ("openai", "gpt-4o", ORG)
        assert "error_code" not in record, name


LABELS: dict[str, tuple[dict[str, bytes], dict[str, Any]]] = {
    "none": ({}, {"feature": None, "task": None, "task_known": None}),
    "empty ones": ({"feature": b"", "task": b"  "}, {"feature": None, "task": None}),
    "a long feature": ({"feature": b"f" * 150}, {"feature": "f" * 100}),
    "exactly a hundred": ({"feature": b"f" * 100}, {"feature": "f" * 100}),
    "UTF-8": ({"feature": "søk-og-svar ✓".encode()}, {"feature": "søk-og-svar ✓"}),
    "a long feature in UTF-8": ({"feature": ("ø" * 150).encode()}, {"feature": "ø" * 100}),
    "a tab": ({"feature": b"a\tb"}, {"feature": "ab"}),
    "a terminal's escape": ({"feature": "a\x9b31mb".encode()}, {"feature": "a31mb"}),
    "quotes": ({"feature": b'"},{"x":1'}, {"feature": '"},{"x":1'}),
    "a known task": ({"task": b"reasoning"}, {"task": "reasoning", "task_known": "reasoning"}),
    "a task in capitals": ({"task": b"EXTRACTION"}, {"task": "EXTRACTION", "task_known": "extraction"}),
    "a task in American": ({"task": b"summarization"}, {"task": "summarization", "task_known": "summarisation"}),
    "a task of one's own": ({"task": b"triage"}, {"task": "triage", "task_known": None}),
    "a key in a label's place": ({"feature": OPENAI_KEY.encode(), "task": ORG_KEY.encode()}, {}),
    "bytes that are no text": ({"feature": b"a\xff\xfeb"}, {"feature": "ab"}),
}


def test_labels_are_kept_as_text_that_is_safe_to_show(gateway: Gateway, providers: Providers) -> None:
    ids = {name: new_id() for name in LABELS}
    for name, (labels, _) in LABELS.items():
        ours = [(f"x-lectr-{label}", value.decode("latin-1")) for label, value in labels.items()]
        with Connection(gateway.port) as connection:
            connection.send("POST", CHAT, [*JSON.items(), *ours, ("x-request-id", ids[name])], asking())
            assert connection.read_head().status == 200, name
    for name, (_, expected) in LABELS.items():
        record = gateway.record(ids[name])
        assert {key: record.get(key) for key in expected} == expected, name


def test_three_hundred_streams_at_once_cost_no_open_stream_to_lectr_and_leave_a_record_each(
    launch: Launch, build: Build, providers: Providers
) -> None:
    settings = settings_for(providers)
    for provider in settings["providers"]:
        provider["observe"] = "native"
    gateway = launch(settings)
    marker, gate = new_id(), Gate()

    def slow(received: Received) -> Answer:
        return sse_answer([data(received.json()["number"]), gate, data("end")])

    providers["openai"].answer_with(*[slow] * CALLS)
    connections = []
    try:
        for number in range(CALLS):
            connection = Connection(gateway.port)
            connections.append(connection)
            headers = [*JSON.items(), ("x-request-id", f"{marker}-{number}")]
            connection.send(
                "POST", CHAT, headers, asking(stream=True, stream_options={"include_usage": True}, number=number)
            )
        streams = []
        for number, connection in enumerate(connections):
            assert connection.read_head().status == 200
            streams.append(connection.chunks())
            assert next(streams[-1]) == data(number)

        ext_proc = r".*\.lectr\.ext_proc\."  # whose stats begin otherwise on Envoy 1.36
        in_flight = r"http\.lectr\.downstream_rq_active"
        assert gateway.stat(in_flight) >= CALLS
        is_open = gateway.stat(ext_proc + "streams_started") - gateway.stat(ext_proc + "streams_closed")
        assert is_open == (0 if build.profile == "native" else CALLS), (
            "without Envoy's reading lectr watches each answer"
        )
        gate.open()
        assert [list(stream) for stream in streams] == [[data("end")]] * CALLS
    finally:
        for connection in connections:
            connection.hang_up()

    records = gateway.records(marker, CALLS)
    assert Counter(json.dumps(record["request_id"]) for record in records) == Counter(
        json.dumps(f"{marker}-{number}") for number in range(CALLS)
    )
    assert len({record["call_id"] for record in records}) == CALLS
    assert {record["status"] for record in records} == {200}
