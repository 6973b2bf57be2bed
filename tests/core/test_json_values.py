import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.json_values import LONG, JsonValues
from tests.core.cuts import cuts

STREAMS: dict[str, tuple[bytes, list[Any]]] = {
    "one document": (b' {"a": {"b": [1, {"c": 2}]}} \n', [{"a": {"b": [1, {"c": 2}]}}]),
    "one per line": (b'{"a": 1}\n{"b": 2}\r\n{}', [{"a": 1}, {"b": 2}, {}]),
    "an array": (b'[{"a": 1}\n,\r\n{"b": [[], {}]}\n]\n', [{"a": 1}, {"b": [[], {}]}]),
    "an array of other things": (b'[1, "x", [{"a": 1}], {"b": 2}]', [{"b": 2}]),
    "an array, then an object": (b'[]{"a": 1}', [{"a": 1}]),
    "brackets and quotes in strings": (rb'{"a": "}]{[\"\\", "b\\": "\\"}', [{"a": '}]{["\\', "b\\": "\\"}]),
    "words and numbers": (b'{"a": [true, null, -1.5e-7, "\\u00e9"]}', [{"a": [True, None, -1.5e-7, "é"]}]),
    "closing what is not open": (b']}{"a": 1}', [{"a": 1}]),
    "an end that is missing": (b'{"a": {"b": 1}', []),
}


def values(parser: JsonValues, chunks: list[bytes]) -> list[Any]:
    return [json.loads(value) for chunk in chunks for value in parser.feed(chunk)]


@pytest.mark.parametrize("name", STREAMS)
def test_objects_are_found_wherever_their_bytes_are_cut(name: str) -> None:
    stream, expected = STREAMS[name]
    for chunks in cuts(stream):
        assert values(JsonValues(), chunks) == expected


EMBEDDING = ",\n ".join(str(n / 7) for n in range(400))
NEWLINES = "\n" * 3 * LONG
LONG_ONES: dict[str, tuple[str, Any]] = {
    "a text": ('{"a": "%s", "n": 1}' % ("x" * 3 * LONG), ""),
    "a text full of escapes": ('{"a": "%s", "n": 1}' % (r"\"\\" * LONG), ""),
    "an embedding": (f'{{"a": [{EMBEDDING}], "n": 1}}', 399 / 7),
    "white space": (f'{{"a":{" " * 3 * LONG}1 ,{NEWLINES}"n": 1}}', 1),
}


@pytest.mark.parametrize("name", LONG_ONES)
@pytest.mark.parametrize("size", [1, 5, 1000, 100_000])
def test_what_is_too_long_to_matter_is_left_out_and_the_rest_is_still_json(name: str, size: int) -> None:
    text, expected = LONG_ONES[name]
    data = text.encode()
    (value,) = values(JsonValues(max_bytes=2 * LONG), [data[i : i + size] for i in range(0, len(data), size)])
    assert value["n"] == 1
    assert len(str(value)) < 2 * LONG
    if isinstance(value["a"], list):
        assert value["a"][-1] == expected
    elif not isinstance(value["a"], str):
        assert value["a"] == expected


def test_an_object_too_large_even_so_is_passed_over_and_the_next_is_read() -> None:
    parser = JsonValues(max_bytes=100)
    assert values(parser, [b'{"a": {', b'"b":1,' * 50, b'"c":2', b'}}\n{"d": 4}']) == [{"d": 4}]
    assert parser.skipped == 1


def test_a_large_object_in_one_chunk_is_passed_over_too() -> None:
    parser = JsonValues(max_bytes=100)
    assert (values(parser, [b'{%s"c": 2}{"d": 4}' % (b'"b": 1,' * 50)]), parser.skipped) == ([{"d": 4}], 1)


@pytest.mark.parametrize("size", [63, 64, 65])
def test_an_object_of_exactly_the_limit_is_read_and_no_larger_one(size: int) -> None:
    parser = JsonValues(max_bytes=64)
    document = b'{"a":%s}' % (b"1" * (size - 6))
    assert parser.feed(document + b"{}") == ([document, b"{}"] if size <= 64 else [b"{}"])
    assert parser.skipped == (size > 64)


@given(st.lists(st.binary(max_size=100) | st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\", b"1,", b"\n"])))
def test_whatever_the_bytes_memory_is_bounded(chunks: list[bytes]) -> None:
    parser = JsonValues(max_bytes=64)
    for chunk in chunks:
        assert all(len(value) <= 64 for value in parser.feed(chunk))
        assert len(parser._value) <= 64
        assert len(parser._pending) <= LONG


SHORT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | SHORT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(SHORT, inner, max_size=5),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(SHORT, JSON, max_size=3), max_size=4), st.booleans(), st.integers(1, 50))
def test_short_objects_come_out_as_they_went_in(objects: list[dict[str, Any]], in_array: bool, size: int) -> None:
    written = [json.dumps(each) for each in objects]
    data = (f"[{','.join(written)}]" if in_array else "\n".join(written)).encode()
    assert values(JsonValues(), [data[i : i + size] for i in range(0, len(data), size)]) == objects
