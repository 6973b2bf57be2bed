"""A crowd of calls that wait for their provider, through one lectr: what they cost it, and what became of each."""

import asyncio
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast, get_args

import httpx

from tests.e2e.answers import WORDS, Flavour, data
from tests.e2e.calls import ask, asking, call
from tests.e2e.gateway import (
    BUILDS,
    ENVOY_FLAGS,
    REPOSITORY,
    Apart,
    memory_kib,
    open_files,
    wait_until,
)
from tests.e2e.provider import Answer, Gate, Loop, Provider, sse_answer
from tests.e2e.scene import Providers, settings_for
from tests.ports import free_port

WAVE = 100
"Calls begun at once: what a busy machine decides well within the seconds that Envoy waits."
MOST_OF_ONE_ENVOY = 5_000
"Each call is two open files of its Envoy, and a usual hard limit is 20,000."
MAY_GROW_KIB = 30 << 10
MAY_TAKE_KIB = 40
"An answer that lectr reads: most of it is gRPC's, which takes 25 KiB for a stream that does nothing."
WITHIN_S = 300.0
STREAMS = r".*\.lectr\.ext_proc\.streams_"
IN_CROWD = asking(user="crowd")


def provide() -> None:
    """Answer at once, but those of the crowd when a line says so; say how many came whenever a line asks."""
    gate = Gate()
    slow = sse_answer([data({"choices": [{"delta": {"content": WORDS[0]}}]}), gate, b"data: [DONE]\n\n"])
    at_once = Answer(headers=[("content-length", "2")], pieces=(b"{}",))
    came = Counter[bool]()

    def respond(received: object) -> Answer:
        is_of_crowd = getattr(received, "body", b"") == IN_CROWD
        came[is_of_crowd] += 1
        return slow if is_of_crowd else at_once

    with Loop() as loop, Provider(loop, respond) as provider:
        print(provider.port, flush=True)
        for line in sys.stdin:
            if line == "open\n":
                gate.open()
            print(came[True], flush=True)


class Elsewhere:
    """That provider, in a process of its own: the open files of one would not do for both ends."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak", "provider"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.origin = f"http://127.0.0.1:{self._line()}"
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def say(self, word: str) -> int:
        """How many of the crowd came."""
        assert self._process.stdin
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())


@dataclass(frozen=True, slots=True)
class Crowd:
    """What that many calls at a time cost lectr, and what became of them."""

    size: int
    is_read: bool
    "By lectr, and not by Envoy."
    before_kib: int
    grown_kib: int
    streams: int
    "Open ext_proc streams, with all of them in flight."
    statuses: Mapping[str, int]
    recorded: int

    @property
    def holds(self) -> bool:
        came_of_it = (self.statuses, self.recorded, self.streams)
        streams, may_grow_kib = (self.size, self.size * MAY_TAKE_KIB) if self.is_read else (0, MAY_GROW_KIB)
        return came_of_it == ({"HTTP/1.1 200 OK": self.size}, self.size, streams) and self.grown_kib <= may_grow_kib


def crowd(directory: Path, size: int, *, is_read: bool = False) -> Crowd:
    """Have that many calls wait at a time, their answers begun."""
    with Elsewhere() as provider, Loop() as clients:
        settings = settings_for(cast("Providers", dict.fromkeys(get_args(Flavour), provider)))
        for section in settings["providers"]:
            section["observe"] = "stream" if is_read else "native"
        settings["ledger"] = {"url": f"sqlite://{directory}/ledger.db"}
        with Apart(BUILDS[0], settings, directory) as gateway:
            envoys = {gateway.port: gateway.envoy_admin_port}
            for _ in range(1, -(-size // MOST_OF_ONE_ENVOY)):
                envoys |= another_envoy(gateway)
            for _ in range(300):
                call(gateway)
            wait_until(lambda: gateway.healthz().json()["ledger"]["written"] == 300, "rows of calls before")
            before, files = memory_kib(gateway.process), open_files(gateway.process)
            began = time.monotonic()

            def open_streams() -> int:
                return sum(
                    gateway.stat(STREAMS + "started", of=admin) - gateway.stat(STREAMS + "closed", of=admin)
                    for admin in envoys.values()
                )

            async def wave(port: int) -> list[bytes]:
                return await asyncio.gather(*(ask(port, IN_CROWD) for _ in range(WAVE)))

            with ThreadPoolExecutor(size // WAVE) as pool:
                answers: list[Future[list[bytes]]] = []
                ports = list(envoys)
                try:
                    for number in range(size // WAVE):
                        answers.append(pool.submit(clients.run, wave(ports[number % len(ports)]), WITHIN_S))
                        wait_until(
                            lambda: provider.say("?") >= len(answers) * WAVE,
                            f"{len(answers) * WAVE} calls at the provider",
                        )
                    in_flight = sum(
                        gateway.stat(r"http\.lectr\.downstream_rq_active", of=admin) for admin in envoys.values()
                    )
                    if is_read:
                        wait_until(lambda: open_streams() == size, "a stream of each", 60)
                    streams = open_streams()
                    grown = memory_kib(gateway.process) - before
                    print(f"{in_flight} calls in flight, {len(envoys)} Envoys, after {time.monotonic() - began:.0f} s")
                    print(f"lectr: {before} KiB before, {grown} KiB more; {streams} open ext_proc streams")
                    print(f"lectr: {files} open files before, {open_files(gateway.process)} now")
                finally:  # or the clients would wait
                    provider.say("open")
                statuses = Counter(status.decode() for answer in answers for status in answer.result())
            wait_until(lambda: gateway.healthz().json()["ledger"]["waiting"] == 0, "an empty queue", 60)
            wait_until(lambda: gateway.healthz().json()["ledger"]["written"] >= 300 + size, "a row of each", 60)
            recorded = gateway.healthz().json()["ledger"]["written"] - 300
            after = memory_kib(gateway.process) - before
            print(f"sent {size}, answered {dict(statuses)}, recorded {recorded}; then {after} KiB more than before")
    return Crowd(size, is_read, before, grown, streams, dict(statuses), recorded)


def another_envoy(gateway: Apart) -> dict[int, int]:
    """On ports of its own, with the same lectr: its port, and its admin's."""
    port, admin = free_port(), free_port()
    text = gateway.bootstrap.read_text()
    for old, new in ((gateway.port, port), (gateway.envoy_admin_port, admin)):
        assert text.count(str(old)) == 1
        text = text.replace(str(old), str(new))
    bootstrap = gateway.bootstrap.with_name(f"bootstrap-{port}.yaml")
    bootstrap.write_text(text)
    gateway.processes.start([str(gateway.build.binary), "-c", str(bootstrap), *ENVOY_FLAGS])
    wait_until(lambda: is_ready(gateway, port, admin), "another Envoy", 30)
    return {port: admin}


def is_ready(gateway: Apart, port: int, admin: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return gateway.stat(r"cluster\.lectr\.membership_healthy", of=admin) == 1
    except (httpx.TransportError, OSError, ValueError):
        return False
