"""OTLP as the OTEL_* variables want it: the SDK's exporters, and what the collector answered to each batch of spans."""

import importlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import grpc
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.util.re import parse_env_headers

from lectr_extproc.edge.attributes import clean

log = logging.getLogger("lectr.otlp")

Signal = Literal["traces", "metrics"]

EXPORT_TIMEOUT_S = 3.0
"The SDK's 10 s would let a collector that hangs hold a stopping process."

LONGEST_PATIENCE_S = 300.0
"However long a collector asks for."


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one batch of spans."""

    verdict: Literal["taken", "refused", "later"]
    reason: str = ""
    rejected: int = 0
    "So many spans of a batch that was taken; nobody says which."
    is_too_much: bool = False
    "Of a refused batch a part may be taken."
    after_s: float = 0.0
    "The collector asks not to be asked before."


Hear = Callable[[Outcome], None]
MakeExporter = Callable[[Hear], SpanExporter]


class Sender:
    """A span exporter that tells more than success or failure."""

    def __init__(self, make: MakeExporter) -> None:
        self._heard: list[Outcome] = []
        self._is_stopping = False
        self._exporter = make(self._heard.append)

    def send(self, spans: Sequence[ReadableSpan]) -> Outcome:
        """Once, with the SDK's own retries within its timeout."""
        self._heard.clear()
        try:
            result = self._exporter.export(spans)
        except Exception:  # a span that cannot be encoded, or a channel that was closed meanwhile
            log.exception("a batch of spans could not be sent")
            result = SpanExportResult.FAILURE
        if self._heard:
            return self._heard[-1]  # the SDK may have tried more than once
        if result is SpanExportResult.SUCCESS:
            return Outcome(verdict="taken")
        if self._is_stopping:
            return Outcome(verdict="later", reason="lectr stops")
        # What never got as far as the collector could not be encoded, or is beyond what the SDK sends at once.
        return Outcome(verdict="refused", reason="it cannot be sent", is_too_much=True)

    def shutdown(self) -> None:
        """End it; a batch on its way is not waited for."""
        self._is_stopping = True
        self._exporter.shutdown()


def timeout_s(signal: Signal = "traces") -> float:
    """How long one batch may take."""
    return float(_option(signal, "TIMEOUT") or EXPORT_TIMEOUT_S)


def sender(meters: MeterProvider | None) -> Sender | None:
    """What spans leave by; None where the environment names no endpoint or says no."""
    found = _exporter("traces")
    if found is None:
        return None
    kind, arguments = found
    if meters is not None:
        arguments["meter_provider"] = meters
    is_grpc = _protocol("traces") == "grpc"
    secrets = _secrets("traces")

    def make(hear: Hear) -> Any:
        def hear_safely(outcome: Outcome) -> None:
            reason = outcome.reason
            for secret in secrets:
                reason = reason.replace(secret, "…")
            hear(replace(outcome, reason=clean(reason), after_s=min(outcome.after_s, LONGEST_PATIENCE_S)))

        if is_grpc:
            return _listening(kind, hear_safely)(**arguments)
        return kind(session=_session(hear_safely), **arguments)

    return Sender(make)


def metric_exporter() -> Any:
    """What metrics leave by; None where the environment names no endpoint or says no."""
    found = _exporter("metrics")
    return found and found[0](**found[1])


def _option(signal: Signal, name: str) -> str:
    specific = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", "")
    return (specific or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")).strip()


def _protocol(signal: Signal) -> str:
    return _option(signal, "PROTOCOL") or "http/protobuf"


def _exporter(signal: Signal) -> tuple[Any, dict[str, Any]] | None:
    """The SDK's exporter for a signal, and what it is made with."""
    wanted = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower() or "otlp"
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    endpoint, protocol = _option(signal, "ENDPOINT"), _protocol(signal)
    if is_disabled or wanted == "none" or not endpoint:
        return None
    if wanted != "otlp":
        raise ValueError(f"OTEL_{signal.upper()}_EXPORTER={wanted}: only otlp and none are known")
    if protocol not in {"http/protobuf", "grpc"}:
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: only http/protobuf and grpc are known")
    if protocol != "grpc" and not endpoint.lower().startswith(("http://", "https://")):
        raise ValueError("OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://")
    # Importing an exporter takes 0.1 to 0.3 s and 23 to 40 MB: only for whom it is.
    if not hasattr(importlib.import_module("opentelemetry.proto.common.v1.common_pb2"), "InstrumentationScope"):
        raise ImportError("opentelemetry-proto is not itself")
    package = "opentelemetry.exporter.otlp.proto." + protocol.partition("/")[0]
    arguments: dict[str, Any] = {}
    if not _option(signal, "TIMEOUT"):
        arguments["timeout"] = EXPORT_TIMEOUT_S
    if not _option(signal, "COMPRESSION"):
        arguments["compression"] = importlib.import_module("grpc" if protocol == "grpc" else package).Compression.Gzip
    module = importlib.import_module(f"{package}.{'trace' if signal == 'traces' else 'metric'}_exporter")
    if signal == "traces":
        # Both exporters find their encoder by this name (1.45). Were it another, they would use the SDK's: slower.
        vars(module)["encode_spans"] = importlib.import_module("lectr_extproc.edge.otlp_bytes").request_of
    return getattr(module, f"OTLP{'Span' if signal == 'traces' else 'Metric'}Exporter"), arguments


def _secrets(signal: Signal) -> list[str]:
    """What a collector might quote of the headers it got, such as a wrong key."""
    values = parse_env_headers(_option(signal, "HEADERS"), liberal=True).values()
    return [word for value in values for word in (value, *value.split()[1:]) if word]


def _taken(answer: Any) -> Outcome:
    partial = answer.partial_success
    if not partial.rejected_spans:
        return Outcome(verdict="taken")
    return Outcome(verdict="taken", rejected=partial.rejected_spans, reason=f"rejected: {partial.error_message}")


# --- HTTP -------------------------------------------------------------------------------------------------------------


def of_http(status: int, phrase: str, headers: Mapping[str, str], body: bytes) -> Outcome:
    """What an HTTP answer says. The SDK takes a redirect for success; to us it is a wrong address."""
    if 200 <= status < 300:
        service = importlib.import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
        try:
            return _taken(service.ExportTraceServiceResponse.FromString(body))
        except importlib.import_module("google.protobuf.message").DecodeError:  # JSON, or a word of welcome
            return Outcome(verdict="taken")
    reason = f"HTTP {status} {phrase}".rstrip()
    if status in {408, 429} or status >= 500:
        return Outcome(verdict="later", reason=reason, after_s=_seconds(headers.get("retry-after", "")))
    return Outcome(verdict="refused", reason=reason, is_too_much=status == 413)


def _seconds(after: str) -> float:
    """Retry-After: seconds, or a date."""
    if after.isdecimal():
        return float(after)
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


class _Adapter:
    """An adapter of requests, and what came of each request."""

    def __init__(self, inner: Any, hear: Hear) -> None:
        self._inner, self._hear = inner, hear
        self.close = inner.close

    def send(self, request: Any, **options: Any) -> Any:
        try:
            response = self._inner.send(request, **options)
            body = response.content
        except Exception as error:
            self._hear(Outcome(verdict="later", reason=type(error).__name__))
            raise
        self._hear(of_http(response.status_code, response.reason or "", response.headers, body))
        return response


def _session(hear: Hear) -> Any:
    session = importlib.import_module("requests").Session()
    for prefix in ("https://", "http://"):
        session.mount(prefix, _Adapter(session.get_adapter(prefix), hear))
    return session


# --- gRPC -------------------------------------------------------------------------------------------------------------

_REFUSALS = {
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}
"What asking again does not change. UNKNOWN and INTERNAL are what HTTP's 500 is."


def of_grpc(error: Any) -> Outcome:
    """What an error of gRPC says."""
    code, details = error.code(), error.details() or ""
    reason = f"gRPC {code.name} {details}".rstrip()
    # Go, C++ and Python write the one, Java the other.
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and ("larger than max" in details or "exceeds maximum" in details):
        return Outcome(verdict="refused", reason=reason, is_too_much=True)
    if code in _REFUSALS:
        return Outcome(verdict="refused", reason=reason)
    return Outcome(verdict="later", reason=reason, after_s=_retry_info(error.trailing_metadata() or ()))


def _retry_info(metadata: Sequence[tuple[str, Any]]) -> float:
    """How long the server asks to wait: google.rpc.RetryInfo in the details of its status."""
    details = importlib.import_module("google.rpc.error_details_pb2")
    status = importlib.import_module("google.rpc.status_pb2").Status()
    for name, value in metadata:
        if name == "grpc-status-details-bin":
            status.MergeFromString(value)
    for detail in status.details:
        info = details.RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.seconds)
    return 0.0


class _Stub:
    """A stub of the trace service, and what came of each request."""

    def __init__(self, inner: Any, hear: Hear) -> None:
        self._inner, self._hear = inner, hear

    def Export(self, **call: Any) -> Any:  # noqa: N802 - the service's own name
        try:
            answer = self._inner.Export(**call)
        except grpc.RpcError as error:
            self._hear(of_grpc(error))
            raise
        self._hear(_taken(answer))
        return answer


def _listening(exporter: Any, hear: Hear) -> Any:
    """The exporter with our ear in it.

    The one place where we reach into the SDK (1.45): its gRPC exporter takes neither a channel nor interceptors, drops
    the answer of a batch that was taken, and makes its stub anew after a lost connection. Were the method renamed, the
    tests of refusals and of partial success would fail.
    """

    class Listening(exporter):  # type: ignore[misc]
        _client: Any

        def _initialize_channel_and_stub(self) -> None:
            super()._initialize_channel_and_stub()
            self._client = _Stub(self._client, hear)

    return Listening
