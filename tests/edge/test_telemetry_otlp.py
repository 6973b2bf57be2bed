"""What a receiver that we did not write understands of our spans and metrics, over both of OTLP's transports."""

import base64
import os
from collections.abc import Iterator

import pytest

from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge import attributes as names
from lectr_extproc.edge.metrics import BUCKETS
from lectr_extproc.edge.telemetry import Telemetry
from tests.edge.finished import STARTED_NS, call, deliver
from tests.receiver import Receiver, receiver

PROTOCOLS = ["http/protobuf", "grpc"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver(tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.fixture
def back_end(running: Receiver) -> Receiver:
    running.clear()
    return running


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """None of the caller's OTEL_* variables."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest, back_end: Receiver, environment: pytest.MonkeyPatch) -> str:
    """The transport, chosen as users do."""
    protocol: str = request.param
    environment.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", back_end.endpoint(protocol))
    return protocol


def send(*records: CallRecord) -> None:
    subject = Telemetry.start()
    assert deliver(subject, *records)["exported"] == len(records)
    assert (subject.export()["problem"], subject.health()["problem"]) == (None, None)


def test_every_attribute_arrives_with_its_value_and_its_type(protocol: str, back_end: Receiver) -> None:
    well = call(attempts=1)
    failed = call(error_category="rate_limit", error_source="provider", status=429, usage=None, cost=None, call_id="1")
    send(well, failed)
    for sent, got in zip((well, failed), back_end.spans(2), strict=True):
        expected = {k: list(v) if isinstance(v, tuple) else v for k, v in names.of_span(sent).items()}
        assert got["attributes"] == expected
        assert {k: type(v) for k, v in got["attributes"].items()} == {k: type(v) for k, v in expected.items()}


def test_a_span_arrives_with_its_place_its_times_and_its_outcome(protocol: str, back_end: Receiver) -> None:
    failed = call(error_category="rate_limit", error_source="provider", status=429, traceparent=None, call_id="1")
    send(call(attempts=1), failed)
    went_well, failed = back_end.spans(2)
    assert (went_well["name"], went_well["kind"]) == ("chat gpt-4o", "SPAN_KIND_CLIENT")
    assert base64.b64decode(went_well["trace_id"]).hex() == "0af7651916cd43dd8448eb211c80319c"
    assert base64.b64decode(went_well["parent_span_id"]).hex() == "b7ad6b7169203331"
    assert int(went_well["start_time_unix_nano"]) == STARTED_NS
    assert int(went_well["end_time_unix_nano"]) == STARTED_NS + 2_500_125_000
    assert "code" not in went_well.get("status", {})
    assert failed["status"] == {"code": "STATUS_CODE_ERROR"}
    assert "parent_span_id" not in failed
    assert back_end.resources()[0]["service.name"] == "lectr"


def test_metrics_arrive_with_what_calls_cost_and_used(protocol: str, back_end: Receiver) -> None:
    send(call(), call(call_id="1"))
    ((labels, cost),) = back_end.points("lectr.llm.cost")
    assert (cost["as_double"], labels["gen_ai.request.model"], labels["lectr.feature"]) == (0.0095, "gpt-4o", "search")
    ((_, asked),) = back_end.points("lectr.llm.requests")
    assert int(asked["as_int"]) == 2
    tokens = {
        labels["gen_ai.token.type"]: int(point["as_int"]) for labels, point in back_end.points("lectr.llm.tokens")
    }
    assert tokens == {"input": 2400, "output": 600, "cache_read": 2000, "cache_write": 200, "reasoning": 400}
    for name, buckets in BUCKETS.items():
        assert back_end.points(name)[0][1]["explicit_bounds"] == buckets


def test_counters_can_be_deltas(protocol: str, back_end: Receiver, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "DELTA")
    send(call())
    assert back_end.metric("lectr.llm.cost")["sum"]["aggregation_temporality"] == "AGGREGATION_TEMPORALITY_DELTA"


def test_http_is_compressed_and_has_the_headers_of_the_environment(
    back_end: Receiver, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", back_end.endpoint("http/protobuf"))
    environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-honeycomb-team=abc,authorization=Basic%20MTp0b2tlbg==")
    send(call())
    back_end.points("lectr.llm.cost")
    for request in back_end.requests():
        headers = {name.lower(): value for name, value in request["headers"].items()}
        assert headers["content-encoding"] == "gzip"
        assert headers["content-type"] == "application/x-protobuf"
        assert (headers["x-honeycomb-team"], headers["authorization"]) == ("abc", "Basic MTp0b2tlbg==")


def test_no_key_that_a_client_misplaced_is_in_any_byte_that_leaves(protocol: str, back_end: Receiver) -> None:
    secret = "sk-proj-Zq9xZq9xZq9xZq9xZq9x"
    send(call(feature=secret, task=secret, model_requested=secret, model_sent=secret, request_id=secret))
    back_end.spans()
    back_end.points("lectr.llm.cost")
    sent = b"".join(base64.b64decode(request["body"]) for request in back_end.requests())
    assert b"chat" in sent
    assert b"Zq9x" not in sent


def test_a_back_end_that_knows_no_metrics_costs_no_span(back_end: Receiver, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", back_end.endpoint("http/protobuf"))
    environment.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", back_end.endpoint("http/protobuf") + "/v1/unknown")
    subject = Telemetry.start()
    assert deliver(subject, call(attempts=1))["exported"] == 1
    assert "404" in subject.health()["problem"]
    assert len(back_end.spans()) == 1
