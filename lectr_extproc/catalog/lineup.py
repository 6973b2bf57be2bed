"""LINEUP: what prices do not tell of the models we name: windows, ends, and the cheaper model to suggest.

Checked 2026-11-20 against the lists named in SOURCES. `window` is the largest input, the number that a guard compares
with: for the gpt-5 family 272,000 of the 400,000 that its providers advertise, which include the output. Dates of
retirement are those of a model list and not of the providers; confirm one before acting on it.
"""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType

from lectr_extproc.core.tables import Known

CHECKED = date(2026, 11, 20)
SOURCES = (
    "https://github.com/pydantic/genai-prices",
    "https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json",
)


_ROWS: Mapping[str, tuple[Known, ...]] = {
    "openai": (
        Known("gpt-4o", 128_000, 16_384, to=("gpt-4o-mini",)),
        Known("gpt-4o-mini", 128_000, 16_384),
        Known("gpt-4-turbo", 128_000, 4_096, retires=date(2026, 10, 23), to=("gpt-4o",)),
        Known("gpt-4", 8_192, 4_096, retires=date(2026, 10, 23), to=("gpt-4o",)),
        Known("gpt-4.1", 1_047_576, 32_768, to=("gpt-4.1-mini",)),
        Known("gpt-4.1-mini", 1_047_576, 32_768, to=("gpt-4.1-nano",)),
        Known("gpt-4.1-nano", 1_047_576, 32_768, retires=date(2026, 10, 23)),
        Known("gpt-3.5-turbo", 16_385, 4_096, retires=date(2026, 10, 23), to=("gpt-4.1-nano",)),
        Known("o1", 200_000, 100_000, retires=date(2026, 10, 23), to=("o1-mini",)),
        Known("o1-mini", 128_000, gone=True, to=("gpt-4o",)),
        Known("o3", 200_000, 100_000, retires=date(2026, 12, 11), to=("o3-mini",)),
        Known("o3-mini", 200_000, 100_000, retires=date(2026, 10, 23), to=("gpt-4o-mini",)),
        Known("o4-mini", 200_000, 100_000, retires=date(2026, 10, 23), to=("gpt-4o-mini",)),
        Known("gpt-5.2", 272_000, 128_000),
        Known("gpt-5.1", 272_000, 128_000, retires=date(2027, 4, 1)),
        Known("gpt-5", 272_000, 128_000, retires=date(2026, 12, 11)),
        Known("gpt-5-mini", 272_000, 128_000, retires=date(2026, 12, 11)),
        Known("gpt-5-nano", 272_000, 128_000, retires=date(2026, 12, 11)),
        Known("gpt-5.3-chat-latest", 128_000, 16_384, retires=date(2026, 8, 10)),
        Known("gpt-5.3-codex", 272_000, 128_000, retires=date(2027, 4, 1)),
        Known("gpt-5.1-codex-mini", 400_000, 128_000, retires=date(2026, 7, 23)),
        Known("gpt-5.4", 1_050_000, 128_000),
    ),
    "anthropic": (
        Known(
            "claude-3-opus-20240229",
            200_000,
            retires=date(2026, 5, 1),
            to=("claude-3-5-sonnet-20241022", "claude-3-5-haiku-20241022"),
        ),
        Known("claude-3-5-sonnet-20241022", 200_000, retires=date(2025, 10, 1), to=("claude-3-5-haiku-20241022",)),
        Known("claude-3-sonnet-20240229", 200_000, gone=True, to=("claude-3-5-haiku-20241022",)),
        Known("claude-3-5-haiku-20241022", 200_000, retires=date(2025, 10, 1)),
        Known("claude-3-haiku-20240307", 200_000, gone=True),
        Known("claude-3-5-sonnet", 200_000, gone=True),
        Known("claude-opus-4-6", 1_000_000, 128_000),
        Known("claude-sonnet-4-6", 1_000_000, 128_000),
        Known("claude-sonnet-4-5", 200_000, 64_000, retires=date(2026, 11, 30)),
        Known("claude-haiku-4-5", 200_000, 64_000),
        Known("claude-opus-4-1", 200_000, gone=True),
        Known("claude-sonnet-4-1", 200_000, gone=True, note="never existed upstream"),
        Known("claude-opus-4-7", 1_000_000, 128_000),
    ),
    "gemini": (
        Known("gemini-1.5-pro", 1_000_000, gone=True, to=("gemini-1.5-flash",)),
        Known("gemini-1.5-flash", 1_000_000, retires=date(2025, 9, 29)),
        Known("gemini-2.0-flash", 1_000_000, retires=date(2026, 6, 1), to=("gemini-1.5-flash",)),
        Known("gemini-2.5-pro", 1_048_576, 65_536),
        Known("gemini-2.5-flash", 1_048_576, 65_536),
        Known("gemini-2.5-flash-lite", 1_048_576, 65_536),
        Known("gemini-3.1-pro-preview", 1_048_576, 65_536),
        Known("gemini-3-pro-preview", 1_048_576, retires=date(2026, 3, 9)),
        Known("gemini-3-flash-preview", 1_048_576, 65_536),
        Known("gemini-2.0-flash-lite", 1_000_000, retires=date(2026, 6, 1)),
    ),
    "groq": (
        Known("llama-3.2-90b-vision", 8_192, gone=True, to=("llama-3.1-70b-versatile",), note="never an id of Groq's"),
        Known("llama-3.1-70b-versatile", 8_192, retires=date(2025, 1, 24), to=("llama-3.1-8b-instant",)),
        Known("llama-3.1-8b-instant", 128_000, gone=True),
        Known("mixtral-8x7b-32768", 32_768, retires=date(2025, 3, 20), to=("llama-3.1-8b-instant",)),
        Known("gemma2-9b-it", 8_192, gone=True, to=("llama-3.1-8b-instant",)),
        Known("llama-3.3-70b-versatile", 128_000, gone=True),
        Known("meta-llama/llama-4-scout-17b-16e-instruct", 131_072, gone=True),
    ),
    "mistral": (
        Known("mistral-large-latest", 262_144),
        Known("mistral-small-latest", 262_144),
        Known("mistral-nemo", None, gone=True),
        Known("codestral-latest", 128_000),
        Known("ministral-8b-latest", 262_144),
    ),
    "cohere": (
        Known("command-r-plus", 128_000, retires=date(2025, 9, 15)),
        Known("command-r", 128_000, retires=date(2025, 9, 15)),
        Known("command-a-03-2025", 256_000, 8_000),
        Known("command-nightly", 128_000),
        Known("c4ai-aya-expanse-8b", 8_192, gone=True),
        Known("c4ai-aya-expanse-32b", 128_000, 4_000),
        Known("embed-english-v3.0", 512),
    ),
    "xai": (
        Known("grok-3", 131_072, gone=True),
        Known("grok-3-fast", 131_072, gone=True),
        Known("grok-3-mini", 131_072, retires=date(2026, 2, 28)),
        Known("grok-3-mini-fast", 131_072, gone=True),
        Known("grok-3-mini-beta", 131_072, retires=date(2026, 2, 28)),
        Known("grok-3-beta", 131_072, gone=True),
    ),
    "ollama": (
        Known("ollama/llama3.2", None),
        Known("ollama/llama3.1:8b", None),
        Known("ollama/qwen3:4b", None),
        Known("ollama/qwen3:8b", None),
        Known("ollama/mistral", 8_192),
        Known("ollama/phi4-mini", None),
        Known("ollama/gemma3:4b", None),
        Known("ollama/deepseek-r1:7b", None),
    ),
    "bedrock": (
        Known("nvidia.nemotron-nano-3-30b", 256_000, 8_000),
        Known("nvidia.nemotron-nano-9b-v2", 128_000, 8_000, retires=date(2027, 3, 30)),
        Known("zai.glm-4.7-flash", 203_000, 128_000, retires=date(2027, 3, 30)),
        Known("qwen.qwen3-32b-v1:0", 32_768, 8_192),
        Known("openai.gpt-oss-120b-1:0", 128_000, 16_384),
        Known("zai.glm-4.7", 203_000, 128_000, retires=date(2027, 3, 30)),
        Known("deepseek.v3.2", 164_000, 8_000),
        Known("mistral.mistral-large-3-675b-instruct", 256_000, 32_000),
        Known("moonshotai.kimi-k2.5", 256_000, 16_000),
        Known("minimax.minimax-m2.1", 196_000, 8_000, retires=date(2027, 3, 30)),
        Known("qwen.qwen3-next-80b-a3b", 256_000, 8_000),
        Known("us.meta.llama4-maverick-17b-instruct-v1:0", 1_000_000, 8_192, retires=date(2027, 3, 30)),
        Known("us.meta.llama4-scout-17b-instruct-v1:0", 10_000_000, 8_192, retires=date(2027, 3, 30)),
        Known("mistral.devstral-2-123b", 256_000, 32_000, retires=date(2027, 3, 30)),
        Known("qwen.qwen3-coder-480b-a35b-v1:0", 262_144, 16_384, retires=date(2027, 3, 30)),
        Known("nvidia.nemotron-super-3-120b", 256_000, 32_000),
        Known("qwen.qwen3-235b-a22b-2507-v1:0", 262_144, 8_192),
        Known("zai.glm-5", 200_000, 128_000),
    ),
    "cerebras": (
        Known("llama3.1-8b", 128_000, retires=date(2026, 5, 27)),
        Known("qwen-3-235b-a22b-instruct-2507", 131_072, gone=True),
    ),
}

LINEUP: Mapping[tuple[str, str], Known] = MappingProxyType(
    {(provider, row.model): row for provider, rows in _ROWS.items() for row in rows}
)
