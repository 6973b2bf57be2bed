"""The admin port: `/console` and `/healthz` for people, `/livez` and `/readyz` for probes, `/metrics` for scrapers."""

import asyncio
import contextlib
import hmac
import socket
from collections.abc import AsyncIterator, Collection, Sequence
from urllib.parse import urlsplit

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lectr_extproc.edge import pages
from lectr_extproc.edge.live import Live
from lectr_extproc.settings_types import is_loopback

PROBES = frozenset({"/livez", "/readyz"})
"Kubernetes asks these by the pod's address and without a token; they say yes or no, and no more."

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"On every answer that does not say otherwise of itself."


class Door:
    """Who may ask the admin port, and what each of its answers carries."""

    def __init__(self, app: ASGIApp, live: Live, listen: str, tokenless: Collection[str]) -> None:
        self._app = app
        self._tokenless = tokenless
        self._live = live
        self._is_private = is_loopback(listen)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope)
        refusal = None if scope["path"] in PROBES else self._refusal(request) or _refused_write(request)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        token = self._live.settings.admin_token
        if token is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
                return None
            if request.scope["path"] in self._tokenless:  # what `request.url` says is up to the Host header
                return None
            return _refused(401, "unauthorized", "send the token that admin.token names as Authorization: Bearer")
        if not self._is_private:  # the token was taken away since start, and the port is still open to others
            return _refused(401, "unauthorized", "admin.token is not set")
        # Any name can be made to lead here; a page under such a name could read what its visitor's machine answers.
        if not is_loopback(request.headers.get("host", "")):
            return _refused(421, "misdirected", "ask by a loopback name or address, or set admin.token")
        return None


def _refused_write(request: Request) -> Response | None:
    """Any page can have its visitor's browser send a form here, but says whose it is; and no form is JSON."""
    if request.method in {"GET", "HEAD"}:
        return None
    origin = request.headers.get("origin")
    is_json = request.headers.get("content-type", "").partition(";")[0].strip() == "application/json"
    if is_json and (origin is None or urlsplit(origin).netloc == request.headers.get("host")):
        return None
    return _refused(403, "cross_origin", "write as the console does: JSON, and from its own page")


def _refused(status: int, code: str, message: str) -> Response:
    challenge = {"www-authenticate": 'Bearer realm="lectr"'} if status == 401 else None
    return JSONResponse({"error": {"code": code, "message": message}}, status, challenge)


def admin_app(live: Live, registry: CollectorRegistry, listen: str, api: Sequence[Route] = ()) -> ASGIApp:
    """The admin port as an ASGI app, to be served there; `api` is the console's."""

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
    console = pages.routes(HEADERS)
    app = Starlette(routes=[*(Route(path, answer) for path, answer in routes.items()), *api, *console])
    return Door(app, live, listen, tokenless={page.path for page in console})


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has one place that decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@contextlib.asynccontextmanager
async def http_server(app: ASGIApp, where: str | socket.socket) -> AsyncIterator[int]:
    """Serve an app on host:port for as long as the block lasts; yields the port, which may have been asked for as 0.

    Or where somebody else listens already.
    """
    server = _Server(
        uvicorn.Config(
            app,
            log_level="warning",
            lifespan="off",
            ws="none",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    with _listen(where) if isinstance(where, str) else where as listener:
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
