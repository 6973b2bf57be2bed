"""Each attempt at a call with several candidates: Envoy asks before it leaves, and shows how its answer begins.

Until then the gRPC stream is open. Were lectr to go meanwhile, Envoy would pass the answer on as it is; an attempt that
was not made ready never leaves (gateway/clusters.py).
"""

import time
from typing import Any

import grpc

from lectr_extproc.core.attempt import Outgoing, judge, make, wants_document
from lectr_extproc.core.upstream import RELAY
from lectr_extproc.edge import wire
from lectr_extproc.edge.live import Live
from lectr_extproc.pb import ext_proc_pb2 as ext


async def process(live: Live, message: ext.ProcessingRequest, context: Any) -> bytes:
    """Make the attempt that these request headers are of, and judge its answer."""
    headers = wire.headers_from(message.request_headers)
    cluster, number = wire.place_from(message)
    await context.write(wire.SHOW_REQUEST)
    if (content := await context.read()) is grpc.aio.EOF:
        return wire.NOTHING
    asked = wire.request_from(content)
    attempt = make(
        headers,
        asked.request_body.body,
        wire.decision_from(asked),
        order=wire.order_from(asked),
        cluster=cluster,
        number=number,
        snapshot=live.snapshot,
        now_ms=time.time_ns() // 1_000_000,
    )
    if attempt is None:
        live.counts["attempts_without_address"] += 1
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "what was decided on has left")
        return wire.NOTHING
    live.counts["attempts"] += 1
    if cluster == RELAY:
        return wire.attempt_reply(attempt)  # and Envoy shows no answer
    await context.write(wire.attempt_reply(attempt))
    del asked, content  # a body; the answer may take minutes
    return await _judge(live, attempt, context)


async def _judge(live: Live, attempt: Outgoing, context: Any) -> bytes:
    if (content := await context.read()) is grpc.aio.EOF:  # no answer came
        return wire.NOTHING
    message = wire.request_from(content)
    headers = dict(reversed(wire.headers_from(message.response_headers)))
    status = int(headers.get(":status", "0"))
    document = None
    if is_asked := wants_document(attempt, status, headers) and not message.response_headers.end_of_stream:
        await context.write(wire.SHOW_DOCUMENT)
        if (content := await context.read()) is grpc.aio.EOF:
            return wire.NOTHING
        document = wire.request_from(content).response_body.body
    verdict = judge(attempt, status, headers, document, live.snapshot, now_s=time.time())
    return wire.verdict_reply(verdict, attempt.clusters, to_body=is_asked)
