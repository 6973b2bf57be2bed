from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.listing import (
    Explained,
    Suggestion,
    explain,
    explained_text,
    list_models,
    models_text,
    suggestions,
)
from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.prices import Override, price_table
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.pricing import PriceTable
from lectr_extproc.core.tables import Known
from lectr_extproc.core.usage import Usage

TABLE = price_table()
NOW = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp())
EARLIER = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
SOME = Usage(input_tokens=1000, output_tokens=500, cache_read_tokens=200, reasoning_tokens=100)


def names(found: tuple[Suggestion, ...]) -> list[str]:
    return [suggestion.model for suggestion in found]


SUGGESTED = {
    "a cheaper model": ("openai", "gpt-4o", NOW, ["gpt-4o-mini"]),
    "one that is retired since": ("openai", "gpt-4.1-mini", NOW, []),
    "one that was not then": ("openai", "gpt-4.1-mini", EARLIER, ["gpt-4.1-nano"]),
    "two, the more cautious first": (
        "anthropic",
        "claude-3-opus-20240229",
        EARLIER,
        ["claude-3-5-sonnet-20241022", "claude-3-5-haiku-20241022"],
    ),
    "a dearer model": ("openai", "o1-mini", EARLIER, []),
    "nothing to suggest": ("openai", "gpt-4o-mini", NOW, []),
    "a model that is not in the lineup": ("openai", "gpt-99", NOW, []),
    "a model nobody knows": ("custom", "mine", NOW, []),
    "a free model": ("ollama", "ollama/llama3.2", NOW, []),
}


@pytest.mark.parametrize(("provider", "model", "when", "expected"), SUGGESTED.values(), ids=SUGGESTED)
def test_only_what_is_offered_and_saves_is_suggested(provider: str, model: str, when: int, expected: list[str]) -> None:
    assert names(suggestions(TABLE, provider, model, when)) == expected


def test_a_saving_is_told_for_the_usage_that_was_seen() -> None:
    assert suggestions(TABLE, "openai", "gpt-4.1", NOW, SOME) == (Suggestion("gpt-4.1-mini", Decimal("0.800")),)
    dearer = price_table([Override(provider="openai", model="gpt-4.1-mini", prices={"output": Decimal(50)})])
    assert suggestions(dearer, "openai", "gpt-4.1", NOW, SOME) == ()
    only_reading = Usage(input_tokens=1000)
    assert names(suggestions(dearer, "openai", "gpt-4.1", NOW, only_reading)) == ["gpt-4.1-mini"]


def test_every_model_is_listed_with_its_prices_and_ends() -> None:
    listed = {(model.provider, model.model): model for model in list_models(TABLE, NOW)}
    assert listed.keys() == LINEUP.keys()
    sonnet = listed["anthropic", "claude-sonnet-4-5"]
    assert sonnet.prices["cache_write_1h"] == 6
    assert sonnet.above == {
        200_000: {**sonnet.above[200_000], "input": Decimal(6), "output": Decimal("22.5"), "cache_read": Decimal("0.6")}
    }
    assert (sonnet.retired, str(sonnet.retires), sonnet.source) == (False, "2026-11-30", "genai-prices")
    assert listed["cohere", "embed-english-v3.0"].prices == {"input": Decimal("0.1")}
    assert listed["mistral", "codestral-latest"].prices == {"input": Decimal("0.3"), "output": Decimal("0.9")}
    assert listed["ollama", "ollama/mistral"].prices == {"input": 0, "output": 0}


def test_the_models_of_one_provider_are_listed_alone() -> None:
    assert {model.provider for model in list_models(TABLE, NOW, "groq")} == {"groq"}


def test_a_model_without_a_row_is_listed_without_prices() -> None:
    nothing = PriceTable(lambda _provider, _model: None, "empty")
    model = list_models(nothing, NOW, "cerebras")[0]
    assert (model.prices, model.above, model.source) == ({}, {}, None)


def test_the_table_tells_what_a_reader_must_know() -> None:
    text = models_text(list_models(TABLE, NOW))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    for row in (
        "openai gpt-4o 128,000 2.5 10 1.25 retires 2027-01-14; gpt-4o-mini saves 94%",
        "openai gpt-4.1-nano 1,047,576 0.1 0.4 0.025 retired 2026-10-23",
        "openai o1-mini 128,000 1.1 4.4 0.55 retired",
        "openai gpt-5.1 272,000 1.25 10 0.125 retires 2027-04-01",
        "gemini gemini-2.5-pro 1,048,576 1.25 10 0.125 above 200,000: 2.5/15; gemini-2.5-flash saves 75%",
        "ollama ollama/llama3.2 0 0",
        "cohere embed-english-v3.0 512 0.1",
    ):
        assert row in rows
    assert "retired; never existed upstream" in text


def test_a_bill_adds_up() -> None:
    bill = explain(TABLE, "openai", "gpt-4o-2024-08-06", SOME, at_s=NOW)
    assert [(line.unit, line.count, line.price, line.per) for line in bill.lines] == [
        ("input", 800, Decimal("2.5"), 1_000_000),
        ("output", 400, Decimal(10), 1_000_000),
        ("cache_read", 200, Decimal("1.25"), 1_000_000),
        ("reasoning", 100, Decimal(10), 1_000_000),
    ]
    assert bill.usd == sum(line.usd for line in bill.lines) == Decimal("0.00725")
    assert (bill.priced_as, bill.status, bill.reason) == ("gpt-4o", "priced", None)


@pytest.mark.parametrize("tier", [None, "flex"])
@pytest.mark.parametrize("usage", [SOME, Usage(input_tokens=272_001, output_tokens=1)], ids=["short", "long"])
def test_each_line_is_its_count_times_its_price(tier: str | None, usage: Usage) -> None:
    for line in explain(TABLE, "openai", "gpt-5.4", usage, at_s=NOW, service_tier=tier).lines:
        assert line.usd == line.count * line.price / line.per


BILLS = {
    "a provider found by the model": (
        explain(TABLE, None, "gpt-4o-2024-08-06", SOME, at_s=NOW, service_tier="flex"),
        f"""\
gpt-4o-2024-08-06 (priced as gpt-4o) at openai, 2026-11-20 12:00 UTC, flex tier
  input             800 × $2.5 per 1,000,000            $0.002
  output            400 × $10 per 1,000,000             $0.004
  cache read        200 × $1.25 per 1,000,000           $0.00025
  reasoning         100 × $10 per 1,000,000             $0.001
  total                                                 $0.00725
  this service tier has no price; the standard one was taken
  price from genai-prices ({TABLE.version})""",
    ),
    "a model nobody knows": (
        explain(TABLE, None, "nope", SOME, at_s=NOW),
        """\
nope at an unknown provider, 2026-11-20 12:00 UTC
  total                                                 $0.00 (pricing unavailable)
  no price for this model""",
    ),
    "a free model": (
        explain(TABLE, None, "ollama/llama3.2", Usage(input_tokens=1000), at_s=NOW),
        f"""\
ollama/llama3.2 at ollama, 2026-11-20 12:00 UTC
  total                                                 $0
  free
  price from overlay ({TABLE.version})""",
    ),
    "hours of audio": (
        explain(TABLE, "groq", "whisper-large-v3", Usage(audio_seconds=3), at_s=NOW),
        f"""\
whisper-large-v3 at groq, 2026-11-20 12:00 UTC
  audio hour        10 s × $0.111 per hour              $0.000308333333
  total                                                 $0.000308333333
  price from genai-prices ({TABLE.version})""",
    ),
    "an unpriced extra": (
        explain(TABLE, "mistral", "codestral-latest", Usage(input_tokens=10, web_search_requests=2), at_s=NOW),
        f"""\
codestral-latest (priced as codestral) at mistral, 2026-11-20 12:00 UTC
  input             10 × $0.3 per 1,000,000             $0.000003
  total                                                 $0.000003
  without 2 × web_search, which has no price
  price from genai-prices ({TABLE.version})""",
    ),
}


@pytest.mark.parametrize(("bill", "text"), BILLS.values(), ids=BILLS)
def test_a_bill_can_be_read(bill: Explained, text: str) -> None:
    assert explained_text(bill) == text


def test_a_model_of_ones_own_is_listed_and_explained() -> None:
    own = Override(provider="ours", model="Mine", prices={"input": Decimal(1), "output": Decimal(2)})
    rows = {**PROVIDERS, "ours": replace(PROVIDERS["custom"], id="ours")}
    table = price_table([own], rows=rows)
    (listed,) = list_models(table, NOW, "ours", {**LINEUP, ("ours", "Mine"): Known("Mine", 4096)})
    assert (listed.model, listed.window, listed.source, listed.prices["input"]) == (
        "Mine",
        4096,
        "settings",
        Decimal(1),
    )
    models = replace(MODELS, registered={"Mine": "ours"})
    bill = explain(table, None, "Mine", SOME, at_s=NOW, models=models, providers=rows)
    assert (bill.provider, bill.usd) == ("ours", Decimal("0.002"))
