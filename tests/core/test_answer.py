import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import brotli
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.answer import (
    CHOICES,
    FIRST,
    RAW_BYTES,
    Answer,
    AnswerReader,
    AnswerRow,
    Bounds,
    Unreadable,
    load,
)
from lectr_extproc.core.encoding import FREE, RATIO, SLICE
from lectr_extproc.core.provider_error import ProviderError
from lectr_extproc.core.usage import Usage, UsageShape, reading
from tests.core.aws import message, text
from tests.core.cuts import cuts

SHAPE = UsageShape(
    places=("usage", ""),
    readings=(reading("in", "input_tokens"), reading("out", "output_tokens"), reading("x-counted", "output_tokens")),
    source="https://example.com",
    checked=date(2026, 11, 21),
)
HEADERS = UsageShape(
    places=("headers",),
    readings=(reading("x-counted", "output_tokens"),),
    source="https://example.com",
    checked=date(2026, 11, 21),
)
ROW = AnswerRow(
    dialect="test",
    shapes=(SHAPE, HEADERS),
    words={"model": ("model",), "response_id": ("id",), "tier": ("tier",), "speed": ("speed",)},
    finish=("stop",),
    finish_each=(("choices[]", "finish"),),
    ends=(("type", "end"), ("done", True)),
    text=("text",),
)


def read(*chunks: bytes, close: bool = True, **columns: Any) -> Answer:
    reader = AnswerReader(ROW, "custom", **columns)
    for chunk in chunks:
        reader.feed(chunk)
    if close:
        reader.close()
    return reader.answer()


def test_before_anything_came_nothing_is_known() -> None:
    assert read(close=False) == read() == Answer()


def test_a_stream_tells_what_it_has_said_before_it_ends() -> None:
    said = read(b'data: {"model": "m", "id": "1", "text": "four"}\n\ndata: {"usage": {"in": 3}}\n\n', close=False)
    expected = Answer(model_answered="m", response_id="1", usage=Usage(input_tokens=3), output_bytes=4)
    assert said == expected


def test_asking_after_each_chunk_changes_nothing_of_what_is_said_in_the_end() -> None:
    stream = b'data: {"model": "m", "text": "a"}\n\n' * 6 + b'data: {"usage": {"in": 3}}\n\ndata: [DONE]\n\n'
    for chunks in cuts(stream):
        reader = AnswerReader(ROW, "custom")
        for chunk in chunks:
            reader.feed(chunk)
            asked = reader.answer()
        assert asked == read(stream)
        assert asked.output_bytes == 6


def test_an_event_that_tells_nothing_is_not_parsed_and_its_text_is_measured() -> None:
    first = b'data: {"n": 1}\n\n' * 4
    assert read(first + b'data: {"model": "late", "text": "a\\"b"}\n\n') == Answer(output_bytes=4)
    assert read(first + b'data: {"model": "late", "usage": null, "done": false}\n\n') == Answer()
    assert read(first + b'data: {"model": "late", "usage" : {"in": 1}}\n\n').model_answered == "late"


PIECES = [
    b'data: {"text": "four"}\n\n',
    b'data: {"text": "a\\"b", "usage": null}\n\ndata: {"text": ""}\n\n',
    b'event: delta\ndata: {"text": "x"}\n\n',
    b'event: error\ndata: {"text": "x"}\n\n',
    b"event: error\n\n",
    b'data: {"usage": {"in": 3}}\n\n',
    b'data: {"type": "end"}\n\n',
    b'data: {"text": "cut here ->',
    b'<-", "model": "m"}\n\n',
    b'data: {"text": "x\ndata: y", "done": true}\n\n',
    b'data: {"text": "broken \\\n\n',
    b'data: {"text": "not ended\n\ndata: {"text": "y"}\n\n',
    b'data: {"text": "x"}\r\n\r\n',
    b": ping\n\n",
    b'data: {"text": "%b"}\n\n' % (b"long" * 20_000),
    b"data: [DONE]\n\n",
]


@given(st.lists(st.sampled_from(PIECES)))
def test_a_chunk_that_is_skimmed_is_read_as_if_it_had_been_fed(pieces: list[bytes]) -> None:
    fed, skimming = AnswerReader(ROW, "custom"), AnswerReader(ROW, "custom")
    for piece in [*[PIECES[0]] * FIRST, *pieces]:
        fed.feed(piece)
        if not skimming.skim(piece):
            skimming.feed(piece)
        assert skimming.answer() == fed.answer()


def test_encoded_bytes_that_look_like_events_are_not_skimmed() -> None:
    stored = gzip.compress(PIECES[0] * 9 + b'data: {"usage": {"in": 3}}\n\n', compresslevel=0)
    begin, size = stored.index(PIECES[0]), len(PIECES[0])
    pieces = [stored[:begin], *(stored[begin + n * size :][:size] for n in range(9)), stored[begin + 9 * size :]]
    reader = AnswerReader(ROW, "custom", content_encoding="gzip")
    for piece in pieces:
        assert not reader.skim(piece)
        reader.feed(piece)
    assert reader.answer() == Answer(output_bytes=36, usage=Usage(input_tokens=3))


def test_whole_events_that_tell_nothing_but_text_are_skimmed() -> None:
    reader = AnswerReader(ROW, "custom")
    for piece in [PIECES[0]] * FIRST:
        assert not reader.skim(piece), "its id and its model are in one of the first"
        reader.feed(piece)
    broken = {10, 11}  # of which nothing could be read either
    assert {at for at, piece in enumerate(PIECES) if reader.skim(piece)} == {0, 1, 2} | broken


def test_words_about_usage_in_a_text_are_a_text() -> None:
    first = b'data: {"n": 1}\n\n' * 4
    quoted = json.dumps({"model": "late", "text": '"usage": {"in": 7}, "error": 1'}).encode()
    assert read(first + b"data: " + quoted + b"\n\n").usage is None


ENDS = {
    "[DONE]": b"data: [DONE]\n\n",
    "a type": b'data: {"type": "end"}\n\n',
    "the name of an event without a type": b"event: end\ndata: {}\n\n",
    "a mark": b'data: {"done": true}\n\n',
    "a whole document": b'{"model": "m"}',
}


@pytest.mark.parametrize("name", ENDS)
def test_the_end_of_an_answer_is_known_by_its_own_mark(name: str) -> None:
    assert [read(chunk_).is_complete for chunk_ in (ENDS[name], b'data: {"done": false}\n\n')] == [True, False]


def test_a_document_that_was_cut_is_not_complete() -> None:
    assert read(b'{"model": "m", "usage": {"in": 1}') == Answer()


def test_what_is_not_settled_yet_is_not_said() -> None:
    undecided = b'data: {"tier": "auto", "stop": "in_progress", "model": "", "id": 7}\n\n'
    assert read(undecided) == Answer()
    settled = read(undecided + b'data: {"tier": "flex", "stop": "length", "model": "m", "id": "1"}\n\n')
    assert (settled.service_tier, settled.finish_reasons) == ("flex", ("length",))
    assert read(b'{"tier": "standard", "speed": "fast"}').service_tier == "fast"


def test_each_choice_has_its_finish_reason_and_their_number_is_bounded() -> None:
    choices = [{"index": i, "finish": f"r{i}"} for i in range(CHOICES * 2)] + [{"index": "x", "finish": "y"}, 7]
    choices.reverse()
    said = read(json.dumps({"choices": choices}).encode())
    assert said.finish_reasons == tuple(f"r{i}" for i in range(CHOICES))


def test_a_name_without_end_is_cut() -> None:
    assert len(read(b'{"model": "%s"}' % (b"m" * 1000)).model_answered or "") == 256


FRAMINGS: dict[str, tuple[str, bytes]] = {
    "a document": ("application/json", b'\n {"usage": {"in": 3, "out": 4}}\n'),
    "a document with a byte order mark": ("application/json", b'\xef\xbb\xbf{"usage": {"in": 3, "out": 4}}'),
    "an array": ("application/json", b' [{"usage": {"in": 3, "out": 4}}]'),
    "lines": ("application/x-ndjson", b'{"n": 1}\n{"usage": {"in": 3, "out": 4}}\n'),
    "lines under another name": ("application/json", b'{"n": 1}\n{"usage": {"in": 3, "out": 4}}\n'),
    "events": ("text/event-stream; charset=utf-8", b'data: {"usage": {"in": 3, "out": 4}}\n\n'),
    "events without their last blank line": ("", b'data: {"n": 1}\n\ndata: {"usage": {"in": 3, "out": 4}}'),
    "events that begin with a comment": ("", b': hello\n\ndata: {"usage": {"in": 3, "out": 4}}\n\n'),
    "events with a byte order mark": ("", b'\xef\xbb\xbfdata: {"usage": {"in": 3, "out": 4}}\n\n'),
    "events after white space": ("text/event-stream", b'\n\n \ndata: {"usage": {"in": 3, "out": 4}}\n\n'),
    "a document where events were said": ("text/event-stream", b'{"usage": {"in": 3, "out": 4}}'),
    "an event shorter than a decision": ("text/plain", b"id:"),
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_the_framing_is_known_by_its_first_bytes_wherever_they_are_cut(name: str) -> None:
    content_type, body = FRAMINGS[name]
    expected = None if body == b"id:" else Usage(input_tokens=3, output_tokens=4)
    for chunks in cuts(body):
        answer = read(*chunks, content_type=content_type)
        assert (answer.usage, answer.unreadable) == (expected, None)


@pytest.mark.parametrize("body", [b"<html>", b"ID3\x04audio", b"ok", b"\xef\xbb"])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    for chunks in cuts(body):
        assert read(*chunks, content_type="text/html") == Answer(unreadable="not_json" if body.strip() else None)


def test_white_space_is_nothing_and_is_not_collected() -> None:
    reader = AnswerReader(ROW, "custom")
    for _ in range(100):
        reader.feed(b" \n" * 100)
    assert len(reader._start) < 10
    reader.close()
    assert reader.answer() == Answer()


def test_an_encoding_nobody_here_knows_costs_the_usage_and_nothing_else() -> None:
    assert read(b"whatever", content_encoding="aws-chunked") == Answer(unreadable="unknown_encoding")


def test_a_broken_encoding_is_reported() -> None:
    assert read(b"this is no gzip", b"more", content_encoding="gzip") == Answer(unreadable="broken_encoding")


def test_half_a_surrogate_pair_or_broken_utf_8_does_not_cost_the_counts_beside_it() -> None:
    assert load(b'{"a": "\\ud83d", "n": 1}') == {"a": "\ud83d", "n": 1}
    assert load(b'{"a": "\xff", "n": 1}') == {"a": "�", "n": 1}
    assert (load(b"{"), load(b"[" * 100_000), load(b"")) == (None, None, None)
    assert read(b'{"text": "\\ud83d", "usage": {"in": 1}}').usage == Usage(input_tokens=1)


def test_a_document_without_usage_is_measured() -> None:
    assert read(b'{"text": "four"}').output_bytes == 4
    assert read(b'{"text": "four", "usage": {"out": 1}}').output_bytes == 0


def document(size: int) -> bytes:
    text, vector = "x" * (size // 2), ",".join(["0.125"] * (size // 12))
    return b'{"model": "m", "data": [{"text": "%s"}, [%s]], "usage": {"in": 3}}' % (text.encode(), vector.encode())


def test_a_large_document_is_read_whole_without_being_held() -> None:
    body = document(20 * RAW_BYTES)
    reader = AnswerReader(ROW, "custom")
    for i in range(0, len(body), 10_000):
        reader.feed(body[i : i + 10_000])
        assert len(getattr(reader._framing, "_raw")) <= RAW_BYTES  # noqa: B009
    assert reader.answer() == Answer(model_answered="m", usage=Usage(input_tokens=3), is_complete=True)


def test_a_document_too_large_even_without_its_long_strings_is_said_to_be() -> None:
    body = b'{"a": [%s 1], "usage": {"in": 3}}' % (b'{"b": "c"}, ' * 30_000)
    answer = read(body, bounds=Bounds(max_document_bytes=100_000))
    assert (answer.usage, answer.unreadable) == (None, "too_large")
    assert read(body).usage == Usage(input_tokens=3)


def test_a_large_document_that_is_no_json_is_passed_over() -> None:
    assert read(b"{%s}" % (b"1 " * RAW_BYTES)) == Answer()


TOO_LARGE = {
    "an event": ("text/event-stream", b'data: {"a": [%s 1]}\n\ndata: {"usage": {"in": 3}}\n\n'),
    "a line": ("application/x-ndjson", b'{"a": [%s 1]}\n{"usage": {"in": 3}}\n'),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_one_too_large_is_passed_over_and_the_next_is_read(name: str) -> None:
    content_type, body = TOO_LARGE[name]
    answer = read(body % (b'{"b": "c"}, ' * 10_000), content_type=content_type, bounds=Bounds(max_event_bytes=10_000))
    assert (answer.usage, answer.unreadable) == (Usage(input_tokens=3), "too_large")


def test_counts_in_headers_speak_until_the_body_does() -> None:
    headers = {"x-counted": "7", "x-else": "x", "x-long": "9" * 30, "x-odd": "²"}
    assert read(headers=headers).usage == Usage(output_tokens=7)
    assert read(b'{"usage": {"out": 8}}', headers=headers).usage == Usage(output_tokens=8)


def test_the_kind_of_an_error_may_stand_in_a_header() -> None:
    headers = {"x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/"}
    assert read(b'{"message": "m"}', status=429, headers=headers).error == ProviderError(None, "ThrottlingException")


ERRORS = {
    "an event by its name": (b'event: error\ndata: {"code": "c"}\n\n', ProviderError("c")),
    "an event by its name, with a text": (b"event: error\ndata: sorry\n\n", ProviderError()),
    "an event by its name, after many": (
        b'data: {"n": 1}\n\n' * 9 + b'event: error\ndata: {"code": "c"}\n\n',
        ProviderError("c"),
    ),
    "the first with a word for it": (
        b'data: {"error": {"code": "c", "type": "t"}}\n\ndata: {"error": "e"}\n\n',
        ProviderError("c", "t"),
    ),
    "none": (b'data: {"error": null}\n\n', None),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_inside_a_200_is_seen(name: str) -> None:
    stream, expected = ERRORS[name]
    assert read(stream).error == expected


AWS = "application/vnd.amazon.eventstream"
BROKEN_FRAMES: dict[str, tuple[bytes, Unreadable | None]] = {
    "a checksum that is wrong": (b"\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0", "broken_frames"),
    "the beginning of a message": (b"\0\0\0\x10", None),
    "a message too large to hold": (message(b"", b"x" * 200), "too_large"),
    "a wrapping that is no base64": (message(b"", b'{"bytes": "%"}'), None),
    "a wrapping that holds nothing": (message(b"", b'{"bytes": 7}'), None),
}


@pytest.mark.parametrize("name", BROKEN_FRAMES)
def test_what_is_wrong_in_an_event_stream_of_aws_is_passed_over_or_ends_the_reading(name: str) -> None:
    body, unreadable = BROKEN_FRAMES[name]
    assert read(body, content_type=AWS, bounds=Bounds(max_event_bytes=200)) == Answer(unreadable=unreadable)


def test_a_message_of_aws_is_named_by_its_header_and_may_be_an_exception() -> None:
    end = message(text(":event-type", "end"), b'{"usage": {"in": 3}}')
    failed = message(text(":exception-type", "throttlingException"), b"{}")
    wrapped = message(b"", b'{"bytes": "eyJ1c2FnZSI6IHsiaW4iOiA0fX0="}')
    answer = read(end, failed, wrapped, content_type=AWS)
    assert (answer.usage, answer.is_complete) == (Usage(input_tokens=4), True)
    assert answer.error == ProviderError(None, "throttlingException")


# --- memory -----------------------------------------------------------------------------------------------------------

KIB = 1024
PIECE = 8 * KIB
WITHOUT_END: dict[str, tuple[str, bytes, bytes]] = {
    "a line": ("text/event-stream", b'data: {"text": "', b"x" * PIECE),
    "a comment": ("text/event-stream", b":", b"x" * PIECE),
    "an event of many documents": ("text/event-stream", b"", b'data: {"a": "%s"}\n' % (b"x" * 900) * 8),
    "an event without line ends": ("text/event-stream", b"data: ", b"{}[]" * 50 + b"x" * PIECE),
    "empty events": ("text/event-stream", b"", b"data:%s\n\n" % (b"x" * 400) * 20),
    "a text": ("application/json", b'{"text": "', b"x" * PIECE),
    "a text of escapes": ("application/json", b'{"text": "', b'\\"' * (PIECE // 2)),
    "a row of numbers": ("application/json", b'{"data": [', b"0.125," * 1300),
    "lists in lists": ("application/json", b'{"a": ', (b"[" + b"1," * 100) * 40),
    "mappings in mappings": ("application/json", b"", (b'{"a": 1, "b": ' + b" " * 100) * 60),
    "members": ("application/json", b"{", b'"a": "%s", "usage": {"in": 1},' % (b"x" * 100) * 60),
    "elements": ("application/json", b"[", b'{"usage": {"in": 1}, "a": "%s"},' % (b"x" * 300) * 20),
    "white space": ("application/json", b"", b" " * PIECE),
    "what is no JSON": ("application/json", b"", b"x" * PIECE),
    "lines": ("application/x-ndjson", b"", b'{"usage": {"in": 1}, "a": "%s"}\n' % (b"x" * 300) * 20),
    "a message of AWS": ("application/vnd.amazon.eventstream", message(b"", b"x" * 300)[:30], b"x" * PIECE),
}


def peak(content_type: str, pieces: Iterable[bytes], **columns: Any) -> int:
    """The most that reading an answer held, in bytes."""
    reader = AnswerReader(ROW, "custom", content_type=content_type, bounds=SMALL, **columns)
    tracemalloc.start()
    try:
        for piece in pieces:
            reader.feed(piece)
        reader.close()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


SMALL = Bounds(max_document_bytes=32 * KIB, max_event_bytes=32 * KIB)


@pytest.mark.parametrize("name", WITHOUT_END)
def test_an_answer_without_end_holds_no_more_than_a_long_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lectr_extproc.core.answer.RAW_BYTES", SMALL.max_document_bytes)
    content_type, start, piece = WITHOUT_END[name]
    long, longer = (peak(content_type, [start, *[piece] * count]) for count in (16, 40))
    assert longer < 1.2 * long + 16 * KIB


BOMBS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("coding", BOMBS)
def test_what_swells_is_let_go_of_while_it_is_small(coding: str) -> None:
    bomb = BOMBS[coding](b'{"a": "' + bytes(8 * KIB * KIB))
    for pieces in ([bomb], [bomb] * 3, [BOMBS[coding](b"")] * 3000):
        assert peak("application/json", pieces, content_encoding=coding) < FREE + RATIO * SLICE + KIB * KIB
    assert read(bomb, content_encoding=coding).unreadable == "inflated_too_large"
    assert read(BOMBS[coding](bomb), content_encoding=coding).unreadable == "not_json"
