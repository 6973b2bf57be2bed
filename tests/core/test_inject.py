from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.inject import Asking, asks_for_usage, inject_include_usage

STREAM: dict[str, Any] = {"model": "m", "stream": True}


def asks(
    fields: dict[str, Any],
    asking: Asking = Asking.YES,
    dialect: str = "openai.chat",
    path: str = "/v1/chat/completions",
    api_version: str | None = None,
) -> bool:
    return asks_for_usage(asking, dialect, path=path, api_version=api_version, fields=fields)


def test_a_stream_whose_client_did_not_ask_is_asked_for() -> None:
    assert asks(STREAM)
    assert asks(STREAM, dialect="openai.completions")
    assert asks({**STREAM, "stream_options": None})
    assert asks({**STREAM, "stream_options": {"include_obfuscation": False}})
    assert asks({**STREAM, "stream_options": {"include_usage": False}})


LEFT_ALONE: dict[str, dict[str, Any]] = {
    "no stream": {"fields": {"model": "m"}},
    "no stream, said so": {"fields": {**STREAM, "stream": False}},
    "a stream that is no yes": {"fields": {**STREAM, "stream": 1}},
    "the client asked itself": {"fields": {**STREAM, "stream_options": {"include_usage": True}}},
    "options that are none": {"fields": {**STREAM, "stream_options": "all"}},
    "a provider that refuses": {"fields": STREAM, "asking": Asking.NEVER},
    "a dialect without the option": {"fields": STREAM, "dialect": "openai.responses"},
    "Azure's API before it knew the option": {
        "fields": STREAM,
        "asking": Asking.AZURE,
        "path": "/openai/deployments/d/chat/completions",
        "api_version": "2024-02-01",
    },
    "Azure with data of its own": {
        "fields": {**STREAM, "data_sources": []},
        "asking": Asking.AZURE,
        "path": "/openai/v1/chat/completions",
    },
    "Azure without a version": {"fields": STREAM, "asking": Asking.AZURE, "path": "/openai/deployments/d/x"},
    "Azure with a word for a version": {
        "fields": STREAM,
        "asking": Asking.AZURE,
        "path": "/openai/deployments/d/x",
        "api_version": "preview",
    },
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_a_call_that_may_not_be_asked_for_is_left_alone(name: str) -> None:
    assert not asks(**LEFT_ALONE[name])


@pytest.mark.parametrize("version", ["2024-09-01-preview", "2024-10-21", "2025-04-01-preview"])
def test_azure_is_asked_from_the_version_on_that_knows_the_option(version: str) -> None:
    assert asks(STREAM, Asking.AZURE, path="/openai/deployments/d/chat/completions", api_version=version)
    assert asks(STREAM, Asking.AZURE, path="/openai/v1/chat/completions")


def test_where_there_are_no_options_no_other_byte_changes() -> None:
    body = b' {\n "x": 1.10, "x": "\xc3\xa9",  "stream": true }\n'
    assert inject_include_usage(body) == body.replace(b"{", b'{"stream_options":{"include_usage":true},', 1)


def test_a_body_that_only_the_lenient_read_is_asked_for_too() -> None:
    body = b'{"stream": true, "seed": NaN}'
    assert inject_include_usage(body) == body.replace(b"{", b'{"stream_options":{"include_usage":true},')


def test_other_options_stay() -> None:
    body = b'{"stream": true, "stream_options": {"include_obfuscation": false, "include_usage": false}, "x": [1]}'
    options = {"include_obfuscation": False, "include_usage": True}
    assert orjson.loads(inject_include_usage(body)) == {"stream": True, "stream_options": options, "x": [1]}
    assert inject_include_usage(body) == body.replace(b'usage": false', b'usage": true')
    assert orjson.loads(inject_include_usage(b'{"a": 1, "stream_options": null}')) == {
        "a": 1,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b"{}", b'{"stream_options": "all"}', b'{"stream_options": [1]}'])
def test_what_cannot_carry_the_option_comes_back_as_it_is(body: bytes) -> None:
    assert inject_include_usage(body) == body


KEYS = st.text(max_size=8) | st.just("stream_options")
VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)


@given(st.dictionaries(KEYS, VALUES | st.dictionaries(st.text(max_size=8), VALUES, max_size=3), max_size=5))
def test_asking_twice_is_asking_once_and_changes_nothing_else(fields: dict[str, Any]) -> None:
    try:
        body = orjson.dumps(fields)
    except orjson.JSONEncodeError:  # half a surrogate pair
        return
    asked = inject_include_usage(body)
    assert orjson.loads(inject_include_usage(asked)) == orjson.loads(asked)
    rest = {key: value for key, value in orjson.loads(asked).items() if key != "stream_options"}
    assert rest == {key: value for key, value in fields.items() if key != "stream_options"}
