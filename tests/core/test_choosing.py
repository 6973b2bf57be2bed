import dataclasses
import json

import pytest

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, with_body
from lectr_extproc.core.outcome import ASK_FOR_BODY, Route
from tests.core.calls import EVERYWHERE, signing_snapshot
from tests.core.given import request, routed, snapshot

# --- which provider ---------------------------------------------------------------------------------------------------


NAMED = {
    "its id": ("groq", "groq"),
    "another letter case": ("GrOq", "groq"),
    "blanks around it": ("  anthropic ", "anthropic"),
    "Google's other name": ("google", "gemini"),
    "xAI's other names": ("grok", "xai"),
    "and its third": ("X-AI", "xai"),
    "twice the same": ("groq, groq", "groq"),
    **{f"{name} itself": (name, name) for name in PROVIDERS},
}


@pytest.mark.parametrize(("value", "provider"), NAMED.values(), ids=NAMED)
def test_the_provider_that_the_caller_names_gets_the_call(value: str, provider: str) -> None:
    choice = routed(request("gpt-4o", ("x-lectr-provider", value)), EVERYWHERE).choice
    assert (choice.provider, choice.source, choice.unknown, choice.notes) == (provider, "header", False, ())


NOT_NAMED = {
    "nobody's name": [("x-lectr-provider", "acme")],
    "an empty name": [("x-lectr-provider", "")],
    "two that differ": [("x-lectr-provider", "groq"), ("x-lectr-provider", "openai")],
    "a provider without an address": [("x-lectr-provider", "ollama")],
    "a word that is only a model's prefix": [("x-lectr-provider", "models")],
}


@pytest.mark.parametrize("headers", NOT_NAMED.values(), ids=NOT_NAMED)
def test_a_name_that_is_no_help_is_noted_and_the_model_decides(headers: list[tuple[str, str]]) -> None:
    choice = routed(request("claude-opus-4-6", *headers)).choice
    assert (choice.provider, choice.source, choice.unknown) == ("anthropic", "prefix", False)
    assert choice.notes == ("provider_header_invalid",)


CHAIN: dict[str, tuple[Facts, str, str, bool, str | None]] = {
    "the header before the path": (
        request(None, ("x-lectr-provider", "groq"), path="/v1beta/models/gemini-2.5-pro:generateContent"),
        "groq",
        "header",
        False,
        None,
    ),
    "a native path before the model": (
        request("gpt-4o", path="/v1beta/models/gemini-2.5-pro:generateContent"),
        "gemini",
        "path",
        False,
        None,
    ),
    "an exact name": (request("mixtral-8x7b-32768"), "groq", "exact", False, None),
    "a family": (request("gemini-2.5-pro"), "gemini", "prefix", False, None),
    "an explicit prefix": (with_body(request("anthropic/claude-opus-4-6"), b"{}"), "anthropic", "prefix", False, None),
    "a model before the API's home": (
        request("gpt-4o", path="/v1/messages"),
        "openai",
        "prefix",
        False,
        None,
    ),
    "an unknown model on Anthropic's path": (
        request("mystery", path="/v1/messages"),
        "anthropic",
        "path",
        True,
        None,
    ),
    "no model on Anthropic's path": (
        request(path="/v1/messages/batches", method="GET", has_body=False),
        "anthropic",
        "path",
        True,
        None,
    ),
    "the home before the key's shape": (
        request("mystery", path="/v1/messages", bearer="gsk_abc"),
        "anthropic",
        "path",
        True,
        None,
    ),
    **{
        f"a path that only {home} has: {path}": (request(model, path=path, bearer="sk-abc"), home, "path", True, None)
        for home, path, model in (
            ("gemini", "/v1beta/openai/models", None),
            ("gemini", "/v1beta/openai/chat/completions", "mystery"),
            ("gemini", "/v1beta/openai/files", None),
            ("gemini", "/v1beta/openai/images/generations", "mystery"),
            ("cohere", "/compatibility/v1/embeddings", "mystery"),
            ("fireworks", "/inference/v1/chat/completions", "mystery"),
            ("fireworks", "/inference/v1/messages", "mystery"),
            ("openrouter", "/api/v1/generation", None),
            ("openrouter", "/api/v1/chat/completions", "mystery"),
        )
    },
    "a model before the prefix of another": (
        request("claude-opus-4-6", path="/api/v1/chat/completions"),
        "anthropic",
        "prefix",
        False,
        None,
    ),
    "a prefix that several have": (request("mystery", path="/openai/v1/x"), "openai", "default", True, None),
    "a word that begins as a prefix": (request("mystery", path="/api/v1x"), "openai", "default", True, None),
    "an unknown model and Anthropic's key": (
        request("mystery", bearer="sk-ant-api03-x"),
        "anthropic",
        "credential",
        True,
        None,
    ),
    "an unknown model and Groq's key": (request("mystery", bearer="gsk_abc"), "groq", "credential", True, None),
    "an unknown model and Google's key": (request("mystery", bearer="AIzaabc"), "gemini", "credential", True, None),
    "an unknown model and OpenAI's key": (request("mystery", bearer="sk-abc"), "openai", "credential", True, None),
    "an unknown model and a key like any other": (request("mystery"), "openai", "default", True, None),
    "an unknown model and no key": (request("mystery", bearer=None), "openai", "default", True, None),
    "no model": (request(path="/v1/files", method="GET", has_body=False), "openai", "default", True, None),
    "a known model whose provider has no address": (request("ollama/mistral"), "openai", "default", True, "ollama"),
    "a native path whose provider has no address": (request(path="/api/chat"), "openai", "default", True, "ollama"),
    "a tag where there is no Ollama": (request("llama3.1:8b"), "openai", "default", True, None),
}


@pytest.mark.parametrize(("facts", "provider", "source", "unknown", "detected"), CHAIN.values(), ids=CHAIN)
def test_somebody_always_gets_the_call(
    facts: Facts, provider: str, source: str, unknown: bool, detected: str | None
) -> None:
    choice = routed(facts).choice
    assert (choice.provider, choice.source, choice.unknown, choice.detected) == (provider, source, unknown, detected)


def test_the_key_of_a_provider_without_an_address_suggests_nobody() -> None:
    choice = routed(request("mystery", bearer="xai-abc"), snapshot(addresses={"xai": ""})).choice
    assert (choice.provider, choice.source, choice.unknown) == ("openai", "default", True)


def test_a_tag_is_ollamas_where_there_is_one() -> None:
    choice = routed(request("llama3.1:8b"), snapshot(addresses={"ollama": "http://127.0.0.1:11434/v1"})).choice
    assert (choice.provider, choice.source, choice.model_sent) == ("ollama", "prefix", "llama3.1:8b")


MODELS_SENT: dict[str, tuple[Facts, str | None, str | None]] = {
    "a plain name": (request("gpt-4o"), "gpt-4o", "gpt-4o"),
    "a prefix": (request("openai/gpt-4o"), "openai/gpt-4o", "gpt-4o"),
    "a prefix and the provider's name": (
        request("groq/llama-3.1-8b-instant", ("x-lectr-provider", "groq")),
        "groq/llama-3.1-8b-instant",
        "llama-3.1-8b-instant",
    ),
    "someone else's prefix and the provider's name": (
        request("openai/gpt-4o", ("x-lectr-provider", "groq")),
        "openai/gpt-4o",
        "openai/gpt-4o",
    ),
    "an id of OpenRouter's own": (request("openrouter/auto"), "openrouter/auto", "openrouter/auto"),
    "an id at OpenRouter": (request("openrouter/openai/gpt-4o"), "openrouter/openai/gpt-4o", "openai/gpt-4o"),
    "an id that looks like a prefix": (request("openai/gpt-oss-120b"), "openai/gpt-oss-120b", "openai/gpt-oss-120b"),
    "a prefix whose provider has no address": (request("ollama/x"), "ollama/x", "ollama/x"),
    "no model, but a provider's name": (request(None, ("x-lectr-provider", "groq")), None, None),
    "a model in the path before the body's": (
        request("x", path="/v1beta/models/gemini-2.5-pro:generateContent"),
        "gemini-2.5-pro",
        "gemini-2.5-pro",
    ),
    "an escaped model in the path": (
        request(path="/model/amazon.nova-pro-v1%3A0/converse"),
        "amazon.nova-pro-v1:0",
        "amazon.nova-pro-v1:0",
    ),
}


@pytest.mark.parametrize(("facts", "requested", "sent"), MODELS_SENT.values(), ids=MODELS_SENT)
def test_the_model_requested_and_the_model_sent_are_kept_apart(
    facts: Facts, requested: str | None, sent: str | None
) -> None:
    choice = routed(facts if facts.model is None or "/" not in facts.model else with_body(facts, b"{}")).choice
    assert (choice.model_requested, choice.model_sent) == (requested, sent)


CLIENTS_SIGNATURE = (
    ("authorization", "AWS4-HMAC-SHA256 Credential=AKID/20261120/us-east-1/bedrock/aws4_request, Signature=0"),
    ("x-amz-date", "20261120T120000Z"),
    ("x-amz-security-token", "of the client"),
    ("x-amz-content-sha256", "0"),
)


@pytest.mark.parametrize("path", ["/model/amazon.nova-pro-v1%3A0/converse", "/v1/chat/completions"])
def test_where_envoy_signs_no_key_and_no_signature_of_the_client_is_passed_on(path: str) -> None:
    for bearer, headers in (("a-key", ()), (None, CLIENTS_SIGNATURE)):
        facts = request("us.amazon.nova-pro-v1:0", *headers, path=path, bearer=bearer)
        route = routed(facts, signing_snapshot())
        assert route.choice.provider == "bedrock"
        assert "authorization" not in route.sets
        assert {"authorization", *dict(headers)} <= set(route.removes)
        assert (route.choice.notes, route.credential) == ((), "gateway")


def test_a_signature_of_the_client_is_removed_and_noted_where_nobody_signs_anew() -> None:
    facts = request(None, *CLIENTS_SIGNATURE, path="/model/amazon.nova-pro-v1%3A0/converse", bearer=None)
    route = routed(facts)
    assert set(dict(CLIENTS_SIGNATURE)) <= set(route.removes)
    assert (route.sets, route.choice.notes) == ({}, ("aws_signature_removed",))


def test_a_bedrock_key_is_passed_on_as_it_came() -> None:
    route = routed(request("us.amazon.nova-pro-v1:0", bearer="ABSKabc"))
    assert (route.sets, route.path) == ({"authorization": "Bearer ABSKabc"}, "/openai/v1/chat/completions")
    assert route.choice.notes == ()


NOTES: dict[str, tuple[Facts, tuple[str, ...]]] = {
    "nothing odd": (request("gpt-4o", bearer="sk-abc"), ()),
    "a key of no known shape": (request("gpt-4o"), ()),
    "another provider's key": (request("gpt-4o", bearer="sk-ant-x"), ("credential_of_another_provider",)),
    "another provider's key by name": (
        request("x", ("x-lectr-provider", "groq"), bearer="sk-abc"),
        ("credential_of_another_provider",),
    ),
    "a bad name and another provider's key": (
        request("gpt-4o", ("x-lectr-provider", "?"), bearer="gsk_x"),
        ("provider_header_invalid", "credential_of_another_provider"),
    ),
}


@pytest.mark.parametrize(("facts", "notes"), NOTES.values(), ids=NOTES)
def test_what_the_operator_should_know_is_noted_and_blocks_nothing(facts: Facts, notes: tuple[str, ...]) -> None:
    assert routed(facts).choice.notes == notes


def test_a_provider_whose_keys_have_no_shape_takes_any_key_without_a_note() -> None:
    assert routed(request("mistral-small-latest", bearer="sk-abc"), EVERYWHERE).choice.notes == ()


# --- providers of the operator's own ----------------------------------------------------------------------------------


OURS = snapshot(
    addresses={"vllm": "http://10.0.0.5:8000/v1", "cloud": "https://cloud.example/v1", "ollama": "http://o:11434/v1"},
    more=(
        dataclasses.replace(PROVIDERS["custom"], id="vllm", name="Our vLLM"),
        dataclasses.replace(PROVIDERS["ollama"], id="cloud", name="A second Ollama"),
    ),
    registered={"Org/Model": "vllm", "gpt-4o": "vllm", "qwen3": "cloud"},
)

FOUND_OURS: dict[str, tuple[Facts, tuple[str, str, str | None, str]]] = {
    "its id before the slash, which goes": (
        request("vllm/m"),
        ("vllm", "prefix", "m", "/v1/chat/completions"),
    ),
    "its id in the header": (
        request("m", ("x-lectr-provider", "VLLM")),
        ("vllm", "header", "m", "/v1/chat/completions"),
    ),
    "a registered name": (request("Org/Model"), ("vllm", "registry", "Org/Model", "/v1/chat/completions")),
    "a registered name that is a family's": (request("gpt-4o"), ("vllm", "registry", "gpt-4o", "/v1/chat/completions")),
    "a registered name on Anthropic's path": (
        request("Org/Model", path="/v1/messages"),
        ("vllm", "registry", "Org/Model", "/v1/messages"),
    ),
    "a native path of its kind": (request("qwen3", path="/api/chat"), ("cloud", "registry", "qwen3", "/api/chat")),
    "a native path and a name of its kind's own": (
        request("llama3.1:8b", path="/api/chat"),
        ("ollama", "path", "llama3.1:8b", "/api/chat"),
    ),
}


@pytest.mark.parametrize(("facts", "expected"), FOUND_OURS.values(), ids=FOUND_OURS)
def test_a_provider_of_ones_own_is_found_by_header_prefix_and_registered_names(
    facts: Facts, expected: tuple[str, str, str | None, str]
) -> None:
    decision = decide(facts, OURS)
    if decision is ASK_FOR_BODY:  # for the name without its prefix
        decision = decide(with_body(facts, json.dumps({"model": facts.model}).encode()), OURS)
    assert isinstance(decision, Route)
    choice = decision.choice
    assert (choice.provider, choice.source, choice.model_sent, decision.path) == expected
    assert not choice.unknown
    assert decision.cluster.startswith(f"{choice.provider}-")
