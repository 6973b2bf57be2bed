import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.eventstream import Message, Parser
from tests.core.aws import header, message, text
from tests.core.cuts import cuts

EVERY_TYPE = b"".join(
    header(f"h{kind}", kind, value)
    for kind, value in enumerate(
        [b"", b"", b"1", b"12", b"1234", b"12345678", b"\0\x02ab", b"\0\x01x", b"12345678", b"1" * 16]
    )
)
ONE, TWO = message(text(":event-type", "metadata"), b'{"a":1}'), message(EVERY_TYPE, b"")
READ_ONE, READ_TWO = Message({":event-type": "metadata"}, b'{"a":1}'), Message({"h7": "x"}, b"")


def read(parser: Parser, chunks: list[bytes]) -> list[Message]:
    return [found for chunk in chunks for found in parser.feed(chunk)]


def test_messages_are_read_wherever_their_bytes_are_cut() -> None:
    for chunks in cuts(ONE + TWO + message(b"", b"")):
        assert read(Parser(), chunks) == [READ_ONE, READ_TWO, Message({}, b"")]


BROKEN = {
    "a prelude with another checksum": b"\0\0\0\x20" + ONE[4:],
    "a payload that was changed": ONE.replace(b'"a"', b'"b"'),
    "headers longer than the message": message(b"", b"")[:4]
    + struct.pack(">I", 1)
    + struct.pack(">I", crc32(message(b"", b"")[:4] + struct.pack(">I", 1)))
    + b"\0" * 4,
    "a header of an unknown type": message(header("h", 10, b""), b""),
    "a header that ends in its name": message(b"\x05ab", b""),
    "a header that ends in its value": message(header("h", 5, b"123"), b""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_message_ends_the_reading_and_what_came_before_still_counts(name: str) -> None:
    for chunks in cuts(ONE + BROKEN[name] + TWO):
        parser = Parser()
        assert (read(parser, chunks), parser.is_broken, bytes(parser._held)) == ([READ_ONE], True, b"")


def test_a_message_too_large_to_hold_is_passed_over_by_its_length() -> None:
    large = message(b"", b"x" * 500)
    for chunks in cuts(ONE + large + TWO):
        parser = Parser(max_bytes=200)
        assert (read(parser, chunks), parser.skipped) == ([READ_ONE, READ_TWO], 1)


@given(st.lists(st.binary(max_size=64) | st.just(ONE) | st.just(ONE[:20])))
def test_whatever_the_bytes_memory_is_bounded(chunks: list[bytes]) -> None:
    parser = Parser(max_bytes=128)
    for chunk in chunks:
        parser.feed(chunk)
        assert len(parser._held) < 128
