"""Envoy's messages about calls to core values and back. Only this and wire_log.py know protobuf types. All is pure."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from struct import pack
from typing import Any

from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Struct, Value

from lectr_extproc.core import words
from lectr_extproc.core.attempt import Outgoing, Verdict
from lectr_extproc.core.facts import DECIDING, TOLD, label, length_of
from lectr_extproc.core.identity import XFCC, workload_in
from lectr_extproc.core.memo import Seen
from lectr_extproc.core.outcome import Refuse, Route, Serve
from lectr_extproc.core.tables import Limits
from lectr_extproc.pb import ext_proc_pb2 as ext

EXT_PROC_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"


CLUSTER_ATTRIBUTE, NUMBER_ATTRIBUTE = "xds.cluster_name", "upstream.request_attempt_count"
"What Envoy says of an attempt."

_ATTRIBUTES = "envoy.filters.http.ext_proc"
"Under which Envoy sends what a filter's request_attributes name."

Unreadable = DecodeError
"Bytes that are no message."


# --- requests ---------------------------------------------------------------------------------------------------------


request_from = ext.ProcessingRequest.FromString


def headers_from(message: ext.HttpHeaders) -> list[tuple[str, str]]:
    """Header pairs in order. Bytes that are not UTF-8 survive the way there and back."""
    return [
        (h.key, (h.raw_value or h.value.encode()).decode("utf-8", "surrogateescape")) for h in message.headers.headers
    ]


def request_metadata_from(message: ext.ProcessingRequest) -> dict[str, Any]:
    """What json_to_metadata read from the body."""
    return plain(message.metadata_context.filter_metadata.get(words.REQUEST_NAMESPACE))


def seen_in(message: ext.ProcessingRequest, content: bytes, limits: Limits) -> Seen:
    """What of a request decides, without reading it for what it says: for calls that were decided before.

    Nothing is said of a request with a key of ours in a place where none is looked for, which decides, too; nor of one
    with a NUL in it, which stands between the parts here. `content` is the message in bytes.
    """
    names: list[str] = []
    values: list[bytes] = []
    told: dict[str, bytes] = {}
    asked = message.request_headers
    for header in asked.headers.headers:
        name = header.key
        names.append(name)
        if name in DECIDING:
            values.append(header.raw_value or header.value.encode())
        elif name in TOLD:
            told.setdefault(name, header.raw_value or header.value.encode())
    read = message.metadata_context.SerializeToString(deterministic=True)
    attributes = message.attributes[_ATTRIBUTES].SerializeToString(deterministic=True) if message.attributes else b""
    content_length = length_of(told.get("content-length", b"").decode("latin-1"))
    size = limits.passed_by(content_length or 0)
    parts = b"\0".join(["\0".join(names).encode(), *values])
    head = b"%d %d %d %d\0" % (asked.end_of_stream, size, len(read), len(attributes))
    everything = head + read + attributes + parts
    is_clear = parts.count(b"\0") < len(names) + len(values) and content.count(_OUR_KEY) == everything.count(_OUR_KEY)
    traceparent = label(told["traceparent"].decode("utf-8", "surrogateescape")) if "traceparent" in told else None
    return Seen(everything if is_clear else b"", values, traceparent, content_length)


_OUR_KEY = words.KEY_PREFIX.encode()


def decision_from(message: ext.ProcessingRequest) -> dict[str, Any]:
    """What lectr said of this call before, in its decision or with an attempt."""
    return plain(message.metadata_context.filter_metadata.get(words.NAMESPACE))


def winner_from(message: ext.ProcessingRequest) -> dict[str, Any]:
    """What the last attempt said of itself."""
    return plain(message.metadata_context.filter_metadata.get(words.ATTEMPT_NAMESPACE))


def is_of_attempt(message: ext.ProcessingRequest) -> bool:
    """Whether these request headers are of an attempt below the router, and not of a call."""
    return CLUSTER_ATTRIBUTE in message.attributes[_ATTRIBUTES].fields


def workload_from(message: ext.ProcessingRequest, headers: Sequence[tuple[str, str]], identity: str) -> str | None:
    """Whose certificate a call came with, from where settings say that it is told."""
    if identity == XFCC:
        return workload_in(headers)
    return message.attributes[_ATTRIBUTES].fields[identity].string_value or None


def place_from(message: ext.ProcessingRequest) -> tuple[str, int]:
    """Of which cluster this is an attempt, and which in order."""
    told = plain(message.attributes[_ATTRIBUTES])
    return told.get(CLUSTER_ATTRIBUTE, ""), told.get(NUMBER_ATTRIBUTE, 0)


def order_from(message: ext.ProcessingRequest) -> list[int]:
    """The candidates' places in the plan, in the order in which Envoy asks them."""
    order = message.metadata_context.filter_metadata.get(words.ORDER_NAMESPACE) or Struct()
    groups = order.fields["priority_groups"].list_value.values
    return [int(group.struct_value.fields["name"].string_value) for group in groups]


def traceparent_from(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """The span of Envoy's own that this gRPC call belongs to, when Envoy traces."""
    values = (value for name, value in metadata or () if name == "traceparent")
    value = next(values, None)
    return value if isinstance(value, str) else None


def chunk_from(message: bytes) -> tuple[bytes, bool] | None:
    """The chunk of an answer's body, and whether it is the last; None where the message is another.

    Read by hand where it is written as Envoy does: chunks come by the hundred, and making protobuf's objects for one
    takes as long as reading it.
    """
    if message.startswith(_CHUNK):
        at, end = _content(message, 1)
        if end <= len(message) and message.startswith(_CHUNK_BODY, at):
            start, stop = _content(message, at + 1)
            if stop == end:
                return message[start:stop], False
            if message[stop:end] == _CHUNK_ENDS:
                return message[start:stop], True
    other = ext.ProcessingRequest.FromString(message)
    body = other.response_body
    return (body.body, body.end_of_stream) if other.WhichOneof("request") == "response_body" else None


def _content(message: bytes, at: int) -> tuple[int, int]:
    """From where to where goes what has its length here; beyond the message if that is no length."""
    size = 0
    for place, byte in enumerate(message[at : at + 5]):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return at + place + 1, at + place + 1 + size
    return at, len(message) + 1


# --- replies ----------------------------------------------------------------------------------------------------------
# As bytes. What never varies is written by protobuf, once. A decision is put together by hand, at the end of this part:
# protobuf's own objects for one take longer to make than the decision itself.


def reply_from(decision: Route | Refuse | Serve, metadata: Mapping[str, str], *, to_body: bool) -> bytes:
    """The reply that carries a decision, to the headers message or to the body message.

    A call whose answer is to be read asks for the response's headers and no more: asked for now, its body would turn a
    fixed-length answer into a chunked one.
    """
    match decision:
        case Route():
            common = _routing(decision)
            reply = _field(_REQUEST_BODY if to_body else _REQUEST_HEADERS, _field(_RESPONSE, common))
            if decision.observe == "stream" and not to_body:
                reply += _READ_HEADERS
        case Refuse():
            refusal = decision.refusal
            reply = _answer(refusal.status, refusal.body(decision.shape), refusal.code, refusal.headers)
        case Serve():
            reply = _answer(200, decision.body, "models")
    return reply + _dynamic_metadata(words.NAMESPACE, metadata)


def tail(call_id: str, parent: str | None) -> bytes:
    """How the reply of a decision ends: with what of its metadata is this call's own."""
    own = _member("call_id", call_id)
    return own + _member("parent", parent) if parent else own


def order_of(places: Sequence[int], clusters: Sequence[str]) -> bytes:
    """What is put behind a reply that says to which clusters the attempts go, in order."""
    order = Struct()
    groups: list[Any] = [{"name": str(p), "clusters": [{"cluster_name": clusters[p], "weight": 1}]} for p in places]
    order.update({words.ORDER_NAMESPACE: {"priority_groups": groups}})
    return ext.ProcessingResponse(dynamic_metadata=order).SerializeToString()


def attempt_reply(attempt: Outgoing) -> bytes:
    """The request of an attempt, as the reply to its body."""
    parts = [_set(name, value) for name, value in attempt.sets.items()]
    parts += [_field(_REMOVE_HEADERS, name.encode()) for name in attempt.removes]
    common = _field(_HEADER_MUTATION, b"".join(parts)) + _field(_BODY_MUTATION, _field(_BODY, attempt.body))
    news = _dynamic_metadata(words.NAMESPACE, attempt.news) + _dynamic_metadata(words.ATTEMPT_NAMESPACE, attempt.mark)
    return _field(_REQUEST_BODY, _field(_RESPONSE, common)) + news


def verdict_reply(verdict: Verdict, clusters: Sequence[str], *, to_body: bool) -> bytes:
    """What the answer to an attempt means, as the reply to its headers or its document."""
    # Whatever a provider says of it: whether another candidate is asked is lectr's word.
    parts = _set(words.RETRY_HEADER, "1") if verdict.goes_on else _field(_REMOVE_HEADERS, words.RETRY_HEADER.encode())
    if verdict.wait_s is not None:  # SDKs believe the last one's milliseconds before any seconds
        parts += _set("retry-after", str(verdict.wait_s)) + _field(_REMOVE_HEADERS, b"retry-after-ms")
    common = _field(_HEADER_MUTATION, parts)
    reply = _field(_RESPONSE_BODY if to_body else _RESPONSE_HEADERS, _field(_RESPONSE, common))
    reply += _dynamic_metadata(words.NAMESPACE, verdict.news) if verdict.news else b""
    return reply + (order_of(verdict.order, clusters) if verdict.order is not None else b"")


def pass_chunk(replacement: bytes | None, news: Mapping[str, str | int]) -> bytes:
    """The reply to a chunk: as it came, or what is left of it; with what it told."""
    reply = _PASS if replacement is None else _replaced(replacement)
    return reply + _dynamic_metadata(words.USAGE_NAMESPACE, news) if news else reply


def empty_reply(message: ext.ProcessingRequest) -> bytes | None:
    """Let pass what we did not ask for: an empty reply of the message's own kind. A kind of a newer Envoy has none."""
    kind = message.WhichOneof("request")
    if kind is None:
        return None
    reply = ext.ProcessingResponse()
    getattr(reply, kind).SetInParent()
    return reply.SerializeToString()


def _mode(
    request_body_mode: ext.ProcessingMode.BodySendMode = ext.ProcessingMode.NONE,
    response_header_mode: ext.ProcessingMode.HeaderSendMode = ext.ProcessingMode.SKIP,
    response_body_mode: ext.ProcessingMode.BodySendMode = ext.ProcessingMode.NONE,
) -> ext.ProcessingMode:
    return ext.ProcessingMode(
        request_header_mode=ext.ProcessingMode.SEND,
        request_body_mode=request_body_mode,
        request_trailer_mode=ext.ProcessingMode.SKIP,
        response_header_mode=response_header_mode,
        response_body_mode=response_body_mode,
        response_trailer_mode=ext.ProcessingMode.SKIP,
    )


ASK_FOR_BODY = ext.ProcessingResponse(
    request_headers=ext.HeadersResponse(),
    mode_override=_mode(request_body_mode=ext.ProcessingMode.BUFFERED, response_header_mode=ext.ProcessingMode.SEND),
).SerializeToString()
"""Mode override and nothing else: if lectr dies now, the call goes nowhere with nothing of ours on it.

Only a reply to headers may override modes, so the response headers are asked for here in case they are wanted."""

WATCH_BODY = ext.ProcessingResponse(
    response_headers=ext.HeadersResponse(),
    mode_override=_mode(response_header_mode=ext.ProcessingMode.SEND, response_body_mode=ext.ProcessingMode.STREAMED),
).SerializeToString()
"The reply to response headers that lets the body pass by, chunk by chunk."

SHOW_REQUEST = ext.ProcessingResponse(request_headers=ext.HeadersResponse()).SerializeToString()
"The reply to the headers of an attempt: its body is what matters."

SHOW_DOCUMENT = ext.ProcessingResponse(
    response_headers=ext.HeadersResponse(),
    mode_override=_mode(response_header_mode=ext.ProcessingMode.SEND, response_body_mode=ext.ProcessingMode.BUFFERED),
).SerializeToString()
"The reply to the response headers of an attempt whose error is to be looked into; Envoy holds them until then."

LEAVE_BODY = ext.ProcessingResponse(response_headers=ext.HeadersResponse()).SerializeToString()
"The reply to response headers whose body is not for us."

WAIT_LONGER = ext.ProcessingResponse(override_message_timeout={"seconds": words.LONGEST_EVENT_S}).SerializeToString()
"No reply yet: the one to the last chunk comes when its event is complete. Until then Envoy holds its bytes."

NOTHING = b""
"What ends a stream that Envoy has left; nobody reads it."

_PASS = ext.ProcessingResponse(response_body=ext.BodyResponse()).SerializeToString()
_READ_HEADERS = ext.ProcessingResponse(
    mode_override=_mode(response_header_mode=ext.ProcessingMode.SEND)
).SerializeToString()


def _answer(status: int, body: bytes, details: str, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    options = [
        ext.HeaderValueOption(
            header=ext.HeaderValue(key=name, raw_value=value.encode()),
            append_action=ext.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in (("content-type", "application/json"), *headers)
    ]
    answer = ext.ImmediateResponse(
        status=ext.HttpStatus(code=status),
        headers=ext.HeaderMutation(set_headers=options),
        body=body,
        details=f"lectr_{details}",
    )
    return ext.ProcessingResponse(immediate_response=answer).SerializeToString()


def _replaced(body: bytes) -> bytes:
    mutation = ext.BodyMutation(body=body) if body else ext.BodyMutation(clear_body=True)
    changed = ext.CommonResponse(body_mutation=mutation)
    return ext.ProcessingResponse(response_body=ext.BodyResponse(response=changed)).SerializeToString()


# Written by hand: each tag is a field's number and the kind of what follows it, and protobuf puts fields side by side.


def _tag(message: type[Message], field: str, kind: int = 2) -> bytes:
    return bytes([message.DESCRIPTOR.fields_by_name[field].number << 3 | kind])


_CHUNK = _tag(ext.ProcessingRequest, "response_body")
_CHUNK_BODY = _tag(ext.HttpBody, "body")
_CHUNK_ENDS = _tag(ext.HttpBody, "end_of_stream", 0) + b"\x01"
_REQUEST_HEADERS = _tag(ext.ProcessingResponse, "request_headers")
_REQUEST_BODY = _tag(ext.ProcessingResponse, "request_body")
_RESPONSE_HEADERS = _tag(ext.ProcessingResponse, "response_headers")
_RESPONSE_BODY = _tag(ext.ProcessingResponse, "response_body")
_DYNAMIC_METADATA = _tag(ext.ProcessingResponse, "dynamic_metadata")
_RESPONSE = _tag(ext.HeadersResponse, "response")
_HEADER_MUTATION = _tag(ext.CommonResponse, "header_mutation")
_BODY_MUTATION = _tag(ext.CommonResponse, "body_mutation")
_CLEAR_ROUTE_CACHE = _tag(ext.CommonResponse, "clear_route_cache", 0) + b"\x01"
_BODY = _tag(ext.BodyMutation, "body")
_SET_HEADERS = _tag(ext.HeaderMutation, "set_headers")
_REMOVE_HEADERS = _tag(ext.HeaderMutation, "remove_headers")
_HEADER = _tag(ext.HeaderValueOption, "header")
_OVERWRITE = _tag(ext.HeaderValueOption, "append_action", 0) + bytes([ext.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD])
_NAME = _tag(ext.HeaderValue, "key")
_RAW_VALUE = _tag(ext.HeaderValue, "raw_value")
_FIELDS = _tag(Struct, "fields")
_KEY, _VALUE = b"\x0a", b"\x12"  # of every map's entries
_STRING = _tag(Value, "string_value")
_NUMBER = _tag(Value, "number_value", 1)
_STRUCT = _tag(Value, "struct_value")


def _field(tag: bytes, content: bytes) -> bytes:
    """A text, bytes or a message: their length stands before them, seven bits to a byte."""
    size = len(content)
    if size < 0x80:
        return b"%b%c%b" % (tag, size, content)
    length = b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return b"%b%b%c%b" % (tag, length, size, content)


def _routing(route: Route) -> bytes:
    parts = [
        _set_known(":authority", route.authority),
        _set_known(words.CLUSTER_HEADER, route.cluster),
        _set(":path", route.path),
        *[_set(name, value) for name, value in route.sets.items()],
        # The cluster header is written above, over whatever a client sent under its name.
        *[_field(_REMOVE_HEADERS, name.encode()) for name in route.removes if name != words.CLUSTER_HEADER],
    ]
    body = b""
    if route.body is not None:
        parts.append(_set("content-length", str(len(route.body))))
        body = _field(_BODY_MUTATION, _field(_BODY, route.body))
    return _field(_HEADER_MUTATION, b"".join(parts)) + body + _CLEAR_ROUTE_CACHE


def _set(name: str, value: str) -> bytes:
    header = _field(_NAME, name.encode()) + _field(_RAW_VALUE, value.encode("utf-8", "surrogateescape"))
    return _field(_SET_HEADERS, _field(_HEADER, header) + _OVERWRITE)


_set_known = lru_cache(1024)(_set)
"For what settings hold: never for a client's header, which may be a key."


def _dynamic_metadata(namespace: str, fields: Mapping[str, str | int]) -> bytes:
    """A Struct in a Struct. Numbers are doubles there."""
    inner = [(_member if name in VARIES else _known_member)(name, value) for name, value in fields.items()]
    outer = _field(_KEY, namespace.encode()) + _field(_VALUE, _field(_STRUCT, b"".join(inner)))
    return _field(_DYNAMIC_METADATA, _field(_FIELDS, outer))


def _member(name: str, value: str | int) -> bytes:
    written = _field(_STRING, value.encode()) if isinstance(value, str) else _NUMBER + pack("<d", value)
    return _field(_FIELDS, _field(_KEY, name.encode()) + _field(_VALUE, written))


VARIES = frozenset({"call_id", "parent", "tries"})
_known_member = lru_cache(4096)(_member)
"For what is the same in many calls. No text in metadata is long, and none is secret."


def plain(struct: Struct | None) -> dict[str, Any]:
    if struct is None:
        return {}
    fields = struct.fields
    return {key: value_of(fields[key]) for key in fields}


def value_of(value: Value) -> Any:
    if text := value.string_value:  # most are
        return text
    match value.WhichOneof("kind"):
        case "string_value":
            return ""
        case "bool_value":
            return value.bool_value
        case "number_value":
            # A Struct turns every number into a double; whole ones turn back.
            return int(value.number_value) if value.number_value.is_integer() else value.number_value
        case _:
            return None
