"""Telemetry is set up as OTEL_* says; metrics come from batches, and spans from the ledger."""

import logging
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult

from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.outbox import CURSOR, THREAD
from lectr_extproc.edge.spans import LlmSpans
from lectr_extproc.edge.telemetry import Telemetry
from tests.edge.conftest import Environment
from tests.edge.finished import call

NOBODY = "http://127.0.0.1:1"  # a port nobody listens on


@pytest.fixture(autouse=True)
def impatient(environment: Environment) -> None:
    """Exporters that give up at once where nobody listens."""
    environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")


def outbox(environment: Environment) -> Any:
    environment.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", NOBODY)
    subject = Telemetry.start()
    subject.shutdown()
    return subject.outbox


def test_the_service_is_called_what_the_environment_says(environment: Environment) -> None:
    environment.setenv("OTEL_SERVICE_NAME", "gateway-eu")
    environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,service.version=9")
    (span, *_) = outbox(environment)._spans.of(call())
    assert span.resource.attributes["service.name"] == "gateway-eu"
    assert span.resource.attributes["deployment.environment.name"] == "prod"
    assert span.resource.attributes["service.version"] == "9"


def test_the_service_is_called_lectr_where_the_environment_says_nothing(environment: Environment) -> None:
    assert outbox(environment)._spans.of(call())[0].resource.attributes["service.name"] == "lectr"


def test_metrics_are_recorded_whatever_is_sampled(environment: Environment) -> None:
    environment.setenv("OTEL_TRACES_SAMPLER", "always_off")
    reader = InMemoryMetricReader()
    subject = Telemetry.start(reader)
    subject.record([call()])
    data = reader.get_metrics_data()
    assert data is not None
    assert "lectr.llm.cost" in {m.name for m in data.resource_metrics[0].scope_metrics[0].metrics}
    subject.shutdown()


def test_an_odd_record_is_counted_and_costs_nobody_an_exception() -> None:
    subject = Telemetry.start(InMemoryMetricReader())
    odd: Any = call(duration_ms="long")
    subject.record([odd])
    assert subject.health()["metrics_errors"] == 1
    subject.shutdown()


def test_sizes_and_delays_are_what_the_environment_says(
    environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    usual = outbox(environment)
    assert (usual._batch_size, usual._delay_s, usual._lease_s) == (512, 0.2, 15.0)
    environment.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000")
    environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "1500")
    environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "10")
    chosen = outbox(environment)
    assert (chosen._batch_size, chosen._delay_s, chosen._lease_s) == (5000, 1.5, 30.0)
    environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "soon")
    assert outbox(environment)._delay_s == 0.2
    assert "OTEL_BSP_SCHEDULE_DELAY=soon is not a number from 1: 200 is taken" in caplog.text


def test_the_end_sends_what_can_be_sent_and_keeps_the_rest(environment: Environment, tmp_path: Path) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", NOBODY)
    subject = Telemetry.start()
    assert subject.outbox is not None
    ledger = Ledger.start(f"sqlite://{tmp_path}/ledger.db", 36500, {}, [CURSOR])
    subject.outbox.start(ledger)
    ledger.put([call()], [])
    ledger.finish()
    subject.shutdown()
    assert (subject.export()["exported"], ledger.store.lag(CURSOR)[0]) == (0, 1)
    assert subject.export()["problem"]
    assert subject.health()["problem"] is None  # that is about metrics
    ledger.stop()


def test_the_sdk_says_nothing_beside_what_the_outbox_says(
    environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    subject = Telemetry.start()
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    sending = threading.Thread(target=logger.error, args=["Failed to export"], name=THREAD)
    sending.start()
    sending.join()
    assert caplog.text == ""
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
def test_nothing_is_sent_and_no_thread_started_when(when: str, environment: Environment) -> None:
    for name, value in OFF[when].items():
        environment.setenv(name, value)
    before = threading.active_count()
    subject = Telemetry.start()
    subject.record([call()])
    assert threading.active_count() == before
    assert subject.health() == {"spans": "off", "metrics": "off", "metrics_errors": 0, "problem": None}
    assert subject.export() == {"problem": None}
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
def test_signals_are_sent_where_the_environment_says(when: str, environment: Environment) -> None:
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
    "OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://": {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"
    },
}


@pytest.mark.parametrize("problem", MISTAKES)
def test_a_mistake_in_the_environment_switches_telemetry_off_and_says_so(
    problem: str, environment: Environment
) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOBODY)
    for name, value in MISTAKES[problem].items():
        environment.setenv(name, value)
    subject = Telemetry.start()
    subject.record([call()])
    assert (subject.health()["spans"], subject.health()["problem"]) == ("off", problem)
    assert subject.export() == {"problem": problem}
    subject.shutdown()


def test_a_package_that_overwrites_the_exporters_files_is_named_and_calls_are_served(
    environment: Environment,
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
    environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOBODY)
    environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-honeycomb-team: hcaik_secret")
    subject = Telemetry.start()
    subject.shutdown()
    assert "Header format invalid" in caplog.text
    assert "hcaik_secret" not in caplog.text + str(subject.health())


def test_metrics_that_fail_are_a_problem_until_they_are_sent_again(environment: Environment) -> None:
    answers: Iterator[Any] = iter(
        [MetricExportResult.FAILURE, RuntimeError("a key: sk-hush"), MetricExportResult.SUCCESS]
    )

    def export(*_: Any, **__: Any) -> Any:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    environment.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", NOBODY)
    environment.setattr(OTLPMetricExporter, "export", export)
    subject = Telemetry.start()
    assert subject._metrics is not None
    subject.record([call()])
    told = []
    for _ in range(3):
        subject._metrics.provider.force_flush()
        told.append(subject.health()["problem"])
    assert told == ["metrics cannot be sent", "metrics cannot be sent", None]
    logging.getLogger("opentelemetry.exporter.otlp").warning("HTTP 503")
    answers = iter([MetricExportResult.FAILURE, MetricExportResult.SUCCESS, MetricExportResult.SUCCESS])
    subject._metrics.provider.force_flush()
    assert subject.health()["problem"] == "HTTP 503"
    subject._metrics.provider.force_flush()
    assert subject.health()["problem"] is None
    subject.shutdown()


def test_why_the_exporter_fails_is_shown() -> None:
    subject = Telemetry.start(InMemoryMetricReader())
    logging.getLogger("opentelemetry.exporter.otlp").error("Failed to export spans batch code: %s", 401)
    assert subject.health()["problem"] == "Failed to export spans batch code: 401"
    subject.shutdown()
