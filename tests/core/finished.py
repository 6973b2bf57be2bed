"""Finished calls, as the ledger's tests want them: each has an id of its own."""

import dataclasses
import itertools
from datetime import UTC, datetime
from typing import Any

from lectr_extproc.core.pricing import Cost
from lectr_extproc.core.record import CallRecord, LogEntry
from lectr_extproc.core.usage import Usage
from tests.core.given import recorded

STARTED_S = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp())
DAY_S = 86_400
_numbers = itertools.count(1)


def call(**changes: Any) -> CallRecord:
    """A call that went well and cost 25 cents; less what the test says otherwise."""
    known = {
        "call_id": f"{next(_numbers):032x}",
        "duration_ms": 2500.0,
        "org": "acme",
        "provider": "openai",
        "model_requested": "openai/gpt-4o",
        "model_sent": "gpt-4o",
        "model_answered": "gpt-4o-2024-08-06",
        "status": 200,
        "error_category": None,
        "error_source": None,
        "error_code": None,
        "feature": "search",
        "task": "Summarization",
        "task_known": "summarisation",
        "usage": Usage(input_tokens=1),
        "cost": Cost("priced", total=10**12 // 4),
    }
    return dataclasses.replace(recorded(LogEntry(start_ns=STARTED_S * 10**9)), **{**known, **changes})
