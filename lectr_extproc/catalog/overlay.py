"""What genai-prices lacks or has wrong: prices, and what service tiers cost beside the standard one.

Each row says why it is here and where it comes from. A test fails as soon as genai-prices has caught up with one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from lectr_extproc.core.pricing import UNITS
from lectr_extproc.core.tables import CatalogError

_CHECKED = date(2026, 11, 20)
_AWS = "https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonBedrock/current/us-east-1/index.json"
_COHERE = "https://cohere.com/pricing"
_LITELLM = "https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json"

ANY = "*"
"In place of a model: every model of the provider that has no row of its own."


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayPrice:
    """A model's prices in USD: per million tokens, per thousand searches or search units, per hour of audio."""

    provider: str
    model: str
    prices: Mapping[str, Decimal]
    reason: str
    source: str
    checked: date = _CHECKED
    instead_of: tuple[Decimal, Decimal] | None = None
    "Input and output of the genai-prices row that this one corrects; None where it has none."

    def __post_init__(self) -> None:
        if self.model != self.model.lower():
            raise CatalogError(f"price of {self.model!r}: names are looked up in lower case")
        for unit, price in self.prices.items():
            if unit not in UNITS or price < 0:
                raise CatalogError(f"price of {self.model!r}: {unit} = {price}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRatio:
    """What a service tier costs, as a ratio to the standard price, where genai-prices has no price for it."""

    provider: str
    tier: str
    "Lower-case, as the answer says it."
    ratio: Decimal
    models: frozenset[str] = frozenset()
    "Only these; empty: every model that no other row names."
    source: str
    checked: date = _CHECKED

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 10 or self.tier != self.tier.lower():
            raise CatalogError(f"tier {self.tier!r} of {self.provider}: ratio {self.ratio}")


def _price(
    provider: str,
    model: str,
    *,
    reason: str,
    source: str,
    instead_of: tuple[str, str] | None = None,
    **prices: str,
) -> OverlayPrice:
    return OverlayPrice(
        provider=provider,
        model=model,
        prices={unit: Decimal(price) for unit, price in prices.items()},
        reason=reason,
        source=source,
        instead_of=(Decimal(instead_of[0]), Decimal(instead_of[1])) if instead_of else None,
    )


_ROWS = (
    _price(
        "mistral",
        "mistral-large-latest",
        input="0.5",
        output="1.5",
        instead_of=("2", "6"),
        reason="genai-prices takes the alias for the Large of 2024; it is at least Large 3 (mistral-large-2512)",
        source=_LITELLM,
    ),
    _price(
        "groq",
        "llama-3.2-90b-vision",
        input="0.9",
        output="0.9",
        reason="never an id of Groq's, though clients send it: the price of llama-3.2-90b-vision-preview",
        source="https://groq.com/pricing",
    ),
    _price(
        "anthropic",
        "claude-sonnet-4-1",
        input="3",
        output="15",
        reason="never existed upstream, though clients send it: the price of Sonnet 4",
        source="https://platform.claude.com/docs/en/about-claude/pricing",
    ),
    _price(
        "cerebras",
        "qwen-3-235b-a22b-instruct-2507",
        input="0.6",
        output="1.2",
        reason="retired in 2026 and dropped by every catalogue; kept for stored calls, unverified",
        source="https://github.com/braintrustdata/braintrust-proxy/pull/616",
    ),
    _price("cohere", "command-nightly", input="1", output="2", reason="genai-prices does not have it", source=_LITELLM),
    *(
        _price("cohere", model, input="0.1", reason="genai-prices does not have it: embeddings", source=_COHERE)
        for model in ("embed-english-v3.0", "embed-multilingual-v3.0", "embed-english-light-v3.0")
    ),
    *(
        _price(provider, model, search_unit=price, reason="genai-prices does not have it: reranking", source=source)
        for provider, model, price, source in (
            ("cohere", "rerank-english-v3.0", "2", _COHERE),
            ("cohere", "rerank-multilingual-v3.0", "2", _COHERE),
            ("cohere", "rerank-v3.5", "2", _COHERE),
            ("cohere", "rerank-v4.0-fast", "2", _COHERE),
            ("cohere", "rerank-v4.0-pro", "2.5", _COHERE),
            ("bedrock", "cohere.rerank-v3-5:0", "2", _AWS),
            ("bedrock", "amazon.rerank-v1:0", "1", _AWS),
        )
    ),
    *(
        _price("bedrock", model, input=input_, output=output, reason="genai-prices does not have it", source=_AWS)
        for model, input_, output in (
            ("zai.glm-4.7-flash", "0.07", "0.4"),
            ("zai.glm-4.7", "0.6", "2.2"),
            ("zai.glm-5", "1", "3.2"),
            ("deepseek.v3.2", "0.62", "1.85"),
            ("moonshotai.kimi-k2.5", "0.6", "3"),
            ("minimax.minimax-m2.1", "0.3", "1.2"),
            ("qwen.qwen3-next-80b-a3b", "0.15", "1.2"),
            ("qwen.qwen3-235b-a22b-2507-v1:0", "0.22", "0.88"),
        )
    ),
    *(
        _price(
            "openai",
            model,
            input="0",
            output="0",
            reason="free; genai-prices has the row and no price in it",
            source="https://platform.openai.com/docs/pricing",
        )
        for model in (
            "omni-moderation-latest",
            "omni-moderation-2024-09-26",
            "text-moderation-latest",
            "text-moderation-stable",
        )
    ),
    _price(
        "ollama",
        ANY,
        input="0",
        output="0",
        reason="free: it runs on its operator's own machine",
        source="https://github.com/ollama/ollama",
    ),
)

PRICES: Mapping[tuple[str, str], OverlayPrice] = {(row.provider, row.model): row for row in _ROWS}


def _tier(provider: str, tier: str, ratio: str, source: str, *models: str) -> TierRatio:
    return TierRatio(provider=provider, tier=tier, ratio=Decimal(ratio), models=frozenset(models), source=source)


# Rows with models come first. Ratios marked "mostly" hold for all but a few models, by a few per cent.
TIERS: tuple[TierRatio, ...] = (
    _tier("gemini", "flex", "0.5", "https://ai.google.dev/gemini-api/docs/pricing"),
    _tier("gemini", "priority", "1.8", "https://ai.google.dev/gemini-api/docs/pricing"),
    _tier("gemini", "batch", "0.5", "https://ai.google.dev/gemini-api/docs/pricing"),
    _tier("azure", "priority", "1.75", _LITELLM, "gpt-4.1", "gpt-4.1-mini"),
    _tier("azure", "priority", "1.8", _LITELLM, "gpt-5-mini", "gpt-5.1-codex-mini"),
    _tier("azure", "priority", "2.5", _LITELLM, "gpt-5.5"),
    _tier("azure", "priority", "2", _LITELLM),
    _tier("azure", "flex", "0.5", _LITELLM),
    _tier("azure", "batch", "0.5", _LITELLM),
    _tier("bedrock", "flex", "0.5", _AWS),  # mostly
    _tier("bedrock", "priority", "1.75", _AWS),  # mostly
    _tier("bedrock", "batch", "0.5", _AWS),  # mostly
    _tier("xai", "batch", "0.8", _LITELLM),
    # Tiers that exist and cost what the standard one does.
    _tier("groq", "flex", "1", "https://console.groq.com/docs/flex-processing"),
    _tier("anthropic", "priority", "1", "https://platform.claude.com/docs/en/api/service-tiers"),
)

MINIMUM_AUDIO_S: Mapping[tuple[str, str], int] = {
    ("groq", "whisper-large-v3"): 10,
    ("groq", "whisper-large-v3-turbo"): 10,
}
"A shorter recording is billed as this many seconds (https://groq.com/pricing, 2026-11-20)."

REGIONS: Mapping[str, Mapping[str, int]] = {"anthropic": {"us": 110}}
"""What tokens cost, in per cent, where an answer says it was computed (`inference_geo`): no price list has it.
From https://platform.claude.com/docs/en/about-claude/pricing, 2026-11-20."""
