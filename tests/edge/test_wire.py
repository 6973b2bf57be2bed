"""Envoy's messages to values and back."""

import contextlib
import dataclasses
import operator
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import UInt32Value, UInt64Value
from hypothesis import given, settings
from hypothesis import strategies as st

from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, read_facts
from lectr_extproc.core.native import NativeUsage
from lectr_extproc.core.outcome import Refuse, Route, Serve, to_metadata
from lectr_extproc.core.record import Attempt, LogEntry
from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.core.tables import Org
from lectr_extproc.edge import wire
from lectr_extproc.pb import access_log_pb2 as als
from lectr_extproc.pb import core_pb2 as core
from lectr_extproc.pb import ext_proc_pb2 as ext
from lectr_extproc.pb import token_usage_pb2
from tests.core.given import recorded
from tests.edge import given as here

SNAPSHOT = here.settings().snapshot
TOKEN_USAGE = "type.googleapis.com/envoy.data.ai.v3.TokenUsage"


def facts_of(message: ext.ProcessingRequest) -> Facts:
    return read_facts(
        wire.headers_from(message.request_headers), wire.request_metadata_from(message), end_of_stream=False
    )


def route_of(message: ext.ProcessingRequest, body: bytes | None = None) -> Route:
    decision = decide(facts_of(message), SNAPSHOT)
    assert isinstance(decision, Route)
    return dataclasses.replace(decision, body=body)


def reply_of(decision: Route | Refuse | Serve, metadata: Mapping[str, str], *, to_body: bool) -> ext.ProcessingResponse:
    return ext.ProcessingResponse.FromString(wire.reply_from(decision, metadata, to_body=to_body))


def calls_in(message: als.StreamAccessLogsMessage) -> list[LogEntry]:
    return [told for told in wire.told_in(message) if isinstance(told, LogEntry)]


def entry_of(**common: Any) -> LogEntry:
    (entry,) = calls_in(here.batch(here.entry(**common)))
    return entry


# --- requests ---------------------------------------------------------------------------------------------------------


ATTRIBUTES = "envoy.filters.http.ext_proc"
URI = "connection.uri_san_peer_certificate"
WEB = "spiffe://cluster.local/ns/shop/sa/web"


def test_what_envoy_says_of_a_connection_is_no_attempt_and_names_the_workload() -> None:
    attempt, call = ext.ProcessingRequest(), ext.ProcessingRequest()
    attempt.attributes[ATTRIBUTES].update({wire.CLUSTER_ATTRIBUTE: "x", wire.NUMBER_ATTRIBUTE: 1})
    call.attributes[ATTRIBUTES].update({URI: WEB})
    assert (wire.is_of_attempt(attempt), wire.is_of_attempt(call)) == (True, False)
    forged = [("x-forwarded-client-cert", "URI=spiffe://x/forged"), (URI, "spiffe://x/forged")]
    assert wire.workload_from(call, forged, URI) == WEB
    assert wire.workload_from(ext.ProcessingRequest(), forged, URI) is None
    assert wire.workload_from(call, [("x-forwarded-client-cert", f"Hash=1;URI={WEB}")], "xfcc") == WEB


def test_a_header_is_read_from_raw_value_before_value() -> None:
    both = ext.HeaderValue(key="a", value="value", raw_value=b"raw")
    old = ext.HeaderValue(key="b", value="value")
    empty = ext.HeaderValue(key="c")
    read = wire.headers_from(ext.HttpHeaders(headers=ext.HeaderMap(headers=[both, old, empty, both])))
    assert read == [("a", "raw"), ("b", "value"), ("c", ""), ("a", "raw")]


@given(st.binary())
def test_the_bytes_of_a_header_survive_the_way_there_and_back(content: bytes) -> None:
    ((_, text),) = wire.headers_from(ext.HttpHeaders(headers=here.core_headers([("a", content)])))
    route = dataclasses.replace(route_of(here.headers()), sets={"a": text})
    *_, option = reply_of(route, {}, to_body=False).request_headers.response.header_mutation.set_headers
    assert (option.header.key, option.header.raw_value) == ("a", content)


def test_a_path_that_is_not_utf_8_reaches_the_provider_as_it_came_and_can_be_recorded() -> None:
    message = here.headers("gpt-4o", path=b"/v1/files/\xff?n=\xfe")
    facts = facts_of(message)
    reply = reply_of(route_of(message), to_metadata(route_of(message), facts, "1"), to_body=False)
    sets = {h.header.key: h.header.raw_value for h in reply.request_headers.response.header_mutation.set_headers}
    assert sets[":path"] == b"/v1/files/\xff?n=\xfe"
    assert here.said(reply)["path"] == "/v1/files/"


def test_a_thousand_headers_are_read() -> None:
    facts = facts_of(here.headers("gpt-4o", *[(f"x-{i}", "v" * 100) for i in range(1000)]))
    assert len(facts.header_names) == 1005
    assert facts.model == "gpt-4o"


def test_metadata_comes_back_as_what_it_was() -> None:
    message = ext.ProcessingRequest()
    wrote: dict[str, Any] = {
        "text": "x", "yes": True, "no": False, "nothing": None, "whole": 3, "half": 0.5,
        "huge": 1e300, "endless": float("inf"), "list": [1], "deep": {"a": 1},
    }  # fmt: skip
    message.metadata_context.filter_metadata["lectr.request"].update(wrote)
    read = wire.request_metadata_from(message)
    assert read == {**wrote, "huge": int(1e300), "list": None, "deep": None}
    assert {type(read["whole"]), type(read["half"]), type(read["no"])} == {int, float, bool}


@pytest.mark.parametrize("model", [None, True, 3, "", ["gpt-4o"], {"a": "b"}], ids=repr)
def test_a_model_that_is_no_text_is_no_model(model: Any) -> None:
    message = here.headers(None)
    message.metadata_context.filter_metadata["lectr.request"].update({"model": model})
    assert facts_of(message).model is None


def test_a_message_without_metadata_has_none() -> None:
    assert wire.request_metadata_from(ext.ProcessingRequest()) == {}


# --- replies ----------------------------------------------------------------------------------------------------------


def test_asking_for_the_body_says_nothing_else() -> None:
    reply = ext.ProcessingResponse.FromString(wire.ASK_FOR_BODY)
    assert [field.name for field, _ in reply.ListFields()] == ["request_headers", "mode_override"]
    assert not reply.request_headers.HasField("response")
    mode, sent = reply.mode_override, ext.ProcessingMode
    assert (mode.request_body_mode, mode.request_header_mode) == (sent.BUFFERED, sent.SEND)
    assert (mode.response_header_mode, mode.response_body_mode) == (sent.SEND, sent.NONE), "only headers may override"
    assert (mode.request_trailer_mode, mode.response_trailer_mode) == (sent.SKIP, sent.SKIP)


@pytest.mark.parametrize(("to_body", "kind"), [(False, "request_headers"), (True, "request_body")])
def test_a_route_answers_the_message_it_was_decided_on(to_body: bool, kind: str) -> None:
    reply = reply_of(route_of(here.headers()), {"routed": "1"}, to_body=to_body)
    assert reply.WhichOneof("response") == kind
    assert getattr(reply, kind).response.clear_route_cache
    assert not getattr(reply, kind).response.HasField("body_mutation")
    assert "content-length" not in here.set_headers(reply)
    assert here.said(reply) == {"routed": "1"}


def test_a_replaced_body_brings_its_length() -> None:
    reply = reply_of(route_of(here.headers(), body=b"{}"), {}, to_body=True)
    assert reply.request_body.response.body_mutation.body == b"{}"
    assert here.set_headers(reply)["content-length"] == "2"


def test_a_body_that_became_empty_is_replaced_too() -> None:
    reply = reply_of(route_of(here.headers(), body=b""), {}, to_body=True)
    assert reply.request_body.response.body_mutation.WhichOneof("mutation") == "body"
    assert here.set_headers(reply)["content-length"] == "0"


@pytest.mark.parametrize("more", [(), (("x-lectr-cluster", "elsewhere"),)], ids=["without", "with a client's copy"])
def test_the_cluster_is_always_written_and_never_removed(more: tuple[tuple[str, str], ...]) -> None:
    route = route_of(here.headers("gpt-4o", *more))
    mutation = reply_of(route, {}, to_body=False).request_headers.response.header_mutation
    assert [h.header.raw_value.decode() for h in mutation.set_headers if h.header.key == "x-lectr-cluster"] == [
        route.cluster
    ]
    assert "x-lectr-cluster" not in mutation.remove_headers
    assert "x-lectr-key" in mutation.remove_headers


def test_headers_we_own_overwrite_and_travel_as_bytes() -> None:
    mutation = reply_of(route_of(here.headers()), {}, to_body=False).request_headers.response.header_mutation
    assert {h.append_action for h in mutation.set_headers} == {ext.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD}
    assert not any(h.header.value or h.HasField("append") for h in mutation.set_headers)


@pytest.mark.parametrize("shape", ["openai", "anthropic"])
@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("to_body", [False, True])
def test_a_refusal_is_json_in_the_clients_shape(code: str, shape: Any, to_body: bool) -> None:
    refusal = REFUSALS[code]
    reply = reply_of(Refuse(refusal=refusal, shape=shape), {"refused": code}, to_body=to_body)
    answer = reply.immediate_response
    assert reply.WhichOneof("response") == "immediate_response"
    assert (answer.status.code, answer.details) == (refusal.status, f"lectr_{code}")
    assert answer.body == refusal.body(shape)
    assert [(h.header.key, h.header.raw_value) for h in answer.headers.set_headers] == [
        ("content-type", b"application/json")
    ]
    assert here.said(reply) == {"refused": code}


def test_an_answer_of_our_own_is_json_and_no_error() -> None:
    serve = Serve(body=b"{}", shape="openai", org=Org(name="acme"), notes=())
    reply = reply_of(serve, {"org": "acme"}, to_body=False)
    answer = reply.immediate_response
    assert (answer.status.code, answer.body, answer.details) == (200, b"{}", "lectr_models")
    assert [(h.header.key, h.header.raw_value) for h in answer.headers.set_headers] == [
        ("content-type", b"application/json")
    ]
    assert here.said(reply) == {"org": "acme"}


TEXTS = st.text(st.characters(codec="utf-8"), max_size=300)
NAMES = st.text("abc-:", max_size=300)
SETS = st.dictionaries(NAMES, TEXTS, max_size=3)
NEWS = st.dictionaries(TEXTS, TEXTS | st.integers(0, 2**53), max_size=5)


@given(SETS, st.lists(NAMES, max_size=3), TEXTS, st.none() | st.binary(max_size=70_000), NEWS)
def test_what_is_written_by_hand_is_what_protobuf_would_write(
    sets: dict[str, str], removes: list[str], path: str, body: bytes | None, metadata: Any
) -> None:
    changed: dict[str, Any] = {"sets": sets, "removes": tuple(removes), "path": path, "body": body, "observe": "native"}
    route = dataclasses.replace(route_of(here.headers()), **changed)
    wrote = {":authority": route.authority, "x-lectr-cluster": route.cluster, ":path": path, **sets}
    common = ext.CommonResponse(clear_route_cache=True)
    if route.body is not None:
        wrote["content-length"] = str(len(route.body))
        common.body_mutation.body = route.body
    overwrite = ext.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    common.header_mutation.remove_headers.extend(removes)
    for name, value in wrote.items():
        header = ext.HeaderValue(key=name, raw_value=value.encode())
        common.header_mutation.set_headers.append(ext.HeaderValueOption(header=header, append_action=overwrite))
    expected = ext.ProcessingResponse(request_body=ext.BodyResponse(response=common))
    expected.dynamic_metadata.update({"lectr": metadata})
    assert reply_of(route, metadata, to_body=True) == expected


KINDS = [field.name for field in ext.ProcessingRequest.DESCRIPTOR.oneofs_by_name["request"].fields]


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_did_not_ask_for_passes_with_an_empty_reply_of_its_kind(kind: str) -> None:
    message = ext.ProcessingRequest()
    getattr(message, kind).SetInParent()
    empty = wire.empty_reply(message)
    assert empty is not None
    reply = ext.ProcessingResponse.FromString(empty)
    assert reply.WhichOneof("response") == kind
    assert getattr(reply, kind).ByteSize() == 0


def test_a_kind_of_a_newer_envoy_has_no_reply() -> None:
    assert wire.empty_reply(ext.ProcessingRequest.FromString(b"\x6a\x00")) is None  # field 13 of the oneof since 1.40


# --- access log -------------------------------------------------------------------------------------------------------


def test_a_decision_comes_back_in_the_entry_as_it_was_written() -> None:
    message = here.headers("claude-sonnet-4", ("x-lectr-feature", "search"), ("x-lectr-task", "summarisation"))
    metadata = to_metadata(route_of(message), facts_of(message), "call-1")
    reply = reply_of(route_of(message), metadata, to_body=False)
    made = here.entry()
    made.common_properties.metadata.filter_metadata["lectr"].CopyFrom(reply.dynamic_metadata["lectr"])  # type: ignore[arg-type]
    (entry,) = calls_in(here.batch(made))
    assert entry.decision == metadata
    record = recorded(entry)
    assert (record.call_id, record.org, record.provider, record.feature) == ("call-1", "acme", "anthropic", "search")


def test_an_entry_with_everything_missing_is_an_entry() -> None:
    entry = entry_of()
    assert entry == LogEntry(start_ns=0, attempts=0, request_bytes=0, response_bytes=0)
    assert recorded(entry).duration_ms is None


def test_an_entry_says_what_envoy_measured() -> None:
    common = als.AccessLogCommon(
        start_time=Timestamp(seconds=1_800_000_000, nanos=5),
        duration=Duration(seconds=2),
        time_to_last_rx_byte=Duration(nanos=1),
        time_to_first_upstream_tx_byte=Duration(nanos=2),
        time_to_first_upstream_rx_byte=Duration(nanos=3),
        time_to_first_downstream_tx_byte=Duration(),
        upstream_cluster="openai-1",
        route_name="provider",
        upstream_request_attempt_count=2,
        downstream_remote_address=core.Address(socket_address=core.SocketAddress(address="10.0.0.1", port_value=99)),
    )
    made = als.HTTPAccessLogEntry(
        common_properties=common,
        request=als.HTTPRequestProperties(
            request_method=core.POST, path=b"/v1/models?key=secret", request_id=b"r-1", request_body_bytes=7
        ),
        response=als.HTTPResponseProperties(
            response_code=UInt32Value(value=200), response_body_bytes=9, response_code_details="via_upstream"
        ),
    )
    (entry,) = calls_in(here.batch(made))
    assert entry == LogEntry(
        start_ns=1_800_000_000_000_000_005,
        duration_ns=2_000_000_000,
        request_received_ns=1,
        upstream_start_ns=2,
        upstream_first_byte_ns=3,
        first_byte_ns=0,
        method="POST",
        path="/v1/models",
        status=200,
        details="via_upstream",
        route="provider",
        cluster="openai-1",
        attempts=2,
        request_id="r-1",
        connection="10.0.0.1:99",
        request_bytes=7,
        response_bytes=9,
    )


def test_what_a_client_writes_costs_no_other_call_its_entry() -> None:
    odd = als.HTTPRequestProperties(path=b"/v1/\xff?\xfe", request_id=b"\xff\x00")
    entries = here.batch(als.HTTPAccessLogEntry(request=odd), als.HTTPAccessLogEntry())
    read = als.StreamAccessLogsMessage.FromString(entries.SerializeToString())
    assert [(entry.path, entry.request_id) for entry in calls_in(read)] == [
        ("/v1/\N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}\x00"),
        ("", ""),
    ]


ODD_TIMES: dict[str, Duration] = {
    "before the start": Duration(seconds=-1),
    "just before the start": Duration(nanos=-1),
    "after the year 9999": Duration(seconds=2**62),
    "as far back as there is": Duration(seconds=-(2**63), nanos=-(2**31)),
}


@pytest.mark.parametrize("time", ODD_TIMES.values(), ids=ODD_TIMES)
def test_a_time_that_cannot_be_is_absent_and_the_entry_stays(time: Duration) -> None:
    start = Timestamp(seconds=time.seconds, nanos=time.nanos)
    entry = entry_of(start_time=start, duration=time, time_to_first_downstream_tx_byte=time, route_name="kept")
    assert (entry.start_ns, entry.duration_ns, entry.first_byte_ns, entry.route) == (0, None, None, "kept")


@pytest.mark.parametrize(("number", "method"), [(0, ""), (1, "GET"), (9, "PATCH"), (99, "")])
def test_a_method_envoy_has_no_name_for_is_absent(number: Any, method: str) -> None:
    made = als.HTTPAccessLogEntry(request=als.HTTPRequestProperties(request_method=number))
    assert calls_in(here.batch(made))[0].method == method


def test_flags_are_the_names_of_those_that_are_set() -> None:
    flags = als.ResponseFlags(
        downstream_connection_termination=True,
        upstream_request_timeout=True,
        no_route_found=False,
        unauthorized_details=als.ResponseFlags.Unauthorized(),
    )
    assert entry_of(response_flags=flags).flags == {"downstream_connection_termination", "upstream_request_timeout"}


def test_attempts_are_told_apart_from_calls_and_say_where_they_went() -> None:
    attempt = here.entry(access_log_type=als.UpstreamEnd, upstream_cluster="openai-1")
    attempt.common_properties.upstream_remote_address.socket_address.address = "192.0.2.1"
    attempt.common_properties.upstream_remote_address.socket_address.port_value = 443
    attempt.request.request_id = b"r"
    ended = here.entry("ended", access_log_type=als.DownstreamEnd)
    first, found, last = wire.told_in(here.batch(here.entry("call"), attempt, ended))
    assert isinstance(found, Attempt)
    assert (found.request_id, found.cluster, found.address) == ("r", "openai-1", "192.0.2.1:443")
    assert [call.decision["call_id"] for call in (first, last) if isinstance(call, LogEntry)] == ["call", "ended"]


def test_an_attempt_that_went_well_is_not_told() -> None:
    attempt = here.entry(access_log_type=als.UpstreamEnd)
    attempt.response.response_code.value = 200
    assert list(wire.told_in(here.batch(attempt, here.entry("call")))) == calls_in(here.batch(here.entry("call")))


@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=9), st.dictionaries(st.sampled_from(["parent", "org", "path"]), st.text())
        )
    )
)
def test_calls_that_were_decided_alike_keep_what_is_their_own(decisions: list[tuple[str, dict[str, str]]]) -> None:
    """What was decided is read once for all of them."""
    batch = here.batch(*[here.entry(call_id) for call_id, _ in decisions])
    for entry, (_, more) in zip(batch.http_logs.log_entry, decisions, strict=True):
        entry.common_properties.metadata.filter_metadata["lectr"].update(more)
    assert [entry.decision for entry in calls_in(batch)] == [
        {"call_id": id_, "routed": "1", **more} for id_, more in decisions
    ]


def test_where_a_call_came_from_and_where_to_is_read_where_its_decision_does_not_tell() -> None:
    address = core.Address(socket_address=core.SocketAddress(address="10.0.0.1", port_value=99))
    told, untold = here.entry("c"), here.entry()
    told.common_properties.metadata.filter_metadata["lectr"].update({"path": "/v1"})
    for entry in (told, untold):
        entry.request.path = b"/v2"
        entry.common_properties.downstream_remote_address.CopyFrom(address)
    assert [(entry.path, entry.connection) for entry in calls_in(here.batch(told, untold))] == [
        ("", ""),
        ("/v2", "10.0.0.1:99"),
    ]


def test_a_batch_without_entries_has_none() -> None:
    assert list(calls_in(als.StreamAccessLogsMessage())) == []


USAGE = token_usage_pb2.TokenUsage(model="gpt-4o-2024-08-06", input_tokens=UInt64Value(value=3)).SerializeToString()
TYPED: dict[str, tuple[str, str, bytes, str | None]] = {
    "what Envoy read": ("envoy.ai.token_usage", TOKEN_USAGE, USAGE, "gpt-4o-2024-08-06"),
    "under another URL prefix": ("envoy.ai.token_usage", "x/envoy.data.ai.v3.TokenUsage", USAGE, "gpt-4o-2024-08-06"),
    "another type": ("envoy.ai.token_usage", "type.googleapis.com/envoy.data.ai.v4.TokenUsage", USAGE, None),
    "another namespace": ("elsewhere", TOKEN_USAGE, USAGE, None),
    "bytes that are no message": ("envoy.ai.token_usage", TOKEN_USAGE, b"\xff\xff", None),
    "no model": ("envoy.ai.token_usage", TOKEN_USAGE, b"", None),
}  # fmt: skip


@pytest.mark.parametrize(("namespace", "url", "value", "model"), TYPED.values(), ids=TYPED)
def test_the_answered_model_is_read_from_envoys_token_usage(
    namespace: str, url: str, value: bytes, model: str | None
) -> None:
    made = here.entry("kept")
    typed = made.common_properties.metadata.typed_filter_metadata[namespace]
    typed.type_url, typed.value = url, value
    (entry,) = calls_in(here.batch(made))
    assert (entry.native.model if entry.native else None, entry.decision["call_id"]) == (model, "kept")


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_whatever_envoy_writes_becomes_records_or_is_no_message(content: bytes) -> None:
    try:
        made = als.HTTPAccessLogEntry.FromString(content)
    except DecodeError:
        return
    assert all(recorded(entry).call_id for entry in calls_in(here.batch(made)))


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_call_to_be_read_asks_for_the_answers_headers_and_not_yet_for_its_body() -> None:
    route = dataclasses.replace(route_of(here.headers()), observe="stream")
    read = reply_of(route, {}, to_body=False).mode_override
    assert (read.response_header_mode, read.response_body_mode) == (ext.ProcessingMode.SEND, ext.ProcessingMode.NONE)
    assert not reply_of(route, {}, to_body=True).HasField("mode_override")
    for observe in ("native", "none"):
        unread = dataclasses.replace(route, observe=observe)
        assert not reply_of(unread, {}, to_body=False).HasField("mode_override")


def test_reading_a_body_never_asks_to_hold_it() -> None:
    reply = ext.ProcessingResponse.FromString(wire.WATCH_BODY)
    assert [field.name for field, _ in reply.ListFields()] == ["response_headers", "mode_override"]
    assert reply.mode_override.response_body_mode == ext.ProcessingMode.STREAMED
    assert reply.mode_override.request_body_mode == ext.ProcessingMode.NONE


@settings(max_examples=150)
@given(
    st.binary(max_size=300) | st.builds(operator.mul, st.binary(min_size=1, max_size=1), st.integers(16_000, 17_000)),
    st.booleans(),
    st.booleans(),
    st.integers(0),
)
def test_a_chunk_read_by_hand_is_what_protobuf_would_read(chunk: bytes, ends: bool, more: bool, cut: int) -> None:
    message = ext.ProcessingRequest(response_body=ext.HttpBody(body=chunk, end_of_stream=ends))
    if more:
        message.metadata_context.filter_metadata["lectr.request"].update({"model": "gpt-4o"})
    written = message.SerializeToString()
    assert wire.chunk_from(written) == (chunk, ends)
    body = ext.ProcessingRequest(response_body=message.response_body).ByteSize()
    with contextlib.suppress(DecodeError):  # what is cut in the middle of it is no message
        assert wire.chunk_from(written[: cut % body]) in {None, (b"", False)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_of_another_kind_is_no_chunk(kind: str) -> None:
    message = ext.ProcessingRequest()
    getattr(message, kind).SetInParent()
    assert wire.chunk_from(message.SerializeToString()) == ((b"", False) if kind == "response_body" else None)


def test_a_length_without_end_is_no_message() -> None:
    with pytest.raises(DecodeError):
        wire.chunk_from(b"\x2a" + b"\xff" * 1_000_000)


CHUNKS: dict[str, tuple[bytes | None, bool, bytes]] = {
    "as it came": (None, False, b""),
    "what is left of it": (b"data: x", False, b"data: x"),
    "nothing of it": (b"", True, b""),
}


@pytest.mark.parametrize(("kept", "is_cleared", "body"), CHUNKS.values(), ids=CHUNKS)
def test_a_chunk_passes(kept: bytes | None, is_cleared: bool, body: bytes) -> None:
    reply = ext.ProcessingResponse.FromString(wire.pass_chunk(kept, {}))
    mutation = reply.response_body.response.body_mutation
    assert reply.response_body.HasField("response") is (kept is not None)
    assert (mutation.clear_body, mutation.body, reply.HasField("dynamic_metadata")) == (is_cleared, body, False)


def test_what_a_chunk_told_comes_back_in_the_entry_as_it_was() -> None:
    news: dict[str, str | int] = {"model": "gpt-4o", "input_tokens": 2**53 - 1, "out": 0, "complete": "1"}
    made = here.entry("c1")
    reply = ext.ProcessingResponse.FromString(wire.pass_chunk(None, news))
    for namespace, struct in reply.dynamic_metadata.fields.items():
        made.common_properties.metadata.filter_metadata[namespace].CopyFrom(struct.struct_value)
    (entry,) = calls_in(here.batch(made))
    assert entry.answer == news
    assert isinstance(entry.answer["input_tokens"], int)


def test_envoys_token_usage_is_read_whole_and_absent_is_not_zero() -> None:
    usage = token_usage_pb2.TokenUsage(
        llm_protocol=token_usage_pb2.OPENAI_CHAT_COMPLETIONS,
        input_tokens=UInt64Value(value=21),
        output_tokens=UInt64Value(value=0),
        provider_total_tokens=UInt64Value(value=29),
    )
    usage.input_token_details.cached_tokens.value = 5
    made = here.entry("c1")
    typed = made.common_properties.metadata.typed_filter_metadata["envoy.ai.token_usage"]
    typed.type_url, typed.value = TOKEN_USAGE, usage.SerializeToString()
    (entry,) = calls_in(here.batch(made))
    assert entry.native == NativeUsage(is_chat=True, input_tokens=21, output_tokens=0, cached_tokens=5, total_tokens=29)
