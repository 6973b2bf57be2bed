"""The ext_proc servicer: receive, convert, decide, convert, send, return.

Most calls are one message and one reply, after which the gRPC stream is over and nothing of the call stays here.
"""

import logging
import secrets
from collections.abc import AsyncIterator
from typing import Any

import grpc

from lectr_extproc.core.decision import AskForBody, decide, to_metadata
from lectr_extproc.core.facts import Facts, read_facts, with_body
from lectr_extproc.edge import wire
from lectr_extproc.edge.live import Live
from lectr_extproc.pb import ext_proc_pb2 as ext

log = logging.getLogger("lectr.ext_proc")


class ExtProc:
    """Decides each call Envoy asks about."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def process(
        self, messages: AsyncIterator[ext.ProcessingRequest], context: Any
    ) -> AsyncIterator[ext.ProcessingResponse]:
        """Answer every message exactly once, and end the stream with the decision."""
        snapshot, counts = self._live.snapshot, self._live.counts
        facts: Facts | None = None
        try:
            async for message in messages:
                match message.WhichOneof("request"):
                    case "request_headers":
                        facts = read_facts(
                            wire.headers_from(message.request_headers),
                            wire.request_metadata_from(message),
                            end_of_stream=message.request_headers.end_of_stream,
                        )
                        to_body = False
                    case "request_body" if facts is not None:
                        facts = with_body(facts, message.request_body.body)
                        to_body = True
                    case _:
                        if (reply := wire.empty_reply(message)) is not None:
                            yield reply
                        continue
                decision = decide(facts, snapshot)
                if isinstance(decision, AskForBody):
                    counts["bodies_asked_for"] += 1
                    yield wire.ask_for_body()
                    continue
                counts["decisions"] += 1
                # Drawn here and not from the request: the client can choose x-request-id.
                metadata = to_metadata(decision, facts, call_id=secrets.token_hex(16))
                yield wire.reply_from(decision, metadata, to_body=to_body)
                return
        except Exception:  # the outermost place of the stream: Envoy's failure policy gives the client a clean 503
            counts["decisions_failed"] += 1
            log.exception("a decision failed")
            await context.abort(grpc.StatusCode.INTERNAL, "decision failed")


def handlers(servicer: ExtProc) -> grpc.GenericRpcHandler:
    """Envoy's literal method path; the message classes are our own, compatible on the wire."""
    return grpc.method_handlers_generic_handler(
        wire.EXT_PROC_SERVICE,
        {
            "Process": grpc.stream_stream_rpc_method_handler(
                servicer.process,
                request_deserializer=ext.ProcessingRequest.FromString,
                response_serializer=ext.ProcessingResponse.SerializeToString,
            )
        },
    )
