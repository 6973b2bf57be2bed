import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.json_values import LONG
from lectr_extproc.core.sse import Event, Parser
from tests.core.cuts import cuts

STREAMS: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "LF": (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
    "CR": (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
    "all mixed": (b"data: a\n\r\ndata: b\r\n\rdata: c\r\n\n", [(b"", b"a"), (b"", b"b"), (b"", b"c")]),
    "CRLF lines are not taken for blank ones": (b"event: e\r\ndata: a\r\n\r\n", [(b"e", b"a")]),
    "no space": (b"data:a\n\n", [(b"", b"a")]),
    "one space of two": (b"data:  a\n\n", [(b"", b" a")]),
    "a named event": (b"event: message_stop\ndata: {}\n\n", [(b"message_stop", b"{}")]),
    "the data before the name": (b"data: {}\nevent: e\n\n", [(b"e", b"{}")]),
    "data in several lines": (b"data: {\ndata: }\n\n", [(b"", b"{\n}")]),
    "comments": (b": PROCESSING\n\n:\n\ndata: a\n: b\n\n", [(b"", b"a")]),
    "fields that say nothing to us": (b"id: 1\nretry: 5\ndata: a\nodd\n\n", [(b"", b"a")]),
    "a name without data": (b"event: ping\n\n", [(b"ping", b"")]),
    "empty data": (b"data\n\ndata:\n\n", [(b"", b"")]),
    "blank lines": (b"\n\n\n\r\n\r\ndata: a\n\n\n\n", [(b"", b"a")]),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
    "no final blank line": (b"data: a\n\ndata: b", [(b"", b"a"), (b"", b"b")]),
    "no final blank line, after CRLF": (b"data: a\r\n", [(b"", b"a")]),
    "nothing": (b"", []),
    "a character of several bytes": ("data: é–𝄞\n\n".encode(), [(b"", "é–𝄞".encode())]),
}


def events(parser: Parser, chunks: list[bytes]) -> list[Event]:
    return [*(event for chunk in chunks for event in parser.feed(chunk)), *parser.close()]


@pytest.mark.parametrize("name", STREAMS)
def test_an_event_stream_reads_the_same_wherever_it_is_cut(name: str) -> None:
    stream, expected = STREAMS[name]
    wanted = [Event(*event) for event in expected if event != (b"", b"")]
    for chunks in cuts(stream):
        read = [event for event in events(Parser(), chunks) if event != (b"", b"")]
        assert read == wanted


LARGE = b'event: e\ndata: {"text": "%s", "usage": {"n": 1}}\n\n' % (b"x" * 5000)


def test_a_large_event_is_read_without_its_long_strings() -> None:
    for size in (1, 7, 300, len(LARGE)):
        chunks = [LARGE[i : i + size] for i in range(0, len(LARGE), size)]
        first, second = events(Parser(slim_above=64), [*chunks, b"data: a\n\n"])
        assert (first.name, second) == (b"e", Event(b"", b"a"))
        assert orjson.loads(first.data)["usage"] == {"n": 1}
        assert len(first.data) < 2 * LONG
    assert len(events(Parser(slim_above=64), [LARGE])[0].data) < 64


HOPELESS = {
    "that has too many members": b"data: {%s}\n\n" % (b'"a":1,' * 1000),
    "that is no JSON": b"data: %s\n\n" % (b"x" * 5000),
    "of a comment": b":%s\n\n" % (b"x" * 5000),
}


@pytest.mark.parametrize("name", HOPELESS)
def test_an_event_too_large_to_read_is_passed_over(name: str) -> None:
    parser = Parser(slim_above=64, max_bytes=1024)
    assert (events(parser, [HOPELESS[name], b"data: a\n\n"]), parser.skipped) == ([Event(b"", b"a")], 1)


def test_an_event_that_never_ends_holds_the_first_of_its_documents_alone() -> None:
    parser = Parser(slim_above=32, max_bytes=256)
    for number in range(50):
        parser.feed(b'data: {"a": %d, "b": "%s"}\n' % (number, b"x" * 100))
        assert len(parser._held) + len(parser._slimmed) <= 32 + 256
    (event,) = parser.feed(b"\n")
    assert orjson.loads(event.data)["a"] == 0
    assert parser.feed(b"data: a\n\n") == [Event(b"", b"a")]


@given(st.lists(st.binary(max_size=200) | st.sampled_from([b"data: ", b"\n", b"\r", b"{", b"}", b'"', b"event: e"])))
def test_whatever_the_bytes_they_are_read_or_passed_over_in_bounded_memory(chunks: list[bytes]) -> None:
    parser = Parser(slim_above=32, max_bytes=256)
    for chunk in chunks:
        parser.feed(chunk)
        assert len(parser._held) + len(parser._slimmed) <= 32 + 256 + 16
    parser.close()
