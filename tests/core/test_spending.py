import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest

from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import with_body
from lectr_extproc.core.limits import Hold, Kind, Limit, OrgLimits
from lectr_extproc.core.outcome import Decision, Route, is_chosen
from lectr_extproc.core.rules import Arm, Rule, Rules
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.spending import ask_for, less_one, settlement_of
from lectr_extproc.core.tables import Failover
from lectr_extproc.core.tries import Try
from lectr_extproc.core.usage import Usage
from tests.core.finished import STARTED_S, call
from tests.core.given import request, routed, snapshot

PER_INPUT, PER_OUTPUT = 2_500_000, 10_000_000
"Pico-USD for a token of gpt-4o."
ASSUMED = 1000


def limit(kind: Kind, **more: Any) -> Limit:
    return Limit(org="acme", kind=kind, most=10**15, **more)


ROWS = tuple(limit(kind) for kind in ("daily", "requests", "tokens", "streams"))


def limited(*rows: Limit, tables: Snapshot | None = None) -> Snapshot:
    """Every org has these limits."""
    tables = tables or snapshot()
    limits = OrgLimits(rows=rows or ROWS, assumed_output=ASSUMED)
    orgs = {key: dataclasses.replace(org, limits=limits) for key, org in tables.orgs_by_key.items()}
    return dataclasses.replace(tables, orgs_by_key=orgs)


def held(
    model: str = "gpt-4o", *headers: tuple[str, str], body: Mapping[str, object] | None = None, **more: Any
) -> dict[str, int]:
    """What is held for a call, by unit."""
    tables = more.pop("tables", None) or limited()
    facts = request(model, *headers, **more)
    if body is not None:
        facts = with_body(facts, json.dumps({"model": model, **body}).encode())
    route = routed(facts, tables)
    assert route.org.limits is not None
    ask = ask_for(route, facts, tables, route.org.limits)
    return {hold.limit.unit: hold.amount for hold in ask.holds}


LENGTH = ("content-length", "300")
MESSAGES = [{"role": "user", "content": "x" * 280}]


def usd(read: int, written: int) -> int:
    return read * PER_INPUT + written * PER_OUTPUT


HELD: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "a call of which only the size is known": (
        held("gpt-4o", LENGTH),
        {"usd": usd(100, ASSUMED), "requests": 1, "tokens": 100 + ASSUMED},
    ),
    "one that bounds its answer": (
        held("gpt-4o", LENGTH, metadata={"max_output": 50}),
        {"usd": usd(100, 50), "requests": 1, "tokens": 150},
    ),
    "one that bounds it by nonsense": (
        held("gpt-4o", LENGTH, metadata={"max_output": -1}),
        {"usd": usd(100, ASSUMED), "requests": 1, "tokens": 100 + ASSUMED},
    ),
    "one that asks for more than its model writes": (
        held("gpt-4o", LENGTH, metadata={"max_output": 10**18}),
        {"usd": usd(100, 16_384), "requests": 1, "tokens": 100 + 16_384},
    ),
    "a body larger than the window, with a picture in it": (
        held("gpt-4o", ("content-length", str(3 * 10**6))),
        {"usd": usd(128_000, ASSUMED), "requests": 1, "tokens": 128_000 + ASSUMED},
    ),
    "a stream of unknown size": (
        held("gpt-4o", metadata={"stream": True, "include_usage": True}),
        {"usd": usd(ASSUMED, ASSUMED), "requests": 1, "tokens": 2 * ASSUMED, "streams": 1},
    ),
    "a body that was looked into": (
        held("gpt-4o", body={"messages": MESSAGES, "max_tokens": 50}),
        {"usd": usd(100, 50), "requests": 1, "tokens": 150},
    ),
    "an embedding, which writes nothing": (
        held("text-embedding-3-small", LENGTH, path="/v1/embeddings"),
        {"usd": 100 * 20_000, "requests": 1, "tokens": 100},
    ),
    "a body of an API without messages": (
        held("text-embedding-3-small", path="/v1/embeddings", body={"input": "x" * 250}),
        {"usd": 100 * 20_000, "requests": 1, "tokens": 100},
    ),
    "a model without a price": (
        held("gpt-9-ours", LENGTH),
        {"requests": 1, "tokens": 100 + ASSUMED},
    ),
    "a model that nobody knows, asked for an endless answer": (
        held("gpt-9-ours", LENGTH, metadata={"max_output": 10**18}),
        {"requests": 1, "tokens": 10**6},
    ),
    "what is no question to a model": (held("gpt-4o", LENGTH, path="/v1/files"), {"requests": 1}),
    "a question without a body": (held("gpt-4o", path="/v1/files", method="GET", has_body=False), {"requests": 1}),
}


@pytest.mark.parametrize(("found", "expected"), HELD.values(), ids=HELD)
def test_before_a_call_as_much_is_held_as_it_may_take(found: dict[str, int], expected: dict[str, int]) -> None:
    assert found == expected


@pytest.mark.parametrize("asked", [1, 2, 3])
def test_of_the_candidates_that_may_be_asked_the_dearest_is_held(asked: int) -> None:
    tables = dataclasses.replace(limited(), failover=Failover(attempts_max=asked))
    body = {"messages": MESSAGES, "max_tokens": 50}
    facts = with_body(request("economy"), json.dumps({"model": "economy", **body}).encode())
    route = routed(facts, tables)
    assert route.choice.plan is not None
    assert route.org.limits is not None
    names = [one.row.model for one in route.choice.plan.candidates]
    single = [held(name, body=body, tables=tables).get("usd", 0) for name in names]
    assert sorted(set(single[:3])) == single[:3], "the dearer come later"
    ask = ask_for(route, facts, tables, route.org.limits)
    assert {hold.limit.unit: hold.amount for hold in ask.holds}["usd"] == max(single[:asked])
    assert not ask.is_cheaper


def failing_over() -> tuple[Snapshot, Any, Any]:
    """A call that pins one model and falls back to another, each of which has a limit of its own."""
    rows = (
        limit("daily"),
        limit("requests", model="gpt-4.1"),
        limit("tokens", model="gpt-4o"),
        limit("daily", model="o3"),
    )
    tables = dataclasses.replace(limited(*rows), failover=Failover())
    content = json.dumps({"model": "gpt-4o", "messages": MESSAGES, "fallback": ["gpt-4.1"]}).encode()
    facts = with_body(request("gpt-4o"), content)
    return tables, facts, routed(facts, tables)


def test_of_a_call_that_may_fail_over_the_limits_of_each_candidates_model_count() -> None:
    tables, facts, route = failing_over()
    ask = ask_for(route, facts, tables, route.org.limits)
    assert [(hold.limit.kind, hold.limit.model) for hold in ask.holds] == [
        ("daily", None),
        ("requests", "gpt-4.1"),
        ("tokens", "gpt-4o"),
    ]


def sent(decision: Decision) -> list[str | None]:
    """The models that a decision has asked, in order."""
    assert isinstance(decision, Route)
    return [one.choice.model_sent for one in decision.tries] or [decision.choice.model_sent]


def test_a_candidate_whose_model_has_no_room_is_left_out_where_there_is_another() -> None:
    tables, facts, pinned = failing_over()
    assert less_one(facts, pinned, limit("daily", model="gpt-4o")) is None, "who pins a model is held to its limit"
    less = less_one(facts, pinned, limit("daily", model="gpt-4.1"))
    assert less is not None
    again = decide(less, tables)
    assert (sent(pinned), sent(again), is_chosen(again)) == (["gpt-4o", "gpt-4.1"], ["gpt-4o"], True)
    assert less_one(less, pinned, limit("daily", model="gpt-4.1")) is None, "it is left out already"
    assert less_one(facts, pinned, limit("tokens")) is None, "each candidate takes as many"
    assert less_one(facts, routed(request("gpt-4o")), limit("daily", model="gpt-4.1")) is None, "nothing is chosen"


def test_where_the_dearest_is_too_dear_the_first_is_asked_alone() -> None:
    tables, facts, pinned = failing_over()
    less = less_one(facts, pinned, limit("daily"))
    assert less is not None
    alone = decide(less, tables)
    assert sent(alone) == ["gpt-4o"]
    assert isinstance(alone, Route)
    assert less_one(less, alone, limit("daily")) is None
    assert less_one(less, pinned, limit("daily")) is None, "where nothing would change nobody asks for ever"


def test_what_a_rule_pinned_gives_way_to_its_fallback() -> None:
    rules = Rules((Rule(name="dear", arms=(Arm("gpt-4.1"),)),))
    tables, facts, _ = failing_over()
    ruled = {key: dataclasses.replace(org, rules=rules) for key, org in tables.orgs_by_key.items()}
    tables = dataclasses.replace(tables, orgs_by_key=ruled)
    facts = dataclasses.replace(facts, fallback=("o3",))
    first = routed(facts, tables)
    less = less_one(facts, first, limit("daily", model="gpt-4.1"))
    assert less is not None
    assert (sent(first), sent(decide(less, tables))) == (["gpt-4.1", "o3"], ["o3"])


def test_where_no_model_has_room_nothing_is_chosen() -> None:
    tables = limited()
    facts = with_body(request("economy"), json.dumps({"model": "economy", "messages": MESSAGES}).encode())
    plan = routed(facts, tables).choice.plan
    assert plan is not None
    names = frozenset(one.row.model for one in plan.candidates)
    nobody = decide(dataclasses.replace(facts, used_up=names), tables)
    assert not is_chosen(nobody)
    assert isinstance(nobody, Route)
    assert nobody.choice.plan is not None
    assert {one.reason for one in nobody.choice.plan.dropped if one.model in names} == {"limit"}


def test_what_a_limit_left_of_a_call_is_told_apart_and_is_no_more_than_that() -> None:
    tables = limited()
    content = json.dumps({"model": "gpt-4o", "messages": MESSAGES, "tier": "premium"}).encode()
    facts = with_body(dataclasses.replace(request("gpt-4o"), at_most="economy"), content)
    route = routed(facts, tables)
    assert route.choice.plan is not None
    assert route.choice.plan.tier == "economy"
    assert route.org.limits is not None
    assert ask_for(route, facts, tables, route.org.limits).is_cheaper
    nothing = routed(dataclasses.replace(request("gpt-4o", path="/v1/embeddings", has_body=False), at_most="economy"))
    assert not ask_for(nothing, facts, tables, route.org.limits).is_cheaper


def test_limits_are_asked_that_are_for_the_call() -> None:
    rows = (
        limit("daily", feature="search"),
        limit("daily", feature="chat"),
        limit("daily", model="gpt-4o"),
        limit("daily", model="openai/gpt-4o"),
        limit("daily", model="gpt-4.1"),
    )
    tables = limited(*rows)
    facts = request("openai/gpt-4o", ("x-lectr-feature", "search"), LENGTH, metadata={"stream": False})
    facts = with_body(facts, b'{"model": "openai/gpt-4o"}')
    route = routed(facts, tables)
    assert route.org.limits is not None
    ask = ask_for(route, dataclasses.replace(facts, at_s=STARTED_S, call_id="c"), tables, route.org.limits)
    assert ask.call_id == "c"
    assert [hold.limit for hold in ask.holds] == [rows[0], rows[2], rows[3]]
    assert {hold.starts for hold in ask.holds} == {STARTED_S - STARTED_S % 86_400}


def test_an_org_without_limits_decides_as_ever() -> None:
    route = decide(request("gpt-4o"), snapshot())
    assert route.org is not None  # type: ignore[union-attr]
    assert route.org.limits is None  # type: ignore[union-attr]


# --- settling ---------------------------------------------------------------------------------------------------------

ROUTED: dict[str, Any] = {"host": "api.openai.com", "usage": Usage(input_tokens=30, output_tokens=12)}

USED: dict[str, tuple[dict[str, Any], dict[str, int | None]]] = {
    "as its record says": ({}, {"requests": 1, "streams": 0, "usd": 10**12 // 4, "tokens": 42}),
    "without a price": ({"cost": None}, {"usd": None, "tokens": 42}),
    "without usage": ({"cost": None, "usage": None}, {"usd": None, "tokens": None}),
    "a client that would not wait": (
        {"cost": None, "usage": None, "status": None, "error_category": "client_disconnect"},
        {"usd": None, "tokens": None},
    ),
    "an error": (
        {"cost": None, "usage": None, "status": 500, "error_category": "server_error"},
        {"usd": 0, "tokens": 0},
    ),
    "a call that reached nobody": (
        {"host": None, "cost": None, "usage": None, "status": 429},
        {"requests": 0, "usd": 0, "tokens": 0},
    ),
    "one that was paid for being asked": (
        {"cost": call().cost._replace(total=-5)},  # type: ignore[union-attr]
        {"usd": 0},
    ),
}


@pytest.mark.parametrize(("changes", "used"), USED.values(), ids=USED)
def test_a_call_is_settled_by_its_record(changes: dict[str, Any], used: dict[str, int | None]) -> None:
    found = settlement_of(call(**{**ROUTED, **changes}), limited())
    assert found is not None
    assert {unit: amount for unit, amount in found.used.items() if unit in used} == used


def test_what_counts_a_call_that_nothing_was_held_for_is_the_money_it_is_known_for() -> None:
    rows = (*ROWS, limit("daily", key="backend"), limit("monthly", feature="search"), limit("daily", model="gpt-4.1"))
    record = call(**ROUTED)
    found = settlement_of(record, limited(*rows))
    assert found is not None
    assert found.call_id == record.call_id
    cost = 10**12 // 4
    assert found.holds == (
        Hold(rows[0], cost, rows[0].starts(STARTED_S)),
        Hold(rows[5], cost, rows[5].starts(STARTED_S)),
    )
    free = settlement_of(call(**{**ROUTED, "cost": None}), limited())
    assert free is not None
    assert [hold.amount for hold in free.holds] == [0]


def test_a_model_that_did_not_answer_takes_nothing_and_if_it_was_asked_a_request() -> None:
    rows = [limit(kind, model=name) for name in ("gpt-4o", "gpt-4.1", "o3") for kind in ("daily", "requests")]
    failed = Try(provider="openai", model="gpt-4.1", host="h", began_ms=0, status=503)
    found = settlement_of(call(**ROUTED, tries=(failed,)), limited(*rows))
    assert found is not None
    taken = {(row.model, row.kind) for row in rows if row.name not in found.others}
    assert taken == {("gpt-4o", "daily"), ("gpt-4o", "requests"), ("gpt-4.1", "requests")}


def test_who_has_no_limits_settles_nothing() -> None:
    assert settlement_of(call(**ROUTED), snapshot()) is None
    assert settlement_of(call(**ROUTED, org=None), limited()) is None
