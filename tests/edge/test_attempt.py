"""Attempts as Envoy asks for them: over real gRPC, from a stream of their own that knows nothing of the decision's."""

import json
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lectr_extproc.edge.live import Live
from lectr_extproc.pb import ext_proc_pb2 as ext
from tests.edge.given import CLIENT_KEY, body, core_headers, headers, live, process, said, serving, set_headers
from tests.edge.test_ext_proc import has_ended, reply_to

SENT = json.dumps({"model": "gpt-4o", "fallback": ["gpt-4.1", "my-model"], "stream": True, "messages": []}).encode()
PARTS = ("lectr", "lectr.route", "lectr.attempt")


def falling(directory: Path) -> Live:
    return live(directory, providers=[{"id": "openai", "base_url": "https://o.example", "observe": "stream"}])


class Call:
    """What Envoy keeps of a call: its headers, its body and its metadata."""

    def __init__(self, decided: ext.ProcessingResponse) -> None:
        self.body = decided.request_body.response.body_mutation.body
        self.headers = {":path": "/v1/chat/completions", ":method": "POST", "content-type": "application/json"}
        self.metadata = ext.ProcessingRequest().metadata_context
        self.number = 0
        self.takes(decided)

    def takes(self, reply: ext.ProcessingResponse) -> None:
        """The headers and metadata of a reply."""
        common = (reply.request_body if reply.HasField("request_body") else reply.response_headers).response
        if reply.HasField("request_body"):
            self.headers |= set_headers(reply)
            for name in common.header_mutation.remove_headers:
                self.headers.pop(name, None)
        for part in PARTS:
            if part in reply.dynamic_metadata.fields:
                told = reply.dynamic_metadata.fields[part].struct_value
                self.metadata.filter_metadata[part].MergeFrom(told)

    def attempt(self, cluster: str | None = None) -> list[ext.ProcessingRequest]:
        """The two messages of the next attempt."""
        groups: Any = self.metadata.filter_metadata["lectr.route"]["priority_groups"]
        name = groups[self.number]["clusters"][0]["cluster_name"]
        self.number += 1
        first = ext.ProcessingRequest(request_headers=ext.HttpHeaders(headers=core_headers(list(self.headers.items()))))
        first.attributes["envoy.filters.http.ext_proc"].update(
            {"xds.cluster_name": cluster or name, "upstream.request_attempt_count": self.number}
        )
        second = body(self.body)
        for message in (first, second):
            message.metadata_context.CopyFrom(self.metadata)
        return [first, second]


def answered(status: int, **more: str) -> ext.ProcessingRequest:
    pairs = [(":status", str(status)), *((k.replace("_", "-"), v) for k, v in more.items())]
    return ext.ProcessingRequest(response_headers=ext.HttpHeaders(headers=core_headers(pairs)))


def document(content: bytes) -> ext.ProcessingRequest:
    return ext.ProcessingRequest(response_body=ext.HttpBody(body=content, end_of_stream=True))


async def decided(channel: grpc.aio.Channel) -> tuple[Any, Call]:
    """The decision's own stream, which stays open until the answer begins, and what Envoy holds then."""
    asked = headers("gpt-4o", ("x-lectr-fallback", "of the body"))
    stream = process(channel)
    await reply_to(stream, asked)
    return stream, Call(await reply_to(stream, body(SENT)))


async def sent(channel: grpc.aio.Channel, call: Call, cluster: str | None = None) -> tuple[Any, ext.ProcessingResponse]:
    first, second = call.attempt(cluster)
    stream = process(channel)
    shown = await reply_to(stream, first)
    assert [field.name for field, _ in shown.ListFields()] == ["request_headers"]
    made = await reply_to(stream, second)
    call.takes(made)
    return stream, made


async def test_each_attempt_is_made_of_what_envoy_holds_and_tells_who_is_asked(tmp_path: Path) -> None:
    shared = falling(tmp_path)
    async with serving(shared) as channel:
        _, call = await decided(channel)
        assert CLIENT_KEY not in str(call.headers) + str(call.metadata)
        for number, model in enumerate(("gpt-4o", "gpt-4.1", "my-model"), 1):
            stream, made = await sent(channel, call)
            sets = set_headers(made)
            assert (sets[":authority"], sets["authorization"]) == ("o.example", f"Bearer {CLIENT_KEY}")
            assert sets["x-lectr-rewritten"] == "1"
            wanted = {"model": model, "stream": True, "messages": []}
            written = json.loads(made.request_body.response.body_mutation.body)
            assert {name: written[name] for name in wanted} == wanted
            assert "fallback" not in written
            assert said(made)["sent"] == model
            verdict = await reply_to(stream, answered(503))
            call.takes(verdict)
            assert await has_ended(stream)
            assert len(json.loads(said(verdict)["tries"])) == number
    assert shared.counts == {"bodies_asked_for": 1, "decisions": 1, "attempts": 3}


async def test_an_attempt_whose_answer_envoy_does_not_show_is_over_when_it_is_ready(tmp_path: Path) -> None:
    async with serving(falling(tmp_path)) as channel:
        _, call = await decided(channel)
        stream, made = await sent(channel, call, "lectr_attempts")
        assert set_headers(made)["x-lectr-cluster"].startswith("openai-")
        assert await has_ended(stream)


async def test_an_error_is_looked_into_and_declared(tmp_path: Path) -> None:
    async with serving(falling(tmp_path)) as channel:
        _, call = await decided(channel)
        stream, _ = await sent(channel, call)
        shown = await reply_to(stream, answered(400, content_length="99"))
        assert shown.mode_override.response_body_mode == ext.ProcessingMode.BUFFERED
        verdict = await reply_to(stream, document(b'{"error": {"code": "context_length_exceeded"}}'))
        assert await has_ended(stream)
    mutation = verdict.response_body.response.header_mutation
    assert [(h.header.key, h.header.raw_value) for h in mutation.set_headers] == [("x-lectr-retry", b"1")]
    told: Any = verdict.dynamic_metadata
    order = told["lectr.route"]["priority_groups"]  # no window of my-model is known: it may do
    assert [group["name"] for group in order] == ["0", "2", "1"]
    assert json.loads(said(verdict)["tries"])[0][4:] == [400, "context", None]


async def test_where_all_have_refused_for_now_the_soonest_return_is_told(tmp_path: Path) -> None:
    async with serving(falling(tmp_path)) as channel:
        _, call = await decided(channel)
        for wait in ("3", "9", "7"):
            stream, _ = await sent(channel, call)
            call.takes(verdict := await reply_to(stream, answered(429, retry_after=wait)))
    mutation = verdict.response_headers.response.header_mutation
    assert [(h.header.key, h.header.raw_value) for h in mutation.set_headers] == [("retry-after", b"3")]
    assert "retry-after-ms" in mutation.remove_headers, "which SDKs would believe first"


async def test_the_answer_is_read_as_that_of_who_gave_it(tmp_path: Path) -> None:
    async with serving(falling(tmp_path)) as channel:
        reading, call = await decided(channel)
        await sent(channel, call)
        stream, _ = await sent(channel, call)
        verdict = await reply_to(stream, answered(200, x_lectr_retry="1"))
        mutation = verdict.response_headers.response.header_mutation
        assert (list(mutation.remove_headers), list(mutation.set_headers)) == (["x-lectr-retry"], [])
        head = answered(200, content_type="text/event-stream")
        head.metadata_context.CopyFrom(call.metadata)
        watched = await reply_to(reading, head)
        assert watched.mode_override.response_body_mode == ext.ProcessingMode.STREAMED


async def test_what_was_decided_on_and_has_left_does_not_leave(tmp_path: Path) -> None:
    shared = falling(tmp_path)
    async with serving(shared) as channel:
        _, call = await decided(channel)
        shared.settings = live(tmp_path, providers=[{"id": "openai", "base_url": "https://moved.example"}]).settings
        first, second = call.attempt()
        stream = process(channel)
        await reply_to(stream, first)
        await stream.write(second)
        with pytest.raises(grpc.aio.AioRpcError, match="has left"):
            await stream.read()
    assert shared.counts["attempts_without_address"] == 1


@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_an_attempt_that_envoy_gives_up_ends_its_stream(tmp_path: Path, after: int) -> None:
    shared = falling(tmp_path)
    async with serving(shared) as channel:
        _, call = await decided(channel)
        messages = [*call.attempt(), answered(400, content_length="99")][:after]
        stream = process(channel)
        for message in messages:
            await reply_to(stream, message)
        await stream.done_writing()
        while await stream.read() is not grpc.aio.EOF:
            pass
        assert await stream.code() is grpc.StatusCode.OK
    assert [name for name in shared.counts if "failed" in name] == []
