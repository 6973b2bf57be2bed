"""The access-log servicer: batches from several Envoys, and a server that stops while they come."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from hypothesis import given, settings

from lectr_extproc.core.ledger import row_of
from lectr_extproc.core.record import Attempt, CallRecord, record_from
from lectr_extproc.edge import access_log, server, wire_log
from lectr_extproc.edge.logs import JsonLines, without_keys
from lectr_extproc.edge.server import GrpcServer
from lectr_extproc.pb import access_log_pb2 as als
from tests.edge.given import KEY, Records, access_logs, batch, channel_to, entry, live, serving
from tests.edge.hostile import like, unharmed


async def send(call: Any, *ids: str, first: bool = False) -> None:
    await call.write(batch(*map(entry, ids), first=first).SerializeToString())


async def test_batches_become_records_in_order(tmp_path: Path) -> None:
    shared, records = live(tmp_path), Records()
    async with serving(shared, records) as channel:
        call = access_logs(channel)
        await send(call, "a", "b", first=True)
        await send(call, "c")
        assert [await records.get(), await records.get()] == [["a", "b"], ["c"]]
        await call.done_writing()
        assert await call == als.StreamAccessLogsResponse()
    assert shared.counts == {"calls_recorded": 3}


async def test_several_envoys_are_read_at_once_and_one_that_breaks_off_disturbs_no_other(tmp_path: Path) -> None:
    records = Records()
    async with serving(live(tmp_path), records) as channel:
        calls = [access_logs(channel) for _ in range(4)]
        for i, call in enumerate(calls):
            await send(call, f"{i}", first=True)
        assert sorted([await records.get() for _ in calls]) == [["0"], ["1"], ["2"], ["3"]]
        calls[0].cancel()
        for call in calls[1:]:
            await send(call, "more")
            assert await records.get() == ["more"]
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK


async def test_entries_about_attempts_make_no_record(tmp_path: Path) -> None:
    shared, records = live(tmp_path), Records()
    async with serving(shared, records) as channel:
        call = access_logs(channel)
        attempt = entry("", access_log_type=als.UpstreamEnd)
        await call.write(batch(attempt, entry("call"), first=True).SerializeToString())
        assert await records.get() == ["call"]
        await call.done_writing()
        await call
    assert shared.counts == {"calls_recorded": 1}


async def test_attempts_that_failed_are_handed_on_beside_the_calls_of_their_batch(tmp_path: Path) -> None:
    taken: asyncio.Queue[tuple[int, list[str]]] = asyncio.Queue()

    def sink(calls: Sequence[CallRecord], attempts: Sequence[Attempt]) -> None:
        taken.put_nowait((len(calls), [attempt.request_id for attempt in attempts]))

    async with serving(live(tmp_path), sink) as channel:
        call = access_logs(channel)
        well, failed = (entry("", access_log_type=als.UpstreamEnd) for _ in range(2))
        well.response.response_code.value, failed.request.request_id = 200, b"r"
        await call.write(batch(well, entry("call"), failed, first=True).SerializeToString())
        assert await taken.get() == (1, ["r"])
        await call.done_writing()
        await call


async def test_a_batch_that_cannot_be_read_costs_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shared, records = live(tmp_path), Records()
    async with serving(shared, records) as channel:
        call = access_logs(channel)
        await call.write(b"\xff\xff\xff")
        await send(call, "next")
        assert await records.get() == ["next"]
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
    assert shared.counts == {"batches_failed": 1, "calls_recorded": 1}
    assert [record.getMessage() for record in caplog.records] == ["a batch of access-log entries could not be read"]


async def test_a_sink_that_fails_costs_its_batch_alone_and_tells_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = Records()

    def sink(batch: Sequence[CallRecord], _: Sequence[Attempt]) -> None:
        if batch[0].call_id == "bad":
            raise OSError(f"disk full at {KEY}")
        records(batch, [])

    shared = live(tmp_path)
    async with serving(shared, sink) as channel:
        call = access_logs(channel)
        await send(call, "bad")
        await send(call, "good")
        assert await records.get() == ["good"]
        await call.done_writing()
        await call
    assert shared.counts == {"batches_failed": 1, "calls_recorded": 1}
    line = JsonLines().format(caplog.records[0])
    assert json.loads(line)["error"] == "OSError"
    assert KEY not in line


async def test_an_entry_that_cannot_be_read_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def picky(of: Any) -> Any:
        def read(*given: Any) -> Any:
            if "bad" in str(given[0]):
                raise LookupError(KEY)
            return of(*given)

        return read

    monkeypatch.setattr(wire_log, "_ns", picky(wire_log._ns))
    monkeypatch.setattr(access_log, "record_from", picky(record_from))
    odd = entry("odd", route_name="bad")
    failed = entry("", access_log_type=als.UpstreamEnd, upstream_request_attempt_count=1)
    shared, records = live(tmp_path), Records()
    async with serving(shared, records) as channel:
        call = access_logs(channel)
        await call.write(batch(entry("a"), odd, entry("bad"), failed, entry("b"), first=True).SerializeToString())
        assert await records.get() == ["a", "b"]
        await call.done_writing()
        await call
    assert shared.counts == {"entries_failed": 2, "calls_recorded": 2}
    assert shared.health()["degraded"] == ["records"]
    assert KEY not in "".join(map(JsonLines().format, caplog.records))


async def test_a_flood_is_recorded_whole_while_calls_are_decided(tmp_path: Path) -> None:
    shared, seen = live(tmp_path), 0

    def sink(batch: Sequence[CallRecord], _: Sequence[Attempt]) -> None:
        nonlocal seen
        seen += len(batch)

    message = batch(*(entry(f"{i}") for i in range(50))).SerializeToString()
    async with serving(shared, sink) as channel:
        call = access_logs(channel)
        for _ in range(100):
            await call.write(message)
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
    assert seen == shared.counts["calls_recorded"] == 5000


async def test_entries_that_come_while_draining_are_recorded_and_then_the_stream_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "QUIET_FLUSHES", 0.4)
    shared, records = live(tmp_path), Records()
    server = GrpcServer(shared, records)
    await server.start()
    async with channel_to(shared) as channel:
        call = access_logs(channel)
        await send(call, "before", first=True)
        assert await records.get() == ["before"]
        stopping = asyncio.create_task(server.stop())
        await shared.draining.wait()
        for id_ in ("during", "still"):
            await send(call, id_)
            assert await records.get() == [id_]
        assert await call == als.StreamAccessLogsResponse()
        await stopping
    assert shared.counts["calls_recorded"] == 3


async def test_a_worker_that_opens_its_stream_after_the_stop_signal_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()
    monkeypatch.setattr(server, "asyncio", SimpleNamespace(sleep=lambda _: over.wait()))
    monkeypatch.setattr(access_log, "QUIET_FLUSHES", 0.1)
    shared, records = live(tmp_path), Records()
    shared.counts["decisions"] = 1
    lectr = GrpcServer(shared, records)
    await lectr.start()
    async with channel_to(shared) as channel:
        stopping = asyncio.create_task(lectr.stop())
        call = access_logs(channel)
        await send(call, "its first", first=True)
        assert await records.get() == ["its first"]
        over.set()
        await stopping


async def test_an_envoy_that_is_never_quiet_is_let_go_right_after_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "QUIET_FLUSHES", 120)
    monkeypatch.setattr(access_log, "BUSY_S", 0)
    shared, records = live(tmp_path), Records()
    async with serving(shared, records) as channel:
        call = access_logs(channel)
        await send(call, "before", first=True)
        await records.get()
        shared.draining.set()
        await send(call, "last")
        assert await records.get() == ["last"]
        assert await call == als.StreamAccessLogsResponse()


async def test_a_server_that_was_held_up_does_not_take_a_stream_for_quiet_before_it_has_looked_again() -> None:
    """What came meanwhile is in its sockets, and would be lost with the end of the stream."""

    async def nothing() -> None:
        await asyncio.Event().wait()

    read = asyncio.create_task(nothing())
    assert await access_log.is_calm(read, 0.01, late_s=60)
    asyncio.get_running_loop().call_soon(time.sleep, 0.1)
    assert not await access_log.is_calm(read, 0.01, late_s=0.05)
    read.cancel()


async def test_a_stream_on_which_something_comes_is_not_calm() -> None:
    read = asyncio.create_task(asyncio.sleep(0))
    assert not await access_log.is_calm(read, 60, late_s=60)


async def test_a_stream_that_opens_and_says_nothing_ends_with_the_drain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "QUIET_FLUSHES", 0.1)
    shared = live(tmp_path)
    async with serving(shared) as channel:
        call = access_logs(channel)
        await call.wait_for_connection()
        shared.draining.set()
        assert await call == als.StreamAccessLogsResponse()


def filled() -> als.HTTPAccessLogEntry:
    made = entry("call", upstream_request_attempt_count=1)
    made.common_properties.start_time.seconds = 1_795_000_000
    made.common_properties.metadata.filter_metadata["lectr.usage"].update({"input_tokens": 7, "helpers": "[{}]"})
    made.common_properties.metadata.typed_filter_metadata["envoy.ai.token_usage"].value = b"\x08\x01"
    made.response.response_code.value = 200
    return made


WRITTEN = like(
    batch(filled(), first=True),
    batch(entry("a"), entry("", access_log_type=als.UpstreamEnd)),
    batch(entry("", access_log_type=als.UpstreamEnd, duration=Duration(seconds=-1, nanos=2**31 - 1))),
)


def test_whatever_the_batches_their_stream_goes_on_and_good_ones_become_records(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared, taken = live(tmp_path), list[str]()

    def sink(calls: Sequence[CallRecord], _: Sequence[Attempt]) -> None:
        for call in calls:
            row_of(call, without_keys)
        taken.extend(call.call_id for call in calls)

    with unharmed(shared, caplog, sink) as lectr:

        @settings(max_examples=60)
        @given(WRITTEN)
        def talk(messages: list[bytes]) -> None:
            taken.clear()
            shared.counts.clear()

            async def one(channel: grpc.aio.Channel) -> None:
                good = batch(entry("good")).SerializeToString()
                assert await access_logs(channel, [*messages, good]) == als.StreamAccessLogsResponse()

            lectr(one)
            assert taken[-1] == "good"
            assert shared.counts["batches_failed"] == sum(map(is_no_batch, messages))

        talk()


def is_no_batch(message: bytes) -> bool:
    try:
        als.StreamAccessLogsMessage.FromString(message)
    except DecodeError:
        return True
    return False
