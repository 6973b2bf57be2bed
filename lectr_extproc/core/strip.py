"""Takes the usage chunk that lectr asked for out of a stream, and nothing else.

That chunk is an event whose data is a JSON object with no choices and a usage object. Vendors that put usage on their
last chunk with content keep it, and so does Azure's first chunk, which has no choices and no usage.
"""

import re

from lectr_extproc.core.answer import load
from lectr_extproc.core.sse import SEAM, ends, parse

LONGEST = 16 * 1024
"No usage chunk is longer; an event that is flows on."
# Patterns that begin with a literal, which is what makes them fast. What they find in the beginning of an event they
# find in all of it, so that no cut changes what is decided. A value may begin in the next `data:` line: hence no d.
_DATA = re.compile(rb"data:(?<![^\r\n]data:)[ \t]*+([^ \t\r\n])")
_SOME_USAGE = re.compile(rb'"usage"\s*+:\s*+\{')
_SOME_CHOICE = re.compile(rb'"choices"\s*+:\s*+(?:[^\[\sd]|\[\s*+[^\]\sd])')


class UsageStripper:
    """Feed it chunks, pass on what it returns. Bytes wait only while their event can still be the usage chunk."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._seam = b""
        self._is_passing = False
        "The event at hand is not the one, and its bytes have begun to flow."
        self._ended_in_cr = False
        "An LF that follows belongs to the last event, and goes where that went."
        self._was_removed = False
        self.is_over = False
        "The client was told that the answer broke off, and nothing more passes."
        self.removed_events = 0
        self.removed_bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        """What can be passed on now."""
        out = bytearray()
        if self._ended_in_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            if self._was_removed:
                self.removed_bytes += 1
            else:
                out += b"\n"
            self._ended_in_cr = False
        window, before, start = self._seam + chunk, len(self._seam), 0
        for end in ends(window):
            stop = end.end() - before
            self._finish(chunk[start:stop], out)
            start, self._seam = stop, b""
        rest = chunk[start:]
        if rest:
            self._seam = (self._seam + rest)[-SEAM:]
            self._ended_in_cr = False
            self._wait(rest, out)
        return bytes(out)

    def would_pass(self, whole_events: bytes) -> bool:
        """Whether it would return them as they are, and be as it was."""
        is_between = not (self._held or self._is_passing or self._ended_in_cr)
        return is_between and not _SOME_USAGE.search(whole_events)

    @property
    def holds(self) -> bool:
        """The last event so far is incomplete and can still be the one."""
        return bool(self._held)

    def let_go(self) -> bytes:
        """What is held, for its event is to flow on whatever it is."""
        held, self._is_passing = bytes(self._held), True
        self._held.clear()
        return held

    def flush(self) -> bytes:
        """The stream has ended: what is still held, unless it is the chunk without its final blank line."""
        out = bytearray()
        self._finish(b"", out)
        return bytes(out)

    def break_off(self) -> bytes:
        """The stream has ended too early, which is the client's to see for itself."""
        return self.flush()

    def _wait(self, piece: bytes, out: bytearray) -> None:
        """The first part of an event: hold it while it can still be the one."""
        if not self._is_passing:
            self._held += piece
            if not self._is_settled(self._held):
                return
            self._is_passing, piece = True, bytes(self._held)
            self._held.clear()
        out += piece

    def _finish(self, piece: bytes, out: bytearray) -> None:
        """The last part of an event."""
        block = bytes(self._held) + piece
        instead = None if self._is_passing else self._instead(block)
        self._was_removed = instead is not None
        self._ended_in_cr = piece.endswith(b"\r")
        if instead is not None:
            self.removed_events += 1
            self.removed_bytes += len(block)
        out += block if instead is None else instead
        self._held.clear()
        self._is_passing = False

    def _is_settled(self, block: bytes | bytearray) -> bool:
        """Whether an event that begins like this passes, however it goes on."""
        return _is_another(block)

    def _instead(self, block: bytes) -> bytes | None:
        """What passes in an event's place; None is the event itself."""
        return b"" if is_usage_chunk(block) else None


def _is_another(block: bytes | bytearray) -> bool:
    """Whether an event that begins like this is not the one, however it goes on."""
    if _SOME_CHOICE.search(block) or len(block.rstrip(b"\r\n")) > LONGEST:
        return True
    data = _DATA.search(block)
    return data is not None and data[1] != b"{"


def is_usage_chunk(block: bytes) -> bool:
    """Whether an event is the chunk that exists only because usage was asked for."""
    if _is_another(block) or b'"choices"' not in block:
        return False
    event = parse(block)
    document = load(event.data) if event else None
    if not isinstance(document, dict) or document.get("choices") != [] or "error" in document:
        return False
    usage, kind = document.get("usage"), document.get("object", "completion")
    return isinstance(usage, dict) and bool(usage) and isinstance(kind, str) and (not kind or "completion" in kind)
