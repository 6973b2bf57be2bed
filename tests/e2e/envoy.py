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
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import httpx

from lectr_extproc.core.upstream import Upstream
from lectr_extproc.gateway import GatewayOptions
from lectr_extproc.pb import access_log_pb2 as als
from lectr_extproc.pb import ext_proc_pb2 as ext
from tests.e2e.gateway import HTTP, SAID, Build
from tests.e2e.rawhttp import Connection, Head
from tests.e2e.scene import HUSH
from tests.ports import free_port

WITHIN_S = 10.0
GOOD_KEY = f"lc_key_{HUSH}0123456789"

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
    written = {"x-lectr-cluster": cluster, ":authority": authority, "authorization": f"Bearer {HUSH}-the-providers"}
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

    def __init__(self, address: str, decide: Decide, credentials: grpc.ServerCredentials | None = None) -> None:
        self.decide = decide
        self._credentials = credentials
        self.asked: queue.SimpleQueue[tuple[Headers, ext.ProcessingRequest]] = queue.SimpleQueue()
        self._entries: dict[str, queue.SimpleQueue[als.HTTPAccessLogEntry]] = {
            "lectr": queue.SimpleQueue(),
            "lectr_attempt": queue.SimpleQueue(),
        }
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
        services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {
            "envoy.service.ext_proc.v3.ExternalProcessor": {"Process": process},
            "envoy.service.accesslog.v3.AccessLogService": {"StreamAccessLogs": log},
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]
        )
        if self._credentials is None:
            assert self._server.add_insecure_port(self._address)
        else:
            assert self._server.add_secure_port(self._address, self._credentials)
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()

    def entry(self, log: str = "lectr") -> als.HTTPAccessLogEntry:
        """The next entry of one log."""
        return self._entries[log].get(timeout=WITHIN_S)

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
                    self._entries[name].put(entry)
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
        command = [
            str(self._build.binary),
            "-c",
            str(self._file),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--file-flush-interval-msec",
            "50",
            "-l",
            "warning",
        ]
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
        SAID.append(self.output)

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._lines.append(line)

    def _serves(self) -> bool:
        """It listens, and its filters and routes have arrived."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return HTTP.get(f"http://{self.admin}/ready").status_code == 200
        except (httpx.TransportError, OSError):
            return False


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """What a test holds: the three parts, and the ways to call."""

    port: int
    lectr: ScriptedLectr
    envoy: Envoy
    options: GatewayOptions
    upstream: Upstream

    def call(
        self,
        target: str = "/v1/chat/completions",
        *,
        key: str | None = GOOD_KEY,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b'{"model": "some"}',
        content_type: str = "application/json",
    ) -> tuple[Head, bytes]:
        """One POST on a connection of its own."""
        ours = [("content-type", content_type), *([("x-lectr-key", key)] if key is not None else [])]
        with Connection(self.port) as connection:
            connection.send("POST", target, [*headers, *ours], body)
            head = connection.read_head()
            return head, connection.read_body(head)

    def fails_with(self, target: str = "/v1/chat/completions", **call: Any) -> tuple[int, str, dict[str, Any]]:
        """Status and code of an answer of ours, and the whole of it; it must be JSON and say so."""
        head, body = self.call(target, **call)
        assert head.values("content-type") == ["application/json"]
        document: dict[str, Any] = json.loads(body)
        return head.status, document["error"]["code"], document


def decide_for(upstream: Upstream) -> Decide:
    """What lectr does unless a test says otherwise: everything goes to one provider."""

    def decide(headers: Headers, message: ext.ProcessingRequest) -> ext.ProcessingResponse:
        shape = "anthropic" if headers[":path"].startswith("/v1/messages") else "openai"
        return route(upstream.cluster, shape=shape)

    return decide
