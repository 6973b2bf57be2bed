"""The ext_proc servicer, as Envoy meets it: over real gRPC on a Unix socket."""

import asyncio
import contextlib
import gc
import gzip
import json
import logging
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis

from lectr_extproc.core.facts import Facts
from lectr_extproc.core.words import LONGEST_EVENT_S
from lectr_extproc.edge import ext_proc
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.logs import JsonLines
from lectr_extproc.pb import ext_proc_pb2 as ext
from tests.core import finished
from tests.edge.given import (
    CLIENT_KEY,
    KEY,
    body,
    core_headers,
    form,
    headers,
    live,
    process,
    said,
    serving,
    set_headers,
    settings,
)
from tests.edge.hostile import like, unharmed

MIB = 1024 * 1024
NO_KEY = headers("gpt-4o", ("x-lectr-key", ""))


async def reply_to(call: Any, message: ext.ProcessingRequest) -> ext.ProcessingResponse:
    await call.write(message)
    reply = await call.read()
    assert isinstance(reply, ext.ProcessingResponse), await call.code()
    return reply


async def has_ended(call: Any) -> bool:
    """The server ended the stream well, while our side of it is still open."""
    return await call.read() is grpc.aio.EOF and await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("message", "kind"), [(headers(), "request_headers"), (NO_KEY, "immediate_response")], ids=["routed", "refused"]
)
async def test_a_call_is_one_message_and_one_reply_and_the_stream_ends(
    tmp_path: Path, message: ext.ProcessingRequest, kind: str
) -> None:
    shared = live(tmp_path)
    async with serving(shared) as channel:
        call = process(channel)
        reply = await reply_to(call, message)
        assert reply.WhichOneof("response") == kind
        assert await has_ended(call)
    assert shared.counts == {"decisions": 1}


async def test_each_call_gets_an_id_of_its_own_that_the_client_does_not_choose(tmp_path: Path) -> None:
    message = headers("gpt-4o", ("x-request-id", "mine"))
    async with serving(live(tmp_path)) as channel:
        ids = {said(await reply_to(process(channel), message))["call_id"] for _ in range(20)}
    assert len(ids) == 20
    assert all(len(id_) == 32 and int(id_, 16) >= 0 for id_ in ids)


def test_ids_of_calls_are_in_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [1, 999_999, 1_000_000, 2**40, 2**63 - 1]
    ticks = iter(times)
    monkeypatch.setattr(time, "time_ns", lambda: next(ticks))
    ids = [ext_proc.new_call_id() for _ in times]
    assert [int(id_[:12], 16) for id_ in ids] == [0, 0, 1, 2**40 // 10**6, (2**63 - 1) // 10**6]
    assert sorted(ids[1:]) == ids[1:]


async def test_a_call_that_needs_its_body_is_decided_on_the_body_alone(tmp_path: Path) -> None:
    shared = live(tmp_path)
    async with serving(shared) as channel:
        call = process(channel)
        asked = await reply_to(call, form())
        assert [field.name for field, _ in asked.ListFields()] == ["request_headers", "mode_override"]
        assert not asked.request_headers.HasField("response")
        reply = await reply_to(call, body(b'{"model": "openai/gpt-4o", "messages": []}'))
        assert await has_ended(call)
    common = reply.request_body.response
    assert json.loads(common.body_mutation.body) == {"model": "gpt-4o", "messages": []}
    assert set_headers(reply)["content-length"] == str(len(common.body_mutation.body))
    assert set_headers(reply)["authorization"] == f"Bearer {CLIENT_KEY}"
    assert {"x-lectr-key"} <= set(common.header_mutation.remove_headers)
    assert (said(reply)["routed"], said(reply)["sent"]) == ("1", "gpt-4o")
    assert common.clear_route_cache
    assert shared.counts == {"bodies_asked_for": 1, "decisions": 1}


async def test_a_body_whose_address_left_while_it_was_on_its_way_is_decided_anew(tmp_path: Path) -> None:
    shared = live(tmp_path)
    async with serving(shared) as channel:
        call = process(channel)
        await reply_to(call, form())
        moved = [{"id": "openai", "base_url": "https://moved.example/v1"}]
        shared.settings = live(tmp_path, providers=moved).settings
        assert said(await reply_to(call, body(b'{"model": "gpt-4o"}')))["host"] == "moved.example"


async def test_a_body_that_need_not_change_is_left_to_envoy(tmp_path: Path) -> None:
    async with serving(live(tmp_path)) as channel:
        call = process(channel)
        await reply_to(call, form())
        reply = await reply_to(call, body(b'{"model": "gpt-4o"}'))
    assert not reply.request_body.response.HasField("body_mutation")
    assert "content-length" not in set_headers(reply)


@pytest.mark.parametrize(
    "content", [b"", b"model=gpt-4o", b"\xff\xfe", b"[" * 100_000], ids=["empty", "a form", "bytes", "deep"]
)
async def test_a_body_that_is_no_json_is_routed_all_the_same(tmp_path: Path, content: bytes) -> None:
    async with serving(live(tmp_path)) as channel:
        call = process(channel)
        await reply_to(call, form())
        reply = await reply_to(call, body(content))
        assert await has_ended(call)
    assert said(reply)["routed"] == "1"
    assert not reply.request_body.response.HasField("body_mutation")


async def test_a_message_of_a_newer_envoy_is_passed_over(tmp_path: Path) -> None:
    async with serving(live(tmp_path)) as channel:
        call = process(channel)
        await call.write(ext.ProcessingRequest.FromString(b"\x6a\x00"))
        assert said(await reply_to(call, headers()))["routed"] == "1"
        assert await has_ended(call)


async def test_what_comes_before_the_headers_passes_unchanged(tmp_path: Path) -> None:
    shared = live(tmp_path)
    async with serving(shared) as channel:
        call = process(channel)
        first = await reply_to(call, body(b'{"model": "gpt-4o"}'))
        assert first == ext.ProcessingResponse(request_body=ext.BodyResponse())
        second = await reply_to(call, ext.ProcessingRequest(response_headers=ext.HttpHeaders()))
        assert second == ext.ProcessingResponse(response_headers=ext.HeadersResponse())
        assert said(await reply_to(call, headers()))["routed"] == "1"
        assert await has_ended(call)
    assert shared.counts == {"decisions": 1}


@pytest.mark.parametrize("sent", [[], [form()]], ids=["at once", "after asking for the body"])
async def test_a_stream_that_envoy_half_closes_ends_well(tmp_path: Path, sent: list[ext.ProcessingRequest]) -> None:
    shared = live(tmp_path)
    async with serving(shared) as channel:
        call = process(channel)
        for message in sent:
            await reply_to(call, message)
        await call.done_writing()
        assert await call.read() == ext.ProcessingResponse(), "which nobody reads"
        assert await has_ended(call)
    assert shared.counts["decisions"] == shared.counts["decisions_failed"] == 0


async def test_a_client_that_gives_up_while_its_body_is_awaited_is_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = live(tmp_path)
    async with serving(shared) as channel:
        for _ in range(5):
            call = process(channel)
            await reply_to(call, form())
            call.cancel()
            assert await call.code() is grpc.StatusCode.CANCELLED
        assert said(await reply_to(process(channel), headers()))["routed"] == "1"
    assert shared.counts == {"bodies_asked_for": 5, "decisions": 1}
    assert not caplog.records


async def test_an_envoy_that_leaves_before_a_reply_is_written_is_no_failure(tmp_path: Path) -> None:
    class Left:
        async def read(self) -> bytes:
            return form().SerializeToString()

        def invocation_metadata(self) -> None:
            return None

        async def write(self, _: bytes) -> None:
            raise grpc.aio.InternalError

    shared = live(tmp_path)
    with pytest.raises(grpc.aio.InternalError):
        await ext_proc.ExtProc(shared).process(None, Left())
    assert shared.counts == {"bodies_asked_for": 1}


async def test_a_body_above_grpcs_own_limit_is_decided(tmp_path: Path) -> None:
    content = b'{"model": "openai/gpt-4o", "pad": "' + b"x" * 5 * MIB + b'"}'
    shared = live(tmp_path, limits={"request_body_bytes": 6 * MIB, "inspect_body_bytes": 6 * MIB})
    async with serving(shared) as channel:
        call = process(channel)
        await reply_to(call, form(len(content)))
        reply = await reply_to(call, body(content))
    assert json.loads(reply.request_body.response.body_mutation.body)["model"] == "gpt-4o"
    assert set_headers(reply)["content-length"] == str(len(content) - len(b"openai/"))


async def test_a_message_above_our_limit_ends_its_stream_and_no_other(tmp_path: Path) -> None:
    async with serving(live(tmp_path, limits={"request_body_bytes": MIB})) as channel:
        call, other = process(channel), process(channel)
        await reply_to(call, form())
        await reply_to(other, form())
        await call.write(body(b"x" * 2 * MIB))
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert said(await reply_to(other, body(b'{"model": "gpt-4o"}')))["routed"] == "1"


async def test_a_failing_decision_ends_in_an_error_that_is_counted_and_tells_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def decide(facts: object, *_: object) -> None:
        raise ValueError(f"{KEY} {CLIENT_KEY} {facts}")

    monkeypatch.setattr(ext_proc, "decide", decide)
    shared = live(tmp_path)
    async with serving(shared) as channel:
        call = process(channel)
        await call.write(headers())
        assert (await call.code(), await call.details()) == (grpc.StatusCode.INTERNAL, "decision failed")
        monkeypatch.undo()
        assert said(await reply_to(process(channel), headers()))["routed"] == "1"
    assert shared.counts == {"decisions_failed": 1, "decisions": 1}
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    line = JsonLines().format(record)
    assert (json.loads(line)["event"], json.loads(line)["error"]) == ("a decision failed", "ValueError")
    assert KEY not in line
    assert CLIENT_KEY not in line


async def test_settings_that_change_in_the_middle_of_a_call_are_the_next_calls(tmp_path: Path) -> None:
    shared: Live = live(tmp_path)
    async with serving(shared) as channel:
        call = process(channel)
        await reply_to(call, form())
        shared.settings = settings(orgs=[])
        assert said(await reply_to(call, body(b'{"model": "gpt-4o"}')))["org"] == "acme"
        assert said(await reply_to(process(channel), headers()))["refused"] == "invalid_lectr_key"


async def test_the_first_call_that_chooses_a_half_open_model_is_the_one_that_tries_it(tmp_path: Path) -> None:
    stays = [{"id": "openai", "models": ["gpt-4.1-mini"]}]
    shared = live(tmp_path, providers=stays)
    failed = finished.call(
        model_sent="gpt-4.1-mini", host="api.openai.com", error_category="overloaded", error_source="provider"
    )
    shared.vitals.heed([failed] * 3, shared.snapshot)  # long ago
    (target, due_s), *_ = dict(shared.vitals.health.sick).items()
    economy = body(b'{"model": "economy"}')

    async def choose(*models: str) -> None:
        async with serving(shared) as channel:
            for model in models:
                call = process(channel)
                await reply_to(call, headers(model))
                if model == "economy":
                    assert said(await reply_to(call, economy))["sent"] == "gpt-4.1-mini"

    await choose("gpt-4.1-mini")
    assert shared.vitals.health.sick[target] == due_s, "pinned calls try nothing"
    await choose("economy")
    assert shared.vitals.health.sick[target] > due_s


async def test_a_hundred_calls_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    async def one(channel: grpc.aio.Channel, n: int) -> str:
        return said(await reply_to(process(channel), headers(f"gpt-{n}")))["requested"]

    async with serving(live(tmp_path)) as channel:
        answers = await asyncio.gather(*(one(channel, n) for n in range(100)))
    assert answers == [f"gpt-{n}" for n in range(100)]


# --- answers that lectr reads -----------------------------------------------------------------------------------------

SSE = [(":status", "200"), ("content-type", "text/event-stream")]
SAID = b'data: {"id":"c1","model":"gpt-4o-1","choices":[{"index":0,"delta":{"content":"Envoy"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":21,"completion_tokens":8,"total_tokens":29}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = b'{"model":"gpt-4o","stream":true}'
UNCHANGED = ext.BodyResponse()


def reading(tmp_path: Path) -> Live:
    return live(tmp_path, providers=[{"id": "openai", "observe": "stream"}])


def stream() -> ext.ProcessingRequest:
    """The headers of a call that streams and did not ask for usage."""
    message = headers()
    message.metadata_context.filter_metadata["lectr.request"].update({"stream": True})
    return message


def answered(*pairs: tuple[str, str], ends: bool = False) -> ext.ProcessingRequest:
    head = ext.HttpHeaders(headers=core_headers([*pairs]), end_of_stream=ends)
    return ext.ProcessingRequest(response_headers=head)


def chunk(content: bytes, *, ends: bool = False) -> ext.ProcessingRequest:
    return ext.ProcessingRequest(response_body=ext.HttpBody(body=content, end_of_stream=ends))


def told(reply: ext.ProcessingResponse) -> dict[str, object]:
    """What the reply asks Envoy to remember about the answer."""
    usage: dict[str, object] = json_format.MessageToDict(reply.dynamic_metadata).get("lectr.usage", {})
    return usage


def modes(reply: ext.ProcessingResponse) -> dict[str, str]:
    return json_format.MessageToDict(reply.mode_override, preserving_proto_field_name=True)


async def test_while_an_answer_is_read_nothing_is_held_of_what_its_call_was_decided_by(tmp_path: Path) -> None:
    async with serving(reading(tmp_path)) as channel:
        call = process(channel)
        asked = headers("gpt-4o", ("x-lectr-feature", "of this call alone"))
        asked.metadata_context.filter_metadata["lectr.request"].update({"stream": True})
        await reply_to(call, asked)

        def held() -> list[str | None]:
            every = [each for each in gc.get_objects() if type(each) is Facts]
            return [facts.model for facts in every if facts.feature == "of this call alone"]

        assert held() == ["gpt-4o"], "its body is waited for"
        await reply_to(call, body(STREAM))
        await reply_to(call, answered(*SSE))
        await reply_to(call, chunk(SAID))
        assert held() == []


async def test_a_stream_is_read_message_by_message_and_its_usage_chunk_taken_out(tmp_path: Path) -> None:
    shared = reading(tmp_path)
    async with serving(shared) as channel:
        call = process(channel)
        asked = modes(await reply_to(call, stream()))
        assert (asked["request_body_mode"], asked["response_header_mode"]) == ("BUFFERED", "SEND")
        assert "response_body_mode" not in asked, "asked for now, it would cost a fixed-length answer its length"
        routed = await reply_to(call, body(STREAM))
        assert said(routed)["asked"] == "1"
        assert not routed.HasField("mode_override"), "Envoy heeds none in the reply to a body"

        head = await reply_to(call, answered(*SSE))
        assert head.WhichOneof("response") == "response_headers"
        assert not head.response_headers.HasField("response")
        assert modes(head)["response_body_mode"] == "STREAMED"

        first = await reply_to(call, chunk(SAID))
        assert (first.response_body, told(first)["out"]) == (UNCHANGED, 5)
        removed = await reply_to(call, chunk(USAGE))
        assert removed.response_body.response.body_mutation.clear_body
        assert (told(removed)["input_tokens"], told(removed)["output_tokens"]) == (21, 8)
        assert "model" not in told(removed), "said once: Envoy merges key by key"
        partly = await reply_to(call, chunk(SAID + USAGE))
        assert partly.response_body.response.body_mutation.body == SAID
        done = await reply_to(call, chunk(DONE))
        assert (done.response_body, told(done)) == (UNCHANGED, {"complete": "1"})
        last = await reply_to(call, chunk(b"", ends=True))
        assert (last.response_body, told(last)) == (UNCHANGED, {})
        assert await has_ended(call)
    assert shared.counts == {"bodies_asked_for": 1, "decisions": 1, "usage_chunks_left_in": 0}


async def test_an_incomplete_event_waits_in_envoy_and_not_here(tmp_path: Path) -> None:
    async with serving(reading(tmp_path)) as channel:
        call = process(channel)
        await reply_to(call, stream())
        await reply_to(call, body(STREAM))
        await reply_to(call, answered(*SSE))
        waiting = await reply_to(call, chunk(b'data: {"choices": ['))
        assert (waiting.WhichOneof("response"), waiting.override_message_timeout.seconds) == (None, LONGEST_EVENT_S)
        first = await reply_to(call, chunk(b"", ends=True))
        assert (first.response_body, (await call.read()).response_body) == (UNCHANGED, UNCHANGED)
        assert await has_ended(call)


async def test_a_plain_answer_is_read_after_its_headers_and_never_changed(tmp_path: Path) -> None:
    async with serving(reading(tmp_path)) as channel:
        call = process(channel)
        routed = await reply_to(call, headers())
        assert modes(routed)["response_header_mode"] == "SEND"
        assert "response_body_mode" not in modes(routed)
        document = b'{"model":"gpt-4o-1","usage":{"prompt_tokens":21,"completion_tokens":8}}'
        length = ("content-length", str(len(document)))
        await reply_to(call, answered((":status", "200"), ("content-type", "application/json"), length))
        half = await reply_to(call, chunk(document[:30]))
        rest = await reply_to(call, chunk(document[30:]))  # with its length known, the client may now be gone
        assert told(await reply_to(call, chunk(b"", ends=True))) == {}
        assert (half.response_body, rest.response_body) == (UNCHANGED, UNCHANGED)
        assert told(half) == {}
        assert (told(rest)["model"], told(rest)["input_tokens"], told(rest)["complete"]) == ("gpt-4o-1", 21, "1")
        assert await has_ended(call)


async def test_a_compressed_stream_keeps_the_chunk_that_was_asked_for_and_is_counted(tmp_path: Path) -> None:
    shared = reading(tmp_path)
    async with serving(shared) as channel:
        call = process(channel)
        await reply_to(call, stream())
        await reply_to(call, body(STREAM))
        await reply_to(call, answered(*SSE, ("content-encoding", "gzip")))
        reply = await reply_to(call, chunk(gzip.compress(SAID + USAGE + DONE), ends=True))
        assert (reply.response_body, told(reply)["output_tokens"]) == (UNCHANGED, 8)
    assert shared.counts["usage_chunks_left_in"] == 1


@pytest.mark.parametrize(
    "message", [answered(*SSE, ends=True), answered(("content-type", "text/plain"))], ids=["no body", "no status"]
)
async def test_an_answer_with_nothing_to_read_ends_the_stream(tmp_path: Path, message: ext.ProcessingRequest) -> None:
    async with serving(reading(tmp_path)) as channel:
        call = process(channel)
        await reply_to(call, headers())
        assert await reply_to(call, message) == ext.ProcessingResponse(response_headers=ext.HeadersResponse())
        assert await has_ended(call)


async def test_a_client_that_hangs_up_in_the_middle_of_its_answer_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = reading(tmp_path)
    async with serving(shared) as channel:
        call = process(channel)
        await reply_to(call, headers())
        await reply_to(call, answered(*SSE))
        assert told(await reply_to(call, chunk(SAID)))["out"] == 5
        call.cancel()
        assert said(await reply_to(process(channel), headers()))["routed"] == "1"
    assert shared.counts == {"decisions": 2, "usage_chunks_left_in": 0}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_reading_that_fails_ends_its_stream_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch_answer(*_: object) -> None:
        raise ValueError(CLIENT_KEY)

    monkeypatch.setattr(ext_proc, "watch_answer", watch_answer)
    shared = reading(tmp_path)
    async with serving(shared) as channel:
        call = process(channel)
        await reply_to(call, headers())
        await call.write(answered(*SSE))
        assert (await call.code(), await call.details()) == (grpc.StatusCode.INTERNAL, "reading failed")
    assert shared.counts == {"decisions": 1, "readings_failed": 1}


# --- whatever the messages --------------------------------------------------------------------------------------------

WRITTEN = like(
    headers(),
    NO_KEY,
    stream(),
    form(),
    body(b'{"model": "openai/gpt-4o", "stream": true}'),
    answered(*SSE),
    answered(*SSE, ("content-length", "9" * 5000)),
    answered((":status", "²"), ("content-encoding", "gzip")),
    chunk(SAID + USAGE[:9]),
    chunk(USAGE[9:]),
    chunk(DONE, ends=True),
)


def test_whatever_the_messages_and_their_order_a_stream_ends_well_and_the_next_call_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = reading(tmp_path)
    with unharmed(shared, caplog) as lectr:

        @settings_of_hypothesis(max_examples=40)
        @given(WRITTEN)
        def talk(messages: list[bytes]) -> None:
            async def both(channel: grpc.aio.Channel) -> None:
                call = process(channel, messages)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    assert len([reply async for reply in call if reply.ByteSize()]) <= len(messages)
                ended = await call.code(), await call.details()
                # The last is the client's own word for a message that it could not send: the stream was over already.
                assert ended in (
                    (grpc.StatusCode.OK, ""),
                    (grpc.StatusCode.INVALID_ARGUMENT, "no message of ext_proc"),
                    (grpc.StatusCode.INTERNAL, "Internal error from Core"),
                )
                good = process(channel)
                assert said(await reply_to(good, headers()))["routed"] == "1"
                await good.done_writing()
                assert await good.read() == ext.ProcessingResponse(), "which nobody reads"
                assert await has_ended(good)

            lectr(both)

        talk()
    assert [name for name in shared.counts if name.endswith("_failed")] == []


async def test_what_is_no_message_ends_its_stream_alone_and_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = live(tmp_path)
    async with serving(shared) as channel:
        call = process(channel, [b"\xff\xff"])
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert said(await reply_to(process(channel), headers()))["routed"] == "1"
    assert shared.counts == {"messages_unreadable": 1, "decisions": 1}
    assert [(record.getMessage(), record.exc_info) for record in caplog.records] == [
        ("a message could not be read", None)
    ]
