"""The core: one decision, and the record of one call; and such a call in Envoy's messages."""

from collections.abc import Iterator, Mapping

from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import read_facts
from lectr_extproc.core.outcome import Route, to_metadata
from lectr_extproc.core.record import LogEntry
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.edge import wire_log
from lectr_extproc.keys import digest
from lectr_extproc.pb import access_log_pb2 as als
from lectr_extproc.pb import ext_proc_pb2 as ext
from lectr_extproc.pb import token_usage_pb2
from lectr_extproc.settings import compile_settings
from tests.bench.timing import microseconds
from tests.core.given import recorded

KEY = "lc_key_benchmarkbenchmarkbenchmark"

HEADERS = [
    (":method", "POST"),
    (":path", "/v1/chat/completions"),
    (":authority", "127.0.0.1:10000"),
    (":scheme", "http"),
    ("content-type", "application/json"),
    ("content-length", "2048"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate"),
    ("user-agent", "OpenAI/Python 3.54.0"),
    ("x-stainless-lang", "python"),
    ("authorization", "Bearer sk-proj-benchmark"),
    ("x-lectr-key", KEY),
    ("x-lectr-feature", "bench"),
    ("x-request-id", "b6a1d2e4-0000-4000-8000-000000000000"),
    ("x-forwarded-proto", "http"),
]


def snapshot() -> Snapshot:
    """Of one org, and the catalogue."""
    return compile_settings({"orgs": [{"name": "bench", "keys": [{"sha256": digest(KEY)}]}]}).snapshot


def message(feature: str = "bench") -> ext.ProcessingRequest:
    """What Envoy asks about such a call."""
    headers = dict(HEADERS) | {"x-lectr-feature": feature}
    pairs = [ext.HeaderValue(key=name, raw_value=value.encode()) for name, value in headers.items()]
    made = ext.ProcessingRequest(request_headers=ext.HttpHeaders(headers=ext.HeaderMap(headers=pairs)))
    made.metadata_context.filter_metadata["lectr.request"].update({"model": "gpt-4o"})
    return made


def entry(decision: Mapping[str, str]) -> als.HTTPAccessLogEntry:
    """What Envoy tells about it when it is over, with the usage that it read itself."""
    made = als.HTTPAccessLogEntry()
    common = made.common_properties
    common.start_time.seconds, common.duration.nanos = 1_790_000_000, 900_000_000
    common.time_to_first_upstream_tx_byte.nanos, common.time_to_first_upstream_rx_byte.nanos = 1_000_000, 800_000_000
    common.time_to_last_downstream_tx_byte.nanos = 900_000_000
    common.upstream_cluster, common.upstream_request_attempt_count = "openai.0123456789", 1
    common.metadata.filter_metadata["lectr"].update(dict(decision))
    common.metadata.filter_metadata["lectr.request"].update({"model": "gpt-4o"})
    usage = token_usage_pb2.TokenUsage(model="gpt-4o-2024-08-06")
    usage.llm_protocol = token_usage_pb2.OPENAI_CHAT_COMPLETIONS
    usage.input_tokens.value, usage.output_tokens.value, usage.provider_total_tokens.value = 212, 96, 308
    typed = common.metadata.typed_filter_metadata[wire_log.USAGE_NAMESPACE]
    typed.type_url, typed.value = f"type.googleapis.com{wire_log.USAGE_TYPE}", usage.SerializeToString()
    made.request.request_id, made.request.request_body_bytes = b"b6a1d2e4-0000-4000-8000-000000000000", 1024
    made.response.response_code.value, made.response.response_code_details = 200, "via_upstream"
    made.response.response_body_bytes = 865
    return made


def measure() -> Iterator[tuple[str, str]]:
    """What each pure step of a pinned call costs."""
    known = snapshot()
    facts = read_facts(HEADERS, {"model": "gpt-4o"}, end_of_stream=False)
    route = decide(facts, known)
    assert isinstance(route, Route)
    metadata = to_metadata(route, facts, "0" * 32)
    (finished,) = wire_log.told_in(
        als.StreamAccessLogsMessage(
            http_logs=als.StreamAccessLogsMessage.HTTPAccessLogEntries(log_entry=[entry(metadata)])
        )
    )
    assert isinstance(finished, LogEntry)
    yield (
        "read_facts: headers and metadata to facts",
        f"{microseconds(lambda: read_facts(HEADERS, {'model': 'gpt-4o'}, end_of_stream=False)):6.1f} µs",
    )
    yield "decide: a pinned model (promised: 15 µs)", f"{microseconds(lambda: decide(facts, known)):6.1f} µs"
    yield "to_metadata", f"{microseconds(lambda: to_metadata(route, facts, '0' * 32)):6.1f} µs"
    yield "record_from: one log entry to one record", f"{microseconds(lambda: recorded(finished)):6.1f} µs"
