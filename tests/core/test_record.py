import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.record import CODE_OF_ROUTE, LogEntry
from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.core.usage import Usage
from tests.core.given import recorded

START = 1_790_000_000_000_000_000
DECIDED = {"call_id": "c1", "routed": "1", "org": "acme", "provider": "openai", "source": "exact", "path": "/v1/x"}


def entry(status: int | None = 200, *flags: str, **more: Any) -> LogEntry:
    """A routed call whose answer came from the provider, unless said otherwise."""
    return LogEntry(
        start_ns=START,
        **{"status": status, "flags": frozenset(flags), "details": "via_upstream", "decision": DECIDED, **more},
    )


def refused(status: int, code: str) -> LogEntry:
    return entry(status, details=f"lectr_{code}", decision={"call_id": "c1", "refused": code})


RESET = "upstream_reset_before_response_started{connection_termination}"
# What the record says: outcome, who answered so, and our own code.
OUTCOMES: dict[str, tuple[LogEntry, str, str | None, str | None]] = {
    "an answer": (entry(200), "ok", None, None),
    "an answer without a body": (entry(204), "ok", None, None),
    "a redirection": (entry(307), "ok", None, None),
    "an upgrade": (entry(101), "ok", None, None),
    "refused by us: no key": (refused(401, "missing_lectr_key"), "authentication", "gateway", "missing_lectr_key"),
    "refused by us: a wrong key": (refused(401, "invalid_lectr_key"), "authentication", "gateway", "invalid_lectr_key"),
    "refused by us: a disabled org": (refused(401, "org_disabled"), "authentication", "gateway", "org_disabled"),
    "refused by us: no Azure address": (
        refused(400, "azure_config_missing"),
        "invalid_request",
        "gateway",
        "azure_config_missing",
    ),
    "refused by us: too large": (
        refused(413, "request_too_large"),
        "request_too_large",
        "gateway",
        "request_too_large",
    ),
    "refused by us, and the caller hung up": (
        dataclasses.replace(refused(401, "org_disabled"), flags=frozenset({"downstream_connection_termination"})),
        "authentication",
        "gateway",
        "org_disabled",
    ),
    "turned away at the door: no key": (
        entry(401, details="direct_response", route="lectr_missing_key", decision={}),
        "authentication",
        "gateway",
        "missing_lectr_key",
    ),
    "turned away at the door: an ill-formed key": (
        entry(401, details="direct_response", route="lectr_invalid_key_anthropic", decision={}),
        "authentication",
        "gateway",
        "invalid_lectr_key",
    ),
    "a caller who hangs up before the answer begins": (
        entry(None, "downstream_connection_termination", details="downstream_remote_disconnect"),
        "client_disconnect",
        "client",
        None,
    ),
    "a caller who hangs up while the answer streams": (
        entry(200, "downstream_connection_termination", details="downstream_remote_disconnect"),
        "client_disconnect",
        "client",
        None,
    ),
    "a caller who resets an HTTP/2 stream": (
        entry(200, "downstream_remote_reset"),
        "client_disconnect",
        "client",
        None,
    ),
    "lectr is down": (
        entry(503, "no_healthy_upstream", details="no_healthy_upstream", decision={}),
        "gateway_unavailable",
        "gateway",
        "gateway_unavailable",
    ),
    "lectr is down and the caller's decision is half there": (
        entry(503, "no_healthy_upstream", details="no_healthy_upstream", decision={"call_id": "c1"}),
        "gateway_unavailable",
        "gateway",
        "gateway_unavailable",
    ),
    "Envoy's own 413": (
        entry(413, details="request_payload_too_large", decision={}),
        "request_too_large",
        "gateway",
        "request_too_large",
    ),
    "a provider nobody can connect to": (
        entry(503, "upstream_connection_failure", details=RESET),
        "unreachable",
        "provider",
        "provider_unreachable",
    ),
    "a provider without a DNS name": (
        entry(503, "dns_resolution_failure", details="dns_resolution_failure"),
        "unreachable",
        "provider",
        "provider_unreachable",
    ),
    "a provider whose cluster is not there yet": (
        entry(503, "no_cluster_found", details="cluster_not_found"),
        "unreachable",
        "provider",
        "provider_unreachable",
    ),
    "too many connections to a provider": (
        entry(503, "upstream_overflow", details=RESET),
        "unreachable",
        "provider",
        "provider_unreachable",
    ),
    "a provider that hangs up before it answers": (
        entry(503, "upstream_connection_termination", details=RESET),
        "unreachable",
        "provider",
        "provider_unreachable",
    ),
    "a provider that does not speak HTTP": (
        entry(502, "upstream_protocol_error", details="upstream_reset_before_response_started{protocol_error}"),
        "unreachable",
        "provider",
        "provider_unreachable",
    ),
    "a client that never sends its whole request": (
        entry(408, "stream_idle_timeout", details="request_overall_timeout"),
        "timeout",
        "client",
        None,
    ),
    "a provider that never answers": (
        entry(504, "stream_idle_timeout", details="stream_idle_timeout"),
        "timeout",
        "provider",
        "provider_timeout",
    ),
    "a provider that falls silent while it streams": (
        entry(200, "stream_idle_timeout", details="stream_idle_timeout"),
        "timeout",
        "provider",
        None,
    ),
    "a stream that the provider cuts": (
        entry(200, "upstream_remote_reset"),
        "stream_interrupted",
        "provider",
        None,
    ),
    "a stream whose connection breaks": (
        entry(200, "upstream_connection_termination", details="upstream_reset_after_response_started{}"),
        "stream_interrupted",
        "provider",
        None,
    ),
    "an error answer that the provider cuts": (
        entry(500, "upstream_remote_reset"),
        "stream_interrupted",
        "provider",
        None,
    ),
    "Envoy's own answer, for a reason of its own": (
        entry(400, details="http1.codec_error", decision={}),
        "invalid_request",
        "gateway",
        None,
    ),
    "Envoy is short of memory": (entry(503, details="overload", decision={}), "overloaded", "gateway", None),
    **{
        f"the provider's {status}": (entry(status), category, "provider", None)
        for status, category in {
            400: "invalid_request",
            401: "authentication",
            402: "quota",
            403: "permission",
            404: "not_found",
            408: "timeout",
            409: "invalid_request",
            413: "request_too_large",
            418: "invalid_request",
            422: "invalid_request",
            429: "rate_limit",
            498: "overloaded",
            500: "server_error",
            502: "server_error",
            503: "overloaded",
            504: "timeout",
            529: "overloaded",
            599: "server_error",
        }.items()
    },
}


@pytest.mark.parametrize(("log_entry", "outcome", "source", "code"), OUTCOMES.values(), ids=OUTCOMES)
def test_every_end_of_a_call_leaves_a_true_record(
    log_entry: LogEntry, outcome: str, source: str | None, code: str | None
) -> None:
    record = recorded(log_entry)
    assert (record.outcome, record.error_source, record.error_code) == (outcome, source, code)
    assert record.error_category == (None if outcome == "ok" else outcome)
    assert record.status == log_entry.status


def test_every_code_on_a_record_is_an_answer_we_give() -> None:
    codes = {code for _, _, _, code in OUTCOMES.values() if code}
    assert codes == REFUSALS.keys()
    assert set(CODE_OF_ROUTE.values()) <= REFUSALS.keys()


def test_a_full_entry_becomes_a_full_record() -> None:
    record = recorded(
        entry(
            200,
            duration_ns=900_000_000,
            request_received_ns=2_000_000,
            upstream_start_ns=3_234_567,
            upstream_first_byte_ns=103_234_567,
            upstream_last_byte_ns=890_000_000,
            first_byte_ns=104_000_400,
            last_byte_ns=899_000_000,
            method="POST",
            path="/openai/v1/x",
            route="lectr_routed",
            cluster="openai-1",
            attempts=1,
            request_id="r1",
            connection="10.0.0.9:4711",
            request_bytes=120,
            response_bytes=3000,
            answer={
                "input_tokens": 1000,
                "output_tokens": 100,
                "cache_read_tokens": 0,
                "model": "gpt-4o-2024-08-06",
                "id": "chatcmpl-1",
                "finish": "stop,length",
                "tier": "default",
                "complete": "1",
                "out": 400,
            },
            decision={
                **DECIDED,
                "unknown": "1",
                "detected": "xai",
                "dialect": "openai.chat",
                "shape": "openai",
                "requested": "openai/gpt-4o",
                "sent": "gpt-4o",
                "feature": "search",
                "task": "Summarization",
                "stream": "1",
                "host": "api.openai.com",
                "observe": "stream",
                "parent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "notes": "provider_header_invalid,credential_of_another_provider",
            },
        )
    )
    assert record.cost is not None
    assert (record.cost.status, record.cost.usd) == ("priced", Decimal("0.0035"))
    assert {
        field.name: getattr(record, field.name) for field in dataclasses.fields(record) if field.name != "cost"
    } == {
        "call_id": "c1",
        "started_ns": START,
        "duration_ms": 900.0,
        "first_byte_ms": 104.0,
        "gateway_ms": 1.235,
        "provider_first_byte_ms": 100.0,
        "org": "acme",
        "provider": "openai",
        "provider_source": "exact",
        "provider_unknown": True,
        "provider_detected": "xai",
        "model_requested": "openai/gpt-4o",
        "model_sent": "gpt-4o",
        "model_answered": "gpt-4o-2024-08-06",
        "dialect": "openai.chat",
        "method": "POST",
        "path": "/v1/x",
        "streaming": True,
        "status": 200,
        "error_category": None,
        "error_source": None,
        "error_code": None,
        "feature": "search",
        "task": "Summarization",
        "task_known": "summarisation",
        "attempts": 1,
        "request_bytes": 120,
        "response_bytes": 3000,
        "request_id": "r1",
        "notes": ("provider_header_invalid", "credential_of_another_provider"),
        "host": "api.openai.com",
        "observed": "stream",
        "usage": Usage(input_tokens=1000, output_tokens=100, cache_read_tokens=0),
        "token_source": "provider",
        "service_tier": "default",
        "response_id": "chatcmpl-1",
        "finish_reasons": ("stop", "length"),
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }


def test_what_an_entry_lacks_stays_absent() -> None:
    record = dataclasses.asdict(recorded(LogEntry(start_ns=START)))
    assert record.pop("call_id")
    present = {name: value for name, value in record.items() if value is not None}
    assert present == {
        "started_ns": START,
        "provider_unknown": False,
        "method": "",
        "path": "",
        "streaming": False,
        "notes": (),
        "finish_reasons": (),
        "token_source": "none",
    }


CLOCKS: dict[str, tuple[dict[str, int | None], float | None, float | None]] = {
    "all there": (
        {"request_received_ns": 1, "upstream_start_ns": 1_000_001, "upstream_first_byte_ns": 3_000_001},
        1,
        2,
    ),
    "no provider": ({"request_received_ns": 1}, None, None),
    "a provider that never answered": ({"request_received_ns": 1, "upstream_start_ns": 1_000_001}, 1, None),
    "an answer before the whole request": ({"request_received_ns": 9, "upstream_start_ns": 1}, None, None),
    "a request that never was whole": ({"upstream_start_ns": 0, "upstream_first_byte_ns": 1_000_000}, None, 1),
    "no time at all": ({"request_received_ns": 0, "upstream_start_ns": 0, "upstream_first_byte_ns": 0}, 0, 0),
}


@pytest.mark.parametrize(("clocks", "gateway_ms", "provider_ms"), CLOCKS.values(), ids=CLOCKS)
def test_a_span_of_time_needs_both_its_ends(
    clocks: dict[str, Any], gateway_ms: float | None, provider_ms: float | None
) -> None:
    record = recorded(entry(**clocks))
    assert (record.gateway_ms, record.provider_first_byte_ms) == (gateway_ms, provider_ms)


UNDECIDED = LogEntry(start_ns=START, status=413, connection="10.0.0.9:4711", request_id="r1")


def test_a_made_up_call_id_is_the_same_every_time() -> None:
    assert recorded(UNDECIDED).call_id == recorded(dataclasses.replace(UNDECIDED)).call_id
    assert len(recorded(UNDECIDED).call_id) == 32


OTHERS: dict[str, dict[str, Any]] = {
    "another time": {"start_ns": START + 1},
    "another connection": {"connection": "10.0.0.9:4712"},
    "another stream of it": {"request_id": "r2"},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_made_up_call_ids_differ(change: dict[str, Any]) -> None:
    assert recorded(dataclasses.replace(UNDECIDED, **change)).call_id != recorded(UNDECIDED).call_id


def test_a_client_cannot_choose_its_call_id() -> None:
    assert recorded(UNDECIDED).call_id != "r1"
    assert recorded(entry(request_id="c2")).call_id == "c1"


ODD: dict[str, dict[str, object]] = {
    "an unknown key": {**DECIDED, "from_a_newer_version": "x"},
    "a number for a text": {**DECIDED, "provider": 7, "notes": 1, "task": None},
    "an empty text": {**DECIDED, "org": "", "notes": ""},
    "a list of notes with holes": {**DECIDED, "notes": ",a,,b,"},
}


@pytest.mark.parametrize("decision", ODD.values(), ids=ODD)
def test_metadata_of_another_version_is_read_as_far_as_it_goes(decision: dict[str, object]) -> None:
    record = recorded(entry(decision=decision))
    assert record.call_id == "c1"
    assert record.provider == (decision["provider"] if isinstance(decision["provider"], str) else None)
    assert record.notes == (("a", "b") if decision.get("notes") == ",a,,b," else ())


FLAGS = st.frozensets(
    st.sampled_from(sorted({flag for given_entry, *_ in OUTCOMES.values() for flag in given_entry.flags}))
)
VALUES = st.none() | st.booleans() | st.floats() | st.text(max_size=9) | st.just("1")


@given(
    status=st.none() | st.integers(0, 999),
    flags=FLAGS,
    details=st.sampled_from(["", "via_upstream", "direct_response", RESET]),
    decision=st.dictionaries(st.sampled_from([*DECIDED, "refused", "notes", "task", "stream"]), VALUES),
)
def test_whatever_the_entry_there_is_a_record(
    status: int | None, flags: frozenset[str], details: str, decision: dict[str, object]
) -> None:
    record = recorded(entry(status, *flags, details=details, decision=decision))
    assert record.call_id
    assert (record.error_category is None) == (record.error_source is None)
    assert record.outcome != "ok" or (record.status or 0) < 400
