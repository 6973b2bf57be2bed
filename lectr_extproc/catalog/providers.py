"""PROVIDERS: one row per vendor endpoint. A new provider is a row here, its model names in models.py, and its fixtures.

Who is asked for usage on a stream (`asking`): Mistral refuses the option, Groq, DeepSeek and OpenRouter report without
it, and of the others that are not asked nobody has seen that they accept it.

What a provider speaks (`apis`) decides where a rule may move a call to; whoever names a provider is not asked.

A row without a base URL is known by its models and its header, and is reached once settings give it an address.
"""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType

from lectr_extproc.core.credential import Form
from lectr_extproc.core.inject import Asking
from lectr_extproc.core.rewrite import azure_path, replace_prefix
from lectr_extproc.core.tables import Provider

_CHECKED = date(2026, 11, 20)

_CHAT, _RESPONSES, _EMBEDDINGS, _COMPLETIONS = (
    "openai.chat",
    "openai.responses",
    "openai.embeddings",
    "openai.completions",
)
_IMAGES, _AUDIO, _MESSAGES, _COUNT_TOKENS = (
    "openai.images",
    "openai.audio",
    "anthropic.messages",
    "anthropic.count_tokens",
)
_MOST = frozenset({_CHAT, _RESPONSES, _EMBEDDINGS, _COMPLETIONS, _IMAGES, _AUDIO})

_ROWS = (
    Provider(
        id="openai",
        name="OpenAI",
        base_url="https://api.openai.com/v1",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=_MOST | {"openai.input_tokens"},
        key_shapes=("sk-", "sk-proj-"),
        shared_key_shapes=frozenset({"sk-", "sk-proj-"}),
        asking=Asking.YES,
        key_env="OPENAI_API_KEY",
        source="https://platform.openai.com/docs/api-reference/authentication",
        checked=_CHECKED,
    ),
    Provider(
        id="anthropic",
        name="Anthropic",
        base_url="https://api.anthropic.com/v1",
        key_form=Form.X_API_KEY,
        path=replace_prefix,
        apis=frozenset({_CHAT, _MESSAGES, _COUNT_TOKENS}),
        key_shapes=("sk-ant-",),
        stays_bearer=("sk-ant-oat",),
        adds=(("anthropic-version", "2023-06-01"),),
        # Anthropic answers a request that looks like a browser's with a CORS refusal.
        refuses=("origin", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user"),
        asking=Asking.YES,
        key_env="ANTHROPIC_API_KEY",
        source="https://docs.anthropic.com/en/api/overview",
        checked=_CHECKED,
    ),
    Provider(
        id="groq",
        name="Groq",
        base_url="https://api.groq.com/openai/v1",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=frozenset({_CHAT, _RESPONSES, _AUDIO}),
        key_shapes=("gsk_",),
        quota_statuses=frozenset({413}),  # more tokens in a call than a minute allows
        key_env="GROQ_API_KEY",
        source="https://console.groq.com/docs/openai",
        checked=_CHECKED,
    ),
    Provider(
        id="gemini",
        name="Google Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=frozenset({_CHAT, _EMBEDDINGS, _IMAGES}),
        synonyms=("google",),
        model_prefixes=("models",),
        key_shapes=("AIza",),
        stays_bearer=("ya29.",),
        asking=Asking.YES,
        key_env="GEMINI_API_KEY",
        source="https://ai.google.dev/gemini-api/docs/openai",
        checked=_CHECKED,
    ),
    Provider(
        id="azure",
        name="Azure OpenAI",
        base_url=None,
        key_form=Form.API_KEY,
        key_form_of={"anthropic": Form.X_API_KEY},
        path=azure_path,
        apis=_MOST | {_MESSAGES, _COUNT_TOKENS},
        stays_bearer=("eyJ",),
        sited_per_org="azure_config_missing",
        asking=Asking.AZURE,
        key_env="AZURE_OPENAI_API_KEY",
        source="https://learn.microsoft.com/azure/ai-foundry/openai/reference",
        checked=_CHECKED,
    ),
    Provider(
        id="mistral",
        name="Mistral",
        base_url="https://api.mistral.ai/v1",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=frozenset({_CHAT, _EMBEDDINGS, _AUDIO}),
        model_prefixes=("mistralai",),
        key_env="MISTRAL_API_KEY",
        source="https://docs.mistral.ai/api/",
        checked=_CHECKED,
    ),
    Provider(
        id="cohere",
        name="Cohere",
        base_url="https://api.cohere.com/compatibility/v1",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=frozenset({_CHAT, _EMBEDDINGS, "cohere.rerank"}),
        # Its compatible layer has chat and embeddings; the rest of `/v1` is Cohere's own.
        elsewhere=tuple(
            (f"/v1/{path}", f"/v1/{path}")
            for path in (
                "models",
                "rerank",
                "tokenize",
                "detokenize",
                "classify",
                "datasets",
                "embed-jobs",
                "connectors",
            )
        ),
        key_env="CO_API_KEY",
        source="https://docs.cohere.com/docs/compatibility-api",
        checked=_CHECKED,
    ),
    Provider(
        id="xai",
        name="xAI",
        base_url="https://api.x.ai/v1",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=frozenset({_CHAT, _RESPONSES, _COMPLETIONS, _IMAGES, _MESSAGES}),
        synonyms=("x-ai", "grok"),
        key_shapes=("xai-",),
        asking=Asking.YES,
        key_env="XAI_API_KEY",
        source="https://docs.x.ai/docs/api-reference",
        checked=_CHECKED,
    ),
    Provider(
        id="cerebras",
        name="Cerebras",
        base_url="https://api.cerebras.ai/v1",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=frozenset({_CHAT, _COMPLETIONS}),
        key_shapes=("csk-",),
        asking=Asking.YES,
        native=frozenset({"openai.chat"}),
        key_env="CEREBRAS_API_KEY",
        source="https://inference-docs.cerebras.ai/",
        checked=_CHECKED,
    ),
    Provider(
        id="bedrock",
        name="AWS Bedrock",
        base_url="https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=frozenset({_CHAT, _RESPONSES, _MESSAGES}),
        elsewhere=(("/v1/messages", "/anthropic/v1/messages"),),
        key_shapes=("ABSK", "bedrock-api-key-"),
        region="us-east-1",
        aws_service="bedrock",
        key_env="AWS_BEARER_TOKEN_BEDROCK",
        source="https://docs.aws.amazon.com/bedrock/latest/APIReference/",
        checked=_CHECKED,
    ),
    Provider(
        id="deepseek",
        name="DeepSeek",
        base_url="https://api.deepseek.com",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=frozenset({_CHAT, _RESPONSES, _COMPLETIONS, _MESSAGES}),
        elsewhere=(("/v1/completions", "/beta/completions"), ("/v1/messages", "/anthropic/v1/messages")),
        key_env="DEEPSEEK_API_KEY",
        source="https://api-docs.deepseek.com/",
        checked=_CHECKED,
    ),
    Provider(
        id="openrouter",
        name="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=_MOST - {_IMAGES} | {_MESSAGES, "cohere.rerank"},
        key_shapes=("sk-or-",),
        key_env="OPENROUTER_API_KEY",
        source="https://openrouter.ai/docs/api-reference",
        checked=_CHECKED,
    ),
    Provider(
        id="together",
        name="Together",
        base_url="https://api.together.xyz/v1",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=frozenset({_CHAT, _EMBEDDINGS, _COMPLETIONS, _IMAGES}),
        model_prefixes=("together_ai",),
        key_env="TOGETHER_API_KEY",
        source="https://docs.together.ai/reference",
        checked=_CHECKED,
    ),
    Provider(
        id="fireworks",
        name="Fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=frozenset({_CHAT, _RESPONSES, _EMBEDDINGS, _COMPLETIONS, _MESSAGES}),
        model_prefixes=("fireworks_ai",),
        key_shapes=("fw_",),
        key_env="FIREWORKS_API_KEY",
        source="https://docs.fireworks.ai/api-reference",
        checked=_CHECKED,
    ),
    Provider(
        id="ollama",
        name="Ollama",
        base_url=None,
        key_form=Form.NONE,
        path=replace_prefix,
        apis=frozenset({_CHAT, _RESPONSES, _EMBEDDINGS, _COMPLETIONS, _MESSAGES, _AUDIO}),
        asking=Asking.YES,
        native=frozenset({"openai.chat"}),
        source="https://github.com/ollama/ollama/blob/main/docs/openai.md",
        checked=_CHECKED,
    ),
    Provider(
        id="custom",
        name="Custom",
        base_url=None,
        key_form=Form.BEARER,
        path=replace_prefix,
        apis=_MOST | {_MESSAGES, _COUNT_TOKENS, "cohere.rerank"},
        asking=Asking.YES,
        native=frozenset({"openai.chat"}),
        source="https://docs.vllm.ai/en/latest/serving/online_serving/",
        checked=_CHECKED,
    ),
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.id: row for row in _ROWS})
