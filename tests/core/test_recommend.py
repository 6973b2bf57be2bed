import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.prices import price_table
from lectr_extproc.core.ledger import INSERT_CALL, migrations, row_of
from lectr_extproc.core.pricing import PriceTable, Rates, Row, price, rates
from lectr_extproc.core.recommend import (
    SIZES,
    Advising,
    Boldness,
    Market,
    Recommendation,
    Traffic,
    as_json,
    as_text,
    boldness,
    monthly,
    recommend,
    statement,
    traffic_of,
)
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.report import Filters
from lectr_extproc.core.tables import Known, Org
from lectr_extproc.core.usage import Usage
from tests.core.finished import DAY_S, STARTED_S, call

RULE = Advising(min_calls=10, min_saving_usd=0.1)
AT_S = STARTED_S + 10 * DAY_S
USAGE = Usage(input_tokens=500, output_tokens=10)


def row(model: str, *base: int | None, **more: Any) -> Row:
    prices = dict(zip(("input", "output"), base, strict=True))
    held = rates([(0, prices), *more.pop("above", ())], **more)
    return fixed(model, held)


def fixed(model: str, *held: Rates, **more: Any) -> Row:
    """One price all day, or one for each half of it."""
    hours = tuple(zip((0, 12 * 3600), held, strict=False))
    return Row(provider="openai", model=model, source="a test", version="1", standard=((0, hours),), **more)


ROWS = {one.model: one for one in (row("big", 10**7, 10**8), row("mid", 10**6, 10**7), row("small", 10**5, 10**6))}
LADDER = (
    Known("big", 1000, to=("mid", "low")),
    Known("mid", 1000, to=("small",)),
    Known("low", 1000),
    Known("small", 1000),
)


def prices(rows: Iterable[Row]) -> PriceTable:
    known = {one.model: one for one in rows}
    return PriceTable(lambda _, model: known.get(model), "1")


def market(lineup: Iterable[Known] = LADDER, rows: Mapping[str, Row] = ROWS, **changes: Any) -> Market:
    known = {"orgs": {}, "at_s": AT_S, **changes}
    return Market(prices=prices(rows.values()), lineup={("openai", one.model): one for one in lineup}, **known)


def asked(times: int = 20, **changes: Any) -> list[CallRecord]:
    """So many short questions to the big model that are short to answer."""
    known = {"model_sent": "big", "usage": USAGE, "token_source": "provider", "task_known": "classification"}
    return [call(**{**known, **changes}) for _ in range(times)]


def added_up(calls: Iterable[CallRecord], filters: Filters | None = None, rule: Advising = RULE) -> dict[Any, Traffic]:
    connection = sqlite3.connect(":memory:")
    for statements in migrations("INTEGER PRIMARY KEY"):
        for sql in statements:
            connection.execute(sql)
    connection.executemany(INSERT_CALL, [row_of(one, str) for one in calls])
    found = traffic_of(connection.execute(*statement(filters or Filters(), rule)))
    connection.close()
    return found


def advised(*calls: list[CallRecord], rule: Advising = RULE, **changes: Any) -> list[Recommendation]:
    return recommend(added_up((one for some in calls for one in some), rule=rule), market(**changes), rule)


def targets(*calls: list[CallRecord], **changes: Any) -> list[str]:
    return [one.target for one in advised(*calls, **changes)]


# --- how far down -----------------------------------------------------------------------------------------------------

TASKS: dict[str, tuple[str | None, bool, bool, Boldness | None]] = {
    "classification of short texts": ("classification", True, True, "aggressive"),
    "classification of long ones": ("classification", False, False, "aggressive"),
    "extraction from short texts": ("extraction", True, False, "aggressive"),
    "extraction from long ones": ("extraction", False, True, "moderate"),
    "summaries of short texts": ("summarisation", True, True, "moderate"),
    "summaries of long ones": ("summarisation", False, True, "conservative"),
    "short texts to be written": ("generation", True, True, "conservative"),
    "long texts to be written": ("generation", True, False, None),
    "reasoning, however short": ("reasoning", True, True, None),
    "no task, short on both sides": (None, True, True, "moderate"),
    "no task, and long prompts": (None, False, True, "conservative"),
    "no task, and long answers": (None, True, False, None),
}


@pytest.mark.parametrize(("task", "prompts", "outputs", "found"), TASKS.values(), ids=TASKS.keys())
def test_the_task_and_the_lengths_say_how_far_to_go_down(
    task: str | None, prompts: bool, outputs: bool, found: Boldness | None
) -> None:
    assert boldness(task, short_prompts=prompts, short_outputs=outputs) == found


def test_the_aggressive_go_all_the_way_the_moderate_a_step_and_the_conservative_the_cautious_one() -> None:
    long = Usage(input_tokens=900, output_tokens=300)
    rule = replace(RULE, short_prompt_tokens=600)
    rows = {**ROWS, "low": row("low", 5 * 10**5, 5 * 10**6)}
    assert targets(asked(), rows=rows) == ["small"]
    assert targets(asked(task_known="summarisation"), rows=rows) == ["low"]
    assert targets(asked(task_known="summarisation", usage=long), rows=rows, rule=rule) == ["mid"]
    assert targets(asked(task_known="reasoning"), rows=rows) == []


def test_a_few_long_prompts_do_not_make_prompts_long() -> None:
    long = Usage(input_tokens=501, output_tokens=10)
    for number, bold in ((2, "moderate"), (3, "conservative")):
        calls = asked(20 - number, task_known=None), asked(number, task_known=None, usage=long)
        (one,) = advised(*calls, rule=replace(RULE, short_prompt_tokens=500))
        assert one.boldness == bold


def test_a_circle_of_suggestions_ends() -> None:
    circle = (
        Known("big", None, to=("mid",)),
        Known("mid", None, to=("big", "small")),
        Known("small", None, to=("mid",)),
    )
    assert targets(asked(), lineup=circle) == ["small"]


# --- what is never suggested ------------------------------------------------------------------------------------------


def lineup(**changes: Any) -> tuple[Known, Known]:
    return Known("big", 1000, to=("mid",)), Known("mid", **{"window": 1000, **changes})


NEVER: dict[str, dict[str, Any]] = {
    "a model without a price": {"rows": {"big": ROWS["big"]}},
    "anything where the present one has none": {"rows": {"mid": ROWS["mid"]}},
    "a dearer one": {"rows": {"big": ROWS["mid"], "mid": replace(ROWS["big"], model="mid")}},
    "one as dear": {"rows": {"big": ROWS["big"], "mid": replace(ROWS["big"], model="mid")}},
    "a retired one": {"lineup": lineup(retires=date(2026, 11, 30))},
    "one that is gone": {"lineup": lineup(gone=True)},
    "one that takes less than was sent": {"lineup": lineup(window=499)},
    "one that answers with less than was answered": {"lineup": lineup(max_output=9)},
    "one that cannot do what the present one can": {"lineup": lineup(lacks=frozenset({"vision"}))},
    "one that the org does not want": {"orgs": {"acme": Org(name="acme", blocked=frozenset({"mid"}))}},
    "anything but the models that it wants": {"orgs": {"acme": Org(name="acme", allowed_models=frozenset({"big"}))}},
    "anything where nothing is known": {"lineup": ()},
}


@pytest.mark.parametrize("changes", NEVER.values(), ids=NEVER.keys())
def test_never_suggested_is(changes: dict[str, Any]) -> None:
    changes = {"lineup": lineup(), **changes}
    assert targets(asked(), lineup=lineup()) == ["mid"]
    assert targets(asked(), **changes) == []


def test_of_the_real_lineup_these_are_suggested_and_what_has_ended_is_not() -> None:
    at_s = int(datetime(2026, 11, 30, tzinfo=UTC).timestamp())
    real = Market(prices=price_table(), lineup=LINEUP, orgs={}, at_s=at_s)
    calls = [
        one
        for provider, model in LINEUP
        for one in asked(provider=provider, model_sent=model, usage=Usage(input_tokens=5000, output_tokens=500))
    ]
    found = recommend(added_up(calls), real, replace(RULE, min_saving_usd=0.01))
    assert sorted((one.model, one.target) for one in found) == [
        ("claude-opus-4-6", "claude-haiku-4-5"),
        ("claude-opus-4-7", "claude-haiku-4-5"),
        ("claude-opus-4-8", "claude-haiku-4-5"),
        ("claude-opus-5-5", "claude-haiku-5-5"),
        ("claude-sonnet-4-5", "claude-haiku-4-5"),
        ("claude-sonnet-4-6", "claude-haiku-4-5"),
        ("claude-sonnet-5-5", "claude-haiku-5-5"),
        ("deepseek-v4-pro", "deepseek-v4-flash"),
        ("gemini-2.5-flash", "gemini-2.5-flash-lite"),
        ("gemini-2.5-pro", "gemini-2.5-flash-lite"),
        ("gemini-3.1-pro-preview", "gemini-3-flash-preview"),
        ("gemini-3.5-flash", "gemini-3.5-flash-lite"),
        ("gpt-4", "gpt-4o-mini"),
        ("gpt-4-turbo", "gpt-4o-mini"),
        ("gpt-4.1", "gpt-4.1-mini"),
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-6-sol", "gpt-6-luna"),
        ("gpt-6.1-sol", "gpt-6-luna"),
        ("mistral-large-2512", "mistral-small-2603"),
        ("mistral-large-latest", "ministral-8b-latest"),
        ("mistral-small-latest", "ministral-8b-latest"),
        ("openai/gpt-oss-120b", "openai/gpt-oss-20b"),
    ]


def test_what_neither_can_do_is_no_reason_against_a_model() -> None:
    blind = frozenset({"vision"})
    both = Known("big", 1000, to=("mid",), lacks=blind), Known("mid", 1000, lacks=blind)
    assert targets(asked(), lineup=both) == ["mid"]


ENOUGH: dict[str, tuple[list[list[CallRecord]], dict[str, Any]]] = {
    "calls": ([asked(9)], {}),
    "calls whose tokens the provider told": ([asked(9), asked(11, token_source="estimated")], {}),
    "calls whose tokens anybody told": ([asked(9), asked(11, token_source="none", usage=None)], {}),
    "days": ([asked()], {"at_s": STARTED_S + 6 * DAY_S}),
    "calls that go well": ([asked(), asked(2, error_source="provider", error_category="overloaded")], {}),
    "of a saving": ([asked()], {"rule": replace(RULE, min_saving_usd=10)}),
    "calls that the model is pinned of": ([asked(9), asked(11, candidates=3)], {}),
}


@pytest.mark.parametrize(("calls", "changes"), ENOUGH.values(), ids=ENOUGH.keys())
def test_nothing_is_suggested_without_enough(calls: list[list[CallRecord]], changes: dict[str, Any]) -> None:
    assert targets(asked()) == ["small"]
    assert targets(*calls, **changes) == []


def test_callers_who_hang_up_say_nothing_of_a_model() -> None:
    assert targets(asked(), asked(5, error_source="client", error_category="client_disconnect")) == ["small"]


def test_a_model_that_the_org_has_seen_fail_is_not_suggested() -> None:
    failing = {"model_sent": "small-2026-01-01", "feature": "another", "error_source": "provider", "usage": None}
    assert targets(asked(), asked(9, **failing)) == ["small"]
    assert targets(asked(), asked(10, **failing)) == ["mid"]
    assert targets(asked(), asked(10, org="dal", **failing)) == ["small"]


def test_a_dated_model_is_suggested_what_its_name_without_a_date_is() -> None:
    rows = {**ROWS, "big-2026-01-01": ROWS["big"]}
    assert targets(asked(model_sent="big-2026-01-01"), rows=rows) == ["small"]


# --- what it saves ----------------------------------------------------------------------------------------------------


def test_a_month_is_what_the_calls_cost_by_todays_prices_in_thirty_days_of_the_days_seen() -> None:
    (one,) = advised(asked(1000), asked(500, token_source="estimated"))
    # 1,000 calls in 10 days: 500 × $10 and 10 × $100 per million tokens, and a hundredth of that.
    assert (one.cost_usd, one.saving_usd) == (Decimal("18.00"), Decimal("17.82"))
    assert (one.evidence.days, one.evidence.calls, one.evidence.counted) == (10.0, 1500, 1000)


def test_calls_that_cost_more_because_they_are_large_are_priced_as_that() -> None:
    held = row("big", 10**6, 10**7, above=[(200_000, {"input": 2 * 10**6, "output": 2 * 10**7})])
    seen = added_up([*asked(2), *asked(1, usage=Usage(input_tokens=200_001, output_tokens=1))])
    (traffic,) = seen.values()
    assert len(traffic.parts) == 2
    expected = 2 * (500 * 10**6 + 10 * 10**7) + 200_001 * 2 * 10**6 + 2 * 10**7
    assert monthly(traffic.parts, held, AT_S, 30) == expected


def test_every_size_from_which_a_model_costs_more_is_told_apart() -> None:
    table, found = price_table(), set()
    for provider, model in LINEUP:
        known = table.row(provider, model)
        for periods in (known.standard, *known.tiers.values()) if known else ():
            found |= {above for _, hours in periods for _, one in hours for above, _ in one.above}
    assert found <= set(SIZES)


def test_calls_are_priced_by_the_hour_of_the_day_and_the_tier_they_were_in() -> None:
    dear, cheap, flex = (rates([(0, {"input": 10**n, "output": 10**n})]) for n in (7, 6, 5))
    held = fixed("big", dear, cheap, tiers={"flex": ((0, ((0, flex),)),)})
    for changes, pico in (
        ({}, 10**6),
        ({"started_ns": (STARTED_S - 1) * 10**9}, 10**7),
        ({"service_tier": "flex"}, 10**5),
    ):
        (traffic,) = added_up(asked(1, **changes)).values()
        assert monthly(traffic.parts, held, AT_S, 30) == 510 * pico


def test_what_is_paid_by_the_call_or_by_the_hour_of_audio_is_counted() -> None:
    heard = Usage(input_tokens=0, output_tokens=0, audio_seconds=7200)
    level = dict(zip(("input", "output", "request", "audio_hour"), (0, 0, 7, 3600), strict=True))
    held = fixed("big", rates([(0, level)]), minimum_audio_s=10)
    (traffic,) = added_up(asked(2, usage=heard)).values()
    assert monthly(traffic.parts, held, AT_S, 30) == 2 * 7 + 2 * 2 * 3600
    (short,) = added_up(asked(2, usage=replace(heard, audio_seconds=1))).values()
    assert monthly(short.parts, held, AT_S, 30) == 2 * 7 + 20


UNPRICED: dict[str, tuple[Usage, Row]] = {
    "searches without a price": (replace(USAGE, web_search_requests=1), ROWS["big"]),
    "images that were not told apart": (USAGE, row("big", 1, 1, splits_output=True)),
}


@pytest.mark.parametrize(("usage", "held"), UNPRICED.values(), ids=UNPRICED.keys())
def test_what_has_no_price_in_part_has_none(usage: Usage, held: Row) -> None:
    (traffic,) = added_up(asked(usage=usage)).values()
    assert monthly(traffic.parts, held, AT_S, 30) is None


def test_a_month_costs_what_its_calls_do_one_by_one() -> None:
    usages = [
        Usage(input_tokens=1000 + n, output_tokens=n, cache_read_tokens=n, reasoning_tokens=n // 2) for n in range(20)
    ]
    held = price_table().row("openai", "gpt-4o")
    (traffic,) = added_up([asked(1, usage=usage)[0] for usage in usages]).values()
    totals = [price(usage, held, AT_S).total or 0 for usage in usages]
    assert monthly(traffic.parts, held, AT_S, 30) == sum(totals)


# --- how sure that is -------------------------------------------------------------------------------------------------

SURE: dict[str, tuple[list[list[CallRecord]], str]] = {
    "guessed from the lengths": ([asked(task_known=None)], "low"),
    "a task that is told": ([asked()], "medium"),
    "guessed from many calls": ([asked(100, task_known=None)], "medium"),
    "a task and many calls": ([asked(100)], "high"),
    "a task and a model that does well already": ([asked(), asked(10, feature="another", model_sent="small")], "high"),
}


@pytest.mark.parametrize(("calls", "confidence"), SURE.values(), ids=SURE.keys())
def test_confidence_grows_with_what_is_known(calls: list[list[CallRecord]], confidence: str) -> None:
    assert [one.confidence for one in advised(*calls, rule=replace(RULE, min_saving_usd=0.01))] == [confidence]


def test_the_largest_saving_comes_first_and_each_task_is_judged_for_itself() -> None:
    found = advised(asked(20, feature="few"), asked(30, feature="many"), asked(25, task_known=None))
    assert [(one.feature, one.task) for one in found] == [
        ("many", "classification"),
        ("search", None),
        ("few", "classification"),
    ]


def test_calls_are_those_of_the_period_and_the_org() -> None:
    calls = [*asked(2), *asked(3, org="dal"), *asked(1, started_ns=0)]
    found = added_up(calls, Filters(org="acme", since_s=STARTED_S))
    assert {key[0]: seen.calls for key, seen in found.items()} == {"acme": 2}


# --- as it is shown ---------------------------------------------------------------------------------------------------


def test_programs_get_what_is_known_with_money_as_text() -> None:
    (one,) = advised(asked(feature=None))
    told = as_json([one])
    assert json.loads(json.dumps(told)) == told
    assert told == [
        {
            "org": "acme",
            "task": "classification",
            "provider": "openai",
            "model": "big",
            "target": "small",
            "boldness": "aggressive",
            "confidence": "medium",
            "cost_usd": "0.36",
            "saving_usd": "0.36",
            "evidence": {
                "since": "2026-11-20T12:00:00+00:00",
                "days": 10.0,
                "calls": 20,
                "counted": 20,
                "error_rate": 0.0,
                "short_prompts": 1.0,
                "short_outputs": 1.0,
                "most_input": 500,
                "most_output": 10,
                "target_calls": 0,
            },
        }
    ]


def test_people_get_three_lines_for_each() -> None:
    ends = Known("big", None, to=("mid",)), Known("mid", None, retires=date(2027, 1, 14))
    found = advised(
        asked(2000), asked(40, org=None, feature=None, task_known=None), asked(4, model_sent="mid"), lineup=ends
    )
    assert as_text(found) == (
        "acme, feature search, task classification: openai/big → mid, which retires 2027-01-14\n"
        "  saves $32.40 of $36.00 a month, confidence high (aggressive)\n"
        "  2,000 calls in 10.0 days, tokens known of 2,000, errors 0.0%; mid: 0.0% of 4\n"
        "\n"
        "-, feature -, task -: openai/big → mid, which retires 2027-01-14\n"
        "  saves $0.65 of $0.72 a month, confidence low (moderate)\n"
        "  40 calls in 10.0 days, tokens known of 40, errors 0.0%"
    )
    assert as_text([]) == "nothing to recommend"
