import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.credential import Credential, Form
from lectr_extproc.core.facts import Facts, known_task, label, read_facts, with_body
from tests.core.given import request


def read(*headers: tuple[str, str], has_body: bool = True, **metadata: object) -> Facts:
    return read_facts(headers, metadata, end_of_stream=not has_body)


def test_an_ordinary_call_is_understood() -> None:
    facts = read(
        (":method", "POST"),
        (":path", "/v1/chat/completions?a=1"),
        ("content-type", "Application/JSON; charset=utf-8"),
        ("content-length", "12"),
        ("authorization", "Bearer k"),
        ("x-lectr-key", "lc_key_1"),
        ("x-lectr-provider", "groq"),
        ("x-lectr-feature", "search"),
        ("x-lectr-task", "generation"),
        model="gpt-4o",
        stream=True,
    )
    assert (facts.method, facts.path, facts.query) == ("POST", "/v1/chat/completions", "a=1")
    assert (facts.content_type, facts.content_length) == ("application/json", 12)
    assert facts.credential == Credential(Form.BEARER, "k")
    assert (facts.lectr_keys, facts.providers_named) == (("lc_key_1",), ("groq",))
    assert (facts.feature, facts.task) == ("search", "generation")
    assert (facts.model, facts.streaming) == ("gpt-4o", True)
    assert "x-lectr-feature" in facts.header_names
    assert facts.body_may_be_read


def test_an_empty_request_is_all_absent() -> None:
    facts = read()
    assert (facts.method, facts.path, facts.query, facts.content_type) == ("", "", "", "")
    assert (facts.credential, facts.content_length, facts.model, facts.feature, facts.task) == (None,) * 5
    assert (facts.lectr_keys, facts.providers_named, facts.streaming) == ((), (), False)


def test_of_two_headers_the_first_counts() -> None:
    facts = read(("x-lectr-feature", "first"), ("x-lectr-feature", "second"))
    assert facts.feature == "first"


QUERIES: dict[str, tuple[str, str, Credential | None]] = {
    "no key": ("a=1&b=2", "a=1&b=2", None),
    "a key alone": ("key=k", "", Credential(Form.QUERY, "k")),
    "a key among others": ("alt=sse&key=k&b=2", "alt=sse&b=2", Credential(Form.QUERY, "k")),
    "an escaped key": ("%6Bey=a%2Bb", "", Credential(Form.QUERY, "a+b")),
    "an empty key and one that is not": ("key=&key=k", "", Credential(Form.QUERY, "k")),
    "two keys, the first wins": ("key=1&key=2", "", Credential(Form.QUERY, "1")),
    "a key of ours, wherever": ("api_key=lc_key_1&a=1&b=xlc%5Fkey_2&lc_key_3&key=lc_key_4", "a=1", None),
    "a key of ours before one that is not": ("key=lc_key_1&key=k", "", Credential(Form.QUERY, "k")),
    "odd but harmless": ("&&=x&a=%zz&b", "&&=x&a=%zz&b", None),
    "a key that is part of a name": ("monkey=1", "monkey=1", None),
}


@pytest.mark.parametrize(("query", "kept", "credential"), QUERIES.values(), ids=QUERIES)
def test_a_key_leaves_the_query_and_every_other_byte_stays(
    query: str, kept: str, credential: Credential | None
) -> None:
    facts = read((":path", f"/v1beta/models/x?{query}"))
    assert (facts.query, facts.credential) == (kept, credential)


LENGTHS: dict[str, tuple[str, int | None]] = {
    "a number": ("42", 42),
    "zero": ("0", 0),
    "negative": ("-1", None),
    "words": ("many", None),
    "digits of another script": ("٣", None),
    "absurd": ("9" * 400, None),
}


@pytest.mark.parametrize(("text", "length"), LENGTHS.values(), ids=LENGTHS)
def test_a_length_that_is_no_number_is_absent(text: str, length: int | None) -> None:
    assert read(("content-length", text)).content_length == length


VALUES = {
    "one": ([("x-lectr-key", "a")], ("a",)),
    "twice the same": ([("x-lectr-key", "a"), ("x-lectr-key", " a ")], ("a",)),
    "two that differ": ([("x-lectr-key", "a"), ("x-lectr-key", "b")], ("a", "b")),
    "two that Envoy joined": ([("x-lectr-key", "a, b,a")], ("a", "b")),
    "one where a provider's would be": ([("authorization", "Bearer lc_key_1")], ("lc_key_1",)),
    "one in both places": ([("x-lectr-key", "lc_key_1"), ("x-api-key", "lc_key_1")], ("lc_key_1",)),
    "two in two places": ([("x-api-key", "lc_key_2"), ("x-lectr-key", "lc_key_1")], ("lc_key_1", "lc_key_2")),
    "none": ([], ()),
}


@pytest.mark.parametrize(("headers", "values"), VALUES.values(), ids=VALUES)
def test_every_differing_key_is_seen(headers: list[tuple[str, str]], values: tuple[str, ...]) -> None:
    assert read(*headers).lectr_keys == values


BODIES: dict[str, tuple[Facts, bool]] = {
    "a POST": (request(), True),
    "a POST of headers only": (request(has_body=False), False),
    "a GET": (request(method="GET", has_body=False), False),
    "an upgrade": (request(None, ("upgrade", "websocket"), method="GET"), False),
    "a CONNECT": (request(method="CONNECT"), False),
    "one whose body was seen": (with_body(request(), b""), False),
}


@pytest.mark.parametrize(("facts", "may"), BODIES.values(), ids=BODIES)
def test_a_body_is_asked_for_once_and_only_where_one_comes(facts: Facts, may: bool) -> None:
    assert facts.body_may_be_read is may


METADATA: dict[str, tuple[dict[str, object], str | None, bool]] = {
    "a model and a stream": ({"model": "gpt-4o", "stream": True}, "gpt-4o", True),
    "an empty model": ({"model": ""}, None, False),
    "a model that is a number": ({"model": 4}, None, False),
    "stream as text": ({"model": "gpt-4o", "stream": "true"}, "gpt-4o", False),
    "nothing": ({}, None, False),
}


@pytest.mark.parametrize(("metadata", "model", "streaming"), METADATA.values(), ids=METADATA)
def test_odd_metadata_is_absent(metadata: dict[str, object], model: str | None, streaming: bool) -> None:
    facts = request(metadata=metadata)
    assert (facts.model, facts.streaming) == (model, streaming)


def test_an_upgrades_model_is_in_its_query_and_nobody_elses_is() -> None:
    path = "/v1/realtime?model=gpt-4o-realtime%2Dpreview&model=x"
    upgrade = request(None, ("upgrade", "websocket"), path=path, has_body=False)
    assert (upgrade.model, upgrade.query) == ("gpt-4o-realtime-preview", "model=gpt-4o-realtime%2Dpreview&model=x")
    assert request(path=path).model is None


SEEN: dict[str, tuple[bytes, str | None, bool]] = {
    "a model and a stream": (b'{"model": "gpt-4o", "stream": true}', "gpt-4o", True),
    "no model": (b'{"messages": []}', "before", False),
    "an empty model": (b'{"model": ""}', "before", False),
    "a model that is a list": (b'{"model": ["gpt-4o"]}', "before", False),
    "JSON that is no object": (b'["gpt-4o"]', "before", False),
    "no JSON": (b"model=gpt-4o", "before", False),
    "no UTF-8": (b'{"model": "\xff"}', "before", False),
    "text cut within an emoji": (b'{"messages": ["\\ud83d"], "stream": true, "model": "gpt-4o"}', "gpt-4o", True),
    "a number too large": (b'{"model": "gpt-4o", "x": 1e400}', "gpt-4o", False),
    "a number too long": (b'{"model": "gpt-4o", "x": ' + b"9" * 5000 + b"}", "gpt-4o", False),
    "no number": (b'{"model": "gpt-4o", "x": [NaN, -Infinity]}', "gpt-4o", False),
    "deeper than a reader goes": (b'{"model": "gpt-4o", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", "gpt-4o", False),
    "deeper than a reader goes in what matters": (
        b'{"model": "gpt-4o", "data_sources": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "gpt-4o",
        False,
    ),
    "half an object": (b'{"model": "gpt-4o", "x": NaN', "before", False),
    "nothing": (b"", "before", False),
}


@pytest.mark.parametrize(("body", "model", "streaming"), SEEN.values(), ids=SEEN)
def test_a_body_teaches_what_it_says_and_takes_nothing_away(body: bytes, model: str | None, streaming: bool) -> None:
    facts = with_body(request("before"), body)
    assert (facts.model, facts.streaming, facts.body) == (model, streaming, body)


def test_an_option_that_is_there_and_cannot_be_read_is_none() -> None:
    body = b'{"data_sources": ' + b"[" * 20_000 + b"]" * 20_000 + b', "stream_options": {"x": NaN}, "y": NaN}'
    options = with_body(request(), body).options
    assert (options["data_sources"], set(options)) == (None, {"data_sources", "stream_options"})


def test_a_stream_that_envoy_saw_stays_a_stream() -> None:
    assert with_body(request(metadata={"stream": True}), b"{}").streaming


LABELS = {
    "plain text": ("checkout summary", "checkout summary"),
    "blanks around it": ("  a  ", "a"),
    "control characters": ("a\x00b\r\nc\x7f", "abc"),
    "characters nobody sees": ("a\u200bb\u2028c", "abc"),
    "bytes that were no text": ("a\udcffb", "ab"),
    "emoji and accents": ("résumé 🎉", "résumé 🎉"),
    "only control characters": ("\x01\x02", None),
    "empty": ("", None),
    "absent": (None, None),
    "exactly the limit": ("x" * 100, "x" * 100),
    "beyond the limit": ("x" * 101, "x" * 100),
    "a blank at the limit": ("x" * 99 + " y", "x" * 99),
}


@pytest.mark.parametrize(("text", "kept"), LABELS.values(), ids=LABELS)
def test_free_text_is_kept_but_for_what_nobody_can_read(text: str | None, kept: str | None) -> None:
    assert label(text) == kept


TASKS: dict[str, tuple[str | None, str | None]] = {
    "one of the five": ("reasoning", "reasoning"),
    "another letter case": ("Classification", "classification"),
    "the other spelling": ("Summarization", "summarisation"),
    "something else": ("translation", None),
    "absent": (None, None),
}


@pytest.mark.parametrize(("text", "task"), TASKS.values(), ids=TASKS)
def test_a_task_is_one_of_the_five_or_only_a_label(text: str | None, task: str | None) -> None:
    assert known_task(text) == task


TEXT = st.text(st.characters())  # surrogates too: bytes that are no UTF-8 arrive as such
NAMES = st.sampled_from(
    [":path", ":method", "authorization", "content-length", "x-lectr-key", "x-lectr-feature", "upgrade", "x-api-key"]
)


@given(st.lists(st.tuples(NAMES | TEXT, TEXT)), st.dictionaries(TEXT, st.none() | st.floats() | TEXT), st.booleans())
def test_whatever_arrives_becomes_facts(
    headers: list[tuple[str, str]], metadata: dict[str, object], end_of_stream: bool
) -> None:
    facts = read_facts(headers, metadata, end_of_stream=end_of_stream)
    assert len(facts.feature or "") <= 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_the_body_it_is_kept_as_it_is(body: Any) -> None:
    assert with_body(request(), body).body is body


def test_of_the_headers_that_rules_ask_for_the_values_are_known_and_never_shown() -> None:
    headers = [("x-user", "ann"), ("x-user", "bob"), ("x-other", "hunter2")]
    facts = read_facts(headers, {}, end_of_stream=False, call_id="c1", sticky=frozenset({"x-user", "x-session"}))
    assert (facts.sticky, facts.call_id) == ({"x-user": "ann"}, "c1")
    assert "ann" not in repr(facts)
    assert read_facts(headers, {}, end_of_stream=False).sticky == {}


def test_the_words_for_the_gateway_are_known_and_any_other_is_not_for_it() -> None:
    read = request(metadata={"tier": "premium", "prefer": "fast"})
    assert (read.tier, read.prefer) == ("premium", "fast")
    seen = with_body(read, b'{"tier": "auto", "prefer": "coding", "n": NaN}')
    assert (seen.tier, seen.prefer) == ("auto", "coding")
    foreign = with_body(read, b'{"tier": ["premium"], "prefer": "warm"}')
    assert (foreign.tier, foreign.prefer) == (None, None)


FALLBACKS: dict[str, tuple[object, tuple[str, ...] | None]] = {
    "names": (["a", "b/c"], ("a", "b/c")),
    "none": ([], ()),
    "a name": ("a", None),
    "what are no names": (["a", 1], None),
    "a name of nothing": ([""], None),
    "too many": (["a"] * 17, None),
}


@pytest.mark.parametrize("case", FALLBACKS)
def test_models_to_fall_back_to_are_a_list_of_names_in_the_body(case: str) -> None:
    value, names = FALLBACKS[case]
    read = request(metadata={"model": "gpt-4o"})
    assert read.fallback is None
    assert with_body(read, json.dumps({"fallback": value}).encode()).fallback == names


@pytest.mark.parametrize(
    ("value", "names"), [("a", ("a",)), (" a ,b/c", ("a", "b/c")), ("", None), ("a,", None), (",".join("a" * 17), None)]
)
def test_models_to_fall_back_to_may_stand_in_a_header_unless_the_body_says_which(
    value: str, names: tuple[str, ...] | None
) -> None:
    read = request(None, ("x-lectr-fallback", value), metadata={"model": "gpt-4o"})
    assert read.fallback == with_body(read, b'{"fallback": "z"}').fallback == names
    assert with_body(read, b'{"fallback": ["z"]}').fallback == ("z",)
