"""Takes the usage chunk that lectr asked for out of a stream, and nothing else.

That chunk is an event whose data is a JSON object with no choices and a usage object. Vendors that put usage on their
last chunk with content keep it, and so does Azure's first chunk, which has no choices and no usage.
"""

import re

from lectr_extproc.core.answer import load
from lectr_extproc.core.sse import SEAM, ends, parse

LONGEST = 16 * 1024
"No usage chunk is longer; an event that is flows on."
# Patterns that begin with a literal, which is what makes them fast.
_NO_OBJECT = re.compile(rb"data:(?<![^\r\n]data:) ?[^{ \r\n]")
_SOME_CHOICE = re.compile(rb'"choices"\s*+:\s*+(?:[^\[\s]|\[\s*+[^\]\s])')
_NO_CHOICE = re.compile(rb'"choices"\s*+:\s*+\[\s*+\]')


class UsageStripper:
    """Feed it chunks, pass on what it returns. Bytes wait only while their event can still be the usage chunk."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._seam = b""
        self._is_passing = False
        "The event at hand is not the one, and its bytes have begun to flow."
        self._drop_lf = False
        "A removed event ended in CR, so an LF that follows belongs to it."
        self.removed_events = 0
        self.removed_bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        """What can be passed on now."""
        if self._drop_lf and chunk:
            self._drop_lf = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
                self.removed_bytes += 1
        out = bytearray()
        window, before, start = self._seam + chunk, len(self._seam), 0
        for end in ends(window):
            stop = end.end() - before
            self._finish(chunk[start:stop], out)
            start, self._seam = stop, b""
        rest = chunk[start:]
        if rest:
            self._seam = (self._seam + rest)[-SEAM:]
            self._drop_lf = False
            self._wait(rest, out)
        return bytes(out)

    @property
    def holds(self) -> bool:
        """The last event so far is incomplete and can still be the one."""
        return bool(self._held)

    def flush(self) -> bytes:
        """The stream has ended: what is still held, unless it is the chunk without its final blank line."""
        out = bytearray()
        self._finish(b"", out)
        return bytes(out)

    def _wait(self, piece: bytes, out: bytearray) -> None:
        """The first part of an event: hold it while it can still be the one."""
        if not self._is_passing:
            self._held += piece
            if len(self._held) <= LONGEST and not _SOME_CHOICE.search(self._held) and not _NO_OBJECT.search(self._held):
                return
            self._is_passing, piece = True, bytes(self._held)
            self._held.clear()
        out += piece

    def _finish(self, piece: bytes, out: bytearray) -> None:
        """The last part of an event."""
        block = bytes(self._held) + piece
        is_removed = not self._is_passing and is_usage_chunk(block)
        self._drop_lf = is_removed and block.endswith(b"\r")
        if is_removed:
            self.removed_events += 1
            self.removed_bytes += len(block)
        else:
            out += block
        self._held.clear()
        self._is_passing = False


def is_usage_chunk(block: bytes) -> bool:
    """Whether an event is the chunk that exists only because usage was asked for."""
    if not _NO_CHOICE.search(block):
        return False
    event = parse(block)
    document = load(event.data) if event else None
    if not isinstance(document, dict) or document.get("choices") != [] or "error" in document:
        return False
    usage, kind = document.get("usage"), document.get("object", "completion")
    return isinstance(usage, dict) and bool(usage) and isinstance(kind, str) and (not kind or "completion" in kind)
