"""What a collector answers, over both of OTLP's transports, is told apart as it should be."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from lectr_extproc.edge import otlp_bytes
from lectr_extproc.edge.otlp import Outcome, Sender, of_grpc, of_http, sender, timeout_s
from lectr_extproc.edge.spans import Spans
from tests.edge.conftest import Environment
from tests.edge.finished import call

SPANS = Spans(Resource({})).of(call(attempts=1))
PARTIAL = service.ExportTraceServiceResponse(
    partial_success=service.ExportTracePartialSuccess(rejected_spans=3, error_message="too old")
)
SECRET = "hcaik-0123456789"


def http(status: int, body: bytes = b"", **headers: str) -> Outcome:
    return of_http(status, "Words", {name.replace("_", "-"): value for name, value in headers.items()}, body)


HTTP: dict[str, tuple[Outcome, Outcome]] = {
    "taken": (http(200), Outcome(verdict="taken")),
    "taken, and said in JSON": (http(200, b'{"partialSuccess":{}}'), Outcome(verdict="taken")),
    "taken in part": (
        http(200, PARTIAL.SerializeToString()),
        Outcome(verdict="taken", rejected=3, reason="rejected: too old"),
    ),
    "malformed": (http(400), Outcome(verdict="refused", reason="HTTP 400 Words")),
    "a wrong key": (http(401), Outcome(verdict="refused", reason="HTTP 401 Words")),
    "a page to log in on": (http(302), Outcome(verdict="refused", reason="HTTP 302 Words")),
    "too large": (http(413), Outcome(verdict="refused", reason="HTTP 413 Words", is_too_much=True)),
    "too slow": (http(408), Outcome(verdict="later", reason="HTTP 408 Words")),
    "too often": (http(429, retry_after="7"), Outcome(verdict="later", reason="HTTP 429 Words", after_s=7)),
    "until a date that is over": (
        http(429, retry_after="Sat, 01 Jan 2000 12:00:00 GMT"),
        Outcome(verdict="later", reason="HTTP 429 Words"),
    ),
    "until who knows when": (http(429, retry_after="soon"), Outcome(verdict="later", reason="HTTP 429 Words")),
    "broken": (http(500), Outcome(verdict="later", reason="HTTP 500 Words")),
}


@pytest.mark.parametrize(("said", "expected"), HTTP.values(), ids=HTTP.keys())
def test_an_answer_of_http_is_understood(said: Outcome, expected: Outcome) -> None:
    assert said == expected


def test_a_date_until_which_to_wait_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_795_262_400.0)  # Sat, 21 Nov 2026 12:00:00 GMT
    assert http(503, retry_after="Sat, 21 Nov 2026 12:00:09 GMT").after_s == 9


@dataclass
class Failed:
    """An error of gRPC."""

    status: grpc.StatusCode
    text: str | None = None
    metadata: Any = None
    code: Any = field(init=False)

    def __post_init__(self) -> None:
        self.code = lambda: self.status

    def details(self) -> str | None:
        return self.text

    def trailing_metadata(self) -> Any:
        return self.metadata


def retry_after(seconds: int) -> Any:
    packed = AnyMessage()
    packed.Pack(RetryInfo(retry_delay=Duration(seconds=seconds)))
    return [("other", "x"), ("grpc-status-details-bin", Status(details=[AnyMessage(), packed]).SerializeToString())]


GRPC: dict[str, tuple[Failed, Outcome]] = {
    "a wrong key": (
        Failed(grpc.StatusCode.UNAUTHENTICATED, "no"),
        Outcome(verdict="refused", reason="gRPC UNAUTHENTICATED no"),
    ),
    "too large": (
        Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)"),
        Outcome(
            verdict="refused",
            reason="gRPC RESOURCE_EXHAUSTED Received message larger than max (5 vs. 4)",
            is_too_much=True,
        ),
    ),
    "too often": (
        Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, None, retry_after(9)),
        Outcome(verdict="later", reason="gRPC RESOURCE_EXHAUSTED", after_s=9),
    ),
    "gone": (Failed(grpc.StatusCode.UNAVAILABLE, "down"), Outcome(verdict="later", reason="gRPC UNAVAILABLE down")),
}


@pytest.mark.parametrize(("said", "expected"), GRPC.values(), ids=GRPC.keys())
def test_an_error_of_grpc_is_understood(said: Failed, expected: Outcome) -> None:
    assert of_grpc(said) == expected


# --- real servers -----------------------------------------------------------------------------------------------------


@dataclass
class Collector:
    """What it is sent, and what it answers: a status of the transport's own, else a message."""

    refusal: Any
    "The transport's word for a wrong key."
    port: int = 0
    answer: Any = None
    spans: list[str] = field(default_factory=list)

    def take(self, body: service.ExportTraceServiceRequest) -> Any:
        self.spans += [s.name for r in body.resource_spans for scope in r.scope_spans for s in scope.spans]
        return self.answer


def over_http(collector: Collector) -> Callable[[], None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
            answer = collector.take(service.ExportTraceServiceRequest.FromString(body))
            is_status = isinstance(answer, int)
            sent = b"" if is_status or answer is None else answer.SerializeToString()
            self.send_response(answer if is_status else 200)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its base calls it so)
            """Not on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def over_grpc(collector: Collector) -> Callable[[], None]:
    class Servicer(TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            answer = collector.take(request)
            if isinstance(answer, grpc.StatusCode):
                context.abort(answer, f"your key is {SECRET}")
            return answer or service.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(Servicer(), server)  # type: ignore[no-untyped-call]
    collector.port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def stop() -> None:
        server.stop(None).wait()

    return stop


@pytest.fixture(params=["http/protobuf", "grpc"])
def collector(request: pytest.FixtureRequest, environment: Environment) -> Iterator[Collector]:
    collector = Collector(grpc.StatusCode.UNAUTHENTICATED if request.param == "grpc" else 401)
    stop = (over_grpc if request.param == "grpc" else over_http)(collector)
    environment.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-team={SECRET}")
    environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    yield collector
    stop()


@pytest.fixture
def subject(collector: Collector) -> Iterator[Sender]:
    subject = sender(None)
    assert subject is not None
    yield subject
    subject.shutdown()


def test_what_the_collector_took_is_taken(collector: Collector, subject: Sender) -> None:
    assert subject.send(SPANS) == Outcome(verdict="taken")
    assert collector.spans == ["chat gpt-4o"]


def test_spans_are_encoded_by_us_whatever_the_protocol(collector: Collector, subject: Sender) -> None:
    with mock.patch.object(otlp_bytes, "_span", return_value=b"") as ours:
        subject.send(SPANS * 3)
    assert ours.call_count == 3
    assert collector.spans == [""] * 3


def test_what_it_took_in_part_is_told(collector: Collector, subject: Sender) -> None:
    collector.answer = PARTIAL
    assert subject.send(SPANS) == Outcome(verdict="taken", rejected=3, reason="rejected: too old")


def test_what_it_refuses_is_refused_once_and_the_key_it_quotes_is_not_repeated(
    collector: Collector, subject: Sender
) -> None:
    collector.answer = collector.refusal
    outcome = subject.send(SPANS)
    assert (outcome.verdict, len(collector.spans)) == ("refused", 1)
    assert outcome.reason in {"HTTP 401 Unauthorized", "gRPC UNAUTHENTICATED your key is …"}


def test_a_collector_that_nobody_reaches_is_for_later(environment: Environment) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    for protocol in ("http/protobuf", "grpc"):
        environment.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        subject = sender(None)
        assert subject is not None
        assert subject.send(SPANS).verdict == "later"
        subject.shutdown()


class Odd(SpanExporter):
    """An exporter that raises, or fails without having asked anybody."""

    def __init__(self, *, raises: bool = False) -> None:
        self._raises = raises

    def export(self, spans: Any) -> SpanExportResult:
        if self._raises:
            raise RuntimeError("no")
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize("raises", [False, True])
def test_what_cannot_even_be_sent_is_refused_and_less_of_it_may_do(raises: bool) -> None:
    subject = Sender(lambda _: Odd(raises=raises))
    outcome = subject.send(SPANS)
    assert (outcome.verdict, outcome.is_too_much) == ("refused", True)
    subject.shutdown()
    assert subject.send(SPANS).verdict == "later"


def test_a_batch_may_take_as_long_as_the_environment_says(environment: Environment) -> None:
    assert timeout_s() == 3.0
    environment.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "60")
    assert timeout_s() == 60.0
