"""What leaves is what the SDK would have sent, to the byte."""

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

from lectr_extproc.core.ledger import record_of, row_of
from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge.logs import without_keys
from lectr_extproc.edge.otlp_bytes import request_of
from lectr_extproc.edge.spans import Spans
from tests.core.test_ledger import any_of
from tests.edge.finished import STARTED_NS, call
from tests.edge.ledgers import attempt

RESOURCE = Resource({"service.name": "lectr", "process.command_args": ["serve"], "host.cpus": 2}, "https://schema")
SPANS = Spans(RESOURCE)


def is_the_sdks(spans: Sequence[ReadableSpan]) -> bool:
    ours, theirs = request_of(spans), encode_spans(spans)
    return ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


def saying(**attributes: str | bool | float | tuple[str, ...]) -> list[ReadableSpan]:
    return [ReadableSpan("a span", SpanContext(1, 2, is_remote=False), None, RESOURCE, attributes)]


@given(any_of(CallRecord))
def test_the_span_of_any_call_is_what_the_sdk_makes_of_it(record: CallRecord) -> None:
    kept = record_of(row_of(record, without_keys))
    asked = dataclasses.replace(
        kept,
        org="acme",
        dialect="openai.chat",
        started_ns=STARTED_NS,
        duration_ms=1.5,
        # Clocks have told these: neither can write a time before 1970.
        tries=tuple(dataclasses.replace(one, began_ms=STARTED_NS // 10**6, duration_ms=1.5) for one in kept.tries or ())
        or None,
    )
    assert is_the_sdks(SPANS.of(asked))


def test_a_batch_of_all_kinds_of_spans_is_what_the_sdk_makes_of_it() -> None:
    failure = attempt(started_ns=STARTED_NS + 1_000, duration_ms=20)
    batch = [*SPANS.of(call(), [failure]), *SPANS.of(call(traceparent=None)), *SPANS.of(call(error_category="timeout"))]
    assert [span.name for span in batch].count("attempt 1") == 1
    assert is_the_sdks(batch)


VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=300)).map(tuple),
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES))
def test_any_value_is_written_as_the_sdk_writes_it(attributes: dict[str, str]) -> None:
    assert is_the_sdks(saying(**attributes))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 70_000])
def test_lengths_are_right_where_they_take_another_byte(size: int) -> None:
    assert is_the_sdks(saying(text="x" * size))


def test_values_that_are_equal_and_of_different_kinds_stay_what_they_are() -> None:
    assert is_the_sdks([*saying(v=1), *saying(v=True), *saying(v=1.0), *saying(v=0), *saying(v=False), *saying(v=0.0)])


def test_what_no_message_can_hold_costs_no_other_value() -> None:
    assert request_of(saying(port=2**63, low=-(2**63) - 1, fits=1)) == encode_spans(saying(fits=1))
    assert request_of(saying(half="\ud800")) == encode_spans(saying(half="?"))


def test_resource_and_scope_are_told_once() -> None:
    scope = InstrumentationScope("lectr_extproc", "1", "https://schema")
    span = ReadableSpan("a span", SpanContext(1, 2, is_remote=False), None, RESOURCE, instrumentation_scope=scope)
    (resource,) = request_of([span] * 3).resource_spans
    (told,) = resource.scope_spans
    assert (resource.schema_url, told.schema_url, told.scope.name, len(told.spans)) == (
        "https://schema",
        "https://schema",
        "lectr_extproc",
        3,
    )
