"""Finished calls, as the tests of telemetry want them, and what becomes of them on their way to a collector."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

from lectr_extproc.core.pricing import Row, price, rates
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.usage import Usage
from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.outbox import CURSOR
from lectr_extproc.edge.telemetry import Telemetry

STARTED_NS = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 10**9
USAGE = Usage(
    input_tokens=1200, output_tokens=300, cache_read_tokens=1000, cache_write_tokens=100, reasoning_tokens=200
)
ROW = Row(
    provider="openai",
    model="gpt-4o",
    source="a test",
    version="2026-11-01",
    standard=(
        (0, ((0, rates([(0, {"input": 2_500_000, "cache_read": 1_250_000, "output": 10_000_000, "web_search": 0})])),)),
    ),
)
COST = price(USAGE, ROW, STARTED_NS // 10**9)


def call(**changes: Any) -> CallRecord:
    """A streamed chat that went well, of which everything is known; less what the test says otherwise."""
    return dataclasses.replace(_EVERYTHING, **changes)


def deliver(telemetry: Telemetry, *records: CallRecord) -> dict[str, Any]:
    """Have these calls finish, and lectr end after that: what the outbox says of it."""
    assert telemetry.outbox is not None
    ledger = Ledger.start("memory", 36500, {}, [CURSOR])
    telemetry.outbox.start(ledger)
    telemetry.record(records)
    ledger.put(records, [])
    ledger.finish()
    telemetry.shutdown()
    ledger.stop()
    return telemetry.export()


def models_list(**changes: Any) -> CallRecord:
    """A call that asks no model."""
    nothing = {"model_requested": None, "model_sent": None, "model_answered": None, "usage": None, "cost": None}
    return call(dialect="models", path="/v1/models", method="GET", streaming=False, **nothing, **changes)


def turned_away(**changes: Any) -> CallRecord:
    """A call with a bad key."""
    return call(
        org=None,
        status=401,
        error_category="authentication",
        error_source="gateway",
        error_code="invalid_lectr_key",
        usage=None,
        cost=None,
        **changes,
    )


_EVERYTHING = CallRecord(
    call_id="0123456789abcdef0123456789abcdef",
    started_ns=STARTED_NS,
    duration_ms=2500.125,
    first_byte_ms=420.5,
    gateway_ms=0.75,
    provider_first_byte_ms=400.25,
    org="acme",
    provider="openai",
    provider_source="exact",
    provider_unknown=False,
    provider_detected="xai",
    model_requested="openai/gpt-4o",
    model_sent="gpt-4o",
    model_answered="gpt-4o-2024-08-06",
    dialect="openai.chat",
    method="POST",
    path="/v1/chat/completions",
    streaming=True,
    status=200,
    error_category=None,
    error_source=None,
    error_code=None,
    feature="search",
    task="Summarization",
    task_known="summarisation",
    attempts=2,
    request_bytes=2048,
    response_bytes=512,
    request_id="b6a1d2e4-0000-4000-8000-000000000000",
    notes=("key_mismatch",),
    host="api.openai.com:8443",
    observed="stream",
    usage=USAGE,
    token_source="provider",
    service_tier="default",
    response_id="chatcmpl-1",
    finish_reasons=("stop",),
    cost=COST,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
