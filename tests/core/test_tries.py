from dataclasses import replace

import pytest

from lectr_extproc.core.tries import Try, from_text, to_text, with_durations

FIRST = Try(provider="openai", model="gpt-4o", host="o.example", began_ms=1000, status=429, why="quota", wait_s=7)
SECOND = Try(provider="groq", model="llama", host="g.example", began_ms=1300)


def test_attempts_come_back_from_their_text() -> None:
    assert from_text(to_text([FIRST, SECOND])) == (FIRST, SECOND)


@pytest.mark.parametrize("text", [None, 1, "", "no JSON", "{}", "[1]", '[["a"]]', '[["a","b","c",1,2,3]]'])
def test_what_is_no_such_text_holds_no_attempts(text: object) -> None:
    assert from_text(text) == ()


def test_each_lasts_until_the_next_and_the_last_until_the_calls_end() -> None:
    first, second = with_durations([FIRST, SECOND], 1350.5, 200)
    assert (first.duration_ms, first.status) == (300.0, 429)
    assert (second.duration_ms, second.status) == (50.5, 200)


def test_two_clocks_that_differ_make_no_time_negative() -> None:
    assert with_durations([SECOND], 1000.0, None) == (replace(SECOND, duration_ms=0.0),)


def test_a_call_without_attempts_has_none() -> None:
    assert with_durations([], 1.0, 200) == ()
