from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from lectr_extproc.catalog.prices import price_table
from lectr_extproc.core.candidates import Plan, Ranked, make_plan
from lectr_extproc.core.conversation import Conversation, Message
from lectr_extproc.core.tables import CatalogError, Known
from lectr_extproc.core.words import Prefer

NOW = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
PRICES = price_table()
SOURCE = ("https://example.com",)
HAIKU = Ranked(provider="anthropic", model="claude-haiku-4-5", tier="economy", first_token_ms=600, sources=SOURCE)
MINI = Ranked(provider="openai", model="gpt-4.1-mini", tier="economy", quality=65, coding=23, sources=SOURCE)
FLASH = Ranked(provider="gemini", model="gemini-2.5-flash", tier="economy", quality=70, coding=20, sources=SOURCE)
NOBODYS = Ranked(provider="openai", model="nobodys")
ROWS = (HAIKU, MINI, FLASH, NOBODYS)
LINEUP = {
    ("anthropic", "claude-haiku-4-5"): Known("claude-haiku-4-5", 200_000),
    ("openai", "gpt-4.1-mini"): Known("gpt-4.1-mini", 1_000_000),
    ("gemini", "gemini-2.5-flash"): Known("gemini-2.5-flash", None),
}
HI = Conversation(messages=(Message("user", "hi"),))


def plan(
    *rows: Ranked,
    conversation: Conversation = HI,
    prefer: Prefer | None = "balanced",
    refused: dict[str, str] | None = None,
    lineup: dict[tuple[str, str], Known] | None = None,
) -> Plan:
    refusal = (refused or {}).get
    return make_plan(
        rows or ROWS,
        conversation,
        lambda row: refusal(row.model),
        lineup=LINEUP if lineup is None else lineup,
        prices=PRICES,
        at_s=NOW,
        prefer=prefer,
    )


def order(found: Plan) -> list[str]:
    return [one.row.model.split("-")[0] for one in found.candidates]


ORDERS: dict[Prefer, list[str]] = {
    "cheap": ["gpt", "gemini", "claude", "nobodys"],
    "balanced": ["gpt", "gemini", "claude", "nobodys"],
    "fast": ["claude", "gemini", "gpt", "nobodys"],
    "quality": ["gemini", "gpt", "claude", "nobodys"],
    "coding": ["gpt", "gemini", "claude", "nobodys"],
}


@pytest.mark.parametrize("prefer", ORDERS)
def test_what_counts_orders_the_candidates_and_what_nobody_knows_comes_last(prefer: Prefer) -> None:
    assert order(plan(prefer=prefer)) == ORDERS[prefer]


def test_where_nothing_is_to_count_models_stay_in_the_order_they_were_named_in() -> None:
    assert order(plan(prefer=None)) == ["claude", "gpt", "gemini", "nobodys"]


def test_what_costs_the_same_is_ordered_by_quality() -> None:
    better = replace(MINI, quality=90)
    assert plan(MINI, better, prefer="cheap").candidates[0].row is better


def test_a_price_is_that_of_a_prompt_of_this_length() -> None:
    pro = Ranked(provider="gemini", model="gemini-2.5-pro")
    short, long = (
        plan(pro, conversation=replace(HI, max_output=output)).candidates[0].price for output in (1, 300_000)
    )
    assert short == 100 * 1_250_000 + 33 * 10_000_000
    assert long == 100 * 2_500_000 + 33 * 15_000_000


def test_the_estimate_is_what_the_prompt_and_the_longest_answer_would_cost() -> None:
    asked = replace(HI, max_output=1000)
    prompt = HI.tokens
    assert plan(MINI, conversation=asked).candidates[0].estimate == prompt * 400_000 + 1000 * 1_600_000
    assert plan(MINI).candidates[0].estimate == prompt * 400_000 + 500 * 1_600_000
    assert plan(NOBODYS).candidates[0].estimate is None


def dropped(found: Plan) -> dict[str, str]:
    return {one.model: one.reason for one in found.dropped}


def test_what_an_org_cannot_reach_is_dropped_with_the_reason() -> None:
    found = plan(refused={"gpt-4.1-mini": "credential", "claude-haiku-4-5": "blocked"})
    assert order(found) == ["gemini", "nobodys"]
    assert dropped(found) == {"gpt-4.1-mini": "credential", "claude-haiku-4-5": "blocked"}


@pytest.mark.parametrize("ability", ["vision", "tools", "json", "audio"])
def test_what_certainly_cannot_do_what_is_needed_is_dropped_and_what_nobody_knows_is_not(ability: str) -> None:
    needing = replace(HI, **{f"needs_{ability}": True})  # type: ignore[arg-type]
    found = plan(replace(MINI, lacks=frozenset({ability})), NOBODYS, conversation=needing)
    assert (order(found), dropped(found)) == (["nobodys"], {"gpt-4.1-mini": ability})
    assert order(plan(replace(MINI, lacks=frozenset({ability})), NOBODYS)) == ["gpt", "nobodys"]


def test_a_model_of_a_tier_that_is_retired_is_dropped_and_one_that_was_named_is_not() -> None:
    over = {("openai", "gpt-4.1-mini"): Known("gpt-4.1-mini", None, retires=date(2026, 11, 20))}
    assert dropped(plan(MINI, NOBODYS, lineup=over)) == {"gpt-4.1-mini": "retired"}
    assert dropped(plan(replace(MINI, tier=None), lineup=over)) == {}


LONG = Conversation(messages=(Message("user", "x" * 700_000),))


def test_a_window_that_is_too_small_drops_a_model_and_one_nobody_knows_does_not() -> None:
    found = plan(conversation=LONG)
    assert (order(found), dropped(found)) == (["gpt", "gemini", "nobodys"], {"claude-haiku-4-5": "context"})


def test_the_answer_and_the_tools_need_room_too() -> None:
    for asked in (replace(HI, max_output=200_000), replace(HI, tool_schema_characters=600_000)):
        assert dropped(plan(HAIKU, NOBODYS, conversation=asked)) == {"claude-haiku-4-5": "context"}


def test_where_every_window_is_too_small_none_is_asked_about() -> None:
    found = plan(HAIKU, conversation=LONG)
    assert (order(found), dropped(found)) == (["claude"], {})


def test_without_a_candidate_there_is_none() -> None:
    assert plan(MINI, refused={"gpt-4.1-mini": "address"}).candidates == ()


@pytest.mark.parametrize("row", [{"quality": 50.0}, {"lacks": frozenset({"sight"})}])
def test_a_figure_without_a_source_and_an_ability_there_is_not_are_mistakes(row: dict[str, object]) -> None:
    with pytest.raises(CatalogError, match="model 'm'"):
        Ranked(provider="openai", model="m", **row)  # type: ignore[arg-type]


def test_what_fails_comes_behind_everything_else_in_the_same_order_and_is_never_refused() -> None:
    def found(*sick: str, prefer: Prefer | None = "balanced") -> Plan:
        until = dict.fromkeys(sick, NOW + 5)
        return make_plan(
            ROWS,
            HI,
            lambda _: None,
            sick_until_s=lambda row: until.get(row.model, NOW),
            lineup=LINEUP,
            prices=PRICES,
            at_s=NOW,
            prefer=prefer,
        )

    assert order(found()) == ["gpt", "gemini", "claude", "nobodys"]
    plan = found(MINI.model, FLASH.model)
    assert order(plan) == ["claude", "nobodys", "gpt", "gemini"]
    assert [one.sick_until_s for one in plan.candidates] == [None, None, NOW + 5, NOW + 5]
    assert order(found(HAIKU.model, prefer=None)) == ["gpt", "gemini", "nobodys", "claude"]
    assert order(found(*(row.model for row in ROWS))) == order(found())


def test_what_was_measured_counts_for_who_wants_it_fast_and_what_was_published_elsewhere() -> None:
    measured = {MINI.model: 599, NOBODYS.model: 601}
    plan = make_plan(
        ROWS,
        HI,
        lambda _: None,
        measured_ms=lambda row: measured.get(row.model),
        lineup=LINEUP,
        prices=PRICES,
        at_s=NOW,
        prefer="fast",
    )
    assert order(plan) == ["gpt", "claude", "nobodys", "gemini"]
    assert [one.first_token_ms for one in plan.candidates] == [599, 600, 601, None]
