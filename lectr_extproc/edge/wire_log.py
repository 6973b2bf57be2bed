"""Envoy's log entries, of calls that are over, to core values: the other half of wire.py."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from lectr_extproc.core import words
from lectr_extproc.core.native import NativeUsage
from lectr_extproc.core.record import Attempt, LogEntry, attempt_from
from lectr_extproc.edge.wire import VARIES, plain, value_of
from lectr_extproc.pb import access_log_pb2 as als
from lectr_extproc.pb import core_pb2 as core
from lectr_extproc.pb import token_usage_pb2

ACCESS_LOG_SERVICE = "envoy.service.accesslog.v3.AccessLogService"

USAGE_NAMESPACE = "envoy.ai.token_usage"
"The typed metadata of Envoy's ai_protocol_manager (seen on 1.40.0)."

USAGE_TYPE = "/envoy.data.ai.v3.TokenUsage"
"How the type URL of that metadata ends."


def told_in(message: als.StreamAccessLogsMessage) -> Iterator[LogEntry | Attempt]:
    """The finished calls of one batch, and the failed attempts at calls. No generator: it would end with the first
    entry that raises."""
    return filter(None, map(_told, message.http_logs.log_entry))


def _told(entry: als.HTTPAccessLogEntry) -> LogEntry | Attempt | None:
    common = entry.common_properties
    if common.access_log_type == als.UpstreamEnd:
        return attempt_from(_entry(entry, common), _place(common.upstream_remote_address))
    return _entry(entry, common)


def _entry(entry: als.HTTPAccessLogEntry, common: als.AccessLogCommon) -> LogEntry:
    """Total: a newer Envoy, or a clock that was set back, must not cost the batch its other entries."""
    request, response, metadata = entry.request, entry.response, common.metadata
    decision = _decision(metadata.filter_metadata.get(words.NAMESPACE))
    return LogEntry(
        start_ns=_ns(common, "start_time") or 0,
        duration_ns=_ns(common, "duration"),
        request_received_ns=_ns(common, "time_to_last_rx_byte"),
        upstream_start_ns=_ns(common, "time_to_first_upstream_tx_byte"),
        upstream_first_byte_ns=_ns(common, "time_to_first_upstream_rx_byte"),
        first_byte_ns=_ns(common, "time_to_first_downstream_tx_byte"),
        method=_METHODS.get(request.request_method, ""),
        path="" if "path" in decision else request.path.partition(b"?")[0].decode(errors="replace"),
        status=response.response_code.value or None,
        flags=_flags(common) if common.HasField("response_flags") else _NO_FLAGS,
        details=response.response_code_details,
        route=common.route_name,
        cluster=common.upstream_cluster,
        attempts=common.upstream_request_attempt_count,
        request_id=request.request_id.decode(errors="replace"),
        connection="" if "call_id" in decision else _place(common.downstream_remote_address),
        request_bytes=request.request_body_bytes,
        response_bytes=response.response_body_bytes,
        decision=decision,
        answer=plain(metadata.filter_metadata.get(words.USAGE_NAMESPACE)),
        native=_native(metadata),
    )


def _decision(struct: Struct | None) -> dict[str, Any]:
    """Calls that are alike are decided alike, so it is read once of them all but for what is each call's own."""
    if struct is None:
        return {}
    fields = struct.fields
    own = {name: value_of(fields[name]) for name in VARIES if name in fields}
    for name in own:
        del fields[name]
    return {**_decided(struct.SerializeToString(deterministic=True)), **own}


@lru_cache(1024)
def _decided(struct: bytes) -> dict[str, Any]:
    return plain(Struct.FromString(struct))


_NO_FLAGS: frozenset[str] = frozenset()


def _flags(common: als.AccessLogCommon) -> frozenset[str]:
    return frozenset(field.name for field, is_set in common.response_flags.ListFields() if is_set is True)


def _place(address: core.Address) -> str:
    peer = address.socket_address
    return f"{peer.address}:{peer.port_value}" if peer.address else ""


_METHODS = {number: name for name, number in core.RequestMethod.items() if number != core.METHOD_UNSPECIFIED}


def _native(metadata: core.Metadata) -> NativeUsage | None:
    """Envoy's own reading of the answer."""
    typed = metadata.typed_filter_metadata.get(USAGE_NAMESPACE)
    if typed is None or not typed.type_url.endswith(USAGE_TYPE):
        return None
    try:
        read = token_usage_pb2.TokenUsage.FromString(typed.value)
    except DecodeError:
        return None
    inputs = read.input_token_details
    return NativeUsage(
        is_chat=read.llm_protocol == token_usage_pb2.OPENAI_CHAT_COMPLETIONS,
        model=read.model or None,
        input_tokens=_count(read, "input_tokens"),
        output_tokens=_count(read, "output_tokens"),
        cached_tokens=_count(inputs, "cached_tokens"),
        cache_creation_tokens=_count(inputs, "cache_creation_tokens"),
        reasoning_tokens=_count(read.output_token_details, "reasoning_tokens"),
        total_tokens=_count(read, "provider_total_tokens"),
    )


def _count(message: Any, field: str) -> int | None:
    return getattr(message, field).value if message.HasField(field) else None


def _ns(common: als.AccessLogCommon, field: str) -> int | None:
    """A time or an offset from the start. ToNanoseconds() would raise on some; a negative one is no measurement."""
    time: Timestamp | Duration = getattr(common, field)
    nanoseconds = time.seconds * 1_000_000_000 + time.nanos
    return nanoseconds if 0 < nanoseconds < 2**63 or (nanoseconds == 0 and common.HasField(field)) else None
