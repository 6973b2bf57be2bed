"""lectr's admin port: `/healthz` for people, `/livez` and `/readyz` for probes, `/metrics` for Prometheus."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lectr_extproc.edge.live import Live


def admin_app(live: Live, registry: CollectorRegistry) -> Starlette:
    """The admin port as an ASGI app."""

    async def healthz(_: Request) -> Response:
        return JSONResponse(live.health())

    async def livez(_: Request) -> Response:
        """Answering is all there is to being alive: what is degraded is not mended by a restart."""
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        """Whether Envoy should send calls here."""
        is_ready = live.serving.is_set() and not live.draining.is_set()
        return PlainTextResponse("ready\n" if is_ready else "not ready\n", 200 if is_ready else 503)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        # Hundreds of series take a while to write, and calls are being decided on this loop.
        return Response(await asyncio.to_thread(encode, registry), headers={"content-type": content_type})

    routes = {"/healthz": healthz, "/livez": livez, "/readyz": readyz, "/metrics": metrics}
    return Starlette(routes=[Route(path, answer) for path, answer in routes.items()])


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
