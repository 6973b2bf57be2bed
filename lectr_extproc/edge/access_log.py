"""The access-log servicer: a batch in, records out. Each entry alone makes its record; nothing is looked up."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from lectr_extproc.core.record import CallRecord, record_from
from lectr_extproc.edge import wire
from lectr_extproc.edge.live import Live
from lectr_extproc.pb import access_log_pb2 as als

log = logging.getLogger("lectr.access_log")

QUIET_S = 1.5
"How long a draining server keeps reading after the last batch: longer than the flush interval we render."

Sink = Callable[[Sequence[CallRecord]], None]


class AccessLog:
    """Turns Envoy's entries into records and hands them on."""

    def __init__(self, live: Live, sink: Sink) -> None:
        self._live = live
        self._sink = sink

    async def stream_access_logs(self, _: Any, context: Any) -> als.StreamAccessLogsResponse:
        """Read until Envoy ends the stream, or until it has gone quiet while we drain."""
        draining = asyncio.create_task(self._live.draining.wait())
        read: asyncio.Task[Any] | None = None
        try:
            while True:
                read = read or asyncio.create_task(context.read())
                if draining.done():
                    done, _pending = await asyncio.wait({read}, timeout=QUIET_S)
                    if not done:
                        return als.StreamAccessLogsResponse()
                else:
                    await asyncio.wait({read, draining}, return_when=asyncio.FIRST_COMPLETED)
                    if not read.done():
                        continue
                message = read.result()
                read = None
                if message is grpc.aio.EOF:
                    return als.StreamAccessLogsResponse()
                self._take(message)
        finally:
            draining.cancel()
            if read is not None:
                read.cancel()

    def _take(self, message: als.StreamAccessLogsMessage) -> None:
        try:
            records = [record_from(entry) for entry in wire.entries_from(message)]
            self._sink(records)
            self._live.counts["calls_recorded"] += len(records)
        except Exception:  # one bad batch must not end the stream that carries the next ones
            self._live.counts["batches_failed"] += 1
            log.exception("a batch of access-log entries was lost")


def handlers(servicer: AccessLog) -> grpc.GenericRpcHandler:
    """Envoy's literal method path; the message classes are our own, compatible on the wire."""
    return grpc.method_handlers_generic_handler(
        wire.ACCESS_LOG_SERVICE,
        {
            "StreamAccessLogs": grpc.stream_unary_rpc_method_handler(
                servicer.stream_access_logs,
                request_deserializer=als.StreamAccessLogsMessage.FromString,
                response_serializer=als.StreamAccessLogsResponse.SerializeToString,
            )
        },
    )
