"""A real Envoy with a rendered configuration, between a scripted provider and a lectr that does as the test says.

So the configuration is proven for whatever lectr answers, and for a lectr that answers nothing.
"""

import contextlib
import json
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import httpx

from lectr_extproc.core.upstream import Upstream
from lectr_extproc.gateway import GatewayOptions, render_bootstrap
from lectr_extproc.pb import access_log_pb2 as als
from lectr_extproc.pb import ext_proc_pb2 as ext
from tests.e2e.gateway import Build, free_port

WITHIN_S = 10.0
GOOD_KEY = "lc_key_0123456789abcdef"

Headers = dict[str, str]
Decide = Callable[[Headers, ext.ProcessingRequest], ext.ProcessingResponse]


def route(
    cluster: str,
    *,
    path: str | None = None,
    shape: str = "openai",
    authority: str = "provider.test",
    metadata: Mapping[str, Any] | None = None,
) -> ext.ProcessingResponse:
    """The reply that sends a call to a cluster."""
    reply = ext.ProcessingResponse()
    common = reply.request_headers.response
    common.clear_route_cache = True
    written = {"x-lectr-cluster": cluster, ":authority": authority, "authorization": "Bearer the-providers"}
    for name, value in {**written, **({":path": path} if path else {})}.items():
        option = common.header_mutation.set_headers.add(append_action=ext.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
        option.header.key, option.header.raw_value = name, value.encode()
    common.header_mutation.remove_headers.append("x-lectr-key")
    reply.dynamic_metadata.update({"lectr": {"routed": "1", "shape": shape, **(metadata or {})}})
    return reply


def refuse(status: int, body: str) -> ext.ProcessingResponse:
    """The reply that answers the client itself."""
    reply = ext.ProcessingResponse()
    reply.immediate_response.status.code = status
    reply.immediate_response.body = body.encode()
    option = reply.immediate_response.headers.set_headers.add()
    option.header.key, option.header.raw_value = "content-type", b"application/json; from=lectr"
    reply.dynamic_metadata.update({"lectr": {"refused": "some_code"}})
    return reply


class ScriptedLectr:
    """A gRPC server that decides with a function of the test and keeps what it was told."""

    def __init__(self, address: str, decide: Decide) -> None:
        self.decide = decide
        self.asked: queue.SimpleQueue[tuple[Headers, ext.ProcessingRequest]] = queue.SimpleQueue()
        self.entries: queue.SimpleQueue[tuple[str, als.HTTPAccessLogEntry]] = queue.SimpleQueue()
        self._address = address

    def __enter__(self) -> Self:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._server = grpc.server(ThreadPoolExecutor(16), options=options)
        process = grpc.stream_stream_rpc_method_handler(
            self._process, ext.ProcessingRequest.FromString, ext.ProcessingResponse.SerializeToString
        )
        log = grpc.stream_unary_rpc_method_handler(
            self._log, als.StreamAccessLogsMessage.FromString, als.StreamAccessLogsResponse.SerializeToString
        )
        services = {
            "envoy.service.ext_proc.v3.ExternalProcessor": {"Process": process},
            "envoy.service.accesslog.v3.AccessLogService": {"StreamAccessLogs": log},
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]
        )
        assert self._server.add_insecure_port(self._address)
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()

    def entry(self, log: str = "lectr") -> als.HTTPAccessLogEntry:
        """The next entry of one log; entries of the other are passed over."""
        while True:
            name, entry = self.entries.get(timeout=WITHIN_S)
            if name == log:
                return entry

    def _process(self, messages: Iterator[ext.ProcessingRequest], context: Any) -> Iterator[ext.ProcessingResponse]:
        headers: Headers = {}
        for message in messages:
            for header in message.request_headers.headers.headers:
                name, value = header.key, header.raw_value.decode("latin-1")
                headers[name] = f"{headers[name]},{value}" if name in headers else value
            self.asked.put((headers, message))
            reply = self.decide(headers, message)
            yield reply
            if not reply.HasField("mode_override"):
                return

    def _log(self, messages: Iterator[als.StreamAccessLogsMessage], context: Any) -> als.StreamAccessLogsResponse:
        name = ""
        with contextlib.suppress(grpc.RpcError):
            for message in messages:
                name = message.identifier.log_name or name
                for entry in message.http_logs.log_entry:
                    self.entries.put((name, entry))
        return als.StreamAccessLogsResponse()


class Envoy:
    """One Envoy process with a bootstrap."""

    def __init__(self, build: Build, options: GatewayOptions, bootstrap: str, directory: Path) -> None:
        self.admin, self.port = options.admin, port_of(options.listen)
        self._build = build
        self._file = directory / "envoy.yaml"
        self._file.write_text(bootstrap)
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        command = [str(self._build.binary), "-c", str(self._file), "--concurrency", "1", "--disable-hot-restart"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + WITHIN_S
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise AssertionError(self.output)
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._lines.append(line)

    def _serves(self) -> bool:
        """It listens, and its filters and routes have arrived."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return httpx.get(f"http://{self.admin}/ready", trust_env=False).status_code == 200
        except (httpx.TransportError, OSError):
            return False


def options_for(build: Build, directory: Path, **changes: Any) -> GatewayOptions:
    """Options with addresses of this test's own."""
    ours = {
        "profile": build.profile,
        "listen": f"127.0.0.1:{free_port()}",
        "admin": f"127.0.0.1:{free_port()}",
        "lectr": f"unix:{directory}/lectr.sock",
        "access_log_flush_s": 0.05,
    }
    return GatewayOptions(**{**ours, **changes})


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def start(build: Build, options: GatewayOptions, upstreams: list[Upstream], directory: Path) -> Envoy:
    """An Envoy with the static bootstrap."""
    return Envoy(build, options, render_bootstrap(options, upstreams), directory)


def error_of(body: bytes) -> dict[str, Any]:
    document = json.loads(body)
    error: dict[str, Any] = document["error"]
    return error
