"""`python -m tests.bench.empty empty|passing SOCKET`: an ext_proc server that does nothing.

What grpc.aio costs before any line of lectr runs: the floor for a server in Python. *empty* answers request headers and
no more, *passing* lets an answer's chunks pass as well, one by one. Both take access logs, and read nothing of them.
"""

import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import uvloop

from lectr_extproc.edge import wire, wire_log
from lectr_extproc.pb import ext_proc_pb2 as ext


async def empty(messages: AsyncIterator[ext.ProcessingRequest], _: Any) -> AsyncIterator[ext.ProcessingResponse]:
    """Let every call pass, the way gRPC's own examples would."""
    async for _message in messages:
        yield ext.ProcessingResponse(request_headers=ext.HeadersResponse())
        return


_PASS = (
    ext.ProcessingResponse(request_headers=ext.HeadersResponse()),
    ext.ProcessingResponse(response_headers=ext.HeadersResponse()),
    ext.ProcessingResponse(response_body=ext.BodyResponse()),
)
_KINDS = ext.ProcessingRequest.DESCRIPTOR.fields_by_name
_REPLIES = {_KINDS[str(reply.WhichOneof("response"))].number: reply.SerializeToString() for reply in _PASS}


async def passing(messages: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    """Let every chunk pass, with as little done about it as can be: a message begins with the number of its kind."""
    async for message in messages:
        yield _REPLIES[message[0] >> 3]


async def forget(entries: AsyncIterator[bytes], _: Any) -> bytes:
    """Take batches of log entries until their stream ends."""
    async for _entries in entries:
        pass
    return b""


METHODS = {
    "empty": grpc.stream_stream_rpc_method_handler(
        empty,
        request_deserializer=ext.ProcessingRequest.FromString,
        response_serializer=ext.ProcessingResponse.SerializeToString,
    ),
    "passing": grpc.stream_stream_rpc_method_handler(passing),
}


async def serve(what: str, path: str) -> None:
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 100_000)])
    process = {"Process": METHODS[what]}
    log: dict[str, Any] = {"StreamAccessLogs": grpc.stream_unary_rpc_method_handler(forget)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(wire.EXT_PROC_SERVICE, process),
            grpc.method_handlers_generic_handler(wire_log.ACCESS_LOG_SERVICE, log),
        )
    )
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:]))
