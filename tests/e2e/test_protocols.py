"""Every API of every provider passes as it is: its own path and query, its own form of the key, its answer byte for
byte, and a record of what it used.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.calls import call, new_id
from tests.e2e.documented import DOCUMENTED, LACKED, expected_in, read_in
from tests.e2e.gateway import Build, Gateway, Record
from tests.e2e.provider import Loop, Provider, json_answer
from tests.e2e.scene import (
    AZURE_API_VERSION,
    MESSAGES,
    ORG,
    ORG_KEY,
    PROMPT,
    assert_nothing_of_ours,
    credentials_in,
    org,
    secret,
)

DATED = f"api-version={AZURE_API_VERSION}"


@dataclass(frozen=True, slots=True)
class At:
    """Where a provider's own API is, and how it wants its key."""

    prefix: str
    key: str
    "How its keys begin."
    form: str = "authorization"


PROVIDERS: dict[str, At] = {
    "openai": At("/v1", "sk-proj-"),
    "anthropic": At("/v1", "sk-ant-api03-", "x-api-key"),
    "groq": At("/openai/v1", "gsk_"),
    "gemini": At("/v1beta/openai", "AIza"),
    "azure": At("", "", "api-key"),
    "mistral": At("/v1", ""),
    "cohere": At("/compatibility/v1", ""),
    "xai": At("/v1", "xai-"),
    "ollama": At("/v1", "", ""),
    "custom": At("/v1", ""),
    "cerebras": At("/v1", "csk-"),
    "deepseek": At("/v1", "sk-"),
    "openrouter": At("/api/v1", "sk-or-"),
    "together": At("/v1", ""),
    "fireworks": At("/inference/v1", "fw_"),
}
KEYS = {name: secret(at.key) for name, at in PROVIDERS.items()}
V1_ORG_KEY = secret("lc_key_")

Everyone = dict[str, Provider]


@pytest.fixture(scope="module")
def everyone(loop: Loop) -> Iterator[Everyone]:
    """All the providers; one that is not told what to answer knows no such path."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Provider(loop, lambda _: NOT_FOUND)) for name in PROVIDERS}


@pytest.fixture(scope="module")
def gateway(build: Build, everyone: Everyone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    origin = everyone["azure"].origin
    settings = {
        "orgs": [
            org(ORG, ORG_KEY, azure={"endpoint": origin, "api_version": AZURE_API_VERSION}),
            org("v1", V1_ORG_KEY, azure={"endpoint": origin, "api_version": "v1"}),
        ],
        "providers": [
            {"id": name, "base_url": everyone[name].origin + at.prefix}
            for name, at in PROVIDERS.items()
            if name != "azure"
        ],
    }
    with Gateway(build, settings, tmp_path_factory.mktemp("protocols")) as gateway:
        yield gateway


NOT_FOUND = json_answer({"detail": "Not Found"}, 404, [("x-served-by", "the provider")])


def forget(everyone: Everyone) -> None:
    for provider in everyone.values():
        provider.reset()


def arrived(everyone: Everyone) -> list[tuple[str, str, str, list[tuple[str, str]], bytes]]:
    """What of each request matters, wherever it went."""
    requests = [(name, received) for name, provider in everyone.items() for received in provider.requests]
    for _, received in requests:
        assert_nothing_of_ours(received)
    return [(name, one.method, one.target, credentials_in(one), one.body) for name, one in requests]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call as the provider's own client makes it, and what becomes of it."""

    to: str
    path: str
    "With its query."
    at: str | None = None
    "The path and query that the provider receives, where they are not the client's."
    model: str | None = None
    "In the body."
    asks: Mapping[str, Any]
    "The rest of the body."
    named: bool = False
    "By X-Lectr-Provider."
    key: str | None = None
    "The header, or `?key=`, that the client has its key in; the provider's own unless told."
    org_key: str = ORG_KEY
    form: str | None = None
    "The header that the provider gets the key in, where it is not its usual one."
    answer: str
    "The fixture that answers."
    says: dict[str, Any]
    "What the record says besides: how the provider was found, the model, the price."


TEXT: dict[str, Any] = {"messages": MESSAGES}
STREAM = {**TEXT, "stream": True}
ASKED = {**STREAM, "stream_options": {"include_usage": True}}
INPUT: dict[str, Any] = {"input": PROMPT}
UNSOLD = "unavailable"
"The status where the answer names a model that its provider does not have: the sent one's price is not its."
GENERATE = {"contents": [{"parts": [{"text": PROMPT}]}]}


def said(source: str, status: str | None, model: str | None = None, **more: Any) -> dict[str, Any]:
    return {"provider_source": source, "pricing_status": status, "model_sent": model, **more}


def to(
    provider: str,
    path: str,
    answer: str,
    status: str | None = "priced",
    *,
    model: str | None = None,
    asks: Mapping[str, Any] = TEXT,
    source: str = "prefix",
    says: dict[str, Any] | None = None,
    **more: Any,
) -> Call:
    """A call whose body has the model, if there is one."""
    streaming = bool(asks.get("stream"))
    expected = said(source, status, model, **({"streaming": True} if streaming else {})) | (says or {})
    return Call(to=provider, path=path, model=model, asks=asks, answer=answer, says=expected, **more)


CALLS: dict[str, Call] = {
    # --- OpenAI
    "a chat": to("openai", "/v1/chat/completions", "openai.chat/openai", model="gpt-4o"),
    "a completion's stream": to(
        "openai", "/v1/completions", "openai.completions/openai-stream", model="babbage-002", asks=ASKED
    ),
    "a response": to("openai", "/v1/responses", "openai.responses/openai", model="gpt-5", asks=INPUT),
    "a response's stream": to(
        "openai", "/v1/responses", "openai.responses/openai-stream", model="gpt-5", asks=INPUT | {"stream": True}
    ),
    "a count of input tokens": to(
        "openai", "/v1/responses/input_tokens", "openai.input_tokens/openai", "no_usage", model="gpt-5", asks=INPUT
    ),
    "embeddings": to(
        "openai", "/v1/embeddings", "openai.embeddings/openai", model="text-embedding-3-small", asks=INPUT
    ),
    "an image": to("openai", "/v1/images/generations", "openai.images/openai", model="gpt-image-1", asks=INPUT),
    "an image's stream": to(
        "openai", "/v1/images/generations", "openai.images/openai-stream", model="gpt-image-1", asks=STREAM
    ),
    "speech": to(
        "openai", "/v1/audio/speech", "openai.audio/openai-speech-stream", model="gpt-4o-mini-tts", asks=INPUT
    ),
    # --- Anthropic, and who speaks its API
    "a message": to("anthropic", "/v1/messages", "anthropic.messages/message", model="claude-sonnet-4-6"),
    "a message's stream with beta features": to(
        "anthropic", "/v1/messages?beta=true", "anthropic.messages/stream", model="claude-sonnet-4-6", asks=STREAM
    ),
    "a count of tokens": to(
        "anthropic", "/v1/messages/count_tokens", "anthropic.count_tokens/count", "no_usage", model="claude-sonnet-4-6"
    ),
    "a message, with the key as Bearer": to(
        "anthropic", "/v1/messages", "anthropic.messages/message", model="claude-sonnet-4-6", key="authorization"
    ),
    **{
        f"{what} at {provider}": to(
            provider, path, answer, "free" if provider == "ollama" else "unavailable", model="claude-sonnet-4-6",
            source="header", named=True, key="x-api-key",
            at=path.replace("/v1", PROVIDERS[provider].prefix, 1),
        )
        for provider in ("ollama", "custom", "xai", "openrouter")
        for what, path, answer in (
            ("a message", "/v1/messages", "anthropic.messages/message"),
            ("a count of tokens", "/v1/messages/count_tokens", "anthropic.count_tokens/count"),
        )
    },
    # --- Groq, xAI
    "a response of Groq": to(
        "groq", "/v1/responses", "openai.responses/groq", model="openai/gpt-oss-20b", source="exact",
        at="/openai/v1/responses", asks=INPUT,
    ),
    "a stream of Groq": to(
        "groq", "/v1/chat/completions", "openai.chat/groq-stream", UNSOLD, model="llama-3.3-70b-versatile",
        at="/openai/v1/chat/completions", asks=STREAM,
    ),
    "an error in a stream of Groq": to(
        "groq", "/openai/v1/chat/completions", "openai.chat/groq-stream-error", UNSOLD,
        model="llama-3.3-70b-versatile", asks=STREAM,
    ),
    "a response of xAI": to(
        "xai", "/v1/responses", "openai.responses/xai", "provider_reported", model="grok-4", asks=INPUT
    ),
    "a stream of xAI": to(
        "xai", "/v1/chat/completions", "openai.chat/xai-stream", "provider_reported", model="grok-4", asks=ASKED
    ),
    "a refusal of xAI": to("xai", "/v1/chat/completions", "openai.chat/xai-error", "no_usage", model="grok-4"),
    # --- Gemini
    "a generation": to(
        "gemini", "/v1beta/models/gemini-2.5-flash:generateContent", "gemini.generate/generate", asks=GENERATE,
        key="x-goog-api-key", form="x-goog-api-key", source="path", says={"model_sent": "gemini-2.5-flash"},
    ),
    "a generation, with the key in the query": to(
        "gemini", "/v1beta/models/gemini-2.5-flash:generateContent?key=", "gemini.generate/generate", asks=GENERATE,
        at="/v1beta/models/gemini-2.5-flash:generateContent", key="?key=", form="x-goog-api-key", source="path",
        says={"model_sent": "gemini-2.5-flash"},
    ),
    "a generation's stream": to(
        "gemini", "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", "gemini.generate/stream",
        asks=GENERATE, key="x-goog-api-key", form="x-goog-api-key", source="path",
        says={"model_sent": "gemini-2.5-flash", "streaming": True},
    ),
    "a generation's stream, with the key in the query": to(
        "gemini", "/v1beta/models/gemini-2.5-flash:streamGenerateContent?key=&alt=sse", "gemini.generate/stream",
        at="/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", asks=GENERATE, key="?key=",
        form="x-goog-api-key", source="path", says={"model_sent": "gemini-2.5-flash", "streaming": True},
    ),
    "a generation as one array": to(
        "gemini", "/v1beta/models/gemini-2.5-flash:streamGenerateContent", "gemini.generate/stream-as-array",
        asks=GENERATE, key="authorization", form="x-goog-api-key", source="path",
        says={"model_sent": "gemini-2.5-flash", "streaming": True},
    ),
    "a count of Gemini's tokens": to(
        "gemini", "/v1beta/models/gemini-2.5-flash:countTokens", "gemini.generate/count-tokens", "no_usage",
        asks=GENERATE, form="x-goog-api-key", source="path", says={"model_sent": "gemini-2.5-flash"},
    ),
    "an embedding of Gemini": to(
        "gemini", "/v1beta/models/gemini-embedding-001:embedContent", "gemini.generate/embed", "no_usage",
        asks=GENERATE, form="x-goog-api-key", source="path", says={"model_sent": "gemini-embedding-001"},
    ),
    "a chat on Gemini's compatible layer": to(
        "gemini", "/v1/chat/completions", "openai.chat/gemini", model="gemini-2.5-flash",
        at="/v1beta/openai/chat/completions",
    ),
    # --- Azure
    "a chat on a dated Azure": to(
        "azure", "/openai/deployments/ours/chat/completions?api-version=2025-01-01-preview",
        "openai.chat/azure-stream", asks=ASKED, source="path", says={"model_sent": "ours"}, key="api-key",
    ),
    "embeddings on a dated Azure": to(
        "azure", "/openai/deployments/ours/embeddings?api-version=2024-06-01", "openai.embeddings/openai", asks=INPUT,
        source="path", says={"model_sent": "ours"}, key="api-key",
    ),
    "images on a dated Azure": to(
        "azure", "/openai/deployments/ours/images/generations?api-version=2025-04-01-preview", "openai.images/openai",
        "unavailable", asks=INPUT, source="path", says={"model_sent": "ours"}, key="api-key",
    ),
    "a response on Azure's v1": to(
        "azure", "/openai/v1/responses", "openai.responses/openai", model="ours", asks=INPUT, source="path",
        key="api-key", org_key=V1_ORG_KEY,
    ),
    "a response sent to Azure": to(
        "azure", "/v1/responses", "openai.responses/openai", model="ours", asks=INPUT, source="header", named=True,
        at="/openai/v1/responses", org_key=V1_ORG_KEY,
    ),
    "a catalogue model on Foundry": to(
        "azure", "/models/chat/completions?api-version=2024-05-01-preview", "openai.chat/openai", model="ours",
        source="header", named=True, key="api-key",
    ),
    "a message on Foundry": to(
        "azure", "/anthropic/v1/messages", "anthropic.messages/message", model="claude-sonnet-4-6", source="header",
        named=True, key="x-api-key", form="x-api-key",
    ),
    "a message sent to Foundry": to(
        "azure", "/v1/messages", "anthropic.messages/stream", model="claude-sonnet-4-6", asks=STREAM,
        source="header", named=True, at="/anthropic/v1/messages", form="x-api-key",
    ),
    # --- Ollama
    "a chat of Ollama": to(
        "ollama", "/api/chat", "ollama/chat", "free", model="llama3", asks=TEXT | {"stream": False}, source="path"
    ),
    "a stream of Ollama, which it sends unasked": to(
        "ollama", "/api/chat", "ollama/stream", "free", model="llama3", source="path", says={"streaming": True}
    ),
    "a generation of Ollama": to(
        "ollama", "/api/generate", "ollama/generate", "free", model="llama3:8b", asks={"prompt": PROMPT},
        source="path", says={"streaming": True},
    ),
    "embeddings of Ollama": to(
        "ollama", "/api/embed", "ollama/embed", "free", model="nomic-embed-text", asks=INPUT, source="path"
    ),
    "an error in a stream of Ollama": to(
        "ollama", "/api/chat", "ollama/error-in-the-stream", "free", model="llama3", asks=STREAM, source="path"
    ),
    # --- Cohere
    "a chat of Cohere": to(
        "cohere", "/v2/chat", "cohere.chat/v2", model="command-a-03-2025", source="path"
    ),
    "a stream of Cohere": to(
        "cohere", "/v2/chat", "cohere.chat/v2-stream", model="command-a-03-2025", asks=STREAM, source="path"
    ),
    "an old stream of Cohere": to(
        "cohere", "/v1/chat", "cohere.chat/v1-stream", model="command-r", asks=STREAM, source="path"
    ),
    "embeddings of Cohere": to(
        "cohere", "/v2/embed", "cohere.embed/v2", model="embed-english-v3.0", asks=INPUT, source="path"
    ),
    "a ranking of Cohere": to(
        "cohere", "/v2/rerank", "cohere.rerank/v2", model="rerank-v3.5", asks=INPUT, source="path"
    ),
    "an old ranking of Cohere": to("cohere", "/v1/rerank", "cohere.rerank/v2", model="rerank-v3.5", asks=INPUT),
    "a chat on Cohere's compatible layer": to(
        "cohere", "/compatibility/v1/chat/completions", "openai.chat/openai", UNSOLD, model="command-a-03-2025"
    ),
    "a chat sent to Cohere": to(
        "cohere", "/v1/chat/completions", "openai.chat/openai", UNSOLD, model="command-a-03-2025",
        at="/compatibility/v1/chat/completions",
    ),
    "a ranking elsewhere": to(
        "custom", "/v1/rerank", "cohere.rerank/not-coheres", "unavailable", model="our-ranker", asks=INPUT,
        source="header", named=True,
    ),
    # --- Mistral
    "a page read by Mistral": to("mistral", "/v1/ocr", "mistral.ocr/ocr", model="mistral-ocr-latest", asks=INPUT),
    "a filled-in middle": to(
        "mistral", "/v1/fim/completions", "openai.chat/mistral-fim", model="codestral-latest", asks={"prompt": PROMPT}
    ),
    "a stream of Mistral": to(
        "mistral", "/v1/chat/completions", "openai.chat/mistral-stream", model="mistral-small-latest", asks=STREAM
    ),
    "a refusal of Mistral": to(
        "mistral", "/v1/chat/completions", "openai.chat/mistral-refusal", "no_usage", model="mistral-small-latest"
    ),
    # --- the others
    "a stream of Cerebras": to(
        "cerebras", "/v1/chat/completions", "openai.chat/cerebras-stream", model="zai-glm-4.7", asks=ASKED
    ),
    "a chat of DeepSeek": to("deepseek", "/v1/chat/completions", "openai.chat/deepseek", model="deepseek-chat"),
    "a completion of DeepSeek": to(
        "deepseek", "/v1/completions", "openai.completions/deepseek", model="deepseek-chat", at="/beta/completions",
        asks={"prompt": PROMPT},
    ),
    "an error of DeepSeek, as bytes": to(
        "deepseek", "/v1/chat/completions", "openai.chat/deepseek-error-as-bytes", "no_usage", model="deepseek-chat"
    ),
    "a stream of OpenRouter": to(
        "openrouter", "/v1/chat/completions", "openai.chat/openrouter-stream", "provider_reported", model="a/b",
        asks=STREAM, source="header", named=True, at="/api/v1/chat/completions",
    ),
    "a chat of OpenRouter with a key of one's own": to(
        "openrouter", "/v1/chat/completions", "openai.chat/openrouter-own-key", "provider_reported", model="a/b",
        source="header", named=True, at="/api/v1/chat/completions",
    ),
    "a stream of vLLM": to(
        "custom", "/v1/chat/completions", "openai.chat/vllm-stream", "unavailable", model="our-model", asks=ASKED,
        source="header", named=True,
    ),
}  # fmt: skip


def key_header(form: str, key: str) -> dict[str, str]:
    if form in ("", "?key="):
        return {}
    return {form: f"Bearer {key}" if form == "authorization" else key}


def make(gateway: Gateway, one: Call, call_id: str) -> bytes:
    """The answer's bytes."""
    headers = {"X-Lectr-Key": one.org_key, "Content-Type": "application/json"}
    form = PROVIDERS[one.to].form if one.key is None else one.key
    headers |= key_header(form, KEYS[one.to])
    if one.named:
        headers["X-Lectr-Provider"] = one.to
    path = one.path.replace("?key=", f"?key={KEYS[one.to]}") if form == "?key=" else one.path
    return call(gateway, path, headers=headers, body=body_of(one), call_id=call_id).content


def body_of(one: Call) -> bytes:
    return json.dumps(one.asks if one.model is None else {"model": one.model, **one.asks}).encode()


def key_received(one: Call) -> list[tuple[str, str]]:
    form = PROVIDERS[one.to].form if one.form is None else one.form
    return list(key_header(form, KEYS[one.to]).items())


def test_every_api_passes_as_it_is_and_is_accounted_for(gateway: Gateway, everyone: Everyone) -> None:
    ids = {name: new_id() for name in CALLS}
    for name, one in CALLS.items():
        forget(everyone)
        everyone[one.to].answer_with(DOCUMENTED[one.answer].answer())
        assert make(gateway, one, ids[name]) == DOCUMENTED[one.answer].body, name
        assert arrived(everyone) == [(one.to, "POST", one.at or one.path, key_received(one), body_of(one))], name

    records = {name: gateway.record(ids[name]) for name in CALLS}
    accounts = {name: (account(records[name], one), expected(records[name], one)) for name, one in CALLS.items()}
    assert {name: both for name, both in accounts.items() if both[0] != both[1]} == {}
    charges = {name: charge(record) for name, record in records.items()}
    assert charges == {name: expected_charge(one) for name, one in CALLS.items()}


def account(record: Record, one: Call) -> Record:
    """What is to be compared of a record."""
    told = {name: record.get(name) for name in ("provider", "dialect", "status", "streaming", *one.says)}
    return told | read_in(record)


def expected(record: Record, one: Call) -> Record:
    documented = DOCUMENTED[one.answer]
    known = {
        "provider": one.to, "dialect": documented.dialect, "status": documented.about["status"], "streaming": None,
    }  # fmt: skip
    answer = expected_in(record, documented.expected)
    if record.get("observed") == "native":
        answer = {name: value for name, value in answer.items() if name not in LACKED}
    return known | one.says | answer


def charge(record: Record) -> str:
    """What a call cost; an amount of ours is only told from nothing, its arithmetic has tests of its own."""
    if record["pricing_status"] == "priced":
        return "something" if float(record["cost"]) > 0 else "nothing"
    return str(Decimal(record["cost"]).normalize()) if "cost" in record else "None"


def expected_charge(one: Call) -> str:
    match one.says["pricing_status"]:
        case "priced":
            return "something"
        case "provider_reported":
            return str(Decimal(DOCUMENTED[one.answer].expected["reported_cost"]).normalize())
        case "free":
            return "0"
        case _:
            return "None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A call that lectr knows nothing about but its provider."""

    to: str
    path: str
    method: str = "GET"
    at: str | None = None
    named: bool = True
    dialect: str = "other"
    form: str | None = None


OTHERS: dict[str, Other] = {
    "a file is deleted": Other(to="openai", method="DELETE", path="/v1/files/file-1", named=False),
    "files are listed": Other(to="openai", path="/v1/files?purpose=batch&limit=2", named=False),
    "files are listed at Groq": Other(to="groq", path="/v1/files", at="/openai/v1/files"),
    "a batch is made": Other(to="openai", method="POST", path="/v1/batches", named=False),
    "a batch is made at Mistral": Other(to="mistral", method="POST", path="/v1/batch/jobs"),
    "a job of fine tuning": Other(to="openai", method="POST", path="/v1/fine_tuning/jobs", named=False),
    "a job of fine tuning at Together": Other(to="together", path="/v1/fine-tunes"),
    "an assistant": Other(to="openai", method="POST", path="/v1/assistants", named=False),
    "a vector store is changed": Other(to="openai", method="PUT", path="/v1/vector_stores/vs_1", named=False),
    "a response is read again": Other(to="openai", path="/v1/responses/resp_1?include=x", named=False),
    "messages in a batch": Other(to="anthropic", method="POST", path="/v1/messages/batches", named=False),
    "files at Anthropic": Other(to="anthropic", path="/v1/files"),
    "files at Azure": Other(to="azure", path="/v1/files", at=f"/openai/files?{DATED}"),
    "a project of Foundry": Other(to="azure", path="/api/projects/ours/openai/v1/responses/resp_1"),
    "a cached content of Gemini": Other(
        to="gemini", method="PATCH", path="/v1beta/cachedContents/1", named=False, form="x-goog-api-key"
    ),
    "models of Gemini": Other(to="gemini", path="/v1beta/models?pageSize=5", named=False, form="x-goog-api-key"),
    "a file is sent to Gemini": Other(
        to="gemini", method="POST", path="/upload/v1beta/files", named=False, form="x-goog-api-key"
    ),
    "Ollama's models": Other(to="ollama", path="/api/tags", named=False, dialect="models"),
    "about a model of Ollama's": Other(to="ollama", method="POST", path="/api/show", named=False),
    "a model is removed from Ollama": Other(to="ollama", method="DELETE", path="/api/delete", named=False),
    "Cohere's models": Other(to="cohere", path="/v1/models", dialect="models"),
    "Cohere's tokens": Other(to="cohere", method="POST", path="/v1/tokenize"),
    "Cohere's transcriptions": Other(to="cohere", method="POST", path="/v2/audio/transcriptions", named=False),
    "models of OpenRouter": Other(to="openrouter", path="/v1/models", at="/api/v1/models", dialect="models"),
    "a generation of OpenRouter": Other(to="openrouter", path="/api/v1/generation?id=gen-1"),
    "models of Fireworks": Other(to="fireworks", path="/v1/models", at="/inference/v1/models", dialect="models"),
    "a path of vLLM": Other(to="custom", method="POST", path="/tokenize"),
    "a health check": Other(to="custom", path="/health", method="HEAD"),
    "an API that Groq lacks": Other(
        to="groq", method="POST", path="/v1/messages", at="/openai/v1/messages", dialect="anthropic.messages"
    ),
    "an API that Anthropic lacks": Other(
        to="anthropic", method="POST", path="/v1/embeddings", dialect="openai.embeddings"
    ),
    "a page read without a model": Other(
        to="mistral", method="POST", path="/v1/ocr", named=False, dialect="mistral.ocr"
    ),
}


def test_every_other_path_reaches_its_provider_whose_own_404_is_the_answer(
    gateway: Gateway, everyone: Everyone
) -> None:
    ids = {name: new_id() for name in OTHERS}
    for name, one in OTHERS.items():
        headers = {"X-Lectr-Key": ORG_KEY, "Content-Type": "application/json"}
        headers |= key_header(PROVIDERS[one.to].form, KEYS[one.to])
        headers |= {"X-Lectr-Provider": one.to} if one.named else {}
        body = b'{"purpose": "batch"}' if one.method in ("POST", "PUT", "PATCH") else b""
        forget(everyone)
        answer = call(gateway, one.path, method=one.method, headers=headers, body=body, call_id=ids[name])
        key = list(key_header(PROVIDERS[one.to].form if one.form is None else one.form, KEYS[one.to]).items())
        assert arrived(everyone) == [(one.to, one.method, one.at or one.path, key, body)], name
        assert (answer.status_code, answer.headers["x-served-by"]) == (404, "the provider"), name
        assert answer.content == (b"" if one.method == "HEAD" else NOT_FOUND.body), name

    names = ("provider", "dialect", "method", "status", "error_category", "error_source", "token_source")
    told = {name: [gateway.record(ids[name]).get(key) for key in names] for name in OTHERS}
    assert told == {
        name: [one.to, one.dialect, one.method, 404, "not_found", "provider", "none"] for name, one in OTHERS.items()
    }


# --- the SDKs ---------------------------------------------------------------------------------------------------------


def test_azures_sdk_reaches_azures_own_paths(gateway: Gateway, everyone: Everyone) -> None:
    azure = everyone["azure"]
    azure.reset()
    azure.answer_with(*(DOCUMENTED[name].answer() for name in ("openai.images/openai", "openai.responses/openai")))
    with openai.AzureOpenAI(
        azure_endpoint=gateway.url,
        api_version="2025-04-01-preview",
        api_key=KEYS["azure"],
        default_headers={"X-Lectr-Key": ORG_KEY},
        max_retries=0,
    ) as client:
        images = client.images.generate(model="pictures", prompt=PROMPT)
        response = client.responses.create(model="ours", input=PROMPT)

    assert images.usage is not None
    assert response.usage is not None
    version = "api-version=2025-04-01-preview"
    assert [(one.target, credentials_in(one)) for one in azure.requests] == [
        (f"/openai/deployments/pictures/images/generations?{version}", [("api-key", KEYS["azure"])]),
        (f"/openai/responses?{version}", [("api-key", KEYS["azure"])]),
    ]


@pytest.mark.parametrize(
    ("name", "target"),
    {
        "openrouter": "/api/v1/messages",
        "ollama": "/v1/messages",
        "azure": "/anthropic/v1/messages",
        "deepseek": "/anthropic/v1/messages",
    }.items(),
)
def test_anthropics_sdk_reaches_whoever_speaks_its_api(
    gateway: Gateway, everyone: Everyone, name: str, target: str
) -> None:
    provider = everyone[name]
    provider.reset()
    provider.answer_with(DOCUMENTED["anthropic.messages/message"].answer())
    with anthropic.Anthropic(
        base_url=gateway.url,
        api_key=KEYS[name],
        default_headers={"X-Lectr-Key": ORG_KEY, "X-Lectr-Provider": name},
        max_retries=0,
    ) as client:
        message = client.messages.create(
            model="claude-sonnet-4-6", max_tokens=9, messages=[{"role": "user", "content": PROMPT}]
        )
    assert message.usage.output_tokens == 30
    (received,) = provider.requests
    form = "x-api-key" if name == "azure" else PROVIDERS[name].form
    assert (received.target, credentials_in(received)) == (target, list(key_header(form, KEYS[name]).items()))
    assert len(received.values("anthropic-version")) == 1
