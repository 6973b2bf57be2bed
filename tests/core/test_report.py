"""What calls add up to, on SQLite in memory; tests/edge/test_store.py asks PostgreSQL the same."""

import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain
from typing import Any

import pytest

from lectr_extproc.core.ledger import INSERT_CALL, migrations, row_of
from lectr_extproc.core.pricing import Cost
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.report import (
    GROUPS,
    UNKNOWN_COST,
    Filters,
    Line,
    as_json,
    as_text,
    call_text,
    cost_text,
    lines_of,
    statement,
)
from lectr_extproc.core.usage import Usage
from tests.core.finished import DAY_S, STARTED_S, call


@pytest.fixture
def ledger() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for sql in chain.from_iterable(migrations("INTEGER PRIMARY KEY")):
        connection.execute(sql)
    yield connection
    connection.close()


def keep(ledger: sqlite3.Connection, *records: CallRecord) -> None:
    ledger.executemany(INSERT_CALL, [row_of(record, str) for record in records])


def lines(ledger: sqlite3.Connection, by: str, **filters: Any) -> list[Line]:
    return lines_of(by, ledger.execute(*statement(by, Filters(**filters))).fetchall())


def test_money_is_added_up_to_the_last_pico_usd_beyond_64_bits(ledger: sqlite3.Connection) -> None:
    keep(ledger, *(call(cost=Cost("priced", total=2**63 - 1)) for _ in range(3)), call(cost=Cost("priced", total=1)))
    (total,) = lines(ledger, "total")
    assert total.cost_usd == Decimal(3 * (2**63 - 1) + 1).scaleb(-12)


def test_requests_errors_and_unknown_costs_are_counted(ledger: sqlite3.Connection) -> None:
    keep(
        ledger,
        call(),
        call(error_category="rate_limit", status=429, cost=Cost("no_usage")),
        call(cost=Cost("unavailable")),
        call(cost=None),
    )
    (total,) = lines(ledger, "total")
    assert (total.requests, total.errors, total.unpriced, total.cost_usd) == (4, 1, 1, Decimal("0.25"))


RANKS = {"one call": (1, 1), "two": (2, 2), "nineteen": (19, 19), "twenty": (20, 19), "a hundred and one": (101, 96)}


@pytest.mark.parametrize(("calls", "rank"), RANKS.values(), ids=RANKS.keys())
def test_of_100_calls_95_took_no_longer_than_p95(ledger: sqlite3.Connection, calls: int, rank: int) -> None:
    keep(ledger, *(call(duration_ms=float(n)) for n in range(calls, 0, -1)), call(duration_ms=None))
    (total,) = lines(ledger, "total")
    assert (total.p95_ms, total.average_ms) == (rank, (calls + 1) / 2)


def test_nothing_adds_up_to_nothing(ledger: sqlite3.Connection) -> None:
    nothing = Line(group=(), requests=0, errors=0, unpriced=0, cost_usd=None, average_ms=None, p95_ms=None)
    assert lines(ledger, "total") == [nothing]
    assert lines(ledger, "model") == []


def test_calls_are_grouped_by_whom_and_what_they_asked_for_whom_and_when(ledger: sqlite3.Connection) -> None:
    keep(
        ledger,
        call(started_ns=(STARTED_S + DAY_S) * 10**9),
        call(started_ns=(STARTED_S + DAY_S) * 10**9, provider="groq", model_sent="llama", org="dal", feature="chat"),
        call(model_sent=None, model_requested="gpt-x", task="Poetry", task_known=None),
    )
    found = {by: [(line.group, line.requests) for line in lines(ledger, by)] for by in GROUPS}
    assert found == {
        "total": [((), 3)],
        "model": [(("groq", "llama"), 1), (("openai", "gpt-4o"), 1), (("openai", "gpt-x"), 1)],
        "feature": [(("search",), 2), (("chat",), 1)],
        "task": [(("summarisation",), 2), (("Poetry",), 1)],
        "day": [(("2026-11-20",), 1), (("2026-11-21",), 2)],
        "org": [(("acme",), 2), (("dal",), 1)],
    }


FILTERS: dict[str, tuple[dict[str, Any], int]] = {
    "none": ({}, 2),
    "since, the second itself included": ({"since_s": STARTED_S + 60}, 1),
    "until, the second itself excluded": ({"until_s": STARTED_S + 60}, 1),
    "an org": ({"org": "dal"}, 1),
    "a provider": ({"provider": "groq"}, 1),
    "a model as it was requested": ({"model": "openai/gpt-4o"}, 1),
    "a model as it was sent": ({"model": "gpt-4o"}, 1),
    "a model as it answered": ({"model": "gpt-4o-2024-08-06"}, 1),
    "a feature": ({"feature": "chat"}, 1),
    "a task in the client's word": ({"task": "Summarization"}, 2),
    "a task in ours": ({"task": "summarisation"}, 2),
    "a rule": ({"rule": "canary"}, 1),
    "two that exclude each other": ({"org": "dal", "feature": "search"}, 0),
    "one that tries to be SQL": ({"org": "' OR 1=1 --"}, 0),
}


@pytest.mark.parametrize(("filters", "calls"), FILTERS.values(), ids=FILTERS.keys())
def test_a_filter_leaves_the_other_calls_out(ledger: sqlite3.Connection, filters: dict[str, Any], calls: int) -> None:
    other = {"model_requested": "llama", "model_sent": "llama", "model_answered": "llama"}
    later = (STARTED_S + 60) * 10**9
    keep(ledger, call(), call(started_ns=later, org="dal", provider="groq", feature="chat", rule="canary", **other))
    (total,) = lines(ledger, "total", **filters)
    assert total.requests == calls


def line(**changes: Any) -> Line:
    known = {
        "requests": 1200,
        "errors": 3,
        "unpriced": 0,
        "cost_usd": Decimal("1.5"),
        "average_ms": 812.25,
        "p95_ms": 2000.0,
    }
    return Line(**{"group": ("openai", "gpt-4o"), **known, **changes})


def test_people_read_tables() -> None:
    unknown = line(group=(None, "x"), cost_usd=None, unpriced=1200, average_ms=None, p95_ms=None)
    report = {"total": [line(group=())], "model": [line(), unknown]}
    assert as_text(report).splitlines() == [
        "total  requests  errors  average ms   p95 ms  cost",
        "          1,200       3       812.2  2,000.0  $1.50",
        "",
        "provider, model  requests  errors  average ms   p95 ms  cost",
        "openai, gpt-4o      1,200       3       812.2  2,000.0  $1.50",
        "-, x                1,200       3           -        -  $0.00 (pricing unavailable)",
    ]


def test_programs_read_money_as_text_and_nothing_of_what_is_not_known() -> None:
    unknown = line(group=(None, "x"), cost_usd=None, unpriced=1200, average_ms=None, p95_ms=None)
    assert as_json({"model": [line(), unknown], "org": []}) == {
        "model": [
            {
                "provider": "openai",
                "model": "gpt-4o",
                "requests": 1200,
                "errors": 3,
                "unpriced": 0,
                "cost_usd": "1.5",
                "average_ms": 812.25,
                "p95_ms": 2000.0,
            },
            {"model": "x", "requests": 1200, "errors": 3, "unpriced": 1200},
        ],
        "org": [],
    }


COSTS = {
    "known": (Decimal("12.000000000000"), 0, "$12.00"),
    "of many digits": (Decimal("1234.000000000001"), 0, "$1,234.000000000001"),
    "free": (Decimal(0), 0, "$0.00"),
    "unknown": (None, 1, UNKNOWN_COST),
    "known of some": (Decimal("0.25"), 1000, "$0.25 and 1,000 unpriced"),
    "of calls that used nothing": (None, 0, "-"),
}


@pytest.mark.parametrize(("cost", "unpriced", "text"), COSTS.values(), ids=COSTS.keys())
def test_a_cost_that_is_not_known_is_never_a_mere_zero(cost: Decimal | None, unpriced: int, text: str) -> None:
    assert cost_text(cost, unpriced) == text


SHOWN = {
    "everything is known": (
        call(usage=Usage(input_tokens=10, output_tokens=2), error_category="rate_limit", rule="canary"),
        (
            "2026-11-20 12:00:00.000  200   2,500 ms  acme  openai/gpt-4o  10→2 tokens  $0.25  feature=search"
            "  task=Summarization  rule=canary  rate_limit"
        ),
    ),
    "nothing is": (
        call(
            **dict.fromkeys(("usage", "cost", "status", "duration_ms", "org", "provider", "feature", "task")),
            model_sent=None,
            model_requested=None,
        ),
        "2026-11-20 12:00:00.000    -          -  -  -/-  -→- tokens  -",
    ),
    "its price is not known": (
        call(feature=None, task=None, cost=Cost("unavailable")),
        f"2026-11-20 12:00:00.000  200   2,500 ms  acme  openai/gpt-4o  1→- tokens  {UNKNOWN_COST}",
    ),
    "a code says more than a category": (
        call(
            error_category="authentication",
            error_code="invalid_lectr_key",
            feature=None,
            task=None,
            cost=Cost("no_usage"),
        ),
        "2026-11-20 12:00:00.000  200   2,500 ms  acme  openai/gpt-4o  1→- tokens  -  invalid_lectr_key",
    ),
}


@pytest.mark.parametrize(("record", "text"), SHOWN.values(), ids=SHOWN.keys())
def test_a_call_is_one_line(record: CallRecord, text: str) -> None:
    assert call_text(record) == text
