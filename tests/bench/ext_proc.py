"""The gRPC service: CPU of one decided call, beside a server that answers and does nothing.

Both run in this process over a Unix socket with the same client, so the client's share is in both figures; their
difference is what deciding costs.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

from lectr_extproc.edge import ext_proc, wire
from lectr_extproc.edge.live import Live
from lectr_extproc.keys import digest
from lectr_extproc.pb import ext_proc_pb2 as ext
from lectr_extproc.settings import compile_settings
from tests.bench.decide import HEADERS, KEY

CALLS = 3_000


class Empty:
    """An ext_proc server that lets every call pass."""

    async def process(self, messages: AsyncIterator[ext.ProcessingRequest], _: Any) -> AsyncIterator[Any]:
        async for _message in messages:
            yield ext.ProcessingResponse(request_headers=ext.HeadersResponse())
            return


def measure() -> Iterator[tuple[str, str]]:
    """CPU per call, and the ratio."""
    settings = compile_settings({"orgs": [{"name": "bench", "keys": [{"sha256": digest(KEY)}]}]})
    with tempfile.TemporaryDirectory() as directory:
        empty, ours = uvloop.run(_both(Path(directory), Live(settings)))
    yield "an empty server, with its client", f"{empty:6.1f} µs of CPU"
    yield "lectr, with its client", f"{ours:6.1f} µs of CPU"
    yield "ratio", f"{ours / empty:6.2f}"


async def _both(directory: Path, live: Live) -> tuple[float, float]:
    return (
        await _cpu(directory / "empty.sock", ext_proc.handlers(Empty())),  # type: ignore[arg-type]
        await _cpu(directory / "lectr.sock", ext_proc.handlers(ext_proc.ExtProc(live))),
    )


async def _cpu(path: Path, handler: Any) -> float:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    message = ext.ProcessingRequest(
        request_headers=ext.HttpHeaders(
            headers=ext.HeaderMap(headers=[ext.HeaderValue(key=k, raw_value=v.encode()) for k, v in HEADERS])
        )
    )
    message.metadata_context.filter_metadata["lectr.request"].update({"model": "gpt-4o"})
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        call = channel.stream_stream(
            f"/{wire.EXT_PROC_SERVICE}/Process",
            request_serializer=ext.ProcessingRequest.SerializeToString,
            response_deserializer=ext.ProcessingResponse.FromString,
        )

        async def calls(number: int) -> None:
            for _ in range(number):
                stream = call(iter([message]))
                async for _reply in stream:
                    pass

        await calls(200)  # warm
        start = time.process_time()
        await asyncio.gather(*(calls(CALLS // 16) for _ in range(16)))
        spent = time.process_time() - start
    await server.stop(None)
    return spent / (CALLS // 16 * 16) * 1e6
