from collections.abc import Iterator
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.strip import LONGEST, UsageStripper
from tests.core.cuts import cuts

USAGE = b'{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'
CHUNK = b'{"id":"c","object":"chat.completion.chunk","choices":[],"usage":%s}' % USAGE
SAID = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"x"}}],"usage":null}\n\n'
DONE = b"data: [DONE]\n\n"


def passed(stripper: UsageStripper, chunks: list[bytes]) -> bytes:
    return b"".join(map(stripper.feed, chunks)) + stripper.flush()


def near_cuts(stream: bytes) -> Iterator[list[bytes]]:
    """Every cut of a short stream; of a long one those near its ends and near the longest event's."""
    if len(stream) < LONGEST:
        yield from cuts(stream)
        return
    yield [stream]
    for cut in (*range(1, 200), *range(LONGEST - 200, len(stream))):
        yield [stream[:cut], stream[cut:]]


REMOVED = {
    "as OpenAI sends it": b"data: %s\n\n" % CHUNK,
    "without a space": b"data:%s\n\n" % CHUNK,
    "with CRLF": b"data: %s\r\n\r\n" % CHUNK,
    "with CR": b"data: %s\r\r" % CHUNK,
    "with line ends of both kinds": b"data: %s\r\n\n" % CHUNK,
    "with a name and an id": b"event: chunk\nid: 7\ndata: %s\n\n" % CHUNK,
    "in two lines": b'data: {"choices":[],\ndata: "usage":%s}\n\n' % USAGE,
    "in two lines that are indented": b'data:  {"choices": [ ],\ndata:  "usage":%s}\n\n' % USAGE,
    "in as many lines as there are places for their ends": b'data:\ndata: {\rdata: "choices"\ndata: :\r\ndata: [\n'
    b'data: ],\ndata: "usage":%s\ndata: }\n\n' % USAGE,
    "as long as it can be": (b'data: {"choices":[],"usage":%s}' % USAGE).ljust(LONGEST) + b"\r\n\r\n",
    "of the completions API": b'data: {"object":"text_completion","choices":[],"usage":%s}\n\n' % USAGE,
    "without an object": b'data: {"choices":[],"usage":%s}\n\n' % USAGE,
}


@pytest.mark.parametrize("name", REMOVED)
def test_exactly_the_usage_chunk_is_taken_out_wherever_the_stream_is_cut(name: str) -> None:
    removed = REMOVED[name]
    for chunks in near_cuts(SAID + removed + DONE):
        stripper = UsageStripper()
        assert passed(stripper, chunks) == SAID + DONE
        assert (stripper.removed_events, stripper.removed_bytes) == (1, len(removed))


FRAMINGS = {
    f"{first!r} and {second!r}": (first, first + second)
    for first, second in product([b"\n", b"\r", b"\r\n"], repeat=2)
    if (first, second) != (b"\r", b"\n")  # which is one line end
}


@pytest.mark.parametrize(("line_end", "event_end"), FRAMINGS.values(), ids=FRAMINGS)
def test_the_events_around_it_keep_every_byte_however_lines_end_and_wherever_they_are_cut(
    line_end: bytes, event_end: bytes
) -> None:
    said, removed, done = (
        b"id: 7" + line_end + event.strip() + event_end for event in (SAID, REMOVED["as OpenAI sends it"], DONE)
    )
    for chunks in cuts(said + removed + removed + done):
        stripper = UsageStripper()
        assert passed(stripper, chunks) == said + done
        assert (stripper.removed_events, stripper.removed_bytes) == (2, 2 * len(removed))


def test_a_line_feed_that_comes_after_its_carriage_return_goes_where_the_event_went() -> None:
    stripper = UsageStripper()
    said, removed = SAID.strip() + b"\r\n\r", REMOVED["with CRLF"][:-1]
    assert [stripper.feed(chunk) for chunk in (said, b"", b"\n" + removed, b"", b"\n", DONE)] == [
        said,
        b"",
        b"\n",
        b"",
        b"",
        DONE,
    ]
    assert (stripper.removed_events, stripper.removed_bytes) == (1, len(removed) + 1)


def test_it_is_taken_out_even_if_its_last_blank_line_is_missing() -> None:
    for chunks in cuts(SAID + b"data: " + CHUNK):
        assert passed(UsageStripper(), chunks) == SAID


KEPT = {
    "a chunk with content": b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"usage":%s}\n\n' % USAGE,
    "the last chunk of Gemini's layer": b'data: {"choices":[{"finish_reason":"stop"}],"usage":%s}\n\n' % USAGE,
    "Azure's first chunk": b'data: {"choices":[],"model":"","prompt_filter_results":[{}]}\n\n',
    "a chunk without usage": b'data: {"choices":[],"usage":null}\n\n',
    "a chunk with an empty usage": b'data: {"choices":[],"usage":{}}\n\n',
    "an error beside the usage": b'data: {"choices":[],"error":{"code":502},"usage":%s}\n\n' % USAGE,
    "another kind of object": b'data: {"object":"list","choices":[],"usage":%s}\n\n' % USAGE,
    "an object of no kind": b'data: {"object":7,"choices":[],"usage":%s}\n\n' % USAGE,
    "choices further in": b'data: {"a":{"choices":[]},"usage":%s}\n\n' % USAGE,
    "choices that are none": b'data: {"choices":null,"usage":%s}\n\n' % USAGE,
    "choices that are further in and some": b'data: {"choices":[],"usage":{"a":{"choices":[1]}}}\n\n',
    "an array in two lines": b'data:\ndata: [{"choices":[],"usage":%s}]\n\n' % USAGE,
    "choices in the next line": b'data: {"usage":%s,"choices":[\ndata: {"index":0}]}\n\n' % USAGE,
    "one byte too many": (b'data: {"choices":[],"usage":%s}' % USAGE).ljust(LONGEST + 1) + b"\n\n",
    "an array": b'data: [{"choices":[],"usage":%s}]\n\n' % USAGE,
    "broken JSON": b'data: {"choices":[],"usage":%s\n\n' % USAGE,
    "a comment that quotes it": b": %s\n\n" % CHUNK,
    "an event that names another field": b"datum: %s\n\n" % CHUNK,
    "an empty event": b"\n\n",
    "the end": DONE,
    "an event of Anthropic's": b'event: message_delta\ndata: {"type":"message_delta","usage":{}}\n\n',
}


@pytest.mark.parametrize("name", KEPT)
def test_no_other_event_is_touched(name: str) -> None:
    stream = SAID + KEPT[name] + DONE
    for chunks in near_cuts(stream):
        stripper = UsageStripper()
        assert passed(stripper, chunks) == stream
        assert stripper.removed_events == 0


def test_an_event_longer_than_any_usage_chunk_is_not_held_to_its_end() -> None:
    stripper = UsageStripper()
    stream = b'data: {"x":"%s","choices":[],"usage":{"a":1}}\n\n' % (b"x" * 2 * LONGEST)
    chunks = [stream[i : i + 1000] for i in range(0, len(stream), 1000)]
    for chunk in chunks:
        stripper.feed(chunk)
        assert len(stripper._held) <= LONGEST + len(b"\r\n")
    assert passed(UsageStripper(), chunks) == stream


HELD_BACK = {
    "content": (b'data: {"id":"c","choices":[{', b""),
    "the end": (b"data: [", b""),
    "something that is no list": (b'data: {"choices":n', b""),
    "what can still be it": (b'data: {"id":"c","choices":[]', b'data: {"id":"c","choices":[]'),
    "what has only begun": (b"da", b"da"),
}


@pytest.mark.parametrize("name", HELD_BACK)
def test_bytes_wait_only_while_they_can_still_be_the_usage_chunk(name: str) -> None:
    sent, held = HELD_BACK[name]
    stripper = UsageStripper()
    assert stripper.feed(SAID + sent) == SAID + sent[: len(sent) - len(held)]
    assert stripper.flush() == held


def test_once_an_event_is_known_not_to_be_it_the_rest_flows_as_it_comes() -> None:
    stripper = UsageStripper()
    stripper.feed(b'data: {"choices":[{')
    assert stripper.feed(b'"delta":') == b'"delta":'
    assert stripper.feed(b"{}}]}\n\ndata: ") == b"{}}]}\n\n"


def test_a_line_feed_of_the_next_event_is_not_taken_for_the_removed_ones() -> None:
    stripper = UsageStripper()
    assert stripper.feed(b"data: %s\r\r" % CHUNK) == b""
    assert stripper.feed(b"\n" + DONE) == DONE
    assert stripper.feed(b"\n") + stripper.flush() == b"\n"


EVENTS = st.sampled_from([SAID, DONE, *KEPT.values(), b"\r\n", b"data: {", b"\xef\xbb\xbf"]) | st.binary(max_size=20)
PARTS = st.lists(EVENTS | st.sampled_from(list(REMOVED.values())), max_size=6)


@given(st.binary() | st.lists(EVENTS, max_size=6).map(b"".join), st.integers(1, 40))
def test_whatever_the_bytes_nothing_but_usage_chunks_is_lost(stream: bytes, size: int) -> None:
    stripper = UsageStripper()
    out = passed(stripper, [stream[i : i + size] for i in range(0, len(stream), size)])
    if b'"usage"' not in stream:
        assert out == stream
    assert len(out) + stripper.removed_bytes == len(stream)


@given(PARTS, st.integers(1, 40))
def test_what_is_lost_is_what_is_counted_and_the_rest_keeps_its_order(parts: list[bytes], size: int) -> None:
    stream = b"".join(parts)
    stripper = UsageStripper()
    out = passed(stripper, [stream[i : i + size] for i in range(0, len(stream), size)])
    assert len(out) + stripper.removed_bytes == len(stream)
    at = iter(stream)
    assert all(byte in at for byte in out)  # a subsequence
    assert len(stripper._held) == 0


LINES = st.tuples(
    st.sampled_from([*REMOVED.values(), SAID, DONE, KEPT["Azure's first chunk"], KEPT["a comment that quotes it"]]),
    st.sampled_from([*FRAMINGS.values()]),
)


@given(st.lists(LINES, max_size=5), st.lists(st.integers(0, 2000), max_size=12))
def test_of_any_mixture_in_any_pieces_what_is_left_is_the_stream_without_the_chunks(
    parts: list[tuple[bytes, tuple[bytes, bytes]]], at: list[int]
) -> None:
    events = [(raw in REMOVED.values(), raw.strip(b"\r\n") + end) for raw, (_, end) in parts]
    stream = b"".join(event for _, event in events)
    stripper = UsageStripper()
    out = passed(stripper, [stream[i:j] for i, j in pairwise([0, *sorted(at), len(stream)]) if i <= j])
    assert out == b"".join(event for is_usage, event in events if not is_usage)
    assert stripper.removed_bytes == sum(len(event) for is_usage, event in events if is_usage)


@given(st.lists(st.sampled_from([SAID, b"data: %s\n\n" % CHUNK, DONE, SAID[:9], SAID[9:], SAID.replace(b"\n", b"\r")])))
def test_what_is_said_to_pass_is_passed_and_leaves_no_trace(pieces: list[bytes]) -> None:
    fed, spared = UsageStripper(), UsageStripper()
    for piece in pieces:
        is_whole = piece.endswith(b"\n\n")
        would = spared.would_pass(piece) and is_whole
        assert fed.feed(piece) == (piece if would else spared.feed(piece))
