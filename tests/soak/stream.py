"""Streams of an hour, in which a provider says something now and then: each chunk comes when it is sent."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from tests.e2e.answers import OUTPUT_TOKENS, Flavour, answer_as, chat_events
from tests.e2e.calls import CHAT, JSON, asking, new_id
from tests.e2e.gateway import BUILDS, Apart, memory_kib, open_files
from tests.e2e.provider import Answer, Gate, Loop, Piece, Provider, Received, sse_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import settings_for

ASKED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "read by Envoy, where it can": ("openai", ASKED),
    "read by lectr": ("custom", ASKED),
    "read by lectr, which takes the usage chunk out": ("custom", {"stream": True}),
}
SELDOM = 30
"Every how many-th chunk the streams get that are silent for longer: after ten minutes where the others wait 20 s."


@dataclass(slots=True, kw_only=True)
class Stream:
    """One call, and what its provider says at each gate."""

    gateway: Apart
    what: str
    every: int
    gates: list[Gate]
    call_id: str = field(default_factory=new_id)
    said: list[bytes] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)
    latest_s: float = 0.0
    chunks: Iterator[bytes] = field(init=False)

    def begin(self, stack: ExitStack, provider: Provider) -> None:
        provider.answer_with(self._answer)
        name, more = CALLS[self.what]
        connection = stack.enter_context(Connection(self.gateway.port))
        named = {"x-lectr-provider": name, "x-request-id": self.call_id}
        connection.send("POST", CHAT, {**JSON, **named}.items(), asking(**more))
        assert connection.read_head().status == 200
        self.chunks = connection.chunks()
        self.seen.append(next(self.chunks))

    def hear(self, said: float) -> None:
        """What was said at that moment."""
        self.seen.append(next(self.chunks))
        self.latest_s = max(self.latest_s, time.monotonic() - said)

    def holds(self, lasted_s: float) -> bool:
        """The client has what the provider sent, but for what lectr asked for, and the record knows its usage."""
        self.seen += self.chunks
        is_asked = CALLS[self.what][1] is ASKED
        sent = [event for event in self.said if is_asked or b'"choices": []' not in event]
        record = self.gateway.record(self.call_id)
        says = (record["status"], record["usage"]["output_tokens"], record["token_source"], "error_category" in record)
        print(
            f"{self.gateway.build}, {self.what}, a chunk each {self.every}: {len(self.seen)} chunks, the latest after",
            f"{self.latest_s * 1000:.0f} ms; recorded: {says}, {record['observed']}, {record['duration_ms']} ms",
        )
        return (b"".join(self.seen), says) == (b"".join(sent), (200, OUTPUT_TOKENS, "provider", False)) and (
            record["duration_ms"] >= lasted_s * 1000
        )

    def _answer(self, received: Received) -> Answer:
        first, word, *rest = chat_events("openai", received)
        self.said = [first, *[word] * (len(self.gates) // self.every), *rest]
        pieces: list[Piece] = [first]
        for number, gate in enumerate(self.gates, start=1):
            pieces += [gate] if number % self.every else [gate, word]
        return sse_answer([*pieces, *rest])


def stream(directory: Path, minutes: float, pause_s: float) -> bool:
    """Whether streams of that length pass whole through both Envoys, however they are read."""
    gates = [Gate() for _ in range(int(minutes * 60 / pause_s))]
    with Loop() as loop, ExitStack() as stack:
        flavours: tuple[Flavour, ...] = get_args(Flavour)
        providers = {name: stack.enter_context(Provider(loop, answer_as(name))) for name in flavours}
        settings = settings_for(providers)
        custom = {"id": "custom", "base_url": providers["openai"].origin + "/v1", "observe": "stream"}
        settings["providers"] = [
            *(row | {"observe": "native"} if row["id"] == "openai" else row for row in settings["providers"]),
            custom,
        ]
        streams = []
        for build in BUILDS:
            (directory / build.profile).mkdir()
            gateway = stack.enter_context(Apart(build, settings, directory / build.profile))
            for every in (1, SELDOM):
                for what in CALLS:
                    streams.append(Stream(gateway=gateway, what=what, every=every, gates=gates))
                    streams[-1].begin(stack, providers["openai"])
        began = time.monotonic()
        for number, gate in enumerate(gates, start=1):
            time.sleep(max(0.0, began + number * pause_s - time.monotonic()))
            gate.open()
            opened = time.monotonic()
            for one in streams:
                if number % one.every == 0:
                    one.hear(opened)
            if number % SELDOM == 0:
                lectrs = [one.gateway.process for one in streams[:: len(streams) // len(BUILDS)]]
                took = ", ".join(f"{memory_kib(lectr) >> 10} MiB, {open_files(lectr)} files" for lectr in lectrs)
                print(f"{(opened - began) / 60:.0f} minutes, {len(streams)} streams; each lectr: {took}", flush=True)
        held = [one.holds(len(gates) * pause_s) for one in streams]
        return all(held)
