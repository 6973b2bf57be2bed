"""AWS event stream messages from bytes cut anywhere; a length or a checksum that is wrong ends the reading.

https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple
from zlib import crc32

_PRELUDE = struct.Struct(">III")
_CRC_BYTES = 4
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"Header value types of fixed size; 6 (bytes) and 7 (string) carry a length."
_BYTES, _STRING = 6, 7


class Message(NamedTuple):
    """One message, with those of its headers that are strings."""

    headers: Mapping[str, str]
    payload: bytes


class Parser:
    """Feed it chunks, get messages. One above `max_bytes` is passed over by its length."""

    def __init__(self, *, max_bytes: int = 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._to_skip = 0
        self.skipped = 0
        "Messages too large to hold."
        self.is_broken = False

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that end in this chunk."""
        messages: list[Message] = []
        passed = min(self._to_skip, len(chunk))
        self._to_skip -= passed
        if not self.is_broken:
            self._held += chunk[passed:]
        while not self.is_broken and len(self._held) >= _PRELUDE.size:
            total, header_bytes, check = _PRELUDE.unpack_from(self._held)
            if crc32(self._held[:8]) != check or header_bytes + _PRELUDE.size + _CRC_BYTES > total:
                self.is_broken = True
            elif total > self._max_bytes:
                self.skipped += 1
                self._to_skip = max(0, total - len(self._held))
                del self._held[:total]
            elif len(self._held) >= total:
                self._take(bytes(self._held[:total]), header_bytes, messages)
                del self._held[:total]
            else:
                break
        if self.is_broken:
            self._held.clear()
        return messages

    def _take(self, message: bytes, header_bytes: int, messages: list[Message]) -> None:
        content, check = message[:-_CRC_BYTES], message[-_CRC_BYTES:]
        headers = _headers(content[_PRELUDE.size : _PRELUDE.size + header_bytes])
        if crc32(content) != int.from_bytes(check) or headers is None:
            self.is_broken = True
        else:
            messages.append(Message(headers, content[_PRELUDE.size + header_bytes :]))


def _headers(data: bytes) -> dict[str, str] | None:
    """The string headers; None if they do not add up."""
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            kind = data[name_end]
            begin = name_end + 1
            size = _FIXED.get(kind)
            if size is None:
                if kind not in {_BYTES, _STRING}:
                    return None
                size = int.from_bytes(data[begin : begin + 2])
                begin += 2
            if begin + size > len(data):
                return None
            if kind == _STRING:
                headers[data[at + 1 : name_end].decode("utf-8", "replace")] = data[begin : begin + size].decode(
                    "utf-8", "replace"
                )
            at = begin + size
    except IndexError:
        return None
    return headers
