import logging
import os
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge import attributes as names
from lectr_extproc.edge.metrics import EVENTS
from lectr_extproc.edge.telemetry import LlmSpans, Telemetry
from tests.edge.finished import STARTED_NS, call, models_list, turned_away

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NOBODY = "http://127.0.0.1:1"  # a port nobody listens on


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """None of the caller's OTEL_* variables, and exporters that give up at once where nobody listens."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    return monkeypatch


def spans_of(*records: CallRecord, llm_spans: LlmSpans = "always") -> Sequence[ReadableSpan]:
    exporter = InMemorySpanExporter()
    subject = Telemetry(exporter, llm_spans=llm_spans)
    subject.record(records)
    subject.shutdown()
    return exporter.get_finished_spans()


def span_of(record: CallRecord, **settings: Any) -> ReadableSpan:
    (span,) = spans_of(record, **settings)
    return span


# --- The span ---------------------------------------------------------------------------------------------------------


def test_a_call_is_one_client_span_at_the_times_envoy_measured() -> None:
    span = span_of(call())
    assert (span.name, span.kind) == ("chat gpt-4o", SpanKind.CLIENT)
    assert (span.start_time, span.end_time) == (STARTED_NS, STARTED_NS + 2_500_125_000)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == names.of_span(call())
    assert (span.resource.attributes["service.name"], span.instrumentation_scope.name) == ("lectr", "lectr_extproc")  # type: ignore[union-attr]


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
def test_a_span_begins_a_trace_where_nobody_says_under_what_it_stands(said: str) -> None:
    first, second = spans_of(call(traceparent=ROOTS[said]), call(traceparent=ROOTS[said]))
    assert (first.parent, second.parent) == (None, None)
    assert first.context.trace_id not in {0, second.context.trace_id, int(TRACE, 16)}


def test_a_paid_call_is_seen_though_its_parent_was_not_sampled() -> None:
    span = span_of(call(traceparent=f"00-{TRACE}-{SPAN}-00"))
    assert (f"{span.context.trace_id:032x}", span.context.trace_flags.sampled) == (TRACE, True)


def test_a_span_may_follow_its_parent_out_of_sight() -> None:
    unsampled = call(traceparent=f"00-{TRACE}-{SPAN}-00")
    assert spans_of(unsampled, call(), call(traceparent=None), llm_spans="follow_parent")[0].parent
    exporter = InMemorySpanExporter()
    subject = Telemetry(exporter, llm_spans="follow_parent")
    subject.record([unsampled, call()])
    subject.shutdown()
    assert (subject.health()["not_sampled"], subject.health()["exported"]) == (1, 1)


def test_the_sampler_of_the_environment_is_asked(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    environment.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    assert spans_of(call()) == ()


def test_no_span_is_made_of_a_call_that_asks_no_model_or_that_nobody_vouches_for() -> None:
    assert spans_of(models_list(), turned_away(), call(dialect=None), call(dialect="from the future")) == ()


def test_a_refusal_after_authentication_is_a_span() -> None:
    refused = call(
        status=400, error_category="invalid_request", error_source="gateway", error_code="azure_config_missing"
    )
    assert span_of(refused).attributes["error.type"] == "azure_config_missing"  # type: ignore[index]


def test_the_service_is_called_what_the_environment_says(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_SERVICE_NAME", "gateway-eu")
    environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,service.version=9")
    attributes = span_of(call()).resource.attributes
    assert attributes["service.name"] == "gateway-eu"
    assert attributes["deployment.environment.name"] == "prod"
    assert attributes["service.version"] == "9"


def test_texts_are_cut_where_the_environment_says(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "6")
    attributes = span_of(call(finish_reasons=("content_filter",))).attributes or {}
    assert (attributes["lectr.org"], attributes["gen_ai.response.id"]) == ("acme", "chatcm")
    assert attributes["gen_ai.response.finish_reasons"] == ("conten",)


def test_metrics_are_recorded_whatever_is_sampled(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_TRACES_SAMPLER", "always_off")
    reader = InMemoryMetricReader()
    subject = Telemetry(InMemorySpanExporter(), reader)
    subject.record([call()])
    assert subject.health()["not_sampled"] == 1
    data = reader.get_metrics_data()
    assert data is not None
    assert "lectr.llm.cost" in {m.name for m in data.resource_metrics[0].scope_metrics[0].metrics}
    subject.shutdown()


# --- What is lost is counted ------------------------------------------------------------------------------------------


class Slow(SpanExporter):
    """A back end that answers only when it is let go."""

    def __init__(self) -> None:
        self.go, self.asked = threading.Event(), threading.Event()
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.go.wait()
        self.taken += len(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


class Broken(SpanExporter):
    """A back end that refuses, or an exporter that raises."""

    def __init__(self, *, raises: bool) -> None:
        self._raises = raises

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._raises:
            raise RuntimeError("no")
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        pass


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.go.set()


def test_what_a_full_queue_drops_is_counted(environment: pytest.MonkeyPatch, slow: Slow) -> None:
    environment.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    environment.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
    subject = Telemetry(slow)
    subject.record([call()] * 5)
    assert slow.asked.wait(10)
    subject.record([call()] * 20)
    health = subject.health()
    assert (health["received"], health["dropped"], health["waiting"]) == (25, 15, 10)
    slow.go.set()
    subject.shutdown()
    health = subject.health()
    assert (health["exported"], health["waiting"], slow.taken) == (10, 0, 10)


@pytest.mark.parametrize("raises", [False, True])
def test_what_the_back_end_refuses_is_counted(raises: bool, caplog: pytest.LogCaptureFixture) -> None:
    subject = Telemetry(Broken(raises=raises))
    subject.record([call(), call()])
    subject.shutdown()
    assert (subject.health()["failed"], subject.health()["waiting"]) == (2, 0)


def test_the_end_does_not_wait_for_a_back_end_that_does_not_answer(
    slow: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    subject = Telemetry(slow)
    subject.record([call()])
    subject.shutdown(within_s=0.05)
    assert not slow.go.is_set()
    assert "1 spans could not be sent" in caplog.text


def test_an_odd_record_costs_no_other_its_span_and_nobody_an_exception() -> None:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    subject = Telemetry(exporter, reader)
    odd: Any = call(started_ns="yesterday", duration_ms="long")
    subject.record([call(), odd, call()])
    subject.shutdown()
    assert len(exporter.get_finished_spans()) == 2
    health = subject.health()
    assert (health["span_errors"], health["metrics_errors"], health["waiting"]) == (1, 1, 0)


def test_what_became_of_spans_is_a_metric_too() -> None:
    reader = InMemoryMetricReader()
    subject = Telemetry(Broken(raises=False), reader)
    subject.record([call(), call()])
    assert subject._spans is not None
    subject._spans._processor.force_flush()
    data = reader.get_metrics_data()
    assert data is not None
    seen = {
        (m.name, (p.attributes or {}).get("reason")): p.value  # type: ignore[union-attr]
        for m in data.resource_metrics[0].scope_metrics[0].metrics
        if m.name in EVENTS
        for p in m.data.data_points
    }
    assert seen == {
        ("lectr.events.received", None): 2,
        ("lectr.events.exported", None): 0,
        ("lectr.events.dropped", "queue_full"): 0,
        ("lectr.events.dropped", "export_failed"): 2,
        ("lectr.events.dropped", "error"): 0,
    }
    subject.shutdown()


# --- The environment --------------------------------------------------------------------------------------------------

OFF: dict[str, dict[str, str]] = {
    "nothing is set": {},
    "the SDK is switched off": {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_SDK_DISABLED": "true"},
    "both exporters are none": {
        "OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY,
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
    },
}


@pytest.mark.parametrize("when", OFF)
def test_nothing_is_sent_and_no_thread_started_when(when: str, environment: pytest.MonkeyPatch) -> None:
    for name, value in OFF[when].items():
        environment.setenv(name, value)
    before = threading.active_count()
    subject = Telemetry.start()
    subject.record([call()])
    assert threading.active_count() == before
    assert subject.health() == {
        "spans": "off",
        "metrics": "off",
        "received": 0,
        "exported": 0,
        "failed": 0,
        "dropped": 0,
        "not_sampled": 0,
        "span_errors": 0,
        "metrics_errors": 0,
        "waiting": 0,
        "problem": None,
    }
    subject.shutdown()


SIGNALS: dict[str, tuple[dict[str, str], LlmSpans, tuple[str, str]]] = {
    "an endpoint for all": ({"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY}, "always", ("on", "on")),
    "an endpoint for spans": ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": NOBODY}, "always", ("on", "off")),
    "an endpoint for metrics": ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": NOBODY}, "always", ("off", "on")),
    "no metrics wanted": (
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_METRICS_EXPORTER": "none"},
        "always",
        ("on", "off"),
    ),
    "no spans of calls wanted": ({"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY}, "off", ("off", "on")),
    "gRPC": ({"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "always", ("on", "on")),
}


@pytest.mark.parametrize("when", SIGNALS)
def test_signals_are_sent_where_the_environment_says(when: str, environment: pytest.MonkeyPatch) -> None:
    variables, llm_spans, expected = SIGNALS[when]
    for name, value in variables.items():
        environment.setenv(name, value)
    subject = Telemetry.start(llm_spans=llm_spans)
    health = subject.health()
    assert (health["spans"], health["metrics"], health["problem"]) == (*expected, None)
    subject.shutdown()


MISTAKES: dict[str, dict[str, str]] = {
    "OTEL_EXPORTER_OTLP_PROTOCOL=http/json: only http/protobuf and grpc are known": {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"
    },
    "OTEL_TRACES_EXPORTER=console: only otlp and none are known": {"OTEL_TRACES_EXPORTER": "console"},
    "schedule_delay_millis must be positive.": {"OTEL_BSP_SCHEDULE_DELAY": "-5"},
}


@pytest.mark.parametrize("problem", MISTAKES)
def test_a_mistake_in_the_environment_switches_telemetry_off_and_says_so(
    problem: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOBODY)
    for name, value in MISTAKES[problem].items():
        environment.setenv(name, value)
    subject = Telemetry.start()
    subject.record([call()])
    assert (subject.health()["spans"], subject.health()["problem"]) == ("off", problem)
    subject.shutdown()


def test_a_size_that_is_no_number_is_the_usual_one(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "many")
    span_of(call())
    assert "OTEL_BSP_MAX_QUEUE_SIZE=many is not a number from 1: 2048 is taken" in caplog.text


def test_a_package_that_overwrites_the_exporters_files_is_named_and_calls_are_served(
    environment: pytest.MonkeyPatch,
) -> None:
    """What xds-protos 1.85 leaves of opentelemetry-proto: its version 0.9, which has no InstrumentationScope."""
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOBODY)
    overwritten = types.ModuleType("opentelemetry.proto.common.v1.common_pb2")
    environment.setitem(sys.modules, overwritten.__name__, overwritten)
    subject = Telemetry.start()
    subject.record([call()])
    assert "xds-protos" in subject.health()["problem"]
    subject.shutdown()


def test_the_key_of_a_back_end_in_a_malformed_header_is_not_logged(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOBODY)
    environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-honeycomb-team: hcaik_secret")
    subject = Telemetry.start()
    subject.shutdown()
    assert "Header format invalid" in caplog.text
    assert "hcaik_secret" not in caplog.text + str(subject.health())


def test_why_the_exporter_fails_is_shown() -> None:
    subject = Telemetry(InMemorySpanExporter())
    logging.getLogger("opentelemetry.exporter.otlp").error("Failed to export spans batch code: %s", 401)
    assert subject.health()["problem"] == "Failed to export spans batch code: 401"
    subject.shutdown()
