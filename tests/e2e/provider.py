"""A scripted provider: a small HTTP/1.1 server that keeps what it received and answers exactly the bytes it is told to.

No web framework: a test about bytes has to own them. It listens on a free port of 127.0.0.1, plain or TLS, in an event
loop of its own thread, so that tests stay synchronous. What it answers unless told otherwise is decided by the function
it is given (see `answers`); `answer_with` scripts the next answers.
"""

import asyncio
import base64
import contextlib
import gzip
import hashlib
import json
import queue
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from http.client import responses as reasons
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
Headers = list[tuple[str, str]]
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
FRAMING = {"content-length", "transfer-encoding"}
DEADLINE_S = 10.0
CROWD = 4096
"Connections that may wait to be accepted; beyond asyncio's 100 a crowd's are tried again a second later."


class Gate:
    """Holds an answer back until the test opens it."""

    def __init__(self) -> None:
        self._opened: Future[None] = Future()

    def open(self) -> None:
        self._opened.set_result(None)

    async def wait(self) -> None:
        # Shielded: a caller who hangs up must not cancel the gate under the test that will open it.
        await asyncio.shield(asyncio.wrap_future(self._opened))


class Cut(Enum):
    """Ways for an answer to stop other than by being complete."""

    RESET = "a TCP reset"
    CLOSE = "an orderly close"
    SILENCE = "nothing more, connection open"


Piece = bytes | Gate | Cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request, as its bytes came."""

    method: str
    target: str
    "Path and query, raw."
    headers: Headers
    "In order, with duplicates, names in the case they had on the wire."
    body: bytes
    sni: str | None
    connection: int
    "Counts from 1 per provider: two requests with the same number shared a connection."
    ended: Future[str] = field(default_factory=Future, repr=False)
    "Becomes `answered`, or `cut short` when either side left before the answer was complete."

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def names(self) -> list[str]:
        return [name.lower() for name, _ in self.headers]

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def json(self) -> dict[str, Any]:
        """The body, where it is a JSON object."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back. Headers are sent as given; only the framing header is added at their end where none is given."""

    status: int = 200
    headers: Headers = field(default_factory=list)
    pieces: tuple[Piece, ...] = ()
    chunked: bool = False
    "Each bytes piece becomes one chunk."
    head: bytes | None = None
    "Replaces the rendered status line and headers, for heads that are wrong on purpose."

    @property
    def body(self) -> bytes:
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))

    def rendered_headers(self) -> Headers:
        if self.status < 200 or self.status == 204 or FRAMING & {name.lower() for name, _ in self.headers}:
            return self.headers
        length = ("content-length", str(len(self.body)))
        return [*self.headers, ("transfer-encoding", "chunked") if self.chunked else length]

    def rendered_head(self) -> bytes:
        if self.head is not None:
            return self.head
        status_line = f"HTTP/1.1 {self.status} {reasons.get(self.status, 'Unassigned')}"
        lines = [status_line, *(f"{name}: {value}" for name, value in self.rendered_headers()), "", ""]
        return "\r\n".join(lines).encode("latin-1")


Respond = Callable[[Received], Answer]


def json_answer(document: object, status: int = 200, headers: Headers | None = None) -> Answer:
    """A JSON document with a content length."""
    content_type = ("content-type", "application/json")
    return Answer(status=status, headers=[content_type, *(headers or [])], pieces=(json.dumps(document).encode(),))


def sse_answer(pieces: Iterable[Piece], headers: Headers | None = None) -> Answer:
    """An event stream, one chunk per piece of bytes."""
    content_type = ("content-type", "text/event-stream; charset=utf-8")
    return Answer(headers=[content_type, *(headers or [])], pieces=tuple(pieces), chunked=True)


def gzipped(answer: Answer) -> Answer:
    """The same answer compressed as a whole, whatever the caller accepts."""
    body = gzip.compress(answer.body, mtime=0)
    return Answer(status=answer.status, headers=[*answer.headers, ("content-encoding", "gzip")], pieces=(body,))


def digest_answer(received: Received) -> Answer:
    """Tells the caller the length and SHA-256 of the body that arrived: large uploads are compared by these."""
    return json_answer({"length": len(received.body), "sha256": hashlib.sha256(received.body).hexdigest()})


def websocket_answer(received: Received) -> Answer:
    """The 101 of RFC 6455; the server then echoes every frame."""
    digest = hashlib.sha1(received.values("sec-websocket-key")[0].encode() + WEBSOCKET_GUID).digest()
    accept = base64.b64encode(digest).decode()
    upgrade = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", accept)]
    return Answer(status=101, headers=upgrade)


class Loop:
    """An event loop in a thread: the side of the test that waits, so that the test itself need not be async."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="providers", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T], within_s: float = DEADLINE_S) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)


class Provider:
    """One listening provider. `requests` is everything received since the last `reset`."""

    def __init__(self, loop: Loop, respond: Respond, tls: ssl.SSLContext | None = None) -> None:
        self._loop, self._respond, self._tls = loop, respond, tls
        self._scripted: queue.SimpleQueue[Answer | Respond] = queue.SimpleQueue()
        self._arrived: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self._serving: set[asyncio.Task[None]] = set()
        self._sni: WeakKeyDictionary[ssl.SSLObject | ssl.SSLSocket, str | None] = WeakKeyDictionary()
        self._connections = 0
        self.requests: list[Received] = []
        self.port = 0

    def __enter__(self) -> Self:
        self._loop.run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(self._stop())

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def answer_with(self, *answers: Answer | Respond) -> None:
        """Script the next answers, in order of arrival; after the last one the default answers again."""
        for answer in answers:
            self._scripted.put(answer)

    def next_request(self) -> Received:
        """The oldest request not yet returned by this method; waits for one."""
        return self._arrived.get(timeout=DEADLINE_S)

    def reset(self) -> None:
        """Forget requests and scripted answers."""
        self.requests, self._arrived, self._scripted = [], queue.SimpleQueue(), queue.SimpleQueue()

    async def _start(self) -> None:
        if self._tls:
            self._tls.sni_callback = lambda tls, name, _: self._sni.__setitem__(tls, name)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self._serve, self._serving), "127.0.0.1", 0, ssl=self._tls, backlog=CROWD
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = self._connections
        tls = writer.get_extra_info("ssl_object")
        try:
            while received := await _read_request(reader, self._sni.get(tls) if tls else None, connection):
                await self._exchange(received, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # The caller left, or the answer was a cut: nothing more to do on this connection.
        finally:
            writer.transport.abort()

    async def _exchange(self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            scripted = self._scripted.get_nowait()
        except queue.Empty:
            scripted = self._respond
        self.requests.append(received)
        self._arrived.put(received)
        outcome = "cut short"
        try:
            answer = scripted(received) if callable(scripted) else scripted
            await _send(answer, reader, writer, with_body=received.method != "HEAD")
            outcome = "answered"
        finally:
            received.ended.set_result(outcome)


class _Connection(asyncio.StreamReaderProtocol):
    """A stream connection whose handler is cancelled as soon as the peer is gone, also while it waits at a gate."""

    def __init__(
        self,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        serving: set[asyncio.Task[None]],
    ) -> None:
        super().__init__(asyncio.StreamReader(limit=1 << 20), self._handle)
        self._serve, self._serving = serve, serving
        self._handler: asyncio.Task[None] | None = None

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._handler = task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await self._serve(reader, writer)
        self._serving.discard(task)

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # Close: nobody half-closes an HTTP connection and still waits for the answer.

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._handler:
            self._handler.cancel()


async def _read_request(reader: asyncio.StreamReader, sni: str | None, connection: int) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = request_line.split(" ")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    folded = {name.lower(): value for name, value in headers}
    if folded.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(folded.get("content-length", 0)))
    return Received(method=method, target=target, headers=headers, body=body, sni=sni, connection=connection)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return bytes(body)


async def _send(answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, with_body: bool) -> None:
    writer.write(answer.rendered_head())
    for piece in answer.pieces if with_body else ():
        match piece:
            case bytes():
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece)
                await writer.drain()
            case Gate():
                await piece.wait()
            case Cut():
                await _cut(piece, writer)
    if answer.chunked and with_body:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    if answer.status == 101:
        await _echo_frames(reader, writer)


async def _cut(how: Cut, writer: asyncio.StreamWriter) -> None:
    if how is Cut.SILENCE:
        await asyncio.get_running_loop().create_future()
    if how is Cut.RESET:
        linger = struct.pack("ii", 1, 0)  # Closing with a linger of zero seconds sends RST instead of FIN.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    else:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    raise ConnectionError(f"the script asks for {how.value}")


async def _echo_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send every WebSocket frame back, unmasked, until the close frame (RFC 6455, section 5.2)."""
    while True:
        first, second = await reader.readexactly(2)
        length = bytes([second & 0x7F])
        extension = {126: 2, 127: 8}.get(length[0], 0)
        length += await reader.readexactly(extension)
        size = int.from_bytes(length[1:]) if extension else length[0]
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(size)
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))
        writer.write(bytes([first]) + length + payload)
        await writer.drain()
        if first & 0x0F == 8:
            writer.close()  # The server closes first (section 7.1.1).
            return
