import re
from typing import Any

import pytest

from lectr_extproc.core.exceeded import CODES, refusal, shown, told
from lectr_extproc.core.limits import Exceeded, Hold, Kind, Limit, Warned

NOW = 1_795_177_845  # 2026-11-20 12:30:45
USD = 10**12


def answer(kind: Kind, most: int, amount: int, used: int, wait_s: int, **more: Any) -> tuple[str, ...]:
    held = more.pop("held", 0)
    row = Limit(org="acme", kind=kind, most=most, window_s=3600 if kind == "rolling" else 0, **more)
    said = refusal(Exceeded(Hold(row, amount, 0), used, NOW + wait_s, held), NOW * 10**9)
    assert (said.status, said.type, said.code) == (429, "rate_limit_error", CODES[kind])
    headers = dict(said.headers)
    assert headers["x-ratelimit-reset"] == str(NOW + wait_s)
    names = ("retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-should-retry")
    return said.message, *(headers.get(name, "") for name in names)


CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a day's money": (
        answer("daily", 50 * USD, USD // 4, 50 * USD - USD // 10, 3600),
        (
            (
                "The daily spend limit of the organisation is reached: 49.9 of 50 USD are spent, and this call may "
                "cost 0.25. It fits again at 2026-11-20T13:30:45Z."
            ),
            "3600",
            "50",
            "0.1",
            "false",
        ),
    ),
    "a month's, which others hold": (
        answer("monthly", USD, USD // 4, USD, 1, held=USD // 2),
        (
            (
                "The monthly spend limit of the organisation is reached: 0.5 of 1 USD are spent and 0.5 held for calls "
                "that are not over, and this call may cost 0.25. It fits again at 2026-11-20T12:30:46Z."
            ),
            "1",
            "1",
            "0",
            "",
        ),
    ),
    "an hour's, of a feature, and a call beyond all of it": (
        answer("rolling", USD, 2 * USD, 0, 3600, feature="search"),
        (
            (
                "The 3600 s spend limit of feature 'search' is reached: 0 of 1 USD are spent, and this call may cost "
                "2. It never fits: ask for a shorter answer (max_tokens), or for a cheaper model."
            ),
            "3600",
            "1",
            "1",
            "false",
        ),
    ),
    "requests of a key": (
        answer("requests", 60, 1, 60, 1, key="backend"),
        (
            "Key 'backend' has used 60 of 60 requests per minute. It fits again at 2026-11-20T12:30:46Z.",
            "1",
            "60",
            "0",
            "",
        ),
    ),
    "tokens": (
        answer("tokens", 1000, 500, 700, 12),
        (
            (
                "The organisation has used 700 of 1000 tokens per minute, and this call may take 500. It fits "
                "again at 2026-11-20T12:30:57Z."
            ),
            "12",
            "1000",
            "300",
            "",
        ),
    ),
    "streams of a model": (
        answer("streams", 2, 1, 2, 1, model="gpt-4o"),
        (
            "2 of the 2 streams that model 'gpt-4o' may have at a time are open. Try again when one has ended.",
            "1",
            "2",
            "0",
            "",
        ),
    ),
}


@pytest.mark.parametrize(("said", "expected"), CASES.values(), ids=CASES)
def test_a_refusal_says_what_is_used_up_and_when_to_come_back(said: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert said == expected


def test_nobody_is_told_to_come_back_before_a_second_has_gone_by() -> None:
    assert answer("requests", 1, 1, 1, 0)[1] == "1"


def test_money_is_shown_to_the_millionth_and_never_as_less_than_it_is() -> None:
    row = Limit(org="a", kind="daily", most=1)
    assert [shown(row, amount) for amount in (0, 1, USD // 10**6, 3 * USD // 2, 100 * USD)] == [
        "0",
        "0.000001",
        "0.000001",
        "1.5",
        "100",
    ]


def test_each_kind_has_a_code_of_its_own() -> None:
    assert len(set(CODES.values())) == len(CODES)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*_exceeded", code) for code in CODES.values())


def test_a_threshold_is_told_in_words_for_programs() -> None:
    hour = Limit(org="acme", kind="rolling", most=USD, window_s=3600)
    assert told(Warned(hour, 100, USD // 2, None, USD // 4), NOW) == {
        "event": "limit.exhausted",
        "org": "acme",
        "limit": {"kind": "rolling", "window_s": 3600, "for": None},
        "threshold": 1.0,
        "used_usd": "0.5",
        "held_usd": "0.25",
        "limit_usd": "1",
        "resets_at": None,
        "at": "2026-11-20T12:30:45Z",
    }
    key = Limit(org="acme", kind="monthly", most=USD, key="backend")
    event = told(Warned(key, 80, USD, NOW), NOW)
    assert (event["event"], event["resets_at"]) == ("limit.threshold", "2026-11-20T12:30:45Z")
    assert event["limit"] == {"kind": "monthly", "window_s": None, "for": {"key": "backend"}}
