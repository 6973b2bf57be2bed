import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.json_members import STEPS, members, put, read, without

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def values(body: bytes) -> list[tuple[object, bytes]]:
    return [(name, body[place]) for name, place in members(body)]


@given(
    st.dictionaries(st.text(st.characters()), JSON, max_size=4),
    st.sampled_from([None, 0, 2, "\t"]),
    st.booleans(),
    st.sampled_from([(",", ":"), (" ,\r\n", "\t: ")]),
)
def test_what_json_has_is_found(fields: dict[str, Any], indent: Any, ascii_only: bool, signs: tuple[str, str]) -> None:
    text = json.dumps(fields, indent=indent, ensure_ascii=ascii_only, separators=signs)
    body = text.encode(errors="replace")
    expected = json.loads(body)
    found = members(body)
    assert repr({name: json.loads(body[place]) for name, place in found}) == repr(expected)


NESTED: dict[str, Any] = {"a": [], "b": {}, "c": '"}]{[', "d": [1, {"e": "\\"}]}


@pytest.mark.parametrize("depth", range(20))
def test_a_value_is_passed_over_at_any_depth(depth: int) -> None:
    inner: Any = NESTED
    for level in range(depth):
        inner = [inner, 1] if level % 2 else {"x": inner, "model": [inner]}
        if level > 7:
            inner = [inner[0]] if level % 2 else {"x": inner["x"]}
    body = json.dumps({"before": 1, "x": inner, "model": "m"}).encode()
    assert values(body) == [("before", b"1"), ("x", json.dumps(inner).encode()), ("model", b'"m"')]


NOTHING = {
    "nothing": b"",
    "blanks": b" \n",
    "an empty object": b" { } ",
    "an array": b'["model", "m"]',
    "a text": b'"model"',
    "a form": b"model=gpt-4o",
    "no end": b'{"model": "m"',
    "no end of a value": b'{"model": ["m"}',
    "no end of a text": b'{"a": [[[[[[[["}]]',
    "a text that ends in an escape": b'{"model": "m\\',
    "no value": b'{"model": }',
    "no comma": b'{"model": "m" "a": 1}',
    "a comma before the end": b'{"model": "m",}',
    "no name": b"{1: 2}",
    "something behind it": b'{"model": "m"} {}',
    "too many members": b"{" + b",".join([b'"a":1'] * (STEPS + 1)) + b"}",
    "nested beyond reason": b'{"a":' + b"[" * (STEPS + 1) + b"]" * (STEPS + 1) + b"}",
}


@pytest.mark.parametrize("body", NOTHING.values(), ids=NOTHING)
def test_what_is_no_whole_object_has_no_members(body: bytes) -> None:
    assert not members(body)


def test_names_are_read_as_json_writes_them_and_one_that_cannot_be_is_nobodys() -> None:
    body = b'{"mo\\u0064el": 1, "\\ud83d": 2, "\\q": 3, "\xff": 4}'
    assert [name for name, _ in members(body)] == ["model", "\ud83d", None, None]


def test_of_two_the_last_counts_and_what_cannot_be_read_is_none() -> None:
    body = b'{"a": 1, "b": "\xff", "a": {"x": -Infinity}, "c": 2}'
    assert read(body, ("a", "b", "model")) == {"a": {"x": float("-inf")}, "b": None}


def test_a_value_is_put_wherever_its_name_is_and_else_first() -> None:
    body = b' { "a" : 1 , "b":[1], "a": {}}'
    assert put(body, members(body), "a", b"22") == b' { "a" : 22 , "b":[1], "a": 22}'
    assert put(body, members(body), "c", b"3") == b' {"c":3, "a" : 1 , "b":[1], "a": {}}'


@given(st.binary() | st.text(alphabet='{}[]",:\\a1 ').map(str.encode))
def test_whatever_the_bytes_their_members_are_within_them_and_in_order(body: bytes) -> None:
    at = 0
    for _, place in members(body):
        assert at < place.start < place.stop < len(body)
        at = place.stop


WITHOUT = {
    "the first": (b'{"a": 1, "b": 2}', b'{ "b": 2}'),
    "the last": (b'{"b": 2 , "a": 1 }', b'{"b": 2 }'),
    "one between": (b'{"b":2,"a":{"a":[1]},"c":3}', b'{"b":2,"c":3}'),
    "the only one": (b'\n{"a": 1}', b"\n{}"),
    "every one of a name": (b'{"a":1,"a":2,"b":{"a":1},"a":3}', b'{"b":{"a":1}}'),
    "one written otherwise": (b'{"\\u0061":1,"b":2}', b'{"b":2}'),
    "none": (b'{"b": 2}', b'{"b": 2}'),
    "of no object": (b'["a"]', b'["a"]'),
}


@pytest.mark.parametrize(("body", "expected"), WITHOUT.values(), ids=WITHOUT)
def test_members_go_and_every_other_byte_stays(body: bytes, expected: bytes) -> None:
    assert without(body, ("a",)) == expected


@given(st.dictionaries(st.sampled_from("abcdef"), JSON), st.sets(st.sampled_from("abcdef")))
def test_what_is_left_is_the_object_less_what_went(fields: dict[str, Any], names: set[str]) -> None:
    left = without(json.dumps(fields).encode(errors="replace"), names)
    expected = {name: value for name, value in fields.items() if name not in names}
    assert repr(json.loads(left)) == repr(json.loads(json.dumps(expected)))


def test_all_members_are_read_where_no_names_are_given() -> None:
    assert read(b'{"a": NaN, "b": [1]}').keys() == {"a", "b"}
