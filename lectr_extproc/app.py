"""The composition root: everything that runs, built in order and stopped in reverse. No logic."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from lectr_extproc.edge.access_log import Sink
from lectr_extproc.edge.admin import admin_app, http_server
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.logs import log_calls
from lectr_extproc.edge.reload import Load, watch
from lectr_extproc.edge.server import GrpcServer
from lectr_extproc.settings import Settings


@contextlib.asynccontextmanager
async def service(settings: Settings, file: Path | None, load: Load) -> AsyncIterator[Live]:
    """lectr itself, for as long as the block lasts."""
    live = Live(settings)
    sink: Sink = log_calls if settings.log_calls else lambda _: None
    grpc_server = GrpcServer(live, sink)
    await grpc_server.start()
    try:
        async with http_server(admin_app(live), settings.admin_listen):
            watching = asyncio.create_task(watch(live, file, load)) if file else None
            try:
                yield live
            finally:
                if watching:
                    watching.cancel()
    finally:
        await grpc_server.stop()


def stop_signal() -> asyncio.Event:
    """Set once by SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


async def serve(settings: Settings, file: Path | None, load: Load) -> None:
    """`lectr serve`: the service alone, until it is told to stop."""
    stop = stop_signal()
    async with service(settings, file, load):
        await stop.wait()
