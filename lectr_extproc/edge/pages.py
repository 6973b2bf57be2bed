"""The console's own files on the admin port. They hold no data: whoever has no token gets the page that asks for it."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

HOME = "/console/"
DOORSTEPS = ("/", HOME.rstrip("/"))
"What people type; the files name each other relative to HOME."

HEADERS = {
    "cache-control": "no-cache",  # kept, and asked about each time: another lectr has other files
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def routes(headers: Mapping[str, str]) -> list[Route]:
    """One for each file, with these headers where it has none of its own; the page itself is at HOME."""
    found = [(file.name, file.read_bytes()) for file in (files("lectr_extproc") / "console").iterdir()]
    return [
        *(Route(HOME + name.removeprefix("index.html"), _file(name, content, headers)) for name, content in found),
        *(Route(path, _home) for path in DOORSTEPS),
    ]


def _file(name: str, content: bytes, headers: Mapping[str, str]) -> Callable[[Request], Awaitable[Response]]:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    own = {**headers, **HEADERS, "etag": tag}

    async def answer(request: Request) -> Response:
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=own)
        return Response(content, headers=own, media_type=_TYPES[PurePath(name).suffix])

    return answer


async def _home(_: Request) -> Response:
    return RedirectResponse(HOME)
