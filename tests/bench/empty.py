"""`python -m tests.bench.empty SOCKET`: an ext_proc server that answers request headers and does nothing else.

What grpc.aio costs before any line of lectr runs: the floor for a server in Python.
"""

import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import uvloop

from lectr_extproc.edge import wire
from lectr_extproc.pb import ext_proc_pb2 as ext


async def process(messages: AsyncIterator[ext.ProcessingRequest], _: Any) -> AsyncIterator[ext.ProcessingResponse]:
    """Let every call pass, the way gRPC's own examples would."""
    async for _message in messages:
        yield ext.ProcessingResponse(request_headers=ext.HeadersResponse())
        return


async def serve(path: str) -> None:
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 100_000)])
    method = grpc.stream_stream_rpc_method_handler(
        process,
        request_deserializer=ext.ProcessingRequest.FromString,
        response_serializer=ext.ProcessingResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.EXT_PROC_SERVICE, {"Process": method}),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
