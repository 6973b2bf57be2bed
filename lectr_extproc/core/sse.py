"""Server-sent events from bytes cut anywhere: https://html.spec.whatwg.org/multipage/server-sent-events.html

Line ends may be LF, CR or CRLF, and fields come in any order. Bytes become text only after framing, and not here.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from lectr_extproc.core.json_values import JsonValues

# Two line ends. The groups are atomic, so that one CRLF is never taken for two.
_ANY_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_USUAL_END = re.compile(rb"\n\n")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_DATA_BEGINS = re.compile(rb"(?:^|[\r\n])data: ?")
_BOM = b"\xef\xbb\xbf"
SEAM = 3
"How many bytes before a chunk can belong to the end of an event inside it."


def ends(window: bytes) -> Iterator[re.Match[bytes]]:
    """The ends of the events in it. A pattern that begins with a literal is found ten times as fast."""
    return (_ANY_END if b"\r" in window else _USUAL_END).finditer(window)


class Event(NamedTuple):
    """One event; either part may be empty."""

    name: bytes
    data: bytes


class Parser:
    """Feed it chunks, get events. What is longer than `slim_above` is held without its long strings, or not at all."""

    def __init__(self, *, slim_above: int = 64 * 1024, max_bytes: int = 1024 * 1024) -> None:
        self._slim_above = slim_above
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._seam = b""
        self._is_first = True
        self._large: JsonValues | None = None
        self._slimmed = b""
        self.skipped = 0
        "Events that were too large to read, or in which nothing could be read."

    @property
    def is_between(self) -> bool:
        """No event has begun and not ended."""
        return not self._held and self._large is None

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in this chunk."""
        events: list[Event] = []
        window, before, start = self._seam + chunk, len(self._seam), 0
        for end in ends(window):
            stop = end.end() - before
            self._hold(chunk[start:stop])
            self._finish(events)
            start, self._seam = stop, b""
        rest = chunk[start:]
        if rest:
            self._hold(rest)
            self._seam = (self._seam + rest)[-SEAM:]
        return events

    def close(self) -> list[Event]:
        """The event that lacks its final blank line. Browsers drop it; SDKs do not, and usage may be in it."""
        events: list[Event] = []
        self._finish(events)
        self._seam = b""
        return events

    def _hold(self, piece: bytes) -> None:
        if self._large is None:
            self._held += piece
            if len(self._held) <= self._slim_above:
                return
            self._large = JsonValues(max_bytes=self._max_bytes)
            begin = _DATA_BEGINS.search(self._held)
            piece = bytes(self._held[begin.end() :]) if begin else b""
            del self._held[begin.start() if begin else 0 :]
        values = self._large.feed(piece)
        if values and not self._slimmed:  # of several, which are no JSON together, the first speaks
            self._slimmed = b"\ndata: " + values[0]

    def _finish(self, events: list[Event]) -> None:
        block = bytes(self._held) + self._slimmed
        self._held, self._slimmed = bytearray(), b""
        if self._is_first:
            block, self._is_first = block.removeprefix(_BOM), False
        event = parse(block)
        if self._large is not None:
            self._large = None
            self.skipped += event is None
        if event is not None:
            events.append(event)


def parse(block: bytes) -> Event | None:
    """The lines of one event as its name and its data; None if it has neither."""
    line = block.rstrip(b"\r\n")
    if line.startswith(b"data: ") and b"\n" not in line and b"\r" not in line:
        return Event(b"", line[6:])
    name = b""
    data: list[bytes] = []
    for line in _LINE_END.split(block):
        key, _, value = line.partition(b":")
        if key == b"data":
            data.append(value.removeprefix(b" "))
        elif key == b"event":
            name = value.removeprefix(b" ")
    return Event(name, b"\n".join(data)) if data or name else None
