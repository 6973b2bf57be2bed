import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import types
from genai_prices.data import providers as theirs

from lectr_extproc.catalog.overlay import MINIMUM_AUDIO_S
from lectr_extproc.catalog.prices import (
    THEIR_PROVIDERS,
    Override,
    bundled_version,
    compiled,
    price_table,
    sheet_of,
    written,
)
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.pricing import PICO, UNITS, Level, PriceTable, Row, price
from lectr_extproc.core.usage import Usage

TABLE = price_table()
TODAY = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp())

# USD per million tokens, checked 2026-11-20: input/output, then what else has a price of its own.
EXPECTED = {
    "openai": {
        "gpt-4o": "2.5/10 read=1.25",
        "gpt-4o-mini": "0.15/0.6 read=0.075",
        "gpt-4-turbo": "10/30",
        "gpt-4": "30/60",
        "gpt-4.1": "2/8 read=0.5",
        "gpt-4.1-mini": "0.4/1.6 read=0.1",
        "gpt-4.1-nano": "0.1/0.4 read=0.025",
        "gpt-3.5-turbo": "0.5/1.5",
        "o1": "15/60 read=7.5",
        "o1-mini": "1.1/4.4 read=0.55",
        "o3": "2/8 read=0.5",
        "o3-mini": "1.1/4.4 read=0.55",
        "o4-mini": "1.1/4.4 read=0.275",
        "gpt-5.2": "1.75/14 read=0.175",
        "gpt-5.1": "1.25/10 read=0.125",
        "gpt-5": "1.25/10 read=0.125",
        "gpt-5-mini": "0.25/2 read=0.025",
        "gpt-5-nano": "0.05/0.4 read=0.005",
        "gpt-5.3-chat-latest": "1.75/14 read=0.175",
        "gpt-5.3-codex": "1.75/14 read=0.175",
        "gpt-5.1-codex-mini": "0.25/2 read=0.025",
        "gpt-5.4": "2.5/15 read=0.25 above_272000=5/22.5",
    },
    "anthropic": {
        "claude-3-opus-20240229": "15/75 read=1.5 write=18.75 write_1h=30",
        "claude-3-5-sonnet-20241022": "3/15 read=0.3 write=3.75 write_1h=6",
        "claude-3-sonnet-20240229": "3/15 read=0.3 write=3.75 write_1h=6",
        "claude-3-5-haiku-20241022": "0.8/4 read=0.08 write=1 write_1h=1.6",
        "claude-3-haiku-20240307": "0.25/1.25 read=0.03 write=0.3 write_1h=0.5",
        "claude-3-5-sonnet": "3/15 read=0.3 write=3.75 write_1h=6",
        "claude-opus-4-6": "5/25 read=0.5 write=6.25 write_1h=10",
        "claude-sonnet-4-6": "3/15 read=0.3 write=3.75 write_1h=6",
        "claude-sonnet-4-5": "3/15 read=0.3 write=3.75 write_1h=6 above_200000=6/22.5",
        "claude-haiku-4-5": "1/5 read=0.1 write=1.25 write_1h=2",
        "claude-opus-4-1": "15/75 read=1.5 write=18.75 write_1h=30",
        "claude-sonnet-4-1": "3/15",
        "claude-opus-4-7": "5/25 read=0.5 write=6.25 write_1h=10",
    },
    "gemini": {
        "gemini-1.5-pro": "1.25/5 above_128000=2.5/10",
        "gemini-1.5-flash": "0.075/0.3 read=0.01875 above_128000=0.15/0.6",
        "gemini-2.0-flash": "0.1/0.4 read=0.025 audio=0.7",
        "gemini-2.5-pro": "1.25/10 read=0.125 above_200000=2.5/15",
        "gemini-2.5-flash": "0.3/2.5 read=0.03 audio=1",
        "gemini-2.5-flash-lite": "0.1/0.4 read=0.01 audio=0.3",
        "gemini-3.1-pro-preview": "2/12 read=0.2 above_200000=4/18",
        "gemini-3-pro-preview": "2/12 read=0.2 above_200000=4/18",
        "gemini-3-flash-preview": "0.5/3 read=0.05 audio=1",
        "gemini-2.0-flash-lite": "0.075/0.3",
    },
    "groq": {
        "llama-3.2-90b-vision": "0.9/0.9",
        "llama-3.1-70b-versatile": "0.59/0.79",
        "llama-3.1-8b-instant": "0.05/0.08",
        "mixtral-8x7b-32768": "0.24/0.24",
        "gemma2-9b-it": "0.2/0.2",
        "llama-3.3-70b-versatile": "0.59/0.79",
        "meta-llama/llama-4-scout-17b-16e-instruct": "0.11/0.34",
    },
    "mistral": {
        "mistral-large-latest": "0.5/1.5",
        "mistral-small-latest": "0.15/0.6 read=0.015",
        "mistral-nemo": "0.15/0.15",
        "codestral-latest": "0.3/0.9",
        "ministral-8b-latest": "0.15/0.15 read=0.015",
    },
    "cohere": {
        "command-r-plus": "2.5/10",
        "command-r": "0.15/0.6",
        "command-a-03-2025": "2.5/10",
        "command-nightly": "1/2",
        "c4ai-aya-expanse-8b": "0.5/1.5",
        "c4ai-aya-expanse-32b": "0.5/1.5",
        "embed-english-v3.0": "0.1/0",
    },
    "xai": {
        "grok-3": "3/15 read=0.75",
        "grok-3-fast": "5/25 read=1.25",
        "grok-3-mini": "0.3/0.5 read=0.075",
        "grok-3-mini-fast": "0.6/4 read=0.15",
        "grok-3-mini-beta": "0.3/0.5 read=0.075",
        "grok-3-beta": "3/15 read=0.75",
    },
    "ollama": {
        "ollama/llama3.2": "0/0",
        "ollama/llama3.1:8b": "0/0",
        "ollama/qwen3:4b": "0/0",
        "ollama/qwen3:8b": "0/0",
        "ollama/mistral": "0/0",
        "ollama/phi4-mini": "0/0",
        "ollama/gemma3:4b": "0/0",
        "ollama/deepseek-r1:7b": "0/0",
    },
    "bedrock": {
        "nvidia.nemotron-nano-3-30b": "0.06/0.24",
        "nvidia.nemotron-nano-9b-v2": "0.06/0.23",
        "zai.glm-4.7-flash": "0.07/0.4",
        "qwen.qwen3-32b-v1:0": "0.15/0.6",
        "openai.gpt-oss-120b-1:0": "0.15/0.6",
        "zai.glm-4.7": "0.6/2.2",
        "deepseek.v3.2": "0.62/1.85",
        "mistral.mistral-large-3-675b-instruct": "0.5/1.5",
        "moonshotai.kimi-k2.5": "0.6/3",
        "minimax.minimax-m2.1": "0.3/1.2",
        "qwen.qwen3-next-80b-a3b": "0.15/1.2",
        "us.meta.llama4-maverick-17b-instruct-v1:0": "0.24/0.97",
        "us.meta.llama4-scout-17b-instruct-v1:0": "0.17/0.66",
        "mistral.devstral-2-123b": "0.4/2",
        "qwen.qwen3-coder-480b-a35b-v1:0": "0.45/1.8",
        "nvidia.nemotron-super-3-120b": "0.15/0.65",
        "qwen.qwen3-235b-a22b-2507-v1:0": "0.22/0.88",
        "zai.glm-5": "1/3.2",
    },
    "cerebras": {
        "llama3.1-8b": "0.1/0.1",
        "qwen-3-235b-a22b-instruct-2507": "0.6/1.2",
    },
}
NAMES = {"read": "cache_read", "write": "cache_write", "write_1h": "cache_write_1h", "audio": "audio_input"}
ALL = [(provider, model, text) for provider, models in EXPECTED.items() for model, text in models.items()]


def known(provider: str, *models: str, table: PriceTable = TABLE) -> Row:
    row = table.row(provider, *models)
    assert row is not None
    return row


def usd(level: Level, unit: str) -> Decimal:
    return written(unit, level[UNITS.index(unit)])


def two(level: Level) -> tuple[Decimal, Decimal]:
    return usd(level, "input"), usd(level, "output")


def test_every_seed_model_has_its_price() -> None:
    for provider, model, text in ALL:
        has_its_price(provider, model, text)


def has_its_price(provider: str, model: str, text: str) -> None:
    rates, remark = known(provider, model).rates(TODAY)
    plain, *more = text.split()
    assert two(rates.base) == tuple(map(Decimal, plain.split("/")))
    above = dict(rates.above)
    for part in more:
        name, _, value = part.partition("=")
        if name.startswith("above_"):
            assert two(above[int(name[6:])]) == tuple(map(Decimal, value.split("/")))
        else:
            assert usd(rates.base, NAMES[name]) == Decimal(value)
    assert bool(above) == ("above" in text)
    assert rates.is_free == (provider == "ollama")
    assert remark is None


def test_every_provider_that_is_priced_by_the_token_has_a_table() -> None:
    ids = {provider.id for provider in theirs}
    assert [ours for ours, their in THEIR_PROVIDERS.items() if their not in ids] == ["ollama", "custom"]
    assert THEIR_PROVIDERS.keys() == PROVIDERS.keys()


# --- the same answers as genai-prices' own arithmetic -----------------------------------------------------------------

MODELS = [(provider, model) for provider in theirs for model in provider.models]


def steps(model: types.ModelInfo) -> list[types.ModelPrice]:
    return [model.prices] if isinstance(model.prices, types.ModelPrice) else [step.prices for step in model.prices]


def moments(model: types.ModelInfo) -> Iterator[datetime]:
    """Today, and both sides of everything that changes the price of a model."""
    yield datetime(2026, 11, 20, 12, tzinfo=UTC)
    conditions = [] if isinstance(model.prices, types.ModelPrice) else [step.constraint for step in model.prices]
    for condition in (*conditions, *(variant.constraint for variant in model.price_variants or ())):
        if isinstance(condition, types.StartDateConstraint):
            start = datetime.combine(condition.start_date, time(tzinfo=UTC))
            yield from (start - timedelta(seconds=1), start, start + timedelta(hours=13))
        if isinstance(condition, types.TimeOfDateConstraint):
            for edge in (condition.start_time, condition.end_time):
                start = datetime.combine(date(2026, 11, 20), edge)
                yield from (start - timedelta(seconds=1), start)


def usage_of(rng: random.Random, model: types.ModelInfo, more: int = 0) -> tuple[Usage, TheirUsage]:
    """The same usage in both forms: every count that the model has a price for, often near a threshold.

    With `more`, the cached parts are larger than their whole by it, whether or not they have prices.
    """
    keys = {key for held in steps(model) for key, value in held.__dict__.items() if value is not None}
    near = [0, 100_000, 128_000, 200_000, 272_000, 524_288]
    size = max(0, rng.choice(near) + rng.choice([-1, 0, 1, 2, rng.randrange(90_000)])) if "input_mtok" in keys else 0

    def part(key: str, of: int) -> int:
        return rng.randrange(of + 1) if key in keys and rng.random() < 0.5 else 0

    read = part("cache_read_mtok", size)
    write = part("cache_write_mtok", size - read)
    lasting = part("cache_write_1h_mtok", write)
    if more and rng.random() < 0.5:
        read = size - write + more
    elif more:
        write = size - read + more
    heard = part("input_audio_mtok", max(size - read - write, 0))
    read_audio = part("cache_audio_read_mtok", read)
    seen = part("input_image_mtok", max(size - read - write - heard, 0))
    said = rng.randrange(50_000) if "output_mtok" in keys else 0
    spoken = part("output_audio_mtok", said)
    drawn = part("output_image_mtok", said - spoken)
    # They demand that reasoning has a price before it is told apart.
    thought = part("output_reasoning_mtok", said - spoken - drawn)
    searches = part("web_searches_kcount", 20)
    pages = part("input_document_kpages", 20)
    seconds = part("audio_hours", 100) * 36
    ours = Usage(
        input_tokens=size,
        output_tokens=said,
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=lasting,
        audio_input_tokens=heard + read_audio,
        cache_read_audio_tokens=read_audio,
        image_input_tokens=seen,
        reasoning_tokens=thought,
        audio_output_tokens=spoken,
        image_output_tokens=drawn,
        web_search_requests=searches,
        pages=pages,
        audio_seconds=seconds,
    )
    counts = {
        "input_tokens": size,
        "output_tokens": said,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "cache_write_1h_tokens": lasting,
        "input_audio_tokens": heard + read_audio,
        "cache_audio_read_tokens": read_audio,
        "input_image_tokens": seen,
        "cache_image_read_tokens": 0,
        "output_reasoning_tokens": thought,
        "output_audio_tokens": spoken,
        "output_image_tokens": drawn,
        "web_searches": searches,
        "input_document_pages": pages,
        "audio_seconds": seconds,
        "input_audio_seconds": seconds,
    }
    return ours, TheirUsage(**counts)


def is_exact(held: types.ModelPrice) -> bool:
    """A few of their prices carry the noise of float arithmetic, which ours leave out."""
    prices = [value for value in held.__dict__.values() if value is not None]
    decimals = [
        d for p in prices for d in ([p.base, *(t.price for t in p.tiers)] if isinstance(p, types.TieredPrices) else [p])
    ]
    return all(d * 10**6 % 1 == 0 for d in decimals)


def test_thousands_of_random_calls_cost_what_genai_prices_says() -> None:
    rng = random.Random(20261120)
    cases = exact = 0
    for provider, model in MODELS:
        sheet = sheet_of(provider, model)
        row = compiled("", sheet)
        at = rng.choice(list(moments(model)))
        tiers = [None, *sorted(sheet.tiers)]
        for moment, tier in (
            (at, None),
            (at, rng.choice(tiers)),
            (rng.choice(list(moments(model))), rng.choice(tiers)),
        ):
            ours, usage = usage_of(rng, model)
            held = model.get_prices(
                moment, dict.fromkeys(("service_tier", "speed", "processing"), tier) if tier else None
            )
            cost = price(ours, row, int(moment.timestamp()), tier)
            if cost.total is None:
                assert not held.__dict__ or cost.status == "unavailable", (provider.id, model.id)
                continue
            expected = held.calc_price(usage)["total_price"] * PICO
            noise = 0 if is_exact(held) else (ours.input_tokens or 0) + (ours.output_tokens or 0)
            # An hour's price divided into seconds is the one rounding of our own.
            assert abs(cost.total - expected) <= noise + Decimal("0.5"), (provider.id, model.id, moment, tier, ours)
            cases += 1
            exact += not noise
    assert cases > 6000
    assert exact > 5900


def test_parts_that_exceed_their_whole_cost_what_genai_prices_says_where_it_says_anything() -> None:
    rng = random.Random(20261121)
    equal = refused = 0
    for provider, model in MODELS:
        held = model.get_prices(datetime.fromtimestamp(TODAY, UTC))
        if not is_exact(held) or (held.cache_write_mtok and not held.cache_read_mtok):
            continue  # of two parts without room for both, the one with a price goes first there
        ours, usage = usage_of(rng, model, more=1 + rng.randrange(5000))
        cost = price(ours, compiled("", sheet_of(provider, model)), TODAY)
        if cost.total is None:
            continue
        try:
            expected = held.calc_price(usage)["total_price"] * PICO
        except ValueError:
            refused += 1
            continue
        assert abs(cost.total - expected) <= Decimal("0.5"), (provider.id, model.id, ours)
        equal += 1
    assert min(equal, refused) > 300


def test_cohere_bills_its_own_count_and_not_what_was_cached() -> None:
    usage = Usage(input_tokens=135, output_tokens=21, cache_read_tokens=1600)
    assert costs(known("cohere", "command-a-03-2025"), usage) == Decimal("0.0005475")


# --- dates, hours, tiers ----------------------------------------------------------------------------------------------


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


DATED = {
    "o3 before its price fell": ("openai", "o3", "2025-06-09T23:59:59", ("10", "40")),
    "o3 since": ("openai", "o3", "2025-06-10T00:00:00", ("2", "8")),
    "an alias when it was another model": ("mistral", "mistral-small-latest", "2025-01-01T00:00:00", ("0.1", "0.3")),
    "an introductory price": ("mistral", "mistral-large-4", "2026-10-19T23:00:00", ("0.68", "2.09")),
    "the price after it": ("mistral", "mistral-large-4", "2026-10-20T00:00:00", ("1.36", "4.18")),
    "and the one after that": ("mistral", "mistral-large-4", "2026-11-20T00:00:00", ("0.7", "2.1")),
}


@pytest.mark.parametrize(("provider", "model", "when", "expected"), DATED.values(), ids=DATED)
def test_yesterdays_call_keeps_yesterdays_price(
    provider: str, model: str, when: str, expected: tuple[str, str]
) -> None:
    assert two(known(provider, model).rates(at(when))[0].base) == tuple(map(Decimal, expected))


def test_the_long_prompt_tier_of_claude_sonnet_4_6_ended_on_13_march_2026() -> None:
    row = known("anthropic", "claude-sonnet-4-6")
    long = Usage(input_tokens=200_001, output_tokens=1000)
    assert price(long, row, at("2026-03-12T23:59:59")).usd == Decimal("1.222506")
    assert price(long, row, at("2026-03-13T00:00:00")).usd == Decimal("0.615003")


def test_deepseek_costs_more_at_its_peak_hours() -> None:
    row = known("deepseek", "deepseek-v4-pro")
    costs = [
        price(Usage(input_tokens=10**6), row, at(f"2026-11-20T{hour}")).usd
        for hour in ("00:59:59", "01:00:00", "03:59:59", "04:00:00", "06:00:00", "10:00:00")
    ]
    quiet, peak = costs[0], costs[1]
    assert quiet is not None
    assert peak is not None
    assert quiet < peak
    assert costs == [quiet, peak, peak, quiet, peak, quiet]


TIERS = {
    "OpenAI's own flex price": ("openai", "gpt-5", "flex", "0.5"),
    "OpenAI's own priority price": ("openai", "gpt-4o", "priority", "1.7"),
    "OpenAI's word for the standard tier": ("openai", "gpt-4o", "default", "1"),
    "Anthropic's fast mode": ("anthropic", "claude-opus-4-8", "fast", "2"),
    "Anthropic's committed capacity": ("anthropic", "claude-sonnet-4-6", "priority", "1"),
    "Gemini's flex, which genai-prices lacks": ("gemini", "gemini-2.5-flash", "FLEX", "0.5"),
    "Gemini's priority, which genai-prices lacks": ("gemini", "gemini-2.5-pro", "priority", "1.8"),
    "Azure by ratio, and not by OpenAI's prices": ("azure", "gpt-5.4", "priority", "2"),
    "Azure, for a model that it has from OpenAI": ("azure", "gpt-6-sol", "priority", "2"),
    "Azure where the ratio is another": ("azure", "gpt-4.1-2025-04-14", "priority", "1.75"),
    "Bedrock": ("bedrock", "zai.glm-5", "batch", "0.5"),
    "Groq's flex at the standard price": ("groq", "llama-3.3-70b-versatile", "flex", "1"),
    "xAI's batches": ("xai", "grok-4.5", "batch", "0.8"),
}


@pytest.mark.parametrize(("provider", "model", "tier", "ratio"), TIERS.values(), ids=TIERS)
def test_a_service_tier_has_its_price(provider: str, model: str, tier: str, ratio: str) -> None:
    usage = Usage(input_tokens=1000, output_tokens=1000)
    row = known(provider, model)
    standard, tiered = price(usage, row, TODAY), price(usage, row, TODAY, tier)
    assert tiered.reason is None
    assert standard.total is not None
    assert tiered.total == standard.total * Decimal(ratio)


def test_a_service_tier_does_not_change_what_a_search_costs() -> None:
    usage = Usage(input_tokens=10, web_search_requests=1)
    costs = {tier: price(usage, known("gemini", "gemini-2.5-flash"), TODAY, tier) for tier in ("", "flex")}
    assert costs["flex"].extras == costs[""].extras == 35 * PICO // 1000
    assert costs["flex"].input != costs[""].input


def test_claude_computed_in_the_us_alone_costs_a_tenth_more() -> None:
    usage, row = (
        Usage(input_tokens=10**6, output_tokens=0, web_search_requests=1),
        known("anthropic", "claude-opus-4-7"),
    )
    assert price(usage, row, TODAY, region="us").usd == Decimal("5.51")
    assert price(usage, row, TODAY, region="global").usd == Decimal("5.01")


def test_a_short_recording_is_billed_as_ten_seconds_by_groq() -> None:
    row = known("groq", "whisper-large-v3")
    costs = [price(Usage(audio_seconds=seconds), row, TODAY).usd for seconds in (1, 10, 3600)]
    assert costs[0] == costs[1] == Decimal("0.000308333333")
    assert costs[2] == Decimal("0.111")


@pytest.mark.parametrize("key", MINIMUM_AUDIO_S, ids="/".join)
def test_a_minimum_belongs_to_a_model_billed_by_the_hour(key: tuple[str, str]) -> None:
    row = known(*key)
    assert row.minimum_audio_s == MINIMUM_AUDIO_S[key]
    assert usd(row.rates(TODAY)[0].base, "audio_hour") > 0


# --- names ------------------------------------------------------------------------------------------------------------

SPELLINGS: dict[str, tuple[str, str, str | None]] = {
    "a dated version": ("openai", "gpt-5-2025-08-07", "gpt-5"),
    "a compact date": ("openai", "gpt-5.2-20251211", "gpt-5.2"),
    "upper case": ("openai", "GPT-4o", "gpt-4o"),
    "our own prefix": ("openai", "openai/gpt-4o", "gpt-4o"),
    "Gemini's own prefix": ("gemini", "models/gemini-2.5-pro", "gemini-2.5-pro"),
    "a preview": ("gemini", "gemini-2.5-pro-preview-06-05", "gemini-2.5-pro"),
    "an id that only looks like a prefix": ("groq", "openai/gpt-oss-120b", "openai/gpt-oss-120b"),
    "a fine-tuned model": ("openai", "ft:gpt-4o-2024-08-06:acme:support:abc", "ft:gpt-4o"),
    "a region of Bedrock": (
        "bedrock",
        "us.meta.llama4-scout-17b-instruct-v1:0",
        "meta.llama4-scout-17b-instruct-v1:0",
    ),
    "an ARN": (
        "bedrock",
        "arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-lite-v1:0",
        "amazon.nova-lite-v1:0",
    ),
    "a model that Azure has from OpenAI": ("azure", "gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
    "a model anybody runs at home": ("ollama", "whatever:70b", "whatever:70b"),
    "a longer name than the rule says": ("gemini", "gemini-2.5-pro-zzz", None),
    "a longer name than Anthropic's": ("anthropic", "claude-haiku-4-5-ultra", None),
    "a name of nobody's": ("openai", "gpt-4o-foo", None),
    "another provider's model": ("openai", "claude-opus-4-6", None),
    "a provider without prices": ("custom", "my-custom-model", None),
    "a provider that is none": ("nobody", "gpt-4o", None),
}


@pytest.mark.parametrize(("provider", "model", "expected"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_model_is_found_by_its_name_and_never_by_a_likeness(provider: str, model: str, expected: str | None) -> None:
    row = TABLE.row(provider, model)
    assert (row and row.model) == expected


def test_however_a_model_is_spelt_its_row_is_made_once() -> None:
    rows = {id(TABLE.row("openai", f"gpt-4o@{version}")) for version in range(1000)}
    assert rows == {id(TABLE.row("openai", "gpt-4o"))}


def test_regions_of_bedrock_have_prices_of_their_own() -> None:
    costs = [
        price(Usage(input_tokens=10**6), known("bedrock", f"{region}.anthropic.claude-sonnet-4-5-20250929-v1:0"), TODAY)
        for region in ("global", "us", "eu")
    ]
    assert [cost.usd for cost in costs] == [Decimal(3), Decimal("3.3"), Decimal("3.3")]


def test_an_empty_price_is_free_only_where_the_name_says_so() -> None:
    some = Usage(input_tokens=10, output_tokens=10)
    assert price(some, known("openrouter", "qwen/qwen3-coder:free"), TODAY).status == "free"
    assert price(some, known("cerebras", "qwen-3-coder-480b"), TODAY).status == "unavailable"
    assert price(some, known("openai", "omni-moderation-latest"), TODAY).status == "free"


def test_pictures_of_gemini_are_priced_where_they_are_told_apart() -> None:
    row = known("gemini", "gemini-2.5-flash-image")
    assert price(Usage(input_tokens=10, output_tokens=1290), row, TODAY).status == "unavailable"
    drawn = price(Usage(input_tokens=10, output_tokens=1290, image_output_tokens=1290), row, TODAY)
    assert drawn.usd == Decimal("0.038703")


def test_a_reranking_is_priced_by_the_search_unit() -> None:
    assert price(Usage(search_units=3), known("cohere", "rerank-v3.5"), TODAY).usd == Decimal("0.006")


# --- the operator's own prices ----------------------------------------------------------------------------------------


def own(*overrides: Override) -> PriceTable:
    return price_table(overrides)


def costs(row: Row, usage: Usage, tier: str | None = None, when: int = TODAY) -> Decimal | None:
    return price(usage, row, when, tier).usd


MTOK = Usage(input_tokens=10**6, cache_read_tokens=500_000, output_tokens=10**6)
GPT_4O = Override(provider="openai", model="gpt-4o", prices={"input": Decimal(2), "output": Decimal(9)})


def test_a_price_of_ones_own_replaces_and_carries_the_cache_and_the_tiers_along() -> None:
    row = known("openai", "gpt-4o-2024-08-06", table=own(GPT_4O))
    assert row.source == "settings"
    base = row.rates(TODAY)[0].base
    assert [usd(base, unit) for unit in ("input", "cache_read", "output")] == [Decimal(2), Decimal(1), Decimal(9)]
    priority = row.rates(TODAY, "priority")[0].base
    assert usd(priority, "input") == Decimal(2) * Decimal("1.7")
    assert usd(base, "web_search") == 10


def test_a_price_given_for_the_cache_stands_as_it_is() -> None:
    changed = Override(provider="openai", model="gpt-4o", prices={"cache_read": Decimal("0.1")})
    base = known("openai", "gpt-4o", table=own(changed)).rates(TODAY)[0].base
    assert [usd(base, unit) for unit in ("input", "cache_read")] == [Decimal("2.5"), Decimal("0.1")]


def test_long_prompts_keep_their_proportion_to_a_price_of_ones_own() -> None:
    half = Override(provider="openai", model="gpt-5.4", prices={"input": Decimal("1.25")})
    rates = known("openai", "gpt-5.4", table=own(half)).rates(TODAY)[0]
    assert two(rates.base) == (Decimal("1.25"), Decimal(15))
    assert two(rates.level(272_001)) == (Decimal("2.5"), Decimal("22.5"))


def test_zero_is_free() -> None:
    gift = Override(provider="openai", model="gpt-4o", prices={"input": Decimal(0), "output": Decimal(0)})
    searched = replace(MTOK, web_search_requests=3)
    assert price(searched, known("openai", "gpt-4o", table=own(gift)), TODAY).status == "free"


def test_a_model_that_no_list_has_is_ones_own() -> None:
    half = {"input": Decimal("0.5")}
    table = own(
        Override(provider="openai", model="ours", prices=half), Override(provider="openai", model="gpt-4o", prices=half)
    )
    assert [known("openai", model, table=table).is_own for model in ("ours", "gpt-4o", "gpt-4.1")] == [
        True,
        False,
        False,
    ]


def test_a_model_of_ones_own_gets_a_price() -> None:
    mine = Override(provider="custom", model="My-Model", prices={"input": Decimal(1), "output": Decimal(2)})
    row = known("custom", "my-model", table=own(mine))
    assert costs(row, MTOK) == Decimal(3)
    assert (row.model, row.source, row.version) == ("my-model", "settings", own(mine).version)


def test_a_price_begins_on_its_day() -> None:
    later = replace(GPT_4O, since=date(2026, 1, 1))
    last = replace(GPT_4O, prices={"input": Decimal(1)}, since=date(2026, 6, 1))
    for overrides in ((later, last), (last, later)):
        row = known("openai", "gpt-4o", table=own(*overrides))
        inputs = [usd(row.rates(at(day))[0].base, "input") for day in ("2025-12-31", "2026-01-01", "2026-06-01")]
        assert inputs == [Decimal("2.5"), Decimal(2), Decimal(1)]
        assert usd(row.rates(at("2026-06-01"))[0].base, "output") == 10


def test_a_model_of_ones_own_has_no_price_before_its_day() -> None:
    mine = Override(provider="custom", model="m", prices={"input": Decimal(1)}, since=date(2026, 1, 1))
    row = known("custom", "m", table=own(mine))
    assert price(Usage(input_tokens=1), row, at("2025-12-31")).status == "unavailable"
    assert price(Usage(input_tokens=1), row, at("2026-01-01")).status == "priced"


def test_a_discount_is_taken_off_everything_at_the_end() -> None:
    everyone = Override(provider="openai", discount=Decimal("0.1"))
    assert costs(known("openai", "o3", table=own(everyone)), Usage(input_tokens=10**6)) == Decimal("1.8")
    assert known("anthropic", "claude-opus-4-6", table=own(everyone)).source == "genai-prices"
    both = own(everyone, replace(GPT_4O, discount=Decimal("0.5")))
    assert costs(known("openai", "gpt-4o", table=both), Usage(input_tokens=10**6)) == Decimal(1)
    assert costs(known("openai", "o3", table=both), Usage(input_tokens=10**6)) == Decimal("1.8")
    neither = own(everyone, Override(provider="openai", model="gpt-4o", discount=Decimal(0)))
    assert costs(known("openai", "gpt-4o", table=neither), Usage(input_tokens=10**6)) == Decimal("2.5")


def test_a_discount_does_not_make_an_unknown_model_known() -> None:
    assert own(Override(provider="custom", model="m", discount=Decimal("0.1"))).row("custom", "m") is None


def test_of_two_prices_that_begin_together_the_later_in_the_file_holds() -> None:
    row = known("openai", "gpt-4o", table=own(GPT_4O, replace(GPT_4O, prices={"input": Decimal(7)})))
    assert usd(row.rates(TODAY)[0].base, "input") == 7


def test_a_price_for_what_the_table_has_free_or_not_at_all() -> None:
    changed = Override(provider="ollama", model="big:70b", prices={"output": Decimal(3), "web_search": Decimal(2)})
    base = known("ollama", "big:70b", table=own(changed)).rates(TODAY)[0].base
    assert [usd(base, unit) for unit in ("input", "output", "reasoning", "web_search")] == [0, 3, 3, 2]


def test_every_row_names_the_tables_it_comes_from() -> None:
    assert TABLE.version == f"genai-prices {bundled_version()}, overlay 2026-11-20"
    assert own(GPT_4O).version == f"{TABLE.version}, settings"
    assert known("openai", "gpt-4o").version == TABLE.version
    assert price_table(providers=theirs[:1], data_version="of today").version.startswith("genai-prices of today,")


def test_every_model_of_every_provider_compiles() -> None:
    for provider, model in MODELS:
        assert compiled("", sheet_of(provider, model)).standard


def test_tables_of_the_same_prices_are_the_same() -> None:
    assert price_table() == price_table()
    assert price_table([Override(provider="openai", model=None, prices={}, discount=Decimal("0.1"))]) != price_table()


def test_a_provider_of_ones_own_has_its_kinds_prices_less_its_own_discount() -> None:
    rows = {**PROVIDERS, **{id_: replace(PROVIDERS["groq"], id=id_) for id_ in ("eu", "us")}}
    table = price_table([Override(provider="eu", discount=Decimal("0.5"))], rows=rows)
    model = "llama-3.1-8b-instant"
    theirs, us, eu = (known(id_, model, table=table).rates(TODAY)[0].base for id_ in ("groq", "us", "eu"))
    assert us == theirs
    assert [price * 2 for price in eu] == list(theirs)
    assert table.row("eu", f"eu/{model}") == table.row("eu", model)
    assert table != price_table([Override(provider="eu", discount=Decimal("0.5"))])
