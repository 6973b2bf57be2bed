"""What is fuzzed: each target takes any bytes, and raises only where a promise is broken.

The promises are the suite's: nothing is raised, what is held is bounded, however an answer is cut it says the same, and
no byte of it is changed. The first bytes choose how the others are read, so that one corpus reaches every dialect.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NoReturn
from zlib import crc32

import grpc

from lectr_extproc.catalog.answers import ANSWERS
from lectr_extproc.core import eventstream, sse
from lectr_extproc.core.answer import Answer
from lectr_extproc.core.encoding import FREE, PIECE, RATIO, decoder
from lectr_extproc.core.inject import inject_include_usage
from lectr_extproc.core.json_members import members, put, read
from lectr_extproc.core.json_values import LONG, JsonValues
from lectr_extproc.core.ledger import attempt_row_of, row_of
from lectr_extproc.core.multipart import boundary_of, find_field, read_field, replace_field
from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.core.spool import entry_from
from lectr_extproc.core.strip import LONGEST, UsageStripper
from lectr_extproc.core.watch import Watch, answer_from_metadata, answer_to_metadata
from lectr_extproc.edge import access_log, ext_proc, wire
from lectr_extproc.edge.attributes import of_attempt, of_span
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.logs import without_keys
from lectr_extproc.gateway import render_all
from lectr_extproc.pb import ext_proc_pb2 as ext
from lectr_extproc.settings import ConfigError, load
from tests.edge.given import settings
from tests.reading import reader

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {}
DIALECTS = sorted(ANSWERS)
PROVIDERS = ("custom", "gemini", "mistral", "openrouter", "xai")
TYPES = ("application/json", "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream", "")
CODINGS = ("gzip", "deflate", "br", "zstd")


def target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


def cut(data: bytes, size: int) -> list[bytes]:
    """In pieces of so many bytes, and in some sixty at most; of none: whole."""
    size = size and max(size, len(data) // 60)
    return [data[at : at + size] for at in range(0, len(data), size)] if size else [data]


@target
def sse_events(data: bytes) -> None:
    size, data = int.from_bytes(data[:1]), data[1:]
    whole, pieces = sse.Parser(), sse.Parser()
    events = [*whole.feed(data), *whole.close()]
    assert [event for piece in cut(data, size) for event in pieces.feed(piece)] + pieces.close() == events
    small = sse.Parser(slim_above=32, max_bytes=256)
    for piece in cut(data, size):
        small.feed(piece)
        assert len(small._held) + len(small._slimmed) <= 32 + 256 + 16


@target
def aws_events(data: bytes) -> None:
    """An odd first byte: the rest is a message's headers and its payload, in a frame that adds up."""
    kind, size, data = int.from_bytes(data[:1]), int.from_bytes(data[1:2]), data[2:]
    if kind & 1:
        length = min(kind >> 1, len(data))
        prelude = (len(data) + 16).to_bytes(4) + length.to_bytes(4)
        framed = prelude + crc32(prelude).to_bytes(4) + data
        data = (framed + crc32(framed).to_bytes(4)) * 2
    whole, pieces, small = eventstream.Parser(), eventstream.Parser(), eventstream.Parser(max_bytes=128)
    messages = whole.feed(data)
    assert [message for piece in cut(data, size) for message in pieces.feed(piece)] == messages
    for piece in cut(data, size):
        small.feed(piece)
        assert len(small._held) < 128


@target
def json_values(data: bytes) -> None:
    size, data = int.from_bytes(data[:1]), data[1:]
    values = JsonValues().feed(data)
    pieces, small = JsonValues(), JsonValues(max_bytes=64)
    if len(data) <= LONG:  # what is longer may be left out in another place
        assert [value for piece in cut(data, size) for value in pieces.feed(piece)] == values
    for piece in cut(data, size):
        assert all(len(value) <= 64 for value in small.feed(piece))
        assert len(small._value) <= 64
        assert len(small._pending) <= LONG


@target
def encodings(data: bytes) -> None:
    coding, size, data = CODINGS[int.from_bytes(data[:1]) % len(CODINGS)], int.from_bytes(data[1:2]), data[2:]
    read = {}
    for name, pieces in {"whole": [data], "cut": cut(data, size)}.items():
        chosen = decoder(coding)
        assert chosen is not None
        out = b"".join(each for piece in pieces for each in chosen.decode(piece))
        assert len(out) <= FREE + RATIO * len(data) + 2 * PIECE
        read[name] = out, chosen.failure
    if read["whole"][1] is None:
        assert read["cut"] == read["whole"]


@target
def answers(data: bytes) -> None:
    """Any dialect, framing and coding."""
    choice, size, data = data[:3].ljust(3, b"\0"), int.from_bytes(data[3:4]), data[4:]
    said: list[Answer] = []
    for pieces in ([data], cut(data, size), re.split(rb"(?<=\n\n)", data)):
        one = reader(
            DIALECTS[choice[0] % len(DIALECTS)],
            PROVIDERS[choice[1] % len(PROVIDERS)],
            status=400 if choice[1] & 128 else 200,
            content_type=TYPES[choice[2] % len(TYPES)],
            content_encoding=CODINGS[choice[2] >> 5] if choice[2] >> 5 < len(CODINGS) else "",
        )
        for piece in pieces:
            if not one.skim(piece):
                one.feed(piece)
        one.close()
        said.append(one.answer())
    if said[0].unreadable is None:
        assert said[0] == said[1] == said[2]
    told = answer_to_metadata(said[0])
    ext.ProcessingResponse.FromString(wire.pass_chunk(None, told))
    assert answer_to_metadata(answer_from_metadata(told)).keys() == told.keys()


@target
def streams(data: bytes) -> None:
    """What is taken out of a stream is what the stripper says, whatever the cut; each chunk gets one reply."""
    size, data = int.from_bytes(data[:1]), data[1:]
    seen = []
    for pieces in ([data], cut(data, size), re.split(rb"(?<=\n\n)", data)):
        stripper = UsageStripper()
        watch = Watch(reader("openai.chat", "openai", content_type="text/event-stream"), stripper)
        waiting: list[bytes] = []
        passed = b""
        for number, piece in enumerate(pieces):
            waiting.append(piece)
            for replacement, news in watch.feed(piece, is_last=number == len(pieces) - 1):
                came = waiting.pop(0)
                passed += came if replacement is None else replacement
                ext.ProcessingResponse.FromString(wire.pass_chunk(replacement, news))
            assert len(stripper._held) <= LONGEST + len(piece)
        assert not waiting
        assert len(passed) + stripper.removed_bytes == len(data)
        assert stripper.removed_events or passed == data
        seen.append(passed)
    assert seen[0] == seen[1] == seen[2]


@target
def bodies(data: bytes) -> None:
    """Forms, with a boundary of the first line, and JSON."""
    line, _, body = data.partition(b"\n")
    boundary = boundary_of(f"multipart/form-data; {line.decode('utf-8', 'surrogateescape')}") or b"b"
    read_field(body, boundary, b"model")
    if (field := find_field(body, boundary, b"model")) is not None:
        assert 0 <= field.start <= field.stop <= len(body)
        assert read_field(replace_field(body, boundary, b"model", "other"), boundary, b"model") == "other"
    at = 0
    for _name, place in members(body):
        assert at < place.start < place.stop < len(body)
        at = place.stop
    if found := members(body):
        assert read(put(body, found, "model", b'"m"'), {"model"}) == {"model": "m"}
    asked = inject_include_usage(body)
    if asked is not None:
        assert inject_include_usage(asked) in (None, asked)


class Refused(Exception):  # noqa: N818 - what context.abort raises
    pass


class Context:
    """What a servicer asks of gRPC: the messages that came, and to whom its replies go."""

    code: grpc.StatusCode | None = None

    def __init__(self, sent: Iterator[bytes]) -> None:
        self._sent = sent

    async def read(self) -> Any:
        return next(self._sent, grpc.aio.EOF)

    async def write(self, reply: bytes) -> None:
        assert reply
        ext.ProcessingResponse.FromString(reply)

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    async def abort(self, code: grpc.StatusCode, _details: str) -> NoReturn:
        self.code = code
        raise Refused


@cache
def _live() -> Live:
    providers = [{"id": "openai", "observe": "stream"}, {"id": "ollama", "base_url": "http://ollama.test:11434"}]
    return Live(settings(providers=providers, credentials={"groq": "env:GROQ"}))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def parts(data: bytes) -> Iterator[bytes]:
    """Each behind its length, of two bytes."""
    while data:
        length = int.from_bytes(data[:2])
        yield data[2 : 2 + length]
        data = data[2 + length :]


@target
def ext_proc_messages(data: bytes) -> None:
    live = _live()
    live.counts.clear()

    async def talk() -> None:
        try:
            ext.ProcessingResponse.FromString(await ext_proc.ExtProc(live).process(None, Context(parts(data))))
        except Refused:
            assert live.counts["messages_unreadable"]

    _loop().run_until_complete(talk())
    assert {name for name in live.counts if name.endswith("_failed")} == set()


def _take(entries: Any) -> None:
    live = _live()
    live.counts.clear()

    def sink(records: Sequence[CallRecord], attempts: Sequence[Attempt]) -> None:
        for record in records:
            row_of(record, without_keys)
            of_span(record)
        for attempt in attempts:
            attempt_row_of(attempt, without_keys)
            of_attempt(attempt)

    access_log.take(live, sink, entries)


@target
def access_log_messages(data: bytes) -> None:
    try:
        entries = list(access_log._entries(data))
    except wire.Unreadable:
        return
    _take(entries)
    assert not _live().counts.keys() & {"batches_failed", "entries_failed"}


@target
def spool_lines(data: bytes) -> None:
    _take([entry for line in data.splitlines() if (entry := entry_from(line))])
    assert not _live().counts.keys() & {"batches_failed", "entries_failed"}


@target
def settings_files(data: bytes) -> None:
    try:
        found = load(data.decode("utf-8", "replace"))
    except ConfigError:
        return
    for content in render_all(found.gateway, found.snapshot.upstreams).values():
        content.encode()
