"""MODELS: the names that belong to each provider. Exact ids where a name looks like someone else's, families elsewhere.

Families are tried in order on the lower-cased name and are anchored at its start; `_END` is a dash, Vertex' `@` or
the end of the name, so that `o1` does not claim `o100k`. Checked 2026-11-20 against the providers' model lists.
"""

import re
from types import MappingProxyType

from lectr_extproc.core.tables import Family, Models

_END = r"(?:[-@]|$)"

_EXACT: dict[str, tuple[str, ...]] = {
    "groq": (
        "mixtral-8x7b-32768",
        "gemma2-9b-it",
        "gemma-7b-it",
        "llama2-70b-4096",
        "mistral-saba-24b",
        "deepseek-r1-distill-llama-70b",
        "deepseek-r1-distill-qwen-32b",
        "qwen-qwq-32b",
        "qwen-2.5-32b",
        "qwen-2.5-coder-32b",
        "llama-3.2-90b-vision",
        "whisper-large-v3",
        "whisper-large-v3-turbo",
        "distil-whisper-large-v3-en",
        "compound-beta",
        "compound-beta-mini",
        "openai/gpt-oss-120b",
        "openai/gpt-oss-20b",
        "openai/gpt-oss-safeguard-20b",
        "qwen/qwen3-32b",
        "qwen/qwen3.8-27b",
        "moonshotai/kimi-k2-instruct",
        "moonshotai/kimi-k2-instruct-0905",
        "groq/compound",
        "groq/compound-mini",
        "meta-llama/llama-4-scout-17b-16e-instruct",
        "meta-llama/llama-4-maverick-17b-128e-instruct",
        "meta-llama/llama-guard-4-12b",
        "meta-llama/llama-prompt-guard-2-22m",
        "meta-llama/llama-prompt-guard-2-86m",
        "canopylabs/orpheus-v1-english",
        "canopylabs/orpheus-arabic-saudi",
    ),
    "cerebras": (
        "llama-3.3-70b",
        "gpt-oss-120b",
        "gemma-4-31b",
        "llama-4-scout-17b-16e-instruct",
        "llama-4-maverick-17b-128e-instruct",
    ),
    # OpenRouter's own routers; its other ids are `vendor/model`, so that a prefix before them is one too many.
    "openrouter": (
        "openrouter/auto",
        "openrouter/auto-code",
        "openrouter/bodybuilder",
        "openrouter/free",
        "openrouter/pareto-code",
    ),
    "gemini": ("text-embedding-004", "embedding-001", "text-multilingual-embedding-002"),
}

_BEDROCK_REGIONS = "us|eu|apac|ap|au|jp|ca|sa|il|us-gov|in|global|regional"
_BEDROCK_VENDORS = (
    "ai21|amazon|anthropic|cohere|deepseek|google|luma|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen"
    "|stability|twelvelabs|writer|xai|zai"
)

_FAMILIES = (
    # Before every family: Bedrock's ids are `[region.]vendor.model`, and start with other providers' family names.
    ("bedrock", rf"(?:(?:{_BEDROCK_REGIONS})\.)?(?:{_BEDROCK_VENDORS})\.[a-z0-9]"),
    ("bedrock", r"arn:aws[a-z-]*:(?:bedrock|sagemaker):"),
    ("openai", r"ft:(?:gpt|davinci|babbage|o\d)"),
    ("anthropic", rf"claude{_END}"),
    ("gemini", rf"(?:gemini|learnlm|imagen|veo|lyria|gemma-\d+n?){_END}"),
    ("xai", rf"grok{_END}"),
    ("cohere", rf"command{_END}|c4ai-|aya-|embed-(?:english|multilingual|v\d)|rerank-"),
    (
        "mistral",
        (
            r"(?:labs-)?(?:open-)?"
            rf"(?:mistral|mixtral|codestral|ministral|magistral|devstral|pixtral|voxtral|mathstral){_END}"
        ),
    ),
    (
        "groq",
        (
            r"llama-3\.\d+-\d+b-(?:instant|versatile|specdec|preview|text-preview|vision-preview)"
            r"|llama-3\.1-405b-reasoning|llama-guard-|llama3-8b-8192|llama3-70b-8192|llama3-groq-|playai-|allam-"
        ),
    ),
    ("cerebras", r"llama3\.\d+-\d+b(?:[-@][\d-]+)?$|qwen-3[-.]|zai-glm-"),
    ("deepseek", r"deepseek-(?:chat|reasoner|coder|flash|v\d)"),
    (
        "openai",
        (
            rf"gpt-(?!oss)|chatgpt-|o[1-9]{_END}|text-embedding-(?:3|ada)-"
            r"|text-(?:davinci|curie|babbage|ada|moderation)-|(?:davinci|babbage|curie|ada)-|whisper-1|tts-1|dall-e-"
            r"|omni-moderation-|computer-use-|codex-|sora-|code-davinci"
        ),
    ),
)

MODELS = Models(
    exact=MappingProxyType({model: provider for provider, models in _EXACT.items() for model in models}),
    families=tuple(Family(provider, re.compile(pattern, re.ASCII)) for provider, pattern in _FAMILIES),
)
