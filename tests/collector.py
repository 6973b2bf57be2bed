"""An OTLP back end over HTTP that answers as it is told: it is down, hangs, refuses, or takes what it gets."""

import contextlib
import gzip
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """`taken` has the spans of the requests it took."""

    def __init__(self) -> None:
        self.status = 200
        self.rejects = False
        "Each span of a request that it answers 200."
        self.taken: list[Any] = []
        self._calls: Counter[str] = Counter()
        self.asked = 0
        self.goes = threading.Event()
        self.goes.set()

    def __enter__(self) -> Self:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if self.headers["transfer-encoding"] == "chunked":  # by an Envoy that traces
                    body = b"".join(iter(self.read_chunk, b""))
                else:
                    body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
                answer = collector.take(body)
                collector.goes.wait(30)
                self.send_response(collector.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def read_chunk(self) -> bytes:
                chunk = self.rfile.read(int(self.rfile.readline(), 16))
                self.rfile.readline()
                return chunk

            def log_message(self, *args: object) -> None:
                """Nothing: the output is the tests'."""

            def handle(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a killed lectr hears no answer
                    super().handle()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.goes.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: bytes) -> bytes:
        self.asked += 1
        resources = ExportTraceServiceRequest.FromString(body).resource_spans
        spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
        if self.status != 200:
            return b""
        if self.rejects:
            part = ExportTracePartialSuccess(rejected_spans=len(spans), error_message="not these")
            return bytes(ExportTraceServiceResponse(partial_success=part).SerializeToString())
        self.taken += spans
        for span in spans:
            said = {pair.key: pair.value.string_value for pair in span.attributes}
            if "lectr.call_id" in said:
                self._calls[said.get("lectr.request_id") or said["lectr.call_id"]] += 1
        return b""

    def calls(self) -> Counter[str]:
        """How often each call has come, by its `x-request-id` or, where it has none, its id."""
        return Counter(self._calls)
