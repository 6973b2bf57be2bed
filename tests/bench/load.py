"""`python -m tests.bench.load < job`: the load generator, a process of its own that imports little and parses less.

A closed loop: each connection sends its next request when the last was answered. Requests are bytes made beforehand; of
an answer the status and the end are looked for. Standard output gets what was seen, as JSON.
"""

import gc
import json
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LEFT_AT = re.compile(rb"t(\d{16})t")
"When the provider let go of a chunk, in microseconds of the clock that all processes of a machine share."


class NotAnswered(Exception):  # noqa: N818 - what an arm does, not a mistake of ours
    """Something answered with anything but 200."""


@dataclass(slots=True)
class Seen:
    """What one run of the generator saw. Times are in microseconds."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    took: list[int] = field(default_factory=list)
    first_chunk: list[int] = field(default_factory=list)
    "From the request to the first chunk."
    chunks: list[int] = field(default_factory=list)
    "From the provider to here, chunk by chunk."

    @property
    def per_s(self) -> float:
        """Calls a second."""
        return len(self.took) / self.seconds


def request(port: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """A call as its bytes."""
    lines = ["POST /v1/chat/completions HTTP/1.1", f"host: 127.0.0.1:{port}", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode() + body


def drive(port: int, sent: bytes, connections: int, seconds: float) -> Seen:
    """That many connections for so long. One that is answered with anything but 200 ends everything."""
    seen, ready = Seen(), select.epoll()
    open_: dict[int, socket.socket] = {}
    began: dict[int, int] = {}
    got: dict[int, bytes] = {}
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ready.register(connection, select.EPOLLIN)
        open_[connection.fileno()] = connection
    cpu, start = time.process_time(), time.monotonic()
    end = start + seconds
    for number, connection in open_.items():
        began[number], got[number] = time.monotonic_ns(), b""
        connection.sendall(sent)
    while began:
        for number, _ in ready.poll():
            data = open_[number].recv(1 << 18)
            if not data:
                raise SystemExit(f"the connection was closed after {got[number][:300]!r}")
            if got[number]:
                data = got[number] + data
            if not is_whole(data):
                got[number] = data
                continue
            now = time.monotonic_ns()
            seen.took.append((now - began.pop(number)) // 1000)
            if not data.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"not answered: {data[:600]!r}")
            if now < end * 1e9:
                began[number], got[number] = time.monotonic_ns(), b""
                open_[number].sendall(sent)
    seen.seconds, seen.cpu_s = time.monotonic() - start, time.process_time() - cpu
    return seen


def is_whole(data: bytes) -> bool:
    """Whether an answer has come to its end."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return False
    if length := _LENGTH.search(data, 0, head):
        return len(data) - head - 4 >= int(length[1])
    return data.endswith(b"\r\n0\r\n\r\n")


def follow(port: int, sent: bytes, seconds: float) -> Seen:
    """One stream after the other for so long, and at least one; each chunk as it comes."""
    seen = Seen()
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    cpu, start = time.process_time(), time.monotonic()
    while not seen.took or time.monotonic() < start + seconds:
        began, is_first, whole, rest = time.monotonic_ns() // 1000, True, b"", b""
        connection.sendall(sent)
        while not whole.endswith(b"\r\n0\r\n\r\n"):
            data = connection.recv(1 << 18)
            now = time.monotonic_ns() // 1000
            if not data or (not whole and not data.startswith(b"HTTP/1.1 200")):
                raise SystemExit(f"not answered: {data[:600]!r}")
            if (marks := _LEFT_AT.findall(rest + data)) and is_first:
                seen.first_chunk.append(now - began)
                is_first = False
            seen.chunks.extend(now - int(mark) for mark in marks)
            rest = (rest + data)[-17:]  # less than a mark, so that one cut in two is found once
            whole = (whole + data)[-16:]
        seen.took.append(time.monotonic_ns() // 1000 - began)
    seen.seconds, seen.cpu_s = time.monotonic() - start, time.process_time() - cpu
    return seen


def run(how: str, port: int, sent: bytes, seconds: float, connections: int = 1) -> Seen:
    """The same in a process of its own, on whichever cores this one may use."""
    job = {"how": how, "port": port, "sent": sent.decode("latin-1"), "seconds": seconds, "connections": connections}
    command = [sys.executable, "-m", "tests.bench.load"]
    done = subprocess.run(command, input=json.dumps(job), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAnswered(done.stderr.strip()[-700:])
    return Seen(**json.loads(done.stdout))


if __name__ == "__main__":
    gc.disable()  # it makes no cycles, and a pause of its own would be somebody's latency
    job = json.load(sys.stdin)
    how, sent = job.pop("how"), job.pop("sent").encode("latin-1")
    seen = follow(job["port"], sent, job["seconds"]) if how == "follow" else drive(sent=sent, **job)
    json.dump(asdict(seen), sys.stdout)
