"""A record as spans: what is in them, and that they are the same ones whenever they are made."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from lectr_extproc.core.ledger import record_of, row_of
from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.core.tries import Try
from lectr_extproc.edge import attributes as names
from lectr_extproc.edge.logs import without_keys
from lectr_extproc.edge.spans import LlmSpans, Spans, asks_a_model, failures_among
from tests.core.test_ledger import any_of
from tests.edge.conftest import Environment
from tests.edge.finished import STARTED_NS, call, models_list, turned_away
from tests.edge.ledgers import attempt

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ONE_TRY = {"attempts": 1}


def spans_of(record: CallRecord, failed: Sequence[Attempt] = (), llm_spans: LlmSpans = "always") -> list[ReadableSpan]:
    return Spans(Resource({}), llm_spans).of(record, failed)


def span_of(record: CallRecord, llm_spans: LlmSpans = "always") -> ReadableSpan:
    return spans_of(record, (), llm_spans)[0]


def test_a_call_is_one_client_span_at_the_times_envoy_measured() -> None:
    (span,) = spans_of(call(**ONE_TRY))
    assert (span.name, span.kind) == ("chat gpt-4o", SpanKind.CLIENT)
    assert (span.start_time, span.end_time) == (STARTED_NS, STARTED_NS + 2_500_125_000)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == names.of_span(call(**ONE_TRY))
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "lectr_extproc"


def test_a_span_whose_model_nobody_named_has_the_operation_for_a_name() -> None:
    assert span_of(call(model_sent=None)).name == "chat"


def test_a_failed_call_is_an_error_without_a_message() -> None:
    span = span_of(call(error_category="rate_limit", error_source="provider", status=429))
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)


def test_a_span_stands_under_the_one_that_asked() -> None:
    span = span_of(call())
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert span.parent.is_remote
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.context.span_id not in {0, span.parent.span_id}


ROOTS = {
    "nothing": None,
    "no trace context at all": "hello",
    "a trace id of zeros": f"00-{'0' * 32}-{SPAN}-01",
    "a span id of zeros": f"00-{TRACE}-{'0' * 16}-01",
    "a version that cannot be": f"ff-{TRACE}-{SPAN}-01",
}


@pytest.mark.parametrize("said", ROOTS)
def test_a_span_begins_a_trace_of_the_calls_own_id_where_nobody_says_under_what_it_stands(said: str) -> None:
    span = span_of(call(traceparent=ROOTS[said]))
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" == call().call_id


def test_a_span_has_the_same_ids_whenever_it_is_made_and_no_other_call_has_them() -> None:
    ids = {span_of(call(call_id=f"{n:032x}")).context.span_id for n in (1, 1, 2)}
    assert len(ids) == 2
    assert 0 not in ids


@pytest.mark.parametrize("call_id", ["0" * 32, "f" * 33, "no number"])
def test_an_odd_call_id_is_made_to_fit(call_id: str) -> None:
    context = span_of(call(call_id=call_id, traceparent=None)).context
    assert context.is_valid
    assert context.trace_id == span_of(call(call_id=call_id, traceparent=None)).context.trace_id


def test_a_paid_call_is_seen_though_its_parent_was_not_sampled() -> None:
    span = span_of(call(traceparent=f"00-{TRACE}-{SPAN}-00"))
    assert (f"{span.context.trace_id:032x}", span.context.trace_flags.sampled) == (TRACE, True)


def test_a_span_may_follow_its_parent_out_of_sight() -> None:
    assert spans_of(call(traceparent=f"00-{TRACE}-{SPAN}-00"), llm_spans="follow_parent") == []
    assert span_of(call(), "follow_parent").parent
    assert span_of(call(traceparent=None), "follow_parent").parent is None


def test_the_sampler_of_the_environment_is_asked(environment: Environment) -> None:
    environment.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    environment.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    assert spans_of(call()) == []


def test_no_span_is_made_of_a_call_that_asks_no_model_or_that_nobody_vouches_for() -> None:
    odd = (models_list(), turned_away(), call(dialect=None), call(dialect="from the future"))
    assert [asks_a_model(record) for record in (*odd, call())] == [False] * 4 + [True]


def test_a_refusal_after_authentication_is_a_span() -> None:
    refused = call(
        status=400, error_category="invalid_request", error_source="gateway", error_code="azure_config_missing"
    )
    assert span_of(refused).attributes["error.type"] == "azure_config_missing"  # type: ignore[index]


def test_texts_are_cut_where_the_environment_says(environment: Environment) -> None:
    environment.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "6")
    attributes = span_of(call(finish_reasons=("content_filter",))).attributes or {}
    assert (attributes["lectr.org"], attributes["gen_ai.response.id"]) == ("acme", "chatcm")
    assert attributes["gen_ai.response.finish_reasons"] == ("conten",)


@given(any_of(CallRecord))
def test_a_span_says_the_same_whether_its_record_has_been_in_the_ledger_or_not(record: CallRecord) -> None:
    assert names.of_span(record_of(row_of(record, without_keys))) == names.of_span(record)


# --- attempts ---------------------------------------------------------------------------------------------------------

MS = 1_000_000


def failed(start_ms: int, took_ms: float, **changes: Any) -> Attempt:
    return attempt(started_ns=STARTED_NS + start_ms * MS, duration_ms=took_ms, **changes)


def told(spans: Sequence[ReadableSpan]) -> list[tuple[str, float, float, dict[str, Any]]]:
    """Name, from when, until when, and what is said of it."""
    return [
        (
            span.name,
            ((span.start_time or 0) - STARTED_NS) / MS,
            ((span.end_time or 0) - STARTED_NS) / MS,
            dict(span.attributes or {}),
        )
        for span in spans
    ]


PEER = {"network.peer.address": "192.0.2.1", "network.peer.port": 443}
ANSWERED = {"server.address": "api.openai.com", "server.port": 8443, "http.response.status_code": 200}


def test_attempts_are_spans_below_that_of_their_call_and_the_last_is_what_the_calls_own_entry_tells() -> None:
    refused = failed(20, 5, status=None, flags=("upstream_connection_failure",))
    spans = spans_of(call(attempts=3), [failed(1, 10), refused])
    assert told(spans[1:]) == [
        ("attempt 1", 1, 11, {"error.type": "503", "http.response.status_code": 503, **PEER}),
        ("attempt 2", 20, 25, {"error.type": "upstream_connection_failure", **PEER}),
        ("attempt 3", 25, 2500.125, ANSWERED),
    ]
    assert [span.status.status_code for span in spans[1:]] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert [span.parent for span in spans[1:]] == [spans[0].context] * 3
    assert len({span.context.span_id for span in spans}) == 4
    assert [s.context for s in spans_of(call(attempts=3), [failed(1, 10), refused])] == [s.context for s in spans]


def test_the_last_attempt_begins_when_its_first_byte_less_the_providers_time_was() -> None:
    (_, _, last) = spans_of(call(attempts=2, first_byte_ms=500.0, provider_first_byte_ms=400.0), [failed(1, 10)])
    assert told([last])[0][1] == 100


def test_the_attempts_at_several_candidates_say_who_was_asked() -> None:
    began_ms = STARTED_NS // MS
    first = Try(
        provider="openai", model="gpt-4o", host="o.example", began_ms=began_ms + 1, status=503, duration_ms=10.0
    )
    silent = dataclasses.replace(
        first, provider="groq", host="g.example", began_ms=began_ms + 11, status=None, duration_ms=5.0
    )
    last = dataclasses.replace(
        first, provider="xai", model="grok", host="x.example:81", began_ms=began_ms + 16, status=200
    )
    record = call(attempts=3, tries=(first, silent, last))
    refused = failed(11, 5, status=None, flags=("upstream_request_timeout",))
    named = {"gen_ai.request.model": "gpt-4o"}
    expected = [
        ("attempt 1", 1, 11, {"lectr.provider": "openai", "server.address": "o.example", **named}, "503"),
        ("attempt 2", 11, 16, {"lectr.provider": "groq", "server.address": "g.example", **named}, "error"),
        ("attempt 3", 16, 26, {"lectr.provider": "xai", "server.address": "x.example"}, None),
    ]
    spans = told(spans_of(record)[1:])
    assert [(name, began, ended) for name, began, ended, _ in spans] == [each[:3] for each in expected]
    for (*_, attributes), (*_, known, error) in zip(spans, expected, strict=True):
        assert known.items() <= attributes.items()
        assert attributes.get("error.type") == error
    flagged = told(spans_of(record, [failed(1, 10), refused])[1:])
    assert [each[3].get("error.type") for each in flagged] == ["503", "upstream_request_timeout", None]


def test_of_a_call_that_failed_each_attempt_has_an_entry_of_its_own() -> None:
    record = call(attempts=2, status=503, error_category="overloaded")
    assert failures_among(record) == 2
    assert [span.name for span in spans_of(record, [failed(1, 1), failed(3, 1)])[1:]] == ["attempt 1", "attempt 2"]


def test_a_stream_that_broke_off_has_no_attempt_too_many() -> None:
    record = call(attempts=2, error_category="stream_interrupted")
    broken = failed(3, 1, status=200, flags=("upstream_remote_reset",))
    assert [name for name, *_ in told(spans_of(record, [failed(1, 1), broken])[1:])] == ["attempt 1", "attempt 2"]


def test_a_call_that_was_sent_once_has_no_attempts() -> None:
    assert len(spans_of(call(**ONE_TRY), [failed(1, 1)])) == 1
    assert len(spans_of(dataclasses.replace(call(), attempts=None), [failed(1, 1)])) == 1
