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


REMOVED = {
    "as OpenAI sends it": b"data: %s\n\n" % CHUNK,
    "without a space": b"data:%s\n\n" % CHUNK,
    "with CRLF": b"data: %s\r\n\r\n" % CHUNK,
    "with CR": b"data: %s\r\r" % CHUNK,
    "with line ends of both kinds": b"data: %s\r\n\n" % CHUNK,
    "with a name and an id": b"event: chunk\nid: 7\ndata: %s\n\n" % CHUNK,
    "in two lines": b'data: {"choices": [ ],\ndata:  "usage": {"prompt_tokens": 1}}\n\n',
    "of the completions API": b'data: {"object":"text_completion","choices":[],"usage":%s}\n\n' % USAGE,
    "without an object": b'data: {"choices":[],"usage":%s}\n\n' % USAGE,
}


@pytest.mark.parametrize("name", REMOVED)
def test_exactly_the_usage_chunk_is_taken_out_wherever_the_stream_is_cut(name: str) -> None:
    removed = REMOVED[name]
    for chunks in cuts(SAID + removed + DONE):
        stripper = UsageStripper()
        assert passed(stripper, chunks) == SAID + DONE
        assert (stripper.removed_events, stripper.removed_bytes) == (1, len(removed))


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
    for chunks in cuts(stream):
        stripper = UsageStripper()
        assert passed(stripper, chunks) == stream
        assert stripper.removed_events == 0


def test_an_event_longer_than_any_usage_chunk_is_not_held_to_its_end() -> None:
    stripper = UsageStripper()
    stream = b'data: {"x":"%s","choices":[],"usage":{"a":1}}\n\n' % (b"x" * 2 * LONGEST)
    chunks = [stream[i : i + 1000] for i in range(0, len(stream), 1000)]
    for chunk in chunks:
        stripper.feed(chunk)
        assert len(stripper._held) <= LONGEST
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
