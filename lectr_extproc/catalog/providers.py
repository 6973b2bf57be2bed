"""PROVIDERS: one row per vendor endpoint. A new provider is a row here, its model names in models.py, and its fixtures.

Who is asked for usage on a stream (`asking`): Mistral refuses the option, Groq, DeepSeek and OpenRouter report without
it, and of the others that are not asked nobody has seen that they accept it.

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

_ROWS = (
    Provider(
        id="openai",
        name="OpenAI",
        base_url="https://api.openai.com/v1",
        key_form=Form.BEARER,
        path=replace_prefix,
        key_shapes=("sk-", "sk-proj-"),
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
        key_shapes=("gsk_",),
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
        path=azure_path,
        stays_bearer=("eyJ",),
        sited_per_org="azure_config_missing",
        asking=Asking.AZURE,
        key_env="AZURE_OPENAI_API_KEY",
        source="https://learn.microsoft.com/azure/ai-foundry/openai/reference",
        checked=_CHECKED,
    ),
    *(
        Provider(
            id=id_,
            name=name,
            base_url=None,
            key_form=form,
            path=replace_prefix,
            synonyms=synonyms,
            model_prefixes=prefixes,
            key_shapes=shapes,
            asking=Asking.YES if id_ in {"xai", "ollama", "custom", "cerebras"} else Asking.NEVER,
            native=frozenset({"openai.chat"}) if id_ in {"ollama", "custom", "cerebras"} else frozenset(),
            source=source,
            checked=_CHECKED,
        )
        for id_, name, form, synonyms, prefixes, shapes, source in (
            ("mistral", "Mistral", Form.BEARER, (), ("mistralai",), (), "https://docs.mistral.ai/api/"),
            ("cohere", "Cohere", Form.BEARER, (), (), (), "https://docs.cohere.com/docs/compatibility-api"),
            ("xai", "xAI", Form.BEARER, ("x-ai", "grok"), (), ("xai-",), "https://docs.x.ai/docs/api-reference"),
            ("ollama", "Ollama", Form.NONE, (), (), (), "https://github.com/ollama/ollama/blob/main/docs/openai.md"),
            ("custom", "Custom", Form.BEARER, (), (), (), "https://docs.vllm.ai/en/latest/serving/online_serving/"),
            (
                "bedrock",
                "AWS Bedrock",
                Form.BEARER,
                (),
                (),
                (),
                "https://docs.aws.amazon.com/bedrock/latest/APIReference/",
            ),
            ("cerebras", "Cerebras", Form.BEARER, (), (), ("csk-",), "https://inference-docs.cerebras.ai/"),
            ("deepseek", "DeepSeek", Form.BEARER, (), (), (), "https://api-docs.deepseek.com/"),
            ("openrouter", "OpenRouter", Form.BEARER, (), (), ("sk-or-",), "https://openrouter.ai/docs/api-reference"),
            ("together", "Together", Form.BEARER, (), ("together_ai",), (), "https://docs.together.ai/reference"),
            (
                "fireworks",
                "Fireworks",
                Form.BEARER,
                (),
                ("fireworks_ai",),
                ("fw_",),
                "https://docs.fireworks.ai/api-reference",
            ),
        )
    ),
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.id: row for row in _ROWS})
