"""`python -m tests.bench.empty SOCKET`: an ext_proc server that answers request headers and does nothing else.

What grpc.aio costs before any line of lectr runs: the floor for a server in Python.
"""

import sys
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc.aio
import uvloop

from lectr_extproc.edge import ext_proc
from lectr_extproc.pb import ext_proc_pb2 as ext


class Empty:
    """Lets every call pass."""

    async def process(
        self, messages: AsyncIterator[ext.ProcessingRequest], _: Any
    ) -> AsyncIterator[ext.ProcessingResponse]:
        async for _message in messages:
            yield ext.ProcessingResponse(request_headers=ext.HeadersResponse())
            return


async def serve(path: str) -> None:
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 100_000)])
    server.add_generic_rpc_handlers((ext_proc.handlers(cast("ext_proc.ExtProc", Empty())),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
