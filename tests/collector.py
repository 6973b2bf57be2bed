"""An OTLP back end over HTTP that answers as it is told: it is down, hangs, refuses, or takes what it gets."""

import contextlib
import gzip
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """`taken` has the spans of the requests it took."""

    def __init__(self) -> None:
        self.status = 200
        self.taken: list[Any] = []
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
                collector.take(body)
                collector.goes.wait(30)
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

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

    def take(self, body: bytes) -> None:
        self.asked += 1
        if self.status == 200:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.taken += [span for scope in resource.scope_spans for span in scope.spans]

    def calls(self) -> Counter[str]:
        """How often each call has come, by its `x-request-id` or, where it has none, its id."""
        found: Counter[str] = Counter()
        for span in list(self.taken):
            said = {pair.key: pair.value.string_value for pair in span.attributes}
            if "lectr.call_id" in said:
                found[said.get("lectr.request_id") or said["lectr.call_id"]] += 1
        return found
