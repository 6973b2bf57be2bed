"""Every folder of tests/fixtures is a dialect, every case in it an answer written from the vendor's documentation."""

import functools
import gzip
import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import brotli
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.answers import ANSWERS, REPORTED_COSTS
from lectr_extproc.catalog.dialects import ENDPOINTS
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.answer import Answer
from lectr_extproc.core.usage import Usage
from tests.reading import reader

FIXTURES = Path(__file__).parent.parent / "fixtures"
CASES = {f"{path.parent.name}/{path.name.removesuffix('.usage.json')}": path for path in FIXTURES.rglob("*.usage.json")}


@functools.cache
def body(case: str) -> bytes:
    """The answer of a case, as the provider sends it."""
    (found,) = CASES[case].parent.glob(CASES[case].name.removesuffix("usage.json") + "response.*")
    return found.read_bytes()


@functools.cache
def about(case: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(CASES[case].read_text())
    return said


def read(case: str, chunks: Iterable[bytes], content_encoding: str = "", content_type: str | None = None) -> Answer:
    """What is read of it when it comes in these chunks."""
    answer = reader(
        CASES[case].parent.name,
        about(case)["provider"],
        status=about(case)["status"],
        content_type=about(case)["content_type"] if content_type is None else content_type,
        content_encoding=content_encoding,
        headers=about(case).get("headers"),
    )
    for chunk in chunks:
        answer.feed(chunk)
    answer.close()
    return answer.answer()


@functools.cache
def read_whole(case: str) -> Answer:
    return read(case, [body(case)])


def plain(answer: Answer) -> dict[str, Any]:
    """An answer as the fixtures write it: what is absent is left out."""
    said = {key: value for key, value in asdict(answer).items() if value not in (None, (), 0, False)}
    said["usage"] = counts(answer.usage)
    if answer.error is not None:
        said["error"] = {"code": answer.error.code, "type": answer.error.type}
    if answer.finish_reasons:
        said["finish_reasons"] = list(answer.finish_reasons)
    if answer.helpers:
        said["helpers"] = [{"model": helper.model, "usage": counts(helper.usage)} for helper in answer.helpers]
    if answer.reported_cost is not None:
        said["reported_cost"] = f"{answer.reported_cost.normalize():f}"
    return said


def counts(usage: Usage | None) -> dict[str, int] | None:
    return None if usage is None else {name: n for name, n in asdict(usage).items() if n is not None}


@pytest.mark.parametrize("case", CASES)
def test_a_documented_answer_is_read_as_its_vendor_means_it(case: str) -> None:
    assert plain(read_whole(case)) == about(case)["answer"]


@pytest.mark.parametrize("case", CASES)
def test_wherever_an_answer_is_cut_the_same_is_read(case: str) -> None:
    whole, data = read_whole(case), body(case)
    assert read(case, [data[i : i + 1] for i in range(len(data))]) == whole
    # In two at every third place: cases of one dialect are alike, and begin at different ones.
    assert all(read(case, [data[:cut], data[cut:]]) == whole for cut in range(1 + len(data) % 3, len(data), 3))


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


CONTENT_TYPES = {
    "": b"",
    "application/json": b"{",
    "application/x-ndjson": b'{"a": 1}\n',
    "text/event-stream": b"data: ",
    "application/vnd.amazon.eventstream": b"",
}
"With a beginning that fits."

ENCODINGS = {
    "gzip": ("gzip", gzip.compress),
    "deflate as RFC 9110 means it": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", raw_deflate),
    "brotli": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_however_an_answer_is_encoded_the_same_is_read(name: str) -> None:
    encoding, encode = ENCODINGS[name]
    for case in CASES:
        data = encode(body(case))
        assert read(case, [data[i : i + 7] for i in range(0, len(data), 7)], encoding) == read_whole(case), case


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", "text/plain; charset=utf-8"])
def test_whatever_the_content_type_says_the_same_is_read(content_type: str) -> None:
    for case in CASES:
        lied_to, told = read(case, [body(case)], content_type=content_type), read_whole(case)
        # Objects one per line that are not said to be such are found out at their end only.
        assert replace(lied_to, is_complete=told.is_complete) == told, case


def test_every_dialect_that_says_something_has_a_fixture() -> None:
    assert {case.partition("/")[0] for case in CASES} == ANSWERS.keys()


def test_every_dialect_of_an_endpoint_has_a_row_or_is_known_to_have_no_usage() -> None:
    assert {row.dialect for row in ENDPOINTS} - ANSWERS.keys() == {"models", "other"}


def test_every_fixture_says_where_its_facts_are_from() -> None:
    assert all(about(case)["source"].startswith("https://") and about(case)["checked"] for case in CASES)


def test_of_a_dialect_nobody_knows_errors_are_still_read() -> None:
    answer = reader("nobody's", "custom", status=400)
    answer.feed(b'{"error": {"code": "no", "usage": 1}, "usage": {"prompt_tokens": 3}}')
    answer.close()
    assert (answer.answer().usage, plain(answer.answer())["error"]) == (None, {"code": "no", "type": None})


UNTOLD: dict[str, tuple[str, str, dict[str, Any], Decimal | None]] = {
    "xAI says nothing": ("xai", "openai.chat", {"prompt_tokens": 1}, None),
    "OpenRouter says nothing": ("openrouter", "openai.chat", {"prompt_tokens": 1}, None),
    "OpenRouter gives it away": ("openrouter", "openai.chat", {"prompt_tokens": 1, "cost": 0}, Decimal()),
    "a cost that is no number": ("openrouter", "openai.chat", {"prompt_tokens": 1, "cost": "much"}, None),
    "only the host's charge": (
        "openrouter",
        "openai.chat",
        {"prompt_tokens": 1, "is_byok": True, "cost_details": {"upstream_inference_cost": 1}},
        None,
    ),
    "someone else's cost": ("custom", "openai.chat", {"prompt_tokens": 1, "cost": 3}, None),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_a_cost_is_reported_only_where_it_is_one(name: str) -> None:
    provider, dialect, usage, cost = UNTOLD[name]
    answer = reader(dialect, provider)
    answer.feed(json.dumps({"usage": usage}).encode())
    answer.close()
    assert answer.answer().reported_cost == cost


ODD: dict[str, tuple[str, str, dict[str, Any], Usage | None]] = {
    "Gemini's layer with nothing unseen": (
        "gemini",
        "openai.chat",
        {"usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}},
        Usage(input_tokens=4, output_tokens=2),
    ),
    "a Mistral total that nothing explains": (
        "mistral",
        "openai.chat",
        {"usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 9}},
        Usage(input_tokens=4, output_tokens=2),
    ),
    "billed units that are empty": (
        "cohere",
        "cohere.chat",
        {"usage": {"billed_units": {}, "cached_tokens": 3}},
        Usage(cache_read_tokens=3),
    ),
    "a model that Ollama only loads": ("ollama", "ollama", {"done": True, "done_reason": "load"}, None),
    "a line of Ollama's with a count before its end": (
        "ollama",
        "ollama",
        {"done": False, "prompt_eval_count": 3},
        Usage(input_tokens=3),
    ),
    "iterations that are no list": (
        "anthropic",
        "anthropic.messages",
        {"usage": {"input_tokens": 1, "iterations": 7}},
        Usage(input_tokens=1),
    ),
    "queries that are no list": (
        "gemini",
        "gemini.generate",
        {"usageMetadata": {"promptTokenCount": 3}, "candidates": [{"groundingMetadata": {"webSearchQueries": 3}}]},
        Usage(input_tokens=3, output_tokens=0),
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_costs_nothing_but_what_is_odd_in_it(name: str) -> None:
    provider, dialect, document, usage = ODD[name]
    answer = reader(dialect, provider)
    answer.feed(json.dumps(document).encode())
    answer.close()
    assert answer.answer().usage == usage


WORDS = sorted(
    {
        word
        for row in ANSWERS.values()
        for path in (
            *(p for shape in row.shapes for p in (*shape.places, *(q.text for r in shape.readings for q in r.paths))),
            *(p for places in row.words.values() for p in places),
            *(p for pair in (*row.finish_each, *((p, "") for p in row.finish)) for p in pair),
        )
        for word in re.findall(r"[\w-]+", path)
    }
    | {
        "error",
        "type",
        "object",
        "details",
        "iterations",
        "cost",
        "is_byok",
        "cost_in_usd_ticks",
        "total_tokens",
        "index",
    }
)
VALUES = st.none() | st.booleans() | st.integers(-2, 99) | st.floats() | st.sampled_from([*WORDS, "compaction", "x"])
DOCUMENTS = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=25,
)


@given(
    st.sampled_from(sorted(ANSWERS)),
    st.sampled_from(["custom", "gemini", "mistral", "openrouter", "xai"]),
    st.sampled_from([200, 400]),
    st.lists(st.dictionaries(st.sampled_from(WORDS), DOCUMENTS, max_size=6), min_size=1, max_size=3),
)
def test_whatever_stands_in_an_answer_it_is_read_without_a_fault(
    dialect: str, provider: str, status: int, documents: list[Any]
) -> None:
    written = [json.dumps(document).encode() for document in documents]
    for body_ in (written[0], b"".join(b"data: %s\n\n" % one for one in written), b"\n".join(written)):
        answer = reader(dialect, provider, status=status)
        answer.feed(body_)
        answer.answer()
        answer.close()
        assert answer.answer().unreadable is None


@given(st.sampled_from(sorted(ANSWERS)), st.sampled_from(list(CONTENT_TYPES)), st.lists(st.binary(max_size=40)))
def test_whatever_the_bytes_they_are_read_without_a_fault(dialect: str, content_type: str, chunks: list[bytes]) -> None:
    for encoding in ("", "gzip", "br"):
        answer = reader(dialect, "custom", content_type=content_type, content_encoding=encoding)
        for chunk in (CONTENT_TYPES[content_type], *chunks):
            answer.feed(chunk)
        answer.answer()
        answer.close()
        answer.answer()


def test_providers_of_the_tables_exist() -> None:
    corrected = {id_ for row in ANSWERS.values() for shape in row.shapes for id_ in shape.means_at}
    assert corrected | REPORTED_COSTS.keys() <= PROVIDERS.keys()
