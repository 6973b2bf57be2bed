import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.guard import Guard, error_event
from lectr_extproc.core.provider_error import ProviderError
from lectr_extproc.core.strip import LONGEST
from tests.core.cuts import cuts

SAID = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"an \\"error\\""}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"


def guard(dialect: str = "openai.chat", *, strips: bool = False) -> Guard:
    return Guard(dialect, strips=strips)


def passed(subject: Guard, chunks: list[bytes], *, is_whole: bool = True) -> bytes:
    return b"".join(map(subject.feed, chunks)) + (subject.flush() if is_whole else subject.break_off())


def errors(dialect: str, error: ProviderError | None = None) -> list[Any]:
    """The data of each event that a dialect's error is."""
    lines = error_event(dialect, error).decode().splitlines()
    return [line[6:] if line.endswith("[DONE]") else json.loads(line[6:]) for line in lines if line[:5] == "data:"]


def test_a_stream_that_ends_as_it_should_keeps_every_byte_wherever_it_is_cut() -> None:
    for line_end in (b"\n", b"\r\n", b"\r"):
        stream = (PING + SAID + USAGE + PING + DONE).replace(b"\n", line_end)
        for chunks in cuts(stream):
            assert passed(guard(), chunks) == stream


def test_the_usage_chunk_goes_where_it_is_to_go() -> None:
    for chunks in cuts(SAID + USAGE + DONE):
        assert passed(guard(strips=True), chunks) == SAID + DONE


ERRORS: dict[str, tuple[str, bytes, str | None]] = {
    "as OpenAI says it": ("openai.chat", b'data: {"error":{"message":"m","code":"busy"}}\n\n', "busy"),
    "among a chunk's members": (
        "openai.chat",
        b'data: {"id":"c","error":{"code":502,"message":"m"},"choices":[{"finish_reason":"error"}]}\n\n',
        "502",
    ),
    "as Anthropic says it": (
        "anthropic.messages",
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"m"}}\n\n',
        "overloaded_error",
    ),
    "by its name alone": ("anthropic.messages", b"event: error\ndata: gone\n\n", None),
    "by its name and without a type": ("anthropic.messages", b'event:error\ndata: {"message":"m"}\n\n', None),
    "as the Responses API says it": (
        "openai.responses",
        b'event: error\ndata: {"type":"error","code":"server_error","message":"m"}\n\n',
        "server_error",
    ),
    "as Gemini says it": (
        "gemini.generate",
        b'data: {"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}\r\n\r\n',
        "UNAVAILABLE",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_providers_error_becomes_the_dialects_and_the_end_wherever_it_is_cut(case: str) -> None:
    dialect, error, word = ERRORS[case]
    expected = PING + error_event(dialect, ProviderError(code=word))
    assert (b": " + word.encode() if word else b"off.") in expected
    for rest in (b"", DONE, SAID + DONE + SAID[:20]):
        for chunks in cuts(PING + error + rest):
            subject = guard(dialect)
            assert passed(subject, chunks) == expected
            assert (subject.is_over, subject.holds) == (True, False)


def test_what_only_looks_like_an_error_passes() -> None:
    for dialect, event in (
        ("openai.responses", b'data: {"type":"response.failed","response":{"error":{"code":"x"}}}\n\n'),
        ("openai.chat", b'data: {"error":null,"choices":[]}\n\n'),
        ("openai.chat", b'data: {"choices":[{"delta":{"content":"","kind":"error"}}]}\n\n'),
        ("openai.chat", b'data: "error"\n\n'),
        ("openai.chat", b": event: error\n\n"),
    ):
        subject = guard(dialect)
        assert (passed(subject, [event, DONE]), subject.is_over) == (event + DONE, False)


def test_an_end_before_the_dialects_own_is_an_error_and_half_an_event_goes() -> None:
    broken = error_event("openai.chat", None)
    for cut in range(len(SAID)):
        for chunks in cuts(SAID + SAID[:cut]):
            subject = guard()
            seen = passed(subject, chunks, is_whole=False)
            whole = SAID + SAID if cut >= len(SAID) - 2 else SAID
            assert (seen, subject.is_over) == (whole + broken, True)
    assert passed(guard(), [], is_whole=False) == broken
    assert passed(guard(), [b"data: [DO"], is_whole=False) == broken


def test_what_was_too_long_to_wait_for_passes() -> None:
    long = b'data: {"error":{"message":"%b"' % (b"x" * LONGEST)
    assert passed(guard(), [long, b"}}\n\n", DONE]) == long + b"}}\n\n" + DONE


def test_what_was_too_long_to_wait_for_is_closed_before_the_error() -> None:
    long = b'data: {"choices":"%b' % (b"x" * LONGEST)
    assert passed(guard(), [long], is_whole=False) == long + b"\n\n" + error_event("openai.chat", None)


def test_an_answer_that_said_it_broke_off_does_not_say_it_twice() -> None:
    error = ERRORS["as OpenAI says it"][1]
    assert passed(guard(), [error], is_whole=False) == error_event("openai.chat", ProviderError("busy"))


def test_comments_do_not_wait_for_the_end_of_their_event() -> None:
    subject = guard()
    assert [subject.feed(chunk) for chunk in (b": thinking\n", b": still\n: it", b"\n" + SAID)] == [
        b": thinking\n",
        b": still\n",
        b": it\n" + SAID,
    ]


def test_chunks_of_whole_events_pass_at_once_unless_there_may_be_an_error_in_them() -> None:
    subject = guard()
    assert subject.would_pass(SAID)
    assert not subject.would_pass(ERRORS["by its name alone"][1])
    subject.feed(ERRORS["as OpenAI says it"][1])
    assert not subject.would_pass(SAID)


def test_each_dialect_has_what_its_sdks_raise() -> None:
    error = {"message": "The provider broke its answer off.", "type": "server_error", "param": None}
    error["code"] = "stream_interrupted"
    assert errors("openai.chat") == errors("openai.completions") == [{"error": error}, "[DONE]"]
    (responses,) = errors("openai.responses")
    assert (responses["type"], responses["code"], responses["error"]) == ("error", "stream_interrupted", error)
    (claude,) = errors("anthropic.messages", ProviderError(type="overloaded_error"))
    message = "stream_interrupted: The provider broke its answer off: overloaded_error"
    assert claude["error"] == {"type": "api_error", "message": message, "code": "stream_interrupted"}
    (gemini,) = errors("gemini.generate")
    assert (gemini["error"]["code"], gemini["error"]["details"][0]["reason"]) == (503, "STREAM_INTERRUPTED")


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)), st.booleans())
def test_whatever_the_bytes_they_pass_or_an_error_ends_them(data: bytes, places: list[int], is_whole: bool) -> None:
    marks = sorted({0, len(data), *(place for place in places if place < len(data))})
    subject = guard()
    seen = passed(subject, [data[a:b] for a, b in pairwise(marks)], is_whole=is_whole)
    assert seen == data if not subject.is_over else seen.endswith(DONE)
