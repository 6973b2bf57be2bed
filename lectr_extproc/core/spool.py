"""The spool's line: what Envoy is told to write of a finished call, and that line as the entry of its record.

The same facts as an entry of the gRPC access log (edge/wire_log.py), from the same Envoy, in JSON. No header but the
request id, no query, no body: what has no operator here never reaches the disk.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from lectr_extproc.core.native import NativeUsage
from lectr_extproc.core.record import LogEntry
from lectr_extproc.core.words import NAMESPACE, USAGE_NAMESPACE

OFFSETS: Mapping[str, str] = {
    "request_received_ns": "DS_RX_END",
    "upstream_start_ns": "US_TX_BEG",
    "upstream_first_byte_ns": "US_RX_BEG",
    "first_byte_ns": "DS_TX_BEG",
}
"Envoy's time points, each counted from the start of the request."

FORMAT: Mapping[str, str] = {
    "start_ns": "%START_TIME(%s.%9f)%",
    "duration_ns": "%TYPED_CEL(request.duration)%",  # %DURATION% is in milliseconds
    **{name: f"%COMMON_DURATION(DS_RX_BEG:{point}:ns)%" for name, point in OFFSETS.items()},
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ:PATH)%",  # no query: Gemini's key may stand there
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "connection": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "request_bytes": "%BYTES_RECEIVED%",
    "response_bytes": "%BYTES_SENT%",
    "decision": f"%DYNAMIC_METADATA({NAMESPACE})%",
    "answer": f"%DYNAMIC_METADATA({USAGE_NAMESPACE})%",
}
"Field of LogEntry → Envoy's operator, seen on 1.36 and 1.40. What Envoy does not know is `null`."

NATIVE_FORMAT: Mapping[str, str] = {"native": "%TYPED_CEL(metadata.typed_filter_metadata['envoy.ai.token_usage'])%"}
"Envoy's own reading (1.40): no other operator prints typed metadata."

OPENING = b'{"answer":'
"How each line begins, for Envoy sorts the fields by name."

FLAGS: Mapping[str, str] = {
    "DC": "downstream_connection_termination",
    "DR": "downstream_remote_reset",
    "UF": "upstream_connection_failure",
    "UH": "no_healthy_upstream",
    "NC": "no_cluster_found",
    "UO": "upstream_overflow",
    "DF": "dns_resolution_failure",
    "UT": "upstream_request_timeout",
    "SI": "stream_idle_timeout",
    "DT": "duration_timeout",
    "UMSDR": "upstream_max_stream_duration_reached",
    "UC": "upstream_connection_termination",
    "UR": "upstream_remote_reset",
    "LR": "local_reset",
    "UPE": "upstream_protocol_error",
}
"The response flags that a record tells apart, by their short names. Others stay as they are."

_BRACKETS = {ord("["): None, ord("]"): None}
"Around an address of IPv6."
_SECONDS = re.compile(r"(\d{1,10})(?:\.(\d{1,9}))?s?", re.ASCII)


def entry_from(line: bytes) -> LogEntry | None:
    """Total: a line that a kill or a full disk has cut is nothing, and takes the one written behind it not along."""
    said = _object(line) or _object(line[max(0, line.rfind(OPENING)) :])
    if (start_ns := _nanoseconds(said.get("start_ns"))) is None:
        return None
    decision = _metadata(said.get("decision"))
    return LogEntry(
        start_ns=start_ns,
        duration_ns=_nanoseconds(said.get("duration_ns")),
        **{name: _count(said.get(name)) for name in OFFSETS},
        method=_text(said.get("method")),
        path="" if "path" in decision else _text(said.get("path")),
        status=_count(said.get("status")) or None,
        flags=frozenset(FLAGS.get(flag, flag) for flag in _text(said.get("flags")).split(",") if flag not in ("", "-")),
        details=_text(said.get("details")),
        route=_text(said.get("route")),
        cluster=_text(said.get("cluster")),
        attempts=_count(said.get("attempts")),
        request_id=_text(said.get("request_id")),
        connection="" if "call_id" in decision else _text(said.get("connection")).translate(_BRACKETS),
        request_bytes=_count(said.get("request_bytes")),
        response_bytes=_count(said.get("response_bytes")),
        decision=decision,
        answer=_metadata(said.get("answer")),
        native=_native(_mapping(said.get("native"))),
    )


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        return _mapping(orjson.loads(line))
    except orjson.JSONDecodeError:
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    """A count; protobuf's own JSON writes the large kinds of integers as texts."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 20:
        return int(value)
    return value if type(value) is int and value >= 0 else None


def _nanoseconds(value: object) -> int | None:
    """Of seconds with up to nine decimals."""
    found = _SECONDS.fullmatch(_text(value))
    return int(found[1] + (found[2] or "").ljust(9, "0")) if found else None


def _metadata(value: object) -> dict[str, Any]:
    """As the gRPC entry gives it: texts, flags and numbers, whole ones as integers."""
    return {
        name: int(said) if isinstance(said, float) and said.is_integer() else said
        for name, said in _mapping(value).items()
        if isinstance(said, str | bool | int | float)
    }


def _native(read: Mapping[str, Any]) -> NativeUsage | None:
    if not read:
        return None
    inputs, outputs = _mapping(read.get("input_token_details")), _mapping(read.get("output_token_details"))
    return NativeUsage(
        is_chat=read.get("llm_protocol") == "OPENAI_CHAT_COMPLETIONS",
        model=_text(read.get("model")) or None,
        input_tokens=_count(read.get("input_tokens")),
        output_tokens=_count(read.get("output_tokens")),
        cached_tokens=_count(inputs.get("cached_tokens")),
        cache_creation_tokens=_count(inputs.get("cache_creation_tokens")),
        reasoning_tokens=_count(outputs.get("reasoning_tokens")),
        total_tokens=_count(read.get("provider_total_tokens")),
    )
