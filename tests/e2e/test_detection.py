"""The provider follows from the request: header, path, model, then what the path or key suggests. Never a refusal."""

from dataclasses import dataclass, field
from typing import Any

from tests.e2e.answers import Flavour
from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, asking, call, new_id
from tests.e2e.gateway import Gateway
from tests.e2e.scene import AZURE_API_VERSION, ORG_KEY, PROMPT, Providers, contacted, secret

GROQ_CHAT, GEMINI_CHAT = "/openai/v1/chat/completions", "/v1beta/openai/chat/completions"
NO_TYPE = {"X-Lectr-Key": ORG_KEY, "Authorization": f"Bearer {secret('')}"}  # a key that looks like nobody's
JSON = {**NO_TYPE, "Content-Type": "application/json"}
FORM = {**NO_TYPE, "Content-Type": "application/x-www-form-urlencoded"}
RELEVANT = ("provider", "provider_unknown", "provider_detected", "notes")


def with_header(value: str) -> dict[str, str]:
    return {**JSON, "X-Lectr-Provider": value}


def with_key(prefix: str) -> dict[str, str]:
    return {**JSON, "Authorization": f"Bearer {secret(prefix)}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A call, where it goes, and what its record says about that."""

    path: str = CHAT
    body: bytes = field(default_factory=asking)
    headers: dict[str, str] = field(default_factory=lambda: JSON)
    to: Flavour
    target: str | None = None
    sent: bytes | None = None
    "The body the provider gets, where it is not the client's."
    says: dict[str, Any]


def unknown(detected: str | None = None, source: str = "default") -> dict[str, Any]:
    return {
        "provider_source": source,
        "provider_unknown": True,
        **({"provider_detected": detected} if detected else {}),
    }


def model(name: str, sent: str | None = None, source: str = "prefix") -> dict[str, Any]:
    return {"provider_source": source, "model_requested": name, "model_sent": sent or name}


def plain(name: str, to: Flavour, target: str = CHAT, source: str = "prefix", sent: str | None = None) -> Case:
    return Case(
        body=asking(name), to=to, target=target, sent=asking(sent) if sent else None, says=model(name, sent, source)
    )


def elsewhere(name: str, detected: str) -> Case:
    return Case(body=asking(name), to="openai", target=CHAT, says={"model_requested": name, **unknown(detected)})


def played(name: str, by: str, source: str = "prefix") -> Case:
    """A provider that the first one stands in for."""
    says = {**model(name, source=source), "provider": by}
    return Case(body=asking(name), to="openai", target=f"/{by}{CHAT}", says=says)


CASES: dict[str, Case] = {
    # one model per rule
    "a GPT": plain("gpt-4.1-nano", "openai"),
    "a reasoning model": plain("o4-mini", "openai"),
    "an embedding model": plain("text-embedding-3-small", "openai"),
    "a Claude": plain("claude-opus-4-9", "anthropic"),
    "a Llama in Groq's spelling": plain("llama-3.3-70b-versatile", "groq", GROQ_CHAT),
    "an exact name of Groq": plain("openai/gpt-oss-120b", "groq", GROQ_CHAT, "exact"),
    "a Gemini": plain("gemini-2.5-flash", "gemini", GEMINI_CHAT),
    "a Gemini as Google writes it": plain("models/gemini-2.5-flash", "gemini", GEMINI_CHAT, sent="gemini-2.5-flash"),
    "a provider before the name": plain("anthropic/claude-sonnet-4-6", "anthropic", sent="claude-sonnet-4-6"),
    "a synonym before the name": plain("google/gemini-2.5-pro", "gemini", GEMINI_CHAT, sent="gemini-2.5-pro"),
    "a Mistral": played("mistral-large-latest", "mistral"),
    "a Grok": played("grok-4", "xai"),
    "a DeepSeek": played("deepseek-chat", "deepseek"),
    "a Command": played("command-a-03-2025", "cohere"),
    "a Cerebras": played("llama3.1-8b", "cerebras"),
    # a provider of one's own
    "a registered name": played("Org/Model", "vllm", "registry"),
    "a registered name that looks like a GPT": played("gpt-9-ours", "vllm", "registry"),
    "a registered name on Anthropic's path": Case(
        path=CLAUDE_MESSAGES,
        body=asking("Org/Model"),
        to="openai",
        target="/vllm/v1/messages",
        says={"provider": "vllm"},
    ),
    "any name behind its id": Case(
        body=asking("vllm/some-model"),
        to="openai",
        target=f"/vllm{CHAT}",
        sent=asking("some-model"),
        says={**model("vllm/some-model", "some-model"), "provider": "vllm"},
    ),
    "its id in the header": Case(
        headers=with_header("vllm"), to="openai", target=f"/vllm{CHAT}", says={"provider": "vllm"}
    ),
    # the header
    "a header": Case(headers=with_header("groq"), to="groq", target=GROQ_CHAT, says={"provider_source": "header"}),
    "a header in capitals": Case(headers=with_header("GEMINI"), to="gemini", says={"provider_source": "header"}),
    "a header's synonym": Case(headers=with_header("google"), to="gemini", says={"provider_source": "header"}),
    "a header against the path": Case(
        path=CLAUDE_MESSAGES, headers=with_header("openai"), to="openai", says={"provider_source": "header"}
    ),
    "a header for a model with its prefix": Case(
        headers=with_header("groq"),
        body=asking("groq/some-model"),
        to="groq",
        sent=asking("some-model"),
        says={"provider_source": "header", "model_sent": "some-model"},
    ),
    "a header nobody has": Case(
        headers=with_header("acme"),
        body=asking("claude-opus-4-9"),
        to="anthropic",
        says={"provider_source": "prefix", "notes": ["provider_header_invalid"]},
    ),
    "a header for a provider without address": Case(
        headers=with_header("ollama"), to="openai", says={"notes": ["provider_header_invalid"]}
    ),
    "a header that is no word": Case(
        headers=with_header("../openai"), to="openai", says={"notes": ["provider_header_invalid"]}
    ),
    # the path
    "an Azure path": Case(
        path="/openai/deployments/ours/chat/completions",
        to="azure",
        target=f"/openai/deployments/ours/chat/completions?api-version={AZURE_API_VERSION}",
        says=model("ours", source="path"),
    ),
    "a native Gemini path": Case(
        path="/v1beta/models/gemini-2.5-flash:generateContent",
        to="gemini",
        target="/v1beta/models/gemini-2.5-flash:generateContent",
        says=model("gemini-2.5-flash", source="path"),
    ),
    "a message for an unknown model": Case(
        path=CLAUDE_MESSAGES, body=asking("novel-1"), to="anthropic", says=unknown(source="path")
    ),
    # the key
    "a key of Groq": Case(
        body=asking("novel-1"), headers=with_key("gsk_"), to="groq", says=unknown(source="credential")
    ),
    "a key of Anthropic": Case(
        body=asking("novel-1"), headers=with_key("sk-ant-"), to="anthropic", says=unknown(source="credential")
    ),
    "a key of Google": Case(
        body=asking("novel-1"), headers=with_key("AIza"), to="gemini", says=unknown(source="credential")
    ),
    "a key of nobody": Case(body=asking("novel-1"), headers=with_key("key-"), to="openai", says=unknown()),
    "a key that does not fit the model": Case(
        headers=with_key("gsk_"),
        to="openai",
        says={"provider_source": "prefix", "notes": ["credential_of_another_provider"]},
    ),
    # bodies that say little
    "a model that is a number": Case(body=asking(42), to="openai", says=unknown()),
    "a model that is empty": Case(body=asking(""), to="openai", says=unknown()),
    "a model that is null": Case(body=asking(None), to="openai", says=unknown()),
    "no model": Case(body=b'{"messages": []}', to="openai", says=unknown()),
    "an array": Case(body=b'[{"model": "claude-opus-4-9"}]', to="openai", says=unknown()),
    "no JSON": Case(body=PROMPT.encode(), to="openai", says=unknown()),
    "half of a JSON": Case(body=asking()[:-9], to="openai", says=unknown()),
    "an empty body": Case(body=b"", to="openai", says=unknown()),
    "bytes": Case(body=bytes(range(256)), to="openai", says=unknown()),
    # content types
    "curl -d, which calls JSON a form": Case(
        body=asking("claude-opus-4-9"), headers=FORM, to="anthropic", says=model("claude-opus-4-9")
    ),
    "curl -d with a prefix": Case(
        body=asking("groq/x"),
        headers=FORM,
        to="groq",
        sent=asking("x"),
        says=model("groq/x", "x"),
    ),
    "a type of JSON's family": Case(
        body=asking("groq/x"),
        headers={**NO_TYPE, "Content-Type": "application/vnd.api+json"},
        to="groq",
        sent=asking("x"),
        says=model("groq/x", "x"),
    ),
    # JSON that Envoy cannot read
    "a text cut within an emoji": Case(
        body=asking("claude-opus-4-9")[:-1] + rb', "user": "\ud83d"}', to="anthropic", says=model("claude-opus-4-9")
    ),
    "a number too large, and a prefix": Case(
        body=asking("groq/x")[:-1] + b', "seed": 1e400}',
        to="groq",
        sent=asking("x")[:-1] + b', "seed": 1e400}',
        says=model("groq/x", "x"),
    ),
    "no number": Case(
        body=asking("claude-opus-4-9")[:-1] + b', "seed": NaN}', to="anthropic", says=model("claude-opus-4-9")
    ),
    "a form that is a form": Case(body=b"a=1&b=2", headers=FORM, to="openai", says=unknown()),
    "no content type": Case(
        body=asking("gemini-2.5-flash"), headers=NO_TYPE, to="gemini", says=model("gemini-2.5-flash")
    ),
    "a charset": Case(
        body=asking("claude-opus-4-9"),
        headers={**NO_TYPE, "Content-Type": "application/json; charset=utf-8"},
        to="anthropic",
        says=model("claude-opus-4-9"),
    ),
    "a content type in capitals": Case(
        body=asking("claude-opus-4-9"),
        headers={**NO_TYPE, "Content-Type": "Application/JSON"},
        to="anthropic",
        says=model("claude-opus-4-9"),
    ),
}


def test_each_call_goes_where_its_request_says_and_its_record_says_why(gateway: Gateway, providers: Providers) -> None:
    ids = {name: new_id() for name in CASES}
    went: dict[str, Any] = {}
    for name, case in CASES.items():
        for provider in providers.values():
            provider.reset()
        call(gateway, case.path, headers=case.headers, body=case.body, call_id=ids[name])
        to = contacted(providers)
        received = providers[case.to].requests[0] if to == [case.to] else None
        went[name] = to, received and (received.target if case.target else None), received and received.body
    assert went == {name: ([case.to], case.target, case.sent or case.body) for name, case in CASES.items()}

    records = {name: gateway.record(ids[name]) for name in CASES}
    seen = {name: {key: records[name].get(key) for key in {*RELEVANT, *case.says}} for name, case in CASES.items()}
    silent = {"provider_unknown": None, "provider_detected": None, "notes": None}
    assert seen == {name: {**silent, "provider": case.to, **case.says} for name, case in CASES.items()}
