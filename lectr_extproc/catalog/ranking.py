"""RANKING: the models of each tier, what they cannot do, and how good and how fast others found them.

Which models a tier has is ours to say. The figures are others': `quality` is GPQA Diamond and `coding` SWE-bench
Verified, both in per cent and mostly as the makers report them; `first_token_ms` is the median time to the first token
of a short prompt. Makers measure as it suits them, so a point or two says nothing. What was not found with a source is
absent. Prices, windows and ends are not here but in the catalogue.
"""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType

from lectr_extproc.core.auto import Tier
from lectr_extproc.core.candidates import CHAT_APIS, Ranked

CHECKED = date(2026, 11, 21)

_GLM_5 = "https://huggingface.co/zai-org/GLM-5"
_GPT_4_1 = "https://openai.com/index/gpt-4-1/"
_OPUS_4_7 = "https://spoonai.me/blog/2026-04-16-opus-4-7-system-card-findings-en"
_FLAGSHIPS = "https://www.abhs.in/blog/gpt-5-4-vs-claude-opus-4-6-vs-gemini-3-1-developer-benchmark-2026"
_CODING = (
    "https://www.omniscient.media/post/the-benchmark-racket-why-the-frontier-model-race-is-measuring-the-wrong-thing"
)
_GEMINI_2_5 = "https://www.libertify.com/it/interactive-library/gemini-2-5-technical-report"
_LLAMA_4 = "https://github.com/meta-llama/llama-verifications/blob/main/BENCHMARKS_REPORT.md"
_MINIMAX = "https://huggingface.co/MiniMaxAI/MiniMax-M2.1"
_SPEED = "https://www.jonathanwrede.de/en/blog/ttft-varies-13x-across-llm-providers/"
_SPEED_2 = "https://www.kunalganglani.com/blog/llm-api-latency-benchmarks-2026"

_HEARS_NOTHING = frozenset({"audio"})
_TEXT_ONLY = frozenset({"audio", "vision"})
_CHAT_ONLY = frozenset({"openai.chat"})
"Bedrock's own Messages API has Claude alone, and of its Responses API no source says which models it has."
_RESPONSES_ONLY = frozenset({"openai.responses", "openai.input_tokens"})


def _row(
    tier: Tier,
    provider: str,
    model: str,
    *sources: str,
    lacks: frozenset[str] = _HEARS_NOTHING,
    apis: frozenset[str] = CHAT_APIS,
    quality: float | None = None,
    coding: float | None = None,
    first_token_ms: int | None = None,
) -> Ranked:
    return Ranked(
        provider=provider,
        model=model,
        tier=tier,
        apis=_CHAT_ONLY if provider == "bedrock" else apis,
        lacks=lacks,
        quality=quality,
        coding=coding,
        first_token_ms=first_token_ms,
        sources=sources,
    )


RANKING: tuple[Ranked, ...] = (
    _row("economy", "gemini", "gemini-2.5-flash", _SPEED, lacks=frozenset(), first_token_ms=412),
    _row("economy", "openai", "gpt-4.1-mini", _GPT_4_1, _SPEED_2, quality=65.0, coding=23.6, first_token_ms=2400),
    _row("economy", "openai", "o4-mini"),
    _row("economy", "anthropic", "claude-haiku-4-5", _SPEED_2, first_token_ms=597),
    _row("economy", "xai", "grok-3-mini-beta", lacks=_TEXT_ONLY),
    _row("economy", "bedrock", "nvidia.nemotron-nano-3-30b", lacks=_TEXT_ONLY),
    _row("economy", "bedrock", "nvidia.nemotron-nano-9b-v2", lacks=_TEXT_ONLY),
    _row("economy", "bedrock", "zai.glm-4.7-flash", lacks=_TEXT_ONLY),
    _row("economy", "bedrock", "qwen.qwen3-32b-v1:0", lacks=_TEXT_ONLY),
    _row("economy", "bedrock", "openai.gpt-oss-120b-1:0", lacks=_TEXT_ONLY),
    _row("economy", "groq", "llama-3.3-70b-versatile", lacks=_TEXT_ONLY),
    _row("economy", "groq", "meta-llama/llama-4-scout-17b-16e-instruct", _LLAMA_4, quality=57.2),
    _row("economy", "cerebras", "llama3.1-8b", lacks=_TEXT_ONLY),
    _row("economy", "cerebras", "qwen-3-235b-a22b-instruct-2507", lacks=_TEXT_ONLY),
    _row("standard", "gemini", "gemini-2.5-pro", _GEMINI_2_5, lacks=frozenset(), quality=86.4),
    _row("standard", "openai", "gpt-4.1", _GPT_4_1, quality=66.3, coding=54.6),
    _row("standard", "openai", "gpt-5.3-chat-latest"),
    _row("standard", "openai", "gpt-5.3-codex", apis=_RESPONSES_ONLY),
    _row("standard", "openai", "gpt-5.1-codex-mini", apis=_RESPONSES_ONLY),
    _row("standard", "openai", "o3"),
    _row("standard", "anthropic", "claude-sonnet-4-6", _CODING, _SPEED, coding=79.6, first_token_ms=2120),
    _row("standard", "xai", "grok-3-beta", lacks=_TEXT_ONLY),
    _row("standard", "bedrock", "zai.glm-4.7", _GLM_5, lacks=_TEXT_ONLY, quality=85.7, coding=73.8),
    _row("standard", "bedrock", "deepseek.v3.2", _GLM_5, lacks=_TEXT_ONLY, quality=82.4, coding=73.1),
    _row("standard", "bedrock", "mistral.mistral-large-3-675b-instruct"),
    _row("standard", "bedrock", "moonshotai.kimi-k2.5", _GLM_5, quality=87.6, coding=76.8),
    _row("standard", "bedrock", "minimax.minimax-m2.1", _MINIMAX, lacks=_TEXT_ONLY, coding=74.0),
    _row("standard", "bedrock", "qwen.qwen3-next-80b-a3b", lacks=_TEXT_ONLY),
    _row("standard", "bedrock", "us.meta.llama4-maverick-17b-instruct-v1:0", _LLAMA_4, quality=69.8),
    _row("standard", "bedrock", "us.meta.llama4-scout-17b-instruct-v1:0", _LLAMA_4, quality=57.2),
    _row("standard", "bedrock", "mistral.devstral-2-123b", lacks=_TEXT_ONLY),
    _row("standard", "bedrock", "qwen.qwen3-coder-480b-a35b-v1:0", lacks=_TEXT_ONLY),
    _row("standard", "bedrock", "nvidia.nemotron-super-3-120b", lacks=_TEXT_ONLY),
    _row("standard", "bedrock", "qwen.qwen3-235b-a22b-2507-v1:0", lacks=_TEXT_ONLY),
    _row(
        "premium",
        "gemini",
        "gemini-3.1-pro-preview",
        _FLAGSHIPS,
        _CODING,
        lacks=frozenset(),
        quality=94.3,
        coding=80.6,
    ),
    _row("premium", "anthropic", "claude-opus-4-7", _OPUS_4_7, _SPEED, quality=94.2, coding=87.6, first_token_ms=2494),
    _row("premium", "anthropic", "claude-opus-4-6", _OPUS_4_7, _SPEED, quality=91.3, coding=80.8, first_token_ms=1709),
    _row("premium", "openai", "gpt-5.4", _FLAGSHIPS, _CODING, _SPEED, quality=92.8, coding=80.0, first_token_ms=912),
    _row("premium", "bedrock", "zai.glm-5", _GLM_5, lacks=_TEXT_ONLY, quality=86.0, coding=77.8),
)

ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "embed-small": ("text-embedding-3-small",),
        "embed-large": ("text-embedding-3-large",),
        "embed-titan": ("amazon.titan-embed-text-v2:0",),
    }
)
"Names that every org has for models, unless it gives them another meaning."
