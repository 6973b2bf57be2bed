import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.native import NativeUsage
from lectr_extproc.core.record import CODE_OF_ROUTE, Attempt, CallRecord, LogEntry, attempt_from, record_from
from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.core.tries import Try
from lectr_extproc.core.usage import Usage
from tests.core.given import recorded, snapshot

START = 1_790_000_000_000_000_000
MS = START // 10**6
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
    "refused by us: a workload of nobody's": (
        refused(401, "unknown_workload"),
        "authentication",
        "gateway",
        "unknown_workload",
    ),
    "refused by us: a workload with another's key": (
        refused(401, "identity_mismatch"),
        "authentication",
        "gateway",
        "identity_mismatch",
    ),
    "refused by us: a disabled org": (refused(401, "org_disabled"), "authentication", "gateway", "org_disabled"),
    "refused by us: no Azure address": (
        refused(400, "azure_config_missing"),
        "invalid_request",
        "gateway",
        "azure_config_missing",
    ),
    "refused by us: a model that its org may not use": (
        refused(403, "model_not_allowed"),
        "permission",
        "gateway",
        "model_not_allowed",
    ),
    "refused by us: nobody knows what is spent": (
        refused(503, "limits_unavailable"),
        "overloaded",
        "gateway",
        "limits_unavailable",
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
    "a model that is not listed": (
        entry(404, details="lectr_model_not_found", decision={"refused": "model_not_found"}),
        "not_found",
        "gateway",
        "model_not_found",
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
            first_byte_ns=104_000_400,
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
                "credential": "gateway",
                "parent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "notes": "provider_header_invalid,credential_of_another_provider",
                "rule": "canary",
                "rule_arm": "groq/m",
                "tier": "premium",
                "auto_tier": "premium",
                "auto_score": "63",
                "auto_signals": '{"code":80}',
                "dropped": '{"vision":2}',
                "candidates": "2",
                "tries": f'[["openai","gpt-4o","o.example",{MS},503,null,null],'
                f'["groq","llama","g.example",{MS + 20},null,null,null]]',
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
        "credential": "gateway",
        "observed": "stream",
        "usage": Usage(input_tokens=1000, output_tokens=100, cache_read_tokens=0),
        "token_source": "provider",
        "service_tier": "default",
        "response_id": "chatcmpl-1",
        "finish_reasons": ("stop", "length"),
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "rule": "canary",
        "rule_arm": "groq/m",
        "tier": "premium",
        "auto_tier": "premium",
        "auto_score": 63,
        "auto_signals": '{"code":80}',
        "dropped": '{"vision":2}',
        "candidates": 2,
        "tries": (
            Try(provider="openai", model="gpt-4o", host="o.example", began_ms=MS, status=503, duration_ms=20.0),
            Try(provider="groq", model="llama", host="g.example", began_ms=MS + 20, status=200, duration_ms=880.0),
        ),
    }


@pytest.mark.parametrize("text", ["", "much", "٣", "-1", "1" * 10])
def test_a_number_that_is_none_is_absent(text: str) -> None:
    assert recorded(entry(200, decision={"auto_score": text})).auto_score is None


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


# --- tokens and cost --------------------------------------------------------------------------------------------------

CHAT = {**DECIDED, "dialect": "openai.chat", "sent": "gpt-4o", "requested": "openai/gpt-4o", "observe": "stream"}
COUNTED = {"input_tokens": 1_000_000, "output_tokens": 100_000, "model": "gpt-4o-2024-08-06"}
CUT = frozenset({"upstream_remote_reset"})
NATIVE = NativeUsage(is_chat=True, model="gpt-4o-2024-08-06", input_tokens=7, output_tokens=3)


def usd(record: CallRecord) -> Decimal | None:
    return record.cost.usd if record.cost else None


SOURCES: dict[str, tuple[dict[str, Any], Usage | None, str]] = {
    "counts of the provider's": (
        {"answer": {"input_tokens": 7, "output_tokens": 3}},
        Usage(input_tokens=7, output_tokens=3),
        "provider",
    ),
    "counts that Envoy read": ({"native": NATIVE}, Usage(input_tokens=7, output_tokens=3), "provider"),
    "counts that Envoy read of a stream that was cut, which counts as it grows": (
        {"native": NATIVE, "decision": {**CHAT, "dialect": "anthropic.messages"}, "flags": CUT},
        Usage(input_tokens=7, output_tokens=3),
        "estimated",
    ),
    "counts that Envoy read of such a stream to its end": (
        {"native": NATIVE, "decision": {**CHAT, "dialect": "gemini.generate"}},
        Usage(input_tokens=7, output_tokens=3),
        "provider",
    ),
    "counts that Envoy read of a cut stream that counts once, at its end": (
        {"native": NATIVE, "flags": CUT},
        Usage(input_tokens=7, output_tokens=3),
        "provider",
    ),
    "counts that lectr read of a cut stream, which knows a beginning from an end": (
        {
            "answer": {"input_tokens": 7, "output_tokens": 3},
            "decision": {**CHAT, "dialect": "gemini.generate"},
            "flags": CUT,
        },
        Usage(input_tokens=7, output_tokens=3),
        "provider",
    ),
    "both: lectr's own tells more": (
        {"native": NATIVE, "answer": {"input_tokens": 7, "output_tokens": 3, "reasoning_tokens": 1}},
        Usage(input_tokens=7, output_tokens=3, reasoning_tokens=1),
        "provider",
    ),
    "a stream that was cut": (
        {"answer": {"out": 41}, "request_bytes": 400, "response_bytes": 9000},
        Usage(input_tokens=100, output_tokens=11),
        "estimated",
    ),
    "a stream cut after its input was counted": (
        {"answer": {"input_tokens": 7, "out": 41}, "request_bytes": 400},
        Usage(input_tokens=7, output_tokens=11),
        "estimated",
    ),
    "an answer that nobody read": (
        {"request_bytes": 400, "response_bytes": 800},
        Usage(input_tokens=100, output_tokens=200),
        "estimated",
    ),
    "a stream that nobody read": (
        {"decision": {**CHAT, "stream": "1"}, "request_bytes": 400, "response_bytes": 800},
        Usage(input_tokens=100),
        "estimated",
    ),
    "an answer read to its end in which nothing was generated": (
        {"answer": {"complete": "1"}, "request_bytes": 400, "response_bytes": 80},
        None,
        "none",
    ),
    "an error without counts": ({"status": 429, "request_bytes": 400, "response_bytes": 80}, None, "none"),
    "an error with counts": (
        {"status": 400, "answer": {"input_tokens": 7, "output_tokens": 0}},
        Usage(input_tokens=7, output_tokens=0),
        "provider",
    ),
    "an answer that is no text": (
        {"decision": {**CHAT, "dialect": "openai.embeddings"}, "request_bytes": 400, "response_bytes": 800},
        None,
        "none",
    ),
    "an API without tokens": ({"decision": {**DECIDED}, "request_bytes": 400}, None, "none"),
    "a call that reached no provider": (
        {"decision": {"call_id": "c1"}, "status": 200, "request_bytes": 400},
        None,
        "none",
    ),
}


@pytest.mark.parametrize(("more", "usage", "source"), SOURCES.values(), ids=SOURCES)
def test_tokens_are_the_providers_or_estimated_or_absent_and_it_says_which(
    more: dict[str, Any], usage: Usage | None, source: str
) -> None:
    record = recorded(entry(**{"decision": CHAT, **more}))
    assert (record.usage, record.token_source) == (usage, source)


PRICED: dict[str, tuple[dict[str, object], str | None, str]] = {
    # what the answer said; USD; pricing status
    "list price": (COUNTED, "3.5", "priced"),
    "half of it out of a cache": ({**COUNTED, "cache_read_tokens": 500_000}, "2.875", "priced"),
    "the model that answered, not the one sent": ({**COUNTED, "model": "gpt-4o-mini-2024-07-18"}, "0.21", "priced"),
    "the model sent, where none answered by name": ({**COUNTED, "model": ""}, "3.5", "priced"),
    "a version that nobody knows of the model sent": ({**COUNTED, "model": "openai/gpt-4o-latest"}, "3.5", "priced"),
    "another model that nobody knows": ({**COUNTED, "model": "gpt-4o-zzz-unknown"}, None, "unavailable"),
    "with a helper": (
        {**COUNTED, "helpers": '[{"model":"gpt-4o-mini","input_tokens":1000000}]'},
        "3.65",
        "priced",
    ),
    "what the provider says it charged": ({**COUNTED, "cost": "0.25"}, "0.25", "provider_reported"),
}


@pytest.mark.parametrize(("answer", "cost", "status"), PRICED.values(), ids=PRICED)
def test_a_call_costs_what_its_answer_says(answer: dict[str, object], cost: str | None, status: str) -> None:
    record = recorded(entry(decision=CHAT, answer=answer))
    assert record.cost is not None
    assert (record.cost.usd, record.cost.status) == (None if cost is None else Decimal(cost), status)


def test_a_model_without_a_price_has_tokens_and_no_cost() -> None:
    decision = {**CHAT, "sent": "mystery", "requested": "mystery"}
    record = recorded(entry(decision=decision, answer={**COUNTED, "model": "mystery-1"}))
    assert record.cost is not None
    assert (record.cost.usd, record.cost.status, record.token_source) == (None, "unavailable", "provider")
    assert record.usage == Usage(input_tokens=1_000_000, output_tokens=100_000)


def test_a_service_tier_has_its_own_price() -> None:
    decision = {**CHAT, "sent": "gpt-5"}
    start_ns = 1_795_000_000 * 10**9  # prices of tiers are known since October 2026

    def in_tier(tier: str) -> CallRecord:
        answer = {**COUNTED, "model": "gpt-5", "tier": tier}
        return recorded(dataclasses.replace(entry(decision=decision, answer=answer), start_ns=start_ns))

    records = [in_tier(tier) for tier in ("default", "flex", "priority")]
    assert [usd(record) for record in records] == [Decimal("2.25"), Decimal("1.125"), Decimal("4.5")]
    assert [record.service_tier for record in records] == ["default", "flex", "priority"]


def test_a_call_costs_what_it_cost_when_it_began() -> None:
    """o3 became five times cheaper on 10 June 2025."""
    answer = {**COUNTED, "model": "o3-2025-04-16"}
    then, now = (
        recorded(dataclasses.replace(entry(decision={**CHAT, "sent": "o3"}, answer=answer), start_ns=at))
        for at in (1_748_000_000 * 10**9, START)
    )
    assert (usd(then), usd(now)) == (Decimal(14), Decimal("2.8"))


def test_a_call_whose_usage_nobody_knows_says_so() -> None:
    record = recorded(entry(decision={**CHAT, "dialect": "openai.embeddings"}, answer={"model": "gpt-4o"}))
    assert record.cost is not None
    assert (record.cost.usd, record.cost.status, record.token_source) == (None, "no_usage", "none")


def test_a_call_that_reached_no_provider_or_asks_for_no_model_has_no_cost() -> None:
    assert recorded(entry(decision={"call_id": "c1"}, answer=COUNTED)).cost is None
    assert recorded(entry(decision={**CHAT, "dialect": "other"}, answer=COUNTED)).cost is None


FAILED: dict[str, tuple[int, dict[str, object], str, str | None]] = {
    "inside a 200": (200, {"error": "overloaded_error"}, "stream_error", "overloaded_error"),
    "of a kind that is not said": (200, {"error": "error"}, "stream_error", None),
    "of a kind that is not said, with a status": (401, {"error": "error"}, "authentication", None),
    "that says nothing": (500, {"complete": "1"}, "server_error", None),
    "with a status": (429, {"error": "insufficient_quota"}, "rate_limit", "insufficient_quota"),
}


@pytest.mark.parametrize(("status", "answer", "outcome", "code"), FAILED.values(), ids=FAILED)
def test_an_error_in_an_answer_is_the_providers_however_soon_its_client_hangs_up(
    status: int, answer: dict[str, object], outcome: str, code: str | None
) -> None:
    left = {"details": "downstream_remote_disconnect", "upstream_start_ns": START + 1}
    hung_up = entry(status, "downstream_connection_termination", **left)
    for one in (entry(status), hung_up):
        record = recorded(dataclasses.replace(one, decision=CHAT, answer=answer))
        assert (record.outcome, record.error_source, record.error_code) == (outcome, "provider", code)


def test_an_error_that_envoy_writes_is_the_gateways_though_lectr_reads_it_too() -> None:
    record = recorded(entry(429, details="rate_limited", decision=CHAT, answer={"complete": "1", "error": "spent"}))
    assert (record.outcome, record.error_source) == ("rate_limit", "gateway")


def test_a_caller_who_hangs_up_once_the_answer_is_complete_has_not_cut_it_short() -> None:
    answers: list[dict[str, object]] = [{"complete": "1"}, {"out": 3}]
    hung_up = "downstream_connection_termination"
    assert [recorded(entry(200, hung_up, answer=answer)).outcome for answer in answers] == ["ok", "client_disconnect"]


def test_an_answer_whose_client_was_told_that_it_broke_off_says_so_whoever_hung_up_then() -> None:
    for flags in ([], ["downstream_connection_termination"]):
        broken = recorded(entry(200, *flags, answer={"broken": "1"}))
        assert (broken.outcome, broken.error_source, broken.error_code) == (
            "stream_interrupted",
            "provider",
            "stream_interrupted",
        )
        told = recorded(entry(200, *flags, answer={"broken": "1", "error": "overloaded_error"}))
        assert (told.outcome, told.error_source, told.error_code) == ("stream_error", "provider", "overloaded_error")


def test_an_estimate_is_priced_too() -> None:
    record = recorded(entry(decision=CHAT, answer={"out": 400}, request_bytes=4000, response_bytes=1))
    assert (record.token_source, usd(record)) == ("estimated", Decimal("0.0035"))


def test_the_cost_of_a_stream_whose_output_nobody_counted_says_that_it_is_the_inputs() -> None:
    cut = frozenset({"upstream_remote_reset"})
    records = [
        recorded(entry(decision={**CHAT, **stream}, request_bytes=4000, response_bytes=900, flags=cut))
        for stream in ({"stream": "1"}, {})
    ]
    costs = [record.cost for record in records if record.cost is not None]
    assert [(cost.usd, cost.reason) for cost in costs] == [
        (Decimal("0.0025"), "without the output, which nobody counted"),
        (Decimal("0.00475"), None),
    ]


@pytest.mark.parametrize(
    ("status", "reason"), [("null", "without attempts that nobody answered, whatever they cost"), ("503", None)]
)
def test_the_cost_of_a_call_that_failed_over_says_where_an_attempt_before_may_cost_something_too(
    status: str, reason: str | None
) -> None:
    tries = f'[["openai","gpt-4o","o",{MS},{status},null,null],["openai","gpt-4o","o",{MS},null,null,null]]'
    record = recorded(entry(decision={**CHAT, "tries": tries}, answer=COUNTED))
    assert record.cost is not None
    assert (record.cost.status, record.cost.reason) == ("priced", reason)
    failed = recorded(entry(504, decision={**CHAT, "tries": tries}))
    assert failed.cost is not None
    assert (failed.cost.status, failed.cost.usd) == ("no_usage", None)


def test_an_attempt_that_envoy_answered_itself_reached_nobody() -> None:
    tries = f'[["openai","gpt-4o","o",{MS},null,null,null]]'
    record = recorded(entry(503, decision={**CHAT, "tries": tries, "answered": "none"}))
    assert (record.outcome, record.error_source, record.error_code) == (
        "unreachable",
        "provider",
        "provider_unreachable",
    )
    assert record.tries is not None
    assert record.tries[0].status is None


@pytest.mark.parametrize(
    ("status", "flag", "answered"),
    [
        (200, "downstream_connection_termination", 200),
        (200, "upstream_connection_termination", 200),
        (400, "downstream_remote_reset", 400),
        (None, "downstream_connection_termination", None),
        (503, "upstream_connection_termination", None),
    ],
)
def test_an_attempt_whose_answer_began_says_so_however_it_ended(
    status: int | None, flag: str, answered: int | None
) -> None:
    tries = f'[["openai","gpt-4o","o",{MS},null,null,null]]'
    record = recorded(entry(status, flag, details=flag, decision={**CHAT, "tries": tries}))
    assert record.tries is not None
    assert record.tries[0].status == answered


def test_envoys_reading_of_a_second_gemini_is_corrected_as_geminis() -> None:
    tables = snapshot(more=[dataclasses.replace(PROVIDERS["gemini"], id="ours")])
    read = NativeUsage(is_chat=True, input_tokens=10, output_tokens=2, total_tokens=15)
    decision = {**DECIDED, "provider": "ours", "dialect": "openai.chat"}
    usage = record_from(entry(native=read, decision=decision), tables).usage
    assert usage is not None
    assert usage.output_tokens == 5


ATTEMPTS = {
    "the provider said no": (LogEntry(start_ns=1, status=503), True),
    "no answer came": (LogEntry(start_ns=1), True),
    "the answer was cut": (LogEntry(start_ns=1, status=200, flags=frozenset({"upstream_remote_reset"})), True),
    "all went well": (LogEntry(start_ns=1, status=200), False),
}


@pytest.mark.parametrize(("entry", "failed"), ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_an_attempt_is_kept_only_if_it_failed(entry: LogEntry, failed: bool) -> None:
    assert (attempt_from(entry, "192.0.2.1:443") is not None) is failed


def test_an_attempt_tells_when_where_and_why_it_failed() -> None:
    entry = LogEntry(
        start_ns=1,
        duration_ns=1_500_000,
        cluster="openai-1",
        flags=frozenset({"upstream_connection_failure", "local_reset"}),
        details="via_upstream",
        request_id="r",
    )
    assert attempt_from(entry, "192.0.2.1:443") == Attempt(
        request_id="r",
        started_ns=1,
        duration_ms=1.5,
        cluster="openai-1",
        address="192.0.2.1:443",
        status=None,
        flags=("local_reset", "upstream_connection_failure"),
        details="via_upstream",
    )


def test_a_request_id_is_cut_in_a_call_and_its_attempts_alike() -> None:
    entry = LogEntry(start_ns=START, status=503, request_id="r" * 20_000)
    attempt = attempt_from(entry, "192.0.2.1:443")
    assert attempt
    assert attempt.request_id == record_from(entry, snapshot()).request_id == "r" * 256
