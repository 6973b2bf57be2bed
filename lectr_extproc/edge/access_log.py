"""The access-log servicer: a batch in, records out. Each entry alone makes its record; nothing is looked up."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import grpc

from lectr_extproc.core.record import Attempt, CallRecord, LogEntry, record_from
from lectr_extproc.edge import wire, wire_log
from lectr_extproc.edge.live import Live
from lectr_extproc.pb import access_log_pb2 as als

log = logging.getLogger("lectr.access_log")

QUIET_FLUSHES = 2.5
"""After how many of Envoy's flush intervals without a batch a draining server takes a log stream for quiet: half-way
between two flushes, for a batch that meets the end of its stream is lost."""

BUSY_S = 8.0
"""When a draining server lets go of an Envoy that is never quiet: right after a batch, when nothing is on its way, and
sooner than the server cuts what is left (server.DRAIN_S)."""

CALM_S = 0.005
"How long nothing comes after a batch that nothing is on its way behind."

Sink = Callable[[Sequence[CallRecord], Sequence[Attempt]], None]
"Takes the calls of one batch, and the failed attempts in it."


class AccessLog:
    """Turns Envoy's entries into records and hands them on."""

    def __init__(self, live: Live, sink: Sink) -> None:
        self._live = live
        self._sink = sink
        self._flush_s = live.settings.gateway.access_log_flush_s

    async def stream_access_logs(self, _: Any, context: Any) -> als.StreamAccessLogsResponse:
        """Read until Envoy ends the stream, or until it has gone quiet while we drain."""
        draining = asyncio.create_task(self._drained_by())
        read: asyncio.Task[Any] | None = None
        is_busy = False
        try:
            while True:
                read = read or asyncio.create_task(context.read())
                if not draining.done():
                    await asyncio.wait({read, draining}, return_when=asyncio.FIRST_COMPLETED)
                elif await (
                    is_calm(read, CALM_S, CALM_S)
                    if is_busy
                    else is_calm(read, QUIET_FLUSHES * self._flush_s, self._flush_s / 4)
                ):
                    return als.StreamAccessLogsResponse()
                if not read.done():
                    continue
                message = read.result()
                read = None
                if message is grpc.aio.EOF:
                    return als.StreamAccessLogsResponse()
                try:
                    entries = _entries(message)
                except wire.Unreadable:
                    self._live.lose("batches_failed")
                    log.error("a batch of access-log entries could not be read")
                else:
                    take(self._live, self._sink, entries)
                is_busy = draining.done() and asyncio.get_running_loop().time() >= draining.result()
        finally:
            draining.cancel()
            if read is not None:
                read.cancel()

    async def _drained_by(self) -> float:
        await self._live.draining.wait()
        return asyncio.get_running_loop().time() + BUSY_S


async def is_calm(read: asyncio.Task[Any], for_s: float, late_s: float) -> bool:
    """Whether nothing comes for so long. Not where we ourselves are late: what came meanwhile may not be here yet."""
    loop = asyncio.get_running_loop()
    due = loop.time() + for_s
    await asyncio.wait({read}, timeout=for_s)
    return not read.done() and loop.time() < due + late_s


def _entries(message: bytes) -> Iterator[LogEntry | Attempt]:
    return wire_log.told_in(als.StreamAccessLogsMessage.FromString(message))


def take(live: Live, sink: Sink, entries: Iterable[LogEntry | Attempt]) -> None:
    """A batch of finished calls and of failed attempts, however it came, becomes records that are handed on."""
    records: list[CallRecord] = []
    attempts: list[Attempt] = []
    left, is_over, snapshot = iter(entries), False, live.snapshot
    while not is_over:
        try:
            for entry in left:
                if isinstance(entry, Attempt):
                    attempts.append(entry)
                else:
                    records.append(record_from(entry, snapshot))
            is_over = True
        except Exception:  # one bad entry must not cost the others of its batch their records
            live.lose("entries_failed")
            log.exception("an access-log entry was lost")
    try:
        sink(records, attempts)
        live.counts["calls_recorded"] += len(records)
    except Exception:  # one bad batch must not end the stream that carries the next ones
        live.lose("batches_failed")
        log.exception("a batch of access-log entries was lost")


def handlers(servicer: AccessLog) -> grpc.GenericRpcHandler:
    """Envoy's literal method path; the message classes are our own, compatible on the wire."""
    return grpc.method_handlers_generic_handler(
        wire_log.ACCESS_LOG_SERVICE,
        {
            "StreamAccessLogs": grpc.stream_unary_rpc_method_handler(
                servicer.stream_access_logs,
                request_deserializer=None,  # read where one that cannot be read does not end the stream
                response_serializer=als.StreamAccessLogsResponse.SerializeToString,
            )
        },
    )
