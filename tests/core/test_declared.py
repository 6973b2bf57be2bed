import re

import pytest

from lectr_extproc.core.declared import Declared, declared

ROWS = (
    Declared(why="context", source="a", says=re.compile(rb"too long")),
    Declared(why="quota", source="b", provider="groq", statuses=frozenset({413}), says=re.compile(rb"limit")),
    Declared(why="key", source="c", statuses=frozenset({401})),
)
CASES: dict[str, tuple[str, int, bytes | None, bool, str | None]] = {
    "words of anybody's": ("openai", 400, b"it is too long", True, "context"),
    "words at a status that is not looked into": ("openai", 500, b"it is too long", True, None),
    "words that nobody read": ("openai", 400, None, True, None),
    "other words": ("openai", 400, b"it is wrong", True, None),
    "a provider's own words": ("groq", 413, b"limit", True, "quota"),
    "another provider's words": ("openai", 413, b"limit", True, None),
    "its words at another status": ("groq", 400, b"limit", True, None),
    "a key of the gateway's": ("openai", 401, None, True, "key"),
    "a key of the client's": ("openai", 401, None, False, None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_is_worth_another_candidate_where_a_row_says_so(case: str) -> None:
    provider, status, document, key_is_held, why = CASES[case]
    assert declared(ROWS, provider, status, document, key_is_held=key_is_held) == why
