"""lectr's admin port: `/healthz` for probes and people."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from lectr_extproc.edge.live import Live


def admin_app(live: Live) -> Starlette:
    """The admin port as an ASGI app."""

    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse(live.health())

    return Starlette(routes=[Route("/healthz", healthz)])


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has one place that decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@contextlib.asynccontextmanager
async def http_server(app: ASGIApp, address: str) -> AsyncIterator[int]:
    """Serve an app on host:port for as long as the block lasts; yields the port, which may have been asked for as 0."""
    server = _Server(
        uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False, timeout_graceful_shutdown=1)
    )
    with _listen(address) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # A process that replaces another listens before the first one stops.
    try:
        return socket.create_server((host, int(port)), family=family, reuse_port=True)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror}") from None
