"""The settings that docs/telemetry.md gives for each back end make lectr send what that back end documents.

The addresses are exchanged for one of ours; paths, headers and bodies are what the services would get.
"""

import gzip
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from lectr_extproc.edge.telemetry import Telemetry
from tests.edge.finished import call, deliver

DOCS = (Path(__file__).parents[2] / "docs/telemetry.md").read_text()
BLOCKS = dict(re.findall(r"^\*\*([^*]+)\.\*\*.*?```sh\n(.*?)```", DOCS, re.MULTILINE | re.DOTALL))

Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a back end documents: where spans and metrics go, with which headers."""

    prefix: str = ""
    headers: Headers | None = None
    metrics: Headers | None = None
    "Headers of metrics; None where it takes none."
    are_deltas: bool = False


BASIC = "Basic BASE64_OF_"
BACK_ENDS = {
    "Honeycomb": Expected(
        headers={"x-honeycomb-team": "API_KEY"},
        metrics={"x-honeycomb-team": "API_KEY", "x-honeycomb-dataset": "lectr-metrics"},
    ),
    "Datadog, through the Agent": Expected(metrics={}, are_deltas=True),
    "Datadog, without an Agent": Expected(
        headers={"dd-api-key": "API_KEY", "dd-otlp-source": "llmobs", "dd-ml-app": "lectr"},
        metrics={"dd-api-key": "API_KEY"},
        are_deltas=True,
    ),
    "Grafana Cloud": Expected(
        prefix="/otlp",
        headers={"authorization": BASIC + "INSTANCE_AND_TOKEN"},
        metrics={"authorization": BASIC + "INSTANCE_AND_TOKEN"},
    ),
    "Langfuse": Expected(
        prefix="/api/public/otel",
        headers={"authorization": BASIC + "BOTH_KEYS", "x-langfuse-ingestion-version": "4"},
    ),
    "Axiom": Expected(headers={"authorization": "Bearer API_TOKEN", "x-axiom-dataset": "DATASET"}),
    "Phoenix": Expected(),
}

Requests = dict[str, tuple[Headers, bytes]]


@pytest.fixture
def service() -> Iterator[tuple[str, Requests]]:
    """An HTTP server that takes everything, and what it was sent, by path."""
    requests: Requests = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            requests[self.path] = (headers, self.rfile.read(int(headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its base calls it so)
            """Not on standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()
        thread.join()


def test_every_documented_back_end_is_tested() -> None:
    assert list(BLOCKS) == list(BACK_ENDS)


@pytest.mark.parametrize("name", BACK_ENDS)
def test_the_documented_settings_send_what_the_back_end_documents(
    name: str, service: tuple[str, Requests], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, requests = service
    for variable in [variable for variable in os.environ if variable.startswith("OTEL_")]:
        monkeypatch.delenv(variable)
    for variable, value in re.findall(r"^export (\w+)=(.*)$", BLOCKS[name], re.MULTILINE):
        monkeypatch.setenv(variable, re.sub(r"^https?://[^/]+", address, value))
    expected = BACK_ENDS[name]

    subject = Telemetry.start()
    assert deliver(subject, call(attempts=1))["exported"] == 1
    assert (subject.export()["problem"], subject.health()["problem"]) == (None, None)
    traces, metrics = f"{expected.prefix}/v1/traces", f"{expected.prefix}/v1/metrics"
    assert requests.keys() == ({traces} if expected.metrics is None else {traces, metrics})
    usual = {"content-encoding": "gzip", "content-type": "application/x-protobuf"}
    headers, body = requests[traces]
    assert headers.items() >= {**usual, **(expected.headers or {})}.items()
    (resource,) = ExportTraceServiceRequest.FromString(gzip.decompress(body)).resource_spans
    assert [span.name for span in resource.scope_spans[0].spans] == ["chat gpt-4o"]
    if expected.metrics is not None:
        headers, body = requests[metrics]
        assert headers.items() >= {**usual, **expected.metrics}.items()
        sent = ExportMetricsServiceRequest.FromString(gzip.decompress(body)).resource_metrics[0].scope_metrics[0]
        (cost,) = [metric for metric in sent.metrics if metric.name == "lectr.llm.cost"]
        is_delta = cost.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
        assert is_delta == expected.are_deltas
