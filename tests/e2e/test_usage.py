"""What an answer says is on its record, whoever read it, and the client sees that answer and nothing else."""

import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import brotli
import pytest

from tests.e2e.answers import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    TEXT,
    WORDS,
    Flavour,
    answered_model,
    chat_events,
    data,
    event,
    message_events,
)
from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, JSON, asking, new_id
from tests.e2e.conftest import Launch, LaunchApart, once
from tests.e2e.documented import DOCUMENTED, LACKED, Documented, expected_in, read_in
from tests.e2e.gateway import Gateway, Record, wait_until
from tests.e2e.provider import Answer, Cut, Gate, Piece, Provider, Received, json_answer, sse_answer
from tests.e2e.rawhttp import Connection, Head
from tests.e2e.scene import Providers, settings_for

MODEL = "gpt-4o"
USED = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
ASKED = {"stream": True, "stream_options": {"include_usage": True}}
DONE = b"data: [DONE]\n\n"
ASKED_TO_WAIT = r"http\.lectr\.ext_proc\.override_message_timeout_received"
PATHS = {
    "openai.chat": CHAT,
    "openai.completions": "/v1/completions",
    "openai.responses": "/v1/responses",
    "openai.embeddings": "/v1/embeddings",
    "openai.images": "/v1/images/generations",
    "openai.audio": "/v1/audio/transcriptions",
    "openai.input_tokens": "/v1/responses/input_tokens",
    "anthropic.messages": CLAUDE_MESSAGES,
    "anthropic.count_tokens": "/v1/messages/count_tokens",
    "gemini.generate": "/v1beta/models/gemini-2.5-flash:generateContent",
}


def talk(
    gateway: Gateway, body: bytes, call_id: str, *, provider: str = "openai", path: str = CHAT, **headers: str
) -> tuple[Head, bytes]:
    """One call, and the bytes that came back."""
    with Connection(gateway.port) as connection:
        begin(connection, body, call_id, provider=provider, path=path, **headers)
        head = connection.read_head()
        return head, connection.read_body(head)


def begin(
    connection: Connection, body: bytes, call_id: str, *, provider: str = "openai", path: str = CHAT, **headers: str
) -> None:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    named = {"x-lectr-provider": provider, "x-request-id": call_id}
    connection.send("POST", path, {**JSON, **named, **more}.items(), body)


def used(record: Record) -> tuple[dict[str, int], str]:
    """The two counts that every answer has, and who says so."""
    counts = {name: count for name, count in record["usage"].items() if name in USED}
    return counts, record["token_source"]


# --- the project's own fixtures, played by the providers --------------------------------------------------------------


def play(case: Documented, gateway: Gateway, upstream: Provider, provider: str) -> str:
    """The whole call; the client has asked for usage, and sees every byte."""
    call_id = new_id()
    upstream.answer_with(case.answer())
    body = asking(MODEL, **ASKED if case.is_events else {})
    _, seen = talk(gateway, body, call_id, provider=provider, path=PATHS[case.dialect])
    assert seen == case.body, case
    return call_id


CASES = {name: case for name, case in DOCUMENTED.items() if case.dialect in PATHS}


def test_every_documented_answer_of_the_five_providers_is_read_as_its_vendor_means_it(
    gateway: Gateway, providers: Providers
) -> None:
    spoken = {name: case for name, case in CASES.items() if case.about["provider"] in providers}
    ids = {
        name: play(case, gateway, providers[case.about["provider"]], case.about["provider"])
        for name, case in spoken.items()
    }
    records = {name: gateway.record(call_id) for name, call_id in ids.items()}
    assert {name: read_in(record) for name, record in records.items()} == {
        name: expected_in(records[name], case.expected) for name, case in spoken.items()
    }
    assert {name: record.get("error_category") for name, record in records.items()} == {
        name: records[name].get("error_category") if case.about["status"] >= 400 else error_in_200(case)
        for name, case in spoken.items()
    }


def error_in_200(case: Documented) -> str | None:
    return "stream_error" if case.expected.get("error") else None


# --- native and stream ------------------------------------------------------------------------------------------------

NATIVE = {"openai.chat", "openai.responses", "anthropic.messages", "gemini.generate"}


def by(observe: str, providers: Providers) -> dict[str, Any]:
    """Settings by which one of the two reads; `custom` is openai under another name."""
    settings = settings_for(providers)
    custom = {"id": "custom", "base_url": providers["openai"].origin + "/v1"}
    rows = [*settings["providers"], {"id": "azure"}, custom]
    return settings | {"providers": [{**row, "observe": observe} for row in rows]}


def test_envoy_reads_the_same_model_tokens_and_cost_as_lectr_but_for_what_it_does_not_know(
    launch: Launch, providers: Providers
) -> None:
    read: dict[str, dict[str, Record]] = {}
    chosen = {name: case for name, case in CASES.items() if name in READ_BY_BOTH}
    for observe in ("native", "stream"):
        gateway = launch(by(observe, providers))
        ids = {
            (name, provider): play(case, gateway, providers["openai" if provider == "custom" else provider], provider)
            for name, case in chosen.items()
            for provider in {case.about["provider"], "custom"} & {*providers, "custom"}
            if provider != "custom" or case.dialect == "openai.chat"
        }
        read[observe] = {" as ".join(key): gateway.record(call_id) for key, call_id in ids.items()}
        by_envoy = observe if gateway.build.profile == "native" else "stream"
        assert {record["observed"] for record in read[observe].values()} == {by_envoy}

    def compared(record: Record) -> tuple[object, ...]:
        return (
            record.get("model_answered"),
            record.get("usage"),
            record["token_source"],
            record.get("cost"),
            record.get("pricing_status"),
        )

    pairs = [(name, compared(record), compared(read["stream"][name])) for name, record in read["native"].items()]
    differ = {name.partition(" ")[0] for name, native, stream in pairs if native != stream}
    assert differ == (set(LACKING) if gateway.build.profile == "native" else set())
    if gateway.build.profile == "native":
        assert [name for record in read["native"].values() for name in LACKED if name in record] == []


LACKING = {
    "anthropic.messages/advisor": "other models' work",
    "anthropic.messages/compaction": "iterations",
    "anthropic.messages/message": "one-hour cache writes, server tools",
    "anthropic.messages/stream": "server tools",
    "anthropic.messages/stream-error": "that the count in message_start is a beginning",
    "gemini.generate/blocked": "that nothing was generated",
    "gemini.generate/count-tokens": "that nothing was generated",
    "gemini.generate/embed": "that nothing was generated",
    "gemini.generate/generate": "audio, pictures",
    "gemini.generate/grounded": "searches",
    "gemini.generate/grounded-by-query": "searches",
    "openai.chat/azure-filter-in-200": "that nothing was generated",
    "openai.chat/cumulative-stream": "searches",
    "openai.chat/groq-stream": "x_groq",
    "openai.chat/groq-stream-error": "a model where there is no usage",
    "openai.chat/mistral-audio": "audio",
    "openai.chat/mistral-stream": "Mistral's other name for cached tokens",
    "openai.chat/openai": "audio",
    "openai.chat/openai-stream-unasked": "a model where there is no usage",
    "openai.chat/xai": "server tools",
    "openai.responses/openai": "the service tier",
    "openai.responses/openai-queued": "that nothing was generated",
    "openai.responses/openai-searches-as-items": "searches",
    "openai.responses/openai-stream": "searches",
    "openai.responses/openai-stream-error": "the size of the text where there is no usage",
    "openai.responses/openai-stream-failed": "a model where there is no usage",
}
"What Envoy 1.40.0 leaves out of these answers. Who lets it read them (`observe: native`) goes without."

READ_BY_BOTH = {name for name, case in CASES.items() if case.dialect in NATIVE and case.about["status"] == 200}


# --- the usage chunk --------------------------------------------------------------------------------------------------

CUTS: dict[str, Callable[[list[bytes]], Iterable[bytes]]] = {
    "event by event": lambda events: events,
    "all at once": lambda events: [b"".join(events)],
    "byte by byte": lambda events: (bytes([byte]) for byte in b"".join(events)),
    "in sevens": lambda events: sevens(b"".join(events)),
}


def sevens(stream: bytes) -> Iterator[bytes]:
    return (stream[at : at + 7] for at in range(0, len(stream), 7))


def streams_as(flavour: Flavour, cut: Callable[[list[bytes]], Iterable[bytes]]) -> Callable[[Received], Answer]:
    return lambda received: sse_answer(cut(chat_events(flavour, received)))


def without_usage_chunk(events: list[bytes]) -> bytes:
    return b"".join(event for event in events if b'"choices": []' not in event or b'"prompt_tokens"' not in event)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_a_client_that_did_not_ask_sees_its_stream_without_the_usage_chunk_and_nothing_else_is_missing(
    gateway: Gateway, providers: Providers, call_id: str, provider: Flavour, cut: str
) -> None:
    providers[provider].answer_with(streams_as(provider, CUTS[cut]))
    _, seen = talk(gateway, asking(MODEL, stream=True), call_id, provider=provider, accept_encoding="gzip")
    (received,) = providers[provider].requests
    assert received.json()["stream_options"] == {"include_usage": True}
    assert received.values("accept-encoding") == []
    sent = chat_events(provider, received)
    assert seen == without_usage_chunk(sent) != b"".join(sent)
    assert (b"prompt_filter_results" in seen) == (provider == "azure"), "Azure's first chunk has no choices either"
    assert used(gateway.record(call_id)) == (USED, "provider")


def test_a_stream_of_crlf_lines_that_is_cut_within_the_last_before_the_chunk_loses_no_byte_of_another_event(
    gateway: Gateway, providers: Providers, call_id: str
) -> None:
    gate, said, kept = Gate(), list[bytes](), list[bytes]()

    def cut(received: Received) -> Answer:
        events = [event.replace(b"\n", b"\r\n") for event in chat_events("openai", received)]
        usage = next(at for at, event in enumerate(events) if not without_usage_chunk([event]))
        said.extend(events[:usage])
        kept.append(without_usage_chunk(events))
        return sse_answer([b"".join(said)[:-1], gate, b"\n" + b"".join(events[usage:])])

    providers["openai"].answer_with(cut)
    with Connection(gateway.port) as connection:
        begin(connection, asking(MODEL, stream=True), call_id)
        chunks = connection_chunks(connection)
        seen = next(chunks)
        while seen != b"".join(said)[:-1]:
            seen += next(chunks)
        gate.open()
        seen += b"".join(chunks)
    assert [seen] == kept
    assert used(gateway.record(call_id)) == (USED, "provider")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("provider", ["openai", "azure", "groq", "gemini", "anthropic"])
def test_a_client_that_asked_sees_every_byte(
    gateway: Gateway, providers: Providers, call_id: str, provider: Flavour, cut: str
) -> None:
    providers[provider].answer_with(streams_as(provider, CUTS[cut]))
    body = asking(MODEL, **ASKED)
    _, seen = talk(gateway, body, call_id, provider=provider, accept_encoding="gzip")
    (received,) = providers[provider].requests
    assert (received.body, received.values("accept-encoding")) == (body, ["gzip"])
    assert seen == b"".join(chat_events(provider, received))
    assert used(gateway.record(call_id)) == (USED, "provider")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("provider", ["gemini", "anthropic", "groq"])
def test_a_chunk_that_holds_more_than_usage_stays(
    gateway: Gateway, providers: Providers, call_id: str, provider: Flavour, cut: str
) -> None:
    providers[provider].answer_with(streams_as(provider, CUTS[cut]))
    _, seen = talk(gateway, asking(MODEL, stream=True), call_id, provider=provider)
    (received,) = providers[provider].requests
    assert ("stream_options" in received.json()) == (provider != "groq"), "Groq tells unasked"
    assert seen == b"".join(chat_events(provider, received))
    assert used(gateway.record(call_id)) == (USED, "provider")


@once
@pytest.mark.parametrize("setting", ["keep", "never"])
def test_the_chunk_can_be_kept_or_never_asked_for(launch: Launch, providers: Providers, setting: str) -> None:
    gateway = launch(settings_for(providers) | {"telemetry": {"usage_chunk": setting}})
    call_id, body = new_id(), asking(MODEL, stream=True)
    _, seen = talk(gateway, body, call_id)
    (received,) = providers["openai"].requests
    assert seen == b"".join(chat_events("openai", received))
    assert (b'"prompt_tokens"' in seen) is (setting == "keep")
    estimate = {"input_tokens": -(-len(body) // 4), "output_tokens": -(-len(TEXT) // 4)}
    expected = (USED, "provider") if setting == "keep" else (estimate, "estimated")
    assert used(gateway.record(call_id)) == expected


@once
def test_an_old_azure_is_never_asked(launch: Launch, providers: Providers, call_id: str) -> None:
    settings = settings_for(providers)
    settings["orgs"][0]["azure"]["api_version"] = "2024-06-01"
    gateway, body = launch(settings), asking(MODEL, stream=True)
    _, seen = talk(gateway, body, call_id, provider="azure")
    (received,) = providers["azure"].requests
    assert (received.body, seen) == (body, b"".join(chat_events("azure", received)))
    assert gateway.record(call_id)["token_source"] == "estimated"


# --- encodings, lengths -----------------------------------------------------------------------------------------------


def gzip_pieces(pieces: list[bytes]) -> list[bytes]:
    """Flushed after each piece, as servers that compress streams do."""
    compressor = zlib.compressobj(wbits=31)
    return [compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH) for piece in pieces] + [compressor.flush()]


def brotli_pieces(pieces: list[bytes]) -> list[bytes]:
    compressor = brotli.Compressor()
    return [compressor.process(piece) + compressor.flush() for piece in pieces] + [compressor.finish()]


ENCODINGS = {"gzip": gzip_pieces, "br": brotli_pieces}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_compressed_stream_is_read_while_its_bytes_pass(
    gateway: Gateway, providers: Providers, call_id: str, encoding: str
) -> None:
    sent: list[bytes] = []

    def compressed(received: Received) -> Answer:
        sent.extend(ENCODINGS[encoding](chat_events("openai", received)))
        return sse_answer(sent, [("content-encoding", encoding)])

    providers["openai"].answer_with(compressed)
    head, seen = talk(gateway, asking(MODEL, **ASKED), call_id, accept_encoding=encoding)
    (received,) = providers["openai"].requests
    assert received.values("accept-encoding") == [encoding]
    assert (seen, head.values("content-encoding")) == (b"".join(sent), [encoding])
    assert used(gateway.record(call_id)) == (USED, "provider")


@pytest.mark.parametrize("encoding", ["identity", "gzip", "br"])
def test_an_answer_of_known_length_keeps_its_length_and_its_bytes(
    gateway: Gateway, providers: Providers, call_id: str, encoding: str
) -> None:
    usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS}
    plain = json.dumps({"model": MODEL, "choices": [], "usage": usage}).encode()
    body = {"identity": plain, "gzip": gzip.compress(plain), "br": brotli.compress(plain)}[encoding]
    headers = [("content-type", "application/json"), ("content-encoding", encoding)]
    providers["openai"].answer_with(Answer(headers=headers, pieces=(body,)))
    head, seen = talk(gateway, asking(), call_id, accept_encoding=encoding)
    assert (head.values("content-length"), head.values("transfer-encoding"), seen) == ([str(len(body))], [], body)
    record = gateway.record(call_id)
    assert (*used(record), record["model_answered"]) == (USED, "provider", MODEL)


def left_in(gateway: Gateway) -> int:
    count: int = gateway.healthz().json()["counts"].get("usage_chunks_left_in", 0)
    return count


def test_a_provider_that_compresses_unasked_keeps_the_usage_chunk_and_is_counted(
    gateway: Gateway, providers: Providers, call_id: str
) -> None:
    def compressed(received: Received) -> Answer:
        return sse_answer(gzip_pieces(chat_events("openai", received)), [("content-encoding", "gzip")])

    before = left_in(gateway)
    providers["openai"].answer_with(compressed)
    _, seen = talk(gateway, asking(MODEL, stream=True), call_id)
    (received,) = providers["openai"].requests
    assert gzip.decompress(seen) == b"".join(chat_events("openai", received))
    assert used(gateway.record(call_id)) == (USED, "provider")
    assert left_in(gateway) == before + 1


# --- answers that end early -------------------------------------------------------------------------------------------


def start_of(text: str) -> bytes:
    delta = {"index": 0, "delta": {"role": "assistant", "content": text}}
    return data({"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": [delta]})


def test_of_a_client_that_hangs_up_what_it_has_got_is_estimated(
    gateway: Gateway, providers: Providers, call_id: str
) -> None:
    gate, first, body = Gate(), start_of(TEXT), asking(MODEL, stream=True)
    providers["openai"].answer_with(sse_answer([first, gate, DONE]))
    with Connection(gateway.port) as connection:
        begin(connection, body, call_id)
        assert next(connection_chunks(connection)) == first
    record = gateway.record(call_id)
    sent = providers["openai"].requests[0].body
    estimate = {"input_tokens": -(-len(body) // 4), "output_tokens": -(-len(TEXT) // 4)}
    assert len(sent) > len(body)
    assert (*used(record), record["error_category"]) == (estimate, "estimated", "client_disconnect")
    assert (record["model_answered"], record["response_id"]) == ("gpt-4o-2024-08-06", "chatcmpl-1")
    assert record["pricing_status"] == "priced"


def connection_chunks(connection: Connection) -> Iterator[bytes]:
    assert connection.read_head().status == 200
    return connection.chunks()


def claude_pieces(received: Received) -> list[bytes]:
    model = answered_model(received)
    document = {
        "id": "msg_fjord",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
    }
    return [event(one) for one in message_events(document)]


def test_a_message_cut_after_its_start_keeps_the_input_that_was_counted(
    gateway: Gateway, providers: Providers, call_id: str
) -> None:
    gate = Gate()

    def cut(received: Received) -> Answer:
        pieces: list[Piece] = [*claude_pieces(received)[:4], gate, Cut.CLOSE]
        return sse_answer(pieces)

    providers["anthropic"].answer_with(cut)
    with Connection(gateway.port) as connection:
        body = asking("claude-sonnet-4-6", stream=True)
        begin(connection, body, call_id, provider="anthropic", path=CLAUDE_MESSAGES)
        chunks, seen = connection_chunks(connection), b""
        while b"text_delta" not in seen:
            seen += next(chunks)
        gate.open()
        with pytest.raises((EOFError, ConnectionError)):
            list(chunks)
    record = gateway.record(call_id)
    assert record["usage"]["input_tokens"] == INPUT_TOKENS
    assert record["usage"]["output_tokens"] == -(-len(WORDS[0]) // 4)
    assert (record["token_source"], record["error_category"]) == ("estimated", "stream_interrupted")


def test_an_error_inside_a_200_is_an_error_and_passes(gateway: Gateway, providers: Providers, call_id: str) -> None:
    def failing(received: Received) -> Answer:
        failure = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        return sse_answer([*claude_pieces(received)[:4], event(failure)])

    providers["anthropic"].answer_with(failing)
    body = asking("claude-sonnet-4-6", stream=True)
    head, seen = talk(gateway, body, call_id, provider="anthropic", path=CLAUDE_MESSAGES)
    assert (head.status, b"overloaded_error" in seen) == (200, True)
    record = gateway.record(call_id)
    said = [record[name] for name in ("status", "error_category", "error_source", "error_code")]
    assert said == [200, "stream_error", "provider", "overloaded_error"]


@once
@pytest.mark.parametrize("observe", ["native", "stream"])
def test_an_error_without_a_code_has_none_whoever_reads_the_answer(
    launch: Launch, providers: Providers, observe: str
) -> None:
    gateway = launch(by(observe, providers))
    for status, body in ((401, {"detail": "Unauthorized"}), (503, {})):
        call_id = new_id()
        providers["openai"].answer_with(json_answer(body, status=status))
        head, _ = talk(gateway, asking(MODEL), call_id)
        record = gateway.record(call_id)
        assert (head.status, record["error_source"], "error_code" in record) == (status, "provider", False)


@pytest.mark.parametrize("cut", [0, 20], ids=["between events", "within an event that can still be the usage chunk"])
def test_a_lectr_that_dies_while_it_takes_chunks_out_leaves_the_stream_whole(
    launch_apart: LaunchApart, providers: Providers, call_id: str, cut: int
) -> None:
    gateway, gate, sent = launch_apart(settings_for(providers)), Gate(), list[bytes]()

    def held(received: Received) -> Answer:
        sent.extend(chat_events("openai", received))
        return sse_answer([b"".join(sent[:3]) + sent[3][:cut], gate, sent[3][cut:], *sent[4:]])

    providers["openai"].answer_with(held)
    with Connection(gateway.port) as connection:
        begin(connection, asking(MODEL, stream=True), call_id)
        chunks = connection_chunks(connection)
        seen = b"" if cut else next(chunks)
        wait_until(lambda: gateway.stat(ASKED_TO_WAIT) == bool(cut), "a lectr that waits for the rest of an event")
        gateway.process.kill()
        gateway.process.wait()
        failed = r"http\.lectr\.ext_proc\.streams_failed"
        wait_until(lambda: gateway.stat(failed) >= 1, "an Envoy that has seen it")
        gate.open()
        seen += b"".join(chunks)
    assert seen in {b"".join(sent), without_usage_chunk(sent)}


def test_a_provider_that_pauses_within_an_event_for_longer_than_lectr_may_take_breaks_nothing(
    launch_apart: LaunchApart, providers: Providers, call_id: str
) -> None:
    settings, patience_s = settings_for(providers), 1.0
    gateway = launch_apart({**settings, "envoy": {**settings.get("envoy", {}), "message_timeout_s": patience_s}})
    gate, sent = Gate(), list[bytes]()

    def paused(received: Received) -> Answer:
        sent.extend(chat_events("openai", received))
        return sse_answer([*sent[:3], sent[3][:20], gate, sent[3][20:], *sent[4:]])

    providers["openai"].answer_with(paused)
    with Connection(gateway.port) as connection:
        begin(connection, asking(MODEL, stream=True), call_id)
        chunks = connection_chunks(connection)
        wait_until(lambda: gateway.stat(ASKED_TO_WAIT) == 1, "a lectr that waits for the rest of an event")
        until = time.monotonic() + 2 * patience_s
        wait_until(lambda: time.monotonic() > until, "a pause of the provider's")
        gate.open()
        seen = b"".join(chunks)
    assert seen == without_usage_chunk(sent)
    assert used(gateway.record(call_id)) == (USED, "provider")


# --- cost -------------------------------------------------------------------------------------------------------------

PRICED: dict[str, tuple[str, str, bytes]] = {
    "a chat": ("openai", CHAT, asking("gpt-4o")),
    "a chat that streams": ("openai", CHAT, asking("gpt-4o", stream=True)),
    "a response": ("openai", "/v1/responses", asking("gpt-4o-mini")),
    "a message": ("anthropic", CLAUDE_MESSAGES, asking("claude-sonnet-4-6", stream=True)),
    "Gemini": ("gemini", CHAT, asking("gemini-2.5-flash")),
    "Groq": ("groq", CHAT, asking("llama-3.3-70b-versatile", stream=True)),
    "Azure": ("azure", CHAT, asking("gpt-4o")),
}


@once
@pytest.mark.parametrize("name", PRICED)
def test_a_call_costs_what_lectr_price_says(gateway: Gateway, providers: Providers, call_id: str, name: str) -> None:
    provider, path, body = PRICED[name]
    talk(gateway, body, call_id, provider=provider, path=path)
    record = gateway.record(call_id)
    usage = record["usage"]
    counts = {"--input": "input_tokens", "--output": "output_tokens", "--cached": "cache_read_tokens"}
    options = [part for option, count in counts.items() if count in usage for part in (option, str(usage[count]))]
    asked = ["price", "--json", "--provider", provider, "--model", record["model_answered"], *options]
    price = json.loads(gateway.ask(*asked))
    assert (float(record["cost"]), record["pricing_status"]) == (float(price["usd"]), price["status"])
    assert float(record["cost"]) > 0
