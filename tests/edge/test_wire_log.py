"""Envoy's messages to values and back."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import UInt32Value, UInt64Value
from hypothesis import given, settings
from hypothesis import strategies as st

from lectr_extproc.core.native import NativeUsage
from lectr_extproc.core.outcome import to_metadata
from lectr_extproc.core.record import Attempt, LogEntry
from lectr_extproc.edge import wire, wire_log
from lectr_extproc.pb import access_log_pb2 as als
from lectr_extproc.pb import core_pb2 as core
from lectr_extproc.pb import ext_proc_pb2 as ext
from lectr_extproc.pb import token_usage_pb2
from tests.core.given import recorded
from tests.edge import given as here
from tests.edge.test_wire import facts_of, reply_of, route_of

TOKEN_USAGE = "type.googleapis.com/envoy.data.ai.v3.TokenUsage"


def calls_in(message: als.StreamAccessLogsMessage) -> list[LogEntry]:
    return [told for told in wire_log.told_in(message) if isinstance(told, LogEntry)]


def entry_of(**common: Any) -> LogEntry:
    (entry,) = calls_in(here.batch(here.entry(**common)))
    return entry


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
    first, found, last = wire_log.told_in(here.batch(here.entry("call"), attempt, ended))
    assert isinstance(found, Attempt)
    assert (found.request_id, found.cluster, found.address) == ("r", "openai-1", "192.0.2.1:443")
    assert [call.decision["call_id"] for call in (first, last) if isinstance(call, LogEntry)] == ["call", "ended"]


def test_an_attempt_that_went_well_is_not_told() -> None:
    attempt = here.entry(access_log_type=als.UpstreamEnd)
    attempt.response.response_code.value = 200
    assert list(wire_log.told_in(here.batch(attempt, here.entry("call")))) == calls_in(here.batch(here.entry("call")))


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
