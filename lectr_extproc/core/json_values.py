"""JSON objects out of bytes cut anywhere: one document, the elements of one array, or one object after another.

Strings and rows of numbers too long to matter (a picture, an embedding, the text itself) are left out on the way, so a
document of any size is read in bounded memory, and what is left of it is still JSON.
"""

import re

# A string that ends here (1) or goes on (2), anything between strings and brackets (3), a bracket (4).
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:(")|\\?(\Z))|([^"{}\[\]]+)|([{}\[\]])', re.DOTALL)
_WHOLE, _OPEN, _RUN, _BRACKET = 1, 2, 3, 4
LONG = 1024
"A string or a row of numbers above this is no id, no name and no count."


class JsonValues:
    """Feed it chunks, get the objects that end in them, each of at most `max_bytes` once slimmed."""

    def __init__(self, *, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._pending = b""
        self._value = bytearray()
        self._is_inside = False
        self._depth = 0
        self._base = 0
        "The depth at which values begin: 1 inside an outer array."
        self.skipped = 0
        "Objects that were too large even without their long strings."

    def feed(self, chunk: bytes) -> list[bytes]:
        """The objects that end in this chunk."""
        values: list[bytes] = []
        data, self._pending = self._pending + chunk, b""
        for match in _TOKEN.finditer(data):
            kind, token = match.lastindex, match.group()
            if kind == _BRACKET:
                self._bracket(token, values)
            elif kind == _OPEN or (kind == _RUN and match.end() == len(data)):
                self._pending = token if len(token) <= LONG else _cut(token)
            elif self._is_inside:
                self._value += token if len(token) <= LONG else b'""' if kind == _WHOLE else _short_run(token)
            if len(self._value) > self._max_bytes:
                self.skipped += 1
                self._value.clear()
                self._is_inside = False
        return values

    def _bracket(self, token: bytes, values: list[bytes]) -> None:
        if token in b"{[":
            if self._depth == self._base:
                self._is_inside = token == b"{"
                self._base += token == b"[" and not self._base
            self._depth += 1
        else:
            self._depth = max(0, self._depth - 1)
            self._base = min(self._base, self._depth)
        if self._is_inside:
            self._value += token
            if self._depth == self._base and len(self._value) <= self._max_bytes:
                self._is_inside = False
                values.append(bytes(self._value))
                self._value.clear()


def _cut(token: bytes) -> bytes:
    """What to keep of an unfinished token, so that its rest still fits."""
    if token[0] == ord('"'):
        escapes = len(token) - len(token.rstrip(b"\\"))
        return b'"\\' if escapes % 2 else b'"'
    return _short_run(token)


def _short_run(run: bytes) -> bytes:
    """A row of numbers as its last one, after a zero for all the others."""
    run = b"".join(run.split())
    if len(run) <= LONG:
        return run
    head, _, last = run.rpartition(b",")
    return (head[:1] if head[:1] in b":," else b"") + b"0," + last[-LONG // 2 :]
