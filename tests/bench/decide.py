"""The core: one decision, and the record of one call."""

from collections.abc import Iterator

from lectr_extproc.core.decision import Route, decide, to_metadata
from lectr_extproc.core.facts import read_facts
from lectr_extproc.core.record import LogEntry
from lectr_extproc.keys import digest
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


def measure() -> Iterator[tuple[str, str]]:
    """What each pure step of a pinned call costs."""
    snapshot = compile_settings({"orgs": [{"name": "bench", "keys": [{"sha256": digest(KEY)}]}]}).snapshot
    facts = read_facts(HEADERS, {"model": "gpt-4o"}, end_of_stream=False)
    route = decide(facts, snapshot)
    assert isinstance(route, Route)
    metadata = to_metadata(route, facts, "0" * 32)
    entry = LogEntry(start_ns=1, duration_ns=10**9, status=200, details="via_upstream", decision=metadata)
    yield (
        "read_facts: headers and metadata to facts",
        f"{microseconds(lambda: read_facts(HEADERS, {'model': 'gpt-4o'}, end_of_stream=False)):6.1f} µs",
    )
    yield "decide: a pinned model (promised: 15 µs)", f"{microseconds(lambda: decide(facts, snapshot)):6.1f} µs"
    yield "to_metadata", f"{microseconds(lambda: to_metadata(route, facts, '0' * 32)):6.1f} µs"
    yield "record_from: one log entry to one record", f"{microseconds(lambda: recorded(entry)):6.1f} µs"
