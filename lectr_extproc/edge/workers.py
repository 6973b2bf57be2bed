"""`grpc.workers`: several lectrs as one. A parent starts them, starts again the one that ends, and answers for all.

They share the ledger and nothing else. Each listens for Envoy at an address of its own, all of which Envoy has: it
keeps few connections to an address and each ends at one process, so that of a shared address most would stay idle.
"""

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import httpx
from prometheus_client import Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lectr_extproc.edge import pages
from lectr_extproc.edge.admin import HEADERS, http_server
from lectr_extproc.edge.console import API
from lectr_extproc.settings import Settings

log = logging.getLogger("lectr.workers")

STARTS_WITHIN_S = 10.0
"One that gives up so soon has said why, and would again; later, whatever ended it may be over."
PAUSE_S = 0.5
"Between the end of a worker and its next start."
ASKED_S = 2.0
"How long a worker may take to say how it is."
CONSOLE_S = 30.0
"And to read what the console shows."
_INTRODUCTION = ("host", "authorization", "origin", "content-type")
"Of a request's headers: by what a worker judges whether it answers."


def when_input_ends(call: Callable[[], None]) -> None:
    """In a worker: its parent holds the other end of standard input and never writes."""
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(sys.stdin.fileno())
        call()

    loop.add_reader(sys.stdin.fileno(), ended)


class Worker:
    """One place among several, and the process that fills it."""

    def __init__(self, number: int, command: Sequence[str], admin: socket.socket) -> None:
        self.number = number
        # Of the place and not of the process: whoever asks while it is empty waits for the next one.
        self._admin = admin
        self._command = [*command, "--worker", str(number), str(admin.fileno())]
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self, stop: asyncio.Event) -> int:
        """Have a process there until `stop` is set; its exit code, then or when it cannot start."""
        begin = time.monotonic()
        while True:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, pass_fds=[self._admin.fileno()]
            )
            ended, told = asyncio.create_task(self._process.wait()), asyncio.create_task(stop.wait())
            await asyncio.wait([ended, told], return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            if stop.is_set() and self._process.stdin:
                self._process.stdin.close()
            code = await ended
            if stop.is_set() or (code > 0 and time.monotonic() < begin + STARTS_WITHIN_S):
                return code
            log.error("a worker ended and is started again", extra={"fields": {"worker": self.number, "code": code}})
            try:
                await asyncio.wait_for(stop.wait(), PAUSE_S)
                return 0
            except TimeoutError:
                begin = float("-inf")

    async def ask(self, request: Request, within_s: float = ASKED_S) -> httpx.Response | None:
        """What it answers to the same request of somebody with these words of introduction; None if it does not."""
        headers = {name: request.headers[name] for name in _INTRODUCTION if name in request.headers}
        address = "http://{}:{}".format(*self._admin.getsockname())
        path = httpx.URL(path=request.scope["path"], query=request.scope["query_string"] or None)
        try:
            # Without `verify` no file of authorities is read, which takes longer than the answer.
            made = httpx.AsyncClient(base_url=address, trust_env=False, timeout=within_s, verify=False)  # noqa: S501
            async with made as client:
                headers = {"accept": "text/plain", **headers}
                return await client.request(request.method, path, headers=headers, content=await request.body())
        except httpx.TransportError:
            return None


async def serve(settings: Settings, command: Sequence[str], stop_signal: Callable[[], asyncio.Event]) -> int:
    """Until it is told to stop, or a worker cannot start; then all stop. The exit code."""
    stop = stop_signal()
    with contextlib.ExitStack() as open_:
        doors = [open_.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(settings.workers)]
        workers = [Worker(number, command, door) for number, door in enumerate(doors)]
        async with http_server(admin_app(workers), settings.admin_listen):
            kept = [asyncio.create_task(worker.keep(stop)) for worker in workers]
            await asyncio.wait(kept, return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            return max(await asyncio.gather(*kept), key=abs)


_NOT_READY = PlainTextResponse("not ready\n", 503, HEADERS)


def admin_app(workers: Sequence[Worker]) -> Starlette:
    """The admin port of all: each worker is asked, and judges for itself whether it answers."""

    async def ask(request: Request) -> tuple[Response | None, dict[str, httpx.Response | None]]:
        answers = await asyncio.gather(*(worker.ask(request) for worker in workers))
        refusal = next((_as_it_came(a) for a in answers if a is not None and a.status_code in {401, 421}), None)
        return refusal, {str(worker.number): answer for worker, answer in zip(workers, answers, strict=True)}

    async def livez(_: Request) -> Response:
        return PlainTextResponse("alive\n", headers=HEADERS)

    async def readyz(request: Request) -> Response:
        """One is enough: Envoy leaves out those that are not."""
        answers = (await ask(request))[1].values()
        return next((_as_it_came(a) for a in answers if a and a.is_success), _NOT_READY)

    async def healthz(request: Request) -> Response:
        refusal, answers = await ask(request)
        return refusal or JSONResponse(
            together({n: a.json() if a else None for n, a in answers.items()}), headers=HEADERS
        )

    async def metrics(request: Request) -> Response:
        refusal, answers = await ask(request)
        text = generate_latest(_Labelled({n: a.text for n, a in answers.items() if a}))
        return refusal or Response(text, headers={**HEADERS, "content-type": CONTENT_TYPE_PLAIN_0_0_4})

    async def console(request: Request) -> Response:
        """One is enough: what it shows is in the ledger, which they share, or they have told each other."""
        for worker in workers:
            if answer := await worker.ask(request, CONSOLE_S):
                return _as_it_came(answer)
        return JSONResponse({"error": {"code": "no_worker", "message": "no worker answers"}}, 503, HEADERS)

    routes = {"/healthz": healthz, "/livez": livez, "/readyz": readyz, "/metrics": metrics}
    api = Route(f"{API}{{path:path}}", console, methods=["GET", "POST"])
    return Starlette(routes=[*(Route(path, answer) for path, answer in routes.items()), api, *pages.routes(HEADERS)])


def _as_it_came(answer: httpx.Response) -> Response:
    return Response(answer.content, answer.status_code, {k: v for k, v in answer.headers.items() if k != "date"})


_SHARED = frozenset({"holds_at_most", "lag", "oldest_unexported_s", "orgs", "read_bytes", "set_aside", "unread_bytes"})
"Figures of what the workers have together: each tells the whole, and they are not added up."


def together(healths: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
    """What `/healthz` says of all: added up, a problem where one has it, and then what each says of itself."""
    answered = [health for health in healths.values() if health]
    degraded = {part for health in answered for part in health["degraded"]}
    degraded |= {"workers"} if len(answered) < len(healths) else set()
    whole = _both("", answered) or {}
    whole |= {"status": "degraded" if degraded else "ok", "degraded": sorted(degraded)}
    return {**whole, "workers": healths}


def _both(name: str, values: Sequence[Any]) -> Any:
    said = [value for value in values if value is not None]
    match said[0] if said else None:
        case None:
            return None
        case dict():
            return {key: _both(key, [value.get(key) for value in said]) for each in said for key in each}
        case list():
            every = [value for each in said for value in each]
            return [value for place, value in enumerate(every) if value not in every[:place]]
        case bool():
            return any(said)
        case str():
            return said[0]
        case _:
            return max(said) if name in _SHARED else sum(said)


class _Labelled:
    """Metrics of all, each with its worker. Not sums: one that is started again would take its part out of them."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for worker, text in self._texts.items():
            for found in text_string_to_metric_families(text):
                family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
                family.samples += [s._replace(labels={**s.labels, "worker": worker}) for s in found.samples]
        return families.values()
