"""Content encodings undone chunk by chunk, on a copy: what the client gets stays as the provider sent it.

One decoder per answer. It hands out small pieces and refuses an answer that grows out of all proportion.
"""

import sys
import zlib
from typing import Literal, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SLICE = 16 * 1024
"How much should be given at a time: all that comes out of it is in memory at once."
PIECE = 64 * 1024
FREE = 1024 * 1024
"How much an answer may grow to, whatever it came from."
RATIO = 100
"How often its own size it may grow to beyond that. Event streams compress some thirtyfold; deflate reaches 1032."
MEMBER = 4096
"What a member or a frame counts as, whatever is in it: to begin one costs as much as to read so many bytes."
_WINDOW: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
"8 MiB, the most that RFC 9659 lets a sender of content encodings use."


Failure = Literal["broken_encoding", "inflated_too_large"]
"The bytes are not what their header says, or far too many come out of them."


class Decoder(Protocol):
    """The bytes of one answer, decoded in the order they come."""

    failure: Failure | None
    "Why nothing more can be read."

    def decode(self, chunk: bytes) -> list[bytes]:
        """What can be read now, in pieces; nothing after a failure."""


def decoder(content_encoding: str) -> Decoder | None:
    """A decoder for this header value; None if we cannot read it."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return Identity()
        case "gzip" | "x-gzip":
            return Bounded(Gzip())
        case "deflate":
            return Bounded(Deflate())
        case "br":
            return Bounded(Brotli())
        case "zstd":
            return Bounded(Zstd())
        case _:
            return None


class Identity:
    """Nothing to undo."""

    failure: Failure | None = None

    def decode(self, chunk: bytes) -> list[bytes]:
        """The chunk."""
        return [chunk]


class Stepper(Protocol):
    """One encoding: takes input once, gives output of about PIECE bytes at a time."""

    members: int
    "How many more than one have begun."

    def step(self, chunk: bytes) -> bytes:
        """Take `chunk` in, or go on with what is left if it is empty; an empty result means more input is needed."""


class Bounded:
    """Keeps an answer's size in proportion to what came over the wire."""

    def __init__(self, inner: Stepper) -> None:
        self._inner = inner
        self._allowed = FREE
        self.failure: Failure | None = None

    def decode(self, chunk: bytes) -> list[bytes]:
        """What can be read now."""
        pieces: list[bytes] = []
        if self.failure is not None:
            return pieces
        self._allowed += RATIO * len(chunk)
        try:
            piece = self._inner.step(chunk)
            while piece:
                pieces.append(piece)
                self._allowed -= len(piece)
                if self._allowed < self._inner.members * MEMBER:
                    break
                piece = self._inner.step(b"")
            if self._allowed < self._inner.members * MEMBER:
                self.failure = "inflated_too_large"
        except (zlib.error, brotli.error, zstd.ZstdError):
            self.failure = "broken_encoding"
        return pieces


class Gzip:
    """RFC 1952: members one after the other, and zeros as padding behind the last."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(31)
        self._rest = b""
        self.members = 0

    def step(self, chunk: bytes) -> bytes:
        """The next piece."""
        data = self._rest + chunk
        while True:
            if self._member.eof:
                data = data.lstrip(b"\0")
                if not data:
                    self._rest = b""
                    return b""
                self._member = zlib.decompressobj(31)
                self.members += 1
            piece = self._member.decompress(data, PIECE)
            data = self._rest = self._member.unconsumed_tail or self._member.unused_data
            if piece or not self._member.eof:
                return piece


class Deflate:
    """RFC 9110 means zlib's format; some servers send raw deflate. The first two bytes tell."""

    members = 0

    def __init__(self) -> None:
        self._inner: zlib._Decompress | None = None
        self._rest = b""

    def step(self, chunk: bytes) -> bytes:
        """The next piece."""
        data = self._rest + chunk
        if self._inner is None:
            if len(data) < 2:
                self._rest = data
                return b""
            is_zlib = data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2]) % 31 == 0
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        if self._inner.eof:
            return b""
        piece = self._inner.decompress(data, PIECE)
        self._rest = self._inner.unconsumed_tail
        return piece


class Brotli:
    """RFC 7932."""

    members = 0

    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    def step(self, chunk: bytes) -> bytes:
        """The next piece."""
        if self._inner.is_finished():
            return b""
        piece: bytes = self._inner.process(chunk, output_buffer_limit=PIECE)
        return piece


class Zstd:
    """RFC 8878: frames one after the other."""

    def __init__(self) -> None:
        self._frame = zstd.ZstdDecompressor(options=_WINDOW)
        self._rest = b""
        self.members = 0

    def step(self, chunk: bytes) -> bytes:
        """The next piece."""
        data, self._rest = self._rest + chunk, b""
        while True:
            if self._frame.eof:
                if not data:
                    return b""
                self._frame = zstd.ZstdDecompressor(options=_WINDOW)
                self.members += 1
            piece = self._frame.decompress(data, PIECE)
            data = self._frame.unused_data
            if piece or not self._frame.eof:
                self._rest = data
                return piece
