from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.answer import Answer
from lectr_extproc.core.pricing import (
    UNITS,
    UNKNOWN_TIER,
    Cost,
    Periods,
    PriceTable,
    Rates,
    Row,
    count,
    is_version_of,
    price,
    price_answer,
    rates,
    remarked,
    together,
    undated,
    usd,
)
from lectr_extproc.core.usage import Usage

DAY = 86400


def always(**prices: int) -> Periods:
    return ((0, ((0, rates([(0, prices)])),)),)


def row(standard: Periods, *, tiers: Mapping[str, Periods] | None = None, minimum_audio_s: int = 0) -> Row:
    return Row(
        provider="p",
        model="m",
        source="test",
        version="v1",
        standard=standard,
        tiers=tiers or {},
        minimum_audio_s=minimum_audio_s,
    )


PLAIN = row(always(input=10, output=100))
FULL = row(
    always(
        input=10,
        cache_read=1,
        cache_write=12,
        cache_write_1h=20,
        audio_input=30,
        cache_read_audio=3,
        image_input=15,
        output=100,
        reasoning=90,
        audio_output=300,
        image_output=500,
        web_search=7000,
        search_unit=2000,
        page=1000,
        request=5,
    )
)

CASES: dict[str, tuple[Row, Usage, int, int, int, int, int]] = {
    # row, usage, then input, output, cache read, cache write and other costs
    "plain text": (PLAIN, Usage(input_tokens=7, output_tokens=3), 70, 300, 0, 0, 0),
    "cached input without a price of its own": (
        PLAIN,
        Usage(input_tokens=10, output_tokens=0, cache_read_tokens=4, cache_write_tokens=2),
        40,
        0,
        40,
        20,
        0,
    ),
    "a cache": (
        FULL,
        Usage(input_tokens=100, output_tokens=1, cache_read_tokens=50, cache_write_tokens=30, cache_write_1h_tokens=10),
        200,
        100,
        50,
        20 * 12 + 10 * 20,
        5,
    ),
    "a lasting cache without a price of its own": (
        row(always(input=10, cache_write=12)),
        Usage(input_tokens=30, cache_write_tokens=30, cache_write_1h_tokens=10),
        0,
        0,
        0,
        360,
        0,
    ),
    "reasoning, inside the output": (
        FULL,
        Usage(input_tokens=0, output_tokens=10, reasoning_tokens=4),
        0,
        960,
        0,
        0,
        5,
    ),
    "reasoning at the output's price": (PLAIN, Usage(output_tokens=10, reasoning_tokens=4), 0, 1000, 0, 0, 0),
    "more reasoning than output": (FULL, Usage(output_tokens=10, reasoning_tokens=40), 0, 900, 0, 0, 5),
    "audio": (
        FULL,
        Usage(input_tokens=10, output_tokens=10, audio_input_tokens=8, audio_output_tokens=9),
        2 * 10 + 8 * 30,
        100 + 9 * 300,
        0,
        0,
        5,
    ),
    "audio without a price of its own": (PLAIN, Usage(input_tokens=10, audio_input_tokens=8), 100, 0, 0, 0, 0),
    "audio out of the cache": (
        FULL,
        Usage(input_tokens=10, cache_read_tokens=6, audio_input_tokens=5, cache_read_audio_tokens=4),
        3 * 10 + 30,
        0,
        2 * 1 + 4 * 3,
        0,
        5,
    ),
    "audio that must have come out of the cache, though nobody says so": (
        FULL,
        Usage(input_tokens=10, cache_read_tokens=6, audio_input_tokens=9),
        4 * 30,
        0,
        6,
        0,
        5,
    ),
    "images": (
        FULL,
        Usage(input_tokens=10, output_tokens=10, image_input_tokens=4, image_output_tokens=9),
        6 * 10 + 4 * 15,
        100 + 9 * 500,
        0,
        0,
        5,
    ),
    "what is not tokens": (
        FULL,
        Usage(input_tokens=1, web_search_requests=2, search_units=3, pages=4),
        10,
        0,
        0,
        0,
        14000 + 6000 + 4000 + 5,
    ),
    "a cache larger than the input it is part of": (
        FULL,
        Usage(input_tokens=5, cache_read_tokens=2, cache_write_tokens=7, cache_write_1h_tokens=9),
        0,
        0,
        2,
        60,
        5,
    ),
    "a cache that Cohere counts before it takes off what it does not bill": (
        PLAIN,
        Usage(input_tokens=135, output_tokens=21, cache_read_tokens=1600),
        0,
        2100,
        1350,
        0,
        0,
    ),
    "only the cache known": (FULL, Usage(cache_read_tokens=50, cache_write_tokens=3), 0, 0, 50, 36, 5),
    "only the output known": (PLAIN, Usage(output_tokens=3), 0, 300, 0, 0, 0),
    "nothing used, and the provider says so": (PLAIN, Usage(input_tokens=0, output_tokens=0), 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_kind_of_token_is_priced_once(case: tuple[Row, Usage, int, int, int, int, int]) -> None:
    held, usage, *expected = case
    cost = price(usage, held, 0)
    assert (cost.status, cost.reason) == ("priced", None)
    assert [cost.input, cost.output, cost.cache_read, cost.cache_write, cost.extras] == expected
    assert cost.total == sum(expected)
    assert cost.source == "local"


counts = st.none() | st.integers(0, 2**53)


@given(st.builds(Usage, **dict.fromkeys(Usage.__dataclass_fields__, counts)))
def test_no_token_is_counted_twice_whatever_a_provider_reports(usage: Usage) -> None:
    counted = dict.fromkeys(UNITS, 0) | dict(zip(UNITS, count(usage), strict=False))
    assert min(counted.values()) >= 0
    out = sum(counted[unit] for unit in ("output", "reasoning", "audio_output", "image_output"))
    assert out == (usage.output_tokens or 0)
    cached = counted["cache_read"] + counted["cache_read_audio"] + counted["cache_write"] + counted["cache_write_1h"]
    said = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    assert cached == (said if usage.input_tokens is None else min(said, usage.input_tokens))
    fresh = counted["input"] + counted["audio_input"] + counted["image_input"]
    assert fresh + cached == (cached if usage.input_tokens is None else usage.input_tokens)


CLIFF = row(
    ((0, ((0, rates([(0, {"input": 1, "output": 2}), (200, {"input": 3, "output": 5}), (300, {"input": 7})])),)),)
)


@pytest.mark.parametrize(("size", "total"), [(200, 200 + 2), (201, 603 + 5), (300, 900 + 5), (301, 2107)])
def test_a_long_request_pays_the_higher_price_for_all_of_it(size: int, total: int) -> None:
    assert price(Usage(input_tokens=size, output_tokens=1), CLIFF, 0).total == total


def test_what_was_cached_counts_towards_the_threshold() -> None:
    assert price(Usage(input_tokens=201, cache_read_tokens=201), CLIFF, 0).total == 603


DATED = row(
    (*always(input=1), *((since, ((0, rates([(0, {"input": cost})])),)) for since, cost in ((DAY, 2), (2 * DAY, 3))))
)


@pytest.mark.parametrize(
    ("at", "total"), [(-5, 1), (0, 1), (DAY - 1, 1), (DAY, 2), (2 * DAY - 1, 2), (2 * DAY, 3), (9 * DAY, 3)]
)
def test_a_call_keeps_the_price_of_its_own_day(at: int, total: int) -> None:
    assert price(Usage(input_tokens=1), DATED, at).total == total


OFF_PEAK = row(
    ((0, tuple((second, rates([(0, {"input": cost})])) for second, cost in ((0, 1), (3600, 2), (7200, 1)))),)
)


@pytest.mark.parametrize(("second", "total"), [(0, 1), (3599, 1), (3600, 2), (7199, 2), (7200, 1), (DAY - 1, 1)])
def test_prices_that_change_by_the_hour_are_those_of_the_start(second: int, total: int) -> None:
    at = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp()) + second
    assert price(Usage(input_tokens=1), OFF_PEAK, at).total == total


TIERED = row(always(input=10), tiers={"flex": always(input=5), "batch": always(input=4)})


@pytest.mark.parametrize(
    ("tier", "total", "reason"),
    [
        (None, 10, None),
        ("", 10, None),
        ("default", 10, None),
        ("STANDARD", 10, None),
        ("on_demand", 10, None),
        ("flex", 5, None),
        ("FLEX", 5, None),
        ("ON_DEMAND", 10, None),
        ("ON_DEMAND_FLEX", 5, None),
        ("batch", 4, None),
        ("galactic", 10, UNKNOWN_TIER),
    ],
)
def test_the_tier_that_answered_sets_the_price_and_an_unknown_one_is_told(
    tier: str | None, total: int, reason: str | None
) -> None:
    cost = price(Usage(input_tokens=1), TIERED, 0, tier)
    assert (cost.total, cost.reason) == (total, reason)


def test_what_the_provider_says_it_charged_wins() -> None:
    cost = price(Usage(input_tokens=1), PLAIN, 0, reported=Decimal("0.0000012345"))
    assert (cost.status, cost.total, cost.source) == ("provider_reported", 1_234_500, "provider")
    assert (cost.amounts, cost.input, cost.extras) == (None, None, None)


def test_a_provider_may_report_that_it_charged_nothing() -> None:
    cost = price(None, None, 0, reported=Decimal(0))
    assert (cost.status, cost.usd) == ("provider_reported", Decimal(0))


FREE = row(always(input=0, output=0))


@pytest.mark.parametrize("usage", [None, Usage(), Usage(input_tokens=5, output_tokens=5)])
def test_free_is_a_price(usage: Usage | None) -> None:
    cost = price(usage, FREE, 0)
    assert (cost.status, cost.total, cost.input, cost.source) == ("free", 0, 0, "local")


@pytest.mark.parametrize("usage", [None, Usage(), Usage(cache_read_tokens=None)])
def test_a_call_without_usage_has_no_cost_rather_than_none(usage: Usage | None) -> None:
    cost = price(usage, PLAIN, 0)
    assert (cost.status, cost.total, cost.usd, cost.input, cost.source) == ("no_usage", None, None, None, None)


def test_an_unknown_model_has_no_cost() -> None:
    cost = price(Usage(input_tokens=5), None, 0)
    assert (cost.status, cost.reason, cost.usd) == ("unavailable", "no price for this model", None)


UNPRICED: dict[str, tuple[Row, Usage, str]] = {
    "output tokens of a model that should have none": (
        row(always(input=1)),
        Usage(input_tokens=1, output_tokens=1),
        "no price for output",
    ),
    "tokens of a model billed by the hour": (row(always(audio_hour=1)), Usage(input_tokens=1), "no price for input"),
    "a row without any price": (row(always()), Usage(input_tokens=1), "no price for input"),
    "search units, and nothing else": (PLAIN, Usage(search_units=1), "no price for search_unit"),
}


@pytest.mark.parametrize(("held", "usage", "reason"), UNPRICED.values(), ids=UNPRICED)
def test_a_count_that_has_no_price_is_never_taken_for_free(held: Row, usage: Usage, reason: str) -> None:
    cost = price(usage, held, 0)
    assert (cost.status, cost.reason, cost.total) == ("unavailable", reason, None)


def test_an_extra_without_a_price_leaves_the_rest_priced_and_is_told() -> None:
    cost = price(Usage(input_tokens=2, web_search_requests=3), PLAIN, 0)
    assert (cost.status, cost.total, cost.reason) == ("priced", 20, "without 3 × web_search, which has no price")


PAINTER = row(((0, ((0, rates([(0, {"input": 1, "output": 2, "image_output": 50})], splits_output=True)),)),))


def test_a_picture_is_never_priced_as_text() -> None:
    assert price(Usage(input_tokens=1, output_tokens=9), PAINTER, 0).status == "unavailable"
    assert price(Usage(input_tokens=1, output_tokens=9, image_output_tokens=8), PAINTER, 0).total == 1 + 2 + 400
    assert price(Usage(input_tokens=1, output_tokens=9, image_output_tokens=0), PAINTER, 0).total == 1 + 18
    assert price(Usage(input_tokens=1, output_tokens=0), PAINTER, 0).total == 1


@pytest.mark.parametrize(("seconds", "total"), [(1, 3), (3, 3), (10, 11), (3600, 4000)])
def test_audio_by_the_hour_is_divided_into_seconds_only_at_the_end(seconds: int, total: int) -> None:
    by_hour = row(always(audio_hour=4000), minimum_audio_s=3)
    assert price(Usage(audio_seconds=seconds), by_hour, 0).total == total


def test_a_region_changes_what_tokens_cost_and_nothing_else() -> None:
    abroad = replace(FULL, regions={"us": 110})
    usage = Usage(input_tokens=7, output_tokens=1, web_search_requests=1)
    at_home, there = (price(usage, abroad, 0, region=region) for region in ("elsewhere", "US"))
    assert (at_home.input, at_home.output, at_home.extras) == (70, 100, 7005)
    assert (there.input, there.output, there.extras) == (77, 110, 7005)
    assert there.total == 77 + 110 + 7005


def test_other_models_that_worked_on_an_answer_cost_too() -> None:
    usage = Usage(input_tokens=1, output_tokens=1)
    searched = price(replace(usage, web_search_requests=1), FULL, 0)
    plain = price(usage, PLAIN, 0)
    both = together(plain, [searched, plain])
    assert both.total == 2 * 110 + 110 + 7005
    assert (both.input, both.output, both.extras) == (30, 300, 7005)
    assert together(plain, []) == plain


def test_another_models_part_that_has_no_price_is_told() -> None:
    plain = price(Usage(input_tokens=1), PLAIN, 0)
    both = together(plain, [price(Usage(input_tokens=1), None, 0)])
    assert (both.status, both.total) == ("priced", 10)
    assert both.reason == "without another model's part in the answer, which has no price"


def test_every_reason_why_a_cost_is_not_exact_is_told() -> None:
    cost = price(Usage(input_tokens=1), PLAIN, 0, "unheard-of")
    assert remarked(cost, "late").reason == f"{UNKNOWN_TIER}; late"
    assert remarked(cost, None) == cost


def test_what_was_reported_and_what_is_unknown_stay_as_they_are() -> None:
    plain = price(Usage(input_tokens=1), PLAIN, 0)
    for cost in (price(None, None, 0, reported=Decimal(1)), price(Usage(input_tokens=1), None, 0)):
        assert together(cost, [plain]) is cost


def test_money_is_exact() -> None:
    assert usd(1) == Decimal("0.000000000001")
    assert usd(10**24 + 1) == Decimal("1000000000000.000000000001")
    million = price(Usage(input_tokens=10**6), row(always(input=150_000)), 0)
    assert million.usd == Decimal("0.15")


def test_a_zero_among_prices_does_not_make_a_model_free() -> None:
    assert rates([(0, {"input": 1, "output": 0})]).is_free is False
    assert rates([(0, {})]).is_free is False
    assert rates([(0, {"input": 0}), (5, {"input": 1})]).is_free is False
    assert rates([(0, {"input": 0, "output": 0})]) == Rates((0,) * len(UNITS), lacks=(12, 13, 14, 15), is_free=True)


# --- the table --------------------------------------------------------------------------------------------------------


class Finder:
    def __init__(self, *models: str) -> None:
        self.models = models
        self.asked: list[str] = []

    def __call__(self, provider: str, model: str) -> Row | None:
        self.asked.append(model)
        return row(always(input=self.models.index(model) + 1)) if model in self.models else None


def found(finder: Finder, *models: str | None) -> int | None:
    held = PriceTable(finder, "v").row("p", *models)
    return held.standard[0][1][0][1].base[0] if held else None


ORDER: dict[str, tuple[tuple[str | None, ...], int | None]] = {
    "the answered model first": (("a", "b"), 1),
    "the answered model without its date": (("b-20261120", "a"), 2),
    "then the requested one": (("x", "b"), 2),
    "then that one without its date": ((None, "b-2026-11-20"), 2),
    "Vertex's way to write a date": (("b@20261120",), 2),
    "a dated name that has a row of its own": (("c-20240101", "a"), 3),
    "never a prefix": (("a-mini", "ab"), None),
    "nothing": (("", None), None),
    "a name too long to be one": (("a" * 300,), None),
}


@pytest.mark.parametrize(("models", "expected"), ORDER.values(), ids=ORDER)
def test_a_row_is_found_by_exact_names_in_order(models: tuple[str | None, ...], expected: int | None) -> None:
    assert found(Finder("a", "b", "c-20240101"), *models) == expected


def test_a_provider_that_is_not_known_has_no_prices() -> None:
    assert PriceTable(Finder("a"), "v").row(None, "a") is None


def test_hits_and_misses_are_looked_up_once() -> None:
    finder = Finder("a")
    table = PriceTable(finder, "v")
    for _ in range(3):
        assert table.row("p", "nope", "a") is not None
    assert finder.asked == ["nope", "a"]


def test_names_that_clients_choose_cannot_fill_the_memory() -> None:
    table = PriceTable(Finder("a"), "v", capacity=10)
    for i in range(1000):
        assert table.row("p", f"made-up-{i}") is None
    assert len(table) == 10
    assert table.row("p", "a") is not None


def test_only_a_date_at_the_end_is_a_version() -> None:
    assert undated("gpt-5-2025-08-07") == "gpt-5"
    assert undated("claude-haiku-4-5@20251001") == "claude-haiku-4-5"
    assert undated("mistral-large-2512") == "mistral-large-2512"
    assert undated("o1") == "o1"


VERSIONS = {
    "a date": ("gpt-5-2027-01-01", "gpt-5", True),
    "another date": ("claude-x-20270101", "claude-x-20250101", True),
    "Vertex's way to write one": ("claude-x@20270101", "claude-x", True),
    "a month": ("mistral-large-2610", "mistral-large-latest", True),
    "a month and its year": ("command-z-03-2027", "command-z", True),
    "Google's numbers": ("gemini-9-flash-002", "gemini-9-flash-001", True),
    "an alias and its place": ("models/gemini-9", "Gemini-9-latest", True),
    "a region of Bedrock": ("claude-x-20270101", "us.anthropic.claude-x-20270101-v1:0", True),
    "a size": ("gpt-5-mini", "gpt-5", False),
    "another generation": ("gpt-4.1", "gpt-4", False),
    "the end of a name": ("4o", "gpt-4o", False),
    "one of a family": ("gpt-4o-zzz-unknown", "gpt-4o", False),
    "another vendor's": ("x-ai/grok-4", "google/gemini-2.0-flash-exp:free", False),
    "of one name": ("x-ai/large", "mistral/large", False),
    "what is not free": ("google/gemini-9", "google/gemini-9:free", False),
}


@pytest.mark.parametrize("case", VERSIONS.values(), ids=VERSIONS)
def test_another_version_of_a_model_is_told_from_another_model(case: tuple[str, str, bool]) -> None:
    one, two, same = case
    assert (is_version_of(one, two), is_version_of(two, one)) == (same, same)


OWN = replace(PLAIN, is_own=True)
FREE = row(always(input=0, output=0))
UNHEARD = "no price for this model; the model that answered is "
SENT = "price of the model that was sent"
ANSWERED: dict[str, tuple[Row, str | None, str, int | None, str | None]] = {
    # the row of the model sent, `m-1-20250101`; the name that answered; status, total and reason
    "by no name": (PLAIN, None, "priced", 110, None),
    "by an empty one": (PLAIN, "", "priced", 110, None),
    "by its own": (PLAIN, "m-1-20250101", "priced", 110, None),
    "by a newer version's": (PLAIN, "m-1-20270101", "priced", 110, SENT),
    "by another model's": (PLAIN, "m-1-zzz", "unavailable", None, f"{UNHEARD}m-1-zzz"),
    "for nothing, by no name": (FREE, None, "free", 0, None),
    "by a newer version's, which need not be free": (
        FREE,
        "m-1-20270101",
        "unavailable",
        None,
        f"{UNHEARD}m-1-20270101",
    ),
    "by the name of a file, on a server of one's own": (OWN, "/models/m.gguf", "priced", 110, SENT),
    "for nothing, on a server of one's own": (replace(FREE, is_own=True), "/models/m.gguf", "free", 0, SENT),
}


def answered(sent_row: Row, name: str | None, usage: Usage | None, *, reported: Decimal | None = None) -> Cost:
    prices = PriceTable(lambda _provider, model: sent_row if model == "m-1-20250101" else None, "v")
    answer = Answer(model_answered=name, reported_cost=reported)
    return price_answer(answer, usage, prices, 0, provider="p", sent="m-1-20250101", requested=None)


ONE_EACH = Usage(input_tokens=1, output_tokens=1)


@pytest.mark.parametrize("case", ANSWERED.values(), ids=ANSWERED)
def test_the_price_of_the_model_sent_is_another_answers_only_with_a_word(
    case: tuple[Row, str | None, str, int | None, str | None],
) -> None:
    sent_row, name, *expected = case
    cost = answered(sent_row, name, ONE_EACH)
    assert [cost.status, cost.total, cost.reason] == expected


def test_what_the_provider_charged_and_what_nobody_counted_need_no_word_about_prices() -> None:
    assert answered(PLAIN, "m-1-20270101", ONE_EACH, reported=Decimal(1)).reason is None
    assert answered(PLAIN, "m-1-zzz", ONE_EACH, reported=Decimal(1)).usd == 1
    assert answered(PLAIN, "m-1-20270101", None).reason == "the provider reported no usage"


def test_the_model_requested_stands_in_where_the_one_sent_is_unknown() -> None:
    prices = PriceTable(lambda _provider, model: PLAIN if model == "m-1-20250101" else None, "v")
    cost = price_answer(
        Answer(model_answered="m-1-20270101"),
        ONE_EACH,
        prices,
        0,
        provider="p",
        sent="deployment",
        requested="m-1-20250101",
    )
    assert (cost.total, cost.reason) == (110, SENT)


def test_tables_are_told_apart_by_what_they_find() -> None:
    def find(_provider: str, _model: str) -> None:
        return None

    assert PriceTable(find, "v1") == PriceTable(find, "v1")
    assert PriceTable(find, "v1") != PriceTable(find, "v2")
    assert PriceTable(find, "v1") != "v1"
