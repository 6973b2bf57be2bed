"""A client that sees bytes: HTTP/1.1 over one socket, nothing folded, decoded or reordered."""

import contextlib
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

Headers = list[tuple[str, str]]
DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A status line and headers as they came."""

    status: int
    headers: Headers

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


class Connection:
    """One connection; requests on it follow each other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        self._file.close()
        self._socket.close()

    def send(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        body: bytes = b"",
        host: str | None = "gateway.test",
    ) -> None:
        """Send a request; `content-length` is added unless the headers frame the body themselves."""
        pairs = [*([("host", host)] if host else []), *headers]
        framed = {"content-length", "transfer-encoding"} & {name.lower() for name, _ in pairs}
        if not framed and (body or method == "POST"):
            pairs.append(("content-length", str(len(body))))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs), "", ""]
        self.send_bytes("\r\n".join(lines).encode("latin-1") + body)

    def send_bytes(self, data: bytes) -> None:
        # Who is turned away before all was sent meets a closed connection, and finds the answer on it.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            self._socket.sendall(data)

    def read_head(self) -> Head:
        status_line = self._line()
        headers = []
        while line := self._line():
            name, _, value = line.partition(":")
            headers.append((name, value.strip()))
        return Head(status=int(status_line.split(" ")[1]), headers=headers)

    def read_body(self, head: Head) -> bytes:
        """The whole body, however it is framed; an early end raises EOFError."""
        if head.values("transfer-encoding") == ["chunked"]:
            return b"".join(self.chunks())
        return self.read_exactly(int(head.values("content-length")[0]))

    def chunks(self) -> Iterator[bytes]:
        """The data of each transfer chunk, as soon as it is complete."""
        while size := int(self._line(), 16):
            yield self.read_exactly(size)
            self._line()
        self._line()

    def read_exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError(f"the connection ended {size - len(data)} bytes early")
        return data

    def _line(self) -> str:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the connection ended within a line")
        return line[:-2].decode("latin-1")
