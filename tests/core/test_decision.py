import dataclasses
import itertools
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.decision import (
    ASK_FOR_BODY,
    AskForBody,
    Choice,
    Refuse,
    Route,
    Serve,
    decide,
    to_metadata,
)
from lectr_extproc.core.facts import Facts, with_body
from lectr_extproc.core.health import Health, Target
from lectr_extproc.core.record import LogEntry
from lectr_extproc.core.rules import Arm, Rule, Rules, Terms
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Failover, Limits, Site
from lectr_extproc.core.upstream import UPGRADE_SUFFIX, Signing, Upstream
from lectr_extproc.core.words import PREFERENCES, WANTED
from tests.core.given import CLIENT_KEY, DISABLED_KEY, KEY, azure_site, held, recorded, request, routed, snapshot

EVERYWHERE = snapshot(
    azure_site(),
    addresses={
        name: f"https://{name}.example/v1" for name, row in PROVIDERS.items() if not row.base_url and name != "azure"
    },
)
"Every provider has an address, and acme an Azure resource."
SMALLEST = snapshot()


def refused(facts: Facts, tables: Snapshot | None = None) -> Refuse:
    decision = decide(facts, tables or snapshot())
    assert isinstance(decision, Refuse), decision
    return decision


# --- who may call -----------------------------------------------------------------------------------------------------

REFUSED_KEYS: dict[str, tuple[list[str], str]] = {
    "no key": ([], "missing_lectr_key"),
    "an empty key": ([""], "missing_lectr_key"),
    "an empty key twice": (["", " "], "missing_lectr_key"),
    "a key without its prefix": ([KEY.removeprefix("lc_key_")], "invalid_lectr_key"),
    "the prefix alone": (["lc_key_"], "invalid_lectr_key"),
    "a key that is too short": (["lc_key_123456789012345"], "invalid_lectr_key"),
    "a key that is too long": (["lc_key_" + "a" * 129], "invalid_lectr_key"),
    "a key with a letter beyond ASCII": (["lc_key_0123456789abcdefghié"], "invalid_lectr_key"),
    "a key with bytes that are no text": (["lc_key_0123456789abcdefghi\udcff"], "invalid_lectr_key"),
    "a key with a line end": (["lc_key_0123456789abcdefghij\n0"], "invalid_lectr_key"),
    "a well-formed key that nobody has": (["lc_key_jihgfedcba9876543210"], "invalid_lectr_key"),
    "its digest instead of the key": ([next(iter(snapshot().orgs_by_key))], "invalid_lectr_key"),
    "a key in upper case": ([KEY.upper()], "invalid_lectr_key"),
    "two that differ, the first valid": ([KEY, DISABLED_KEY], "invalid_lectr_key"),
    "two that Envoy joined": ([f"{DISABLED_KEY}, {KEY}"], "invalid_lectr_key"),
    "a key and an empty one": ([KEY, ""], "invalid_lectr_key"),
    "a disabled org's key": ([DISABLED_KEY], "org_disabled"),
}


@pytest.mark.parametrize(("keys", "code"), REFUSED_KEYS.values(), ids=REFUSED_KEYS)
def test_a_caller_without_a_valid_key_is_refused(keys: list[str], code: str) -> None:
    decision = refused(request("gpt-4o", *(("x-lectr-key", key) for key in keys), key=None))
    assert (decision.refusal.code, decision.refusal.status) == (code, 401)
    assert (decision.org is not None) == (code == "org_disabled"), "the record names the org that was turned away"
    assert not any(
        key in json.loads(decision.refusal.body("openai"))["error"]["message"] for key in keys if key.strip()
    )


@pytest.mark.parametrize("again", [KEY, f" {KEY} ", f"{KEY},{KEY}"])
def test_a_key_that_is_sent_twice_is_still_one_key(again: str) -> None:
    assert routed(request("gpt-4o", ("x-lectr-key", again))).org.name == "acme"


PLACES = {"authorization": "Bearer {}", "x-api-key": "{}", "api-key": "{}", "x-goog-api-key": "{}"}


@pytest.mark.parametrize(("name", "value"), PLACES.items(), ids=PLACES)
def test_a_client_with_one_key_says_with_it_who_calls(name: str, value: str) -> None:
    def calling(key: str) -> Facts:
        return request("gpt-4o", (name, value.format(key)), key=None, bearer=None)

    assert routed(calling(KEY)).org.name == "acme"
    assert KEY not in str(routed(calling(KEY)).sets)
    assert refused(calling(DISABLED_KEY)).refusal.code == "org_disabled"
    for stranger in ("lc_key_jihgfedcba9876543210", "lc_key_123", "lc_key_" + "a" * 129):
        assert refused(calling(stranger)).refusal.code == "invalid_lectr_key"


def test_a_call_that_says_two_names_is_nobodys() -> None:
    stray = ("x-api-key", DISABLED_KEY)
    assert refused(request("gpt-4o", stray)).refusal.code == "invalid_lectr_key"
    assert refused(request("gpt-4o", stray, key=None, bearer=KEY)).refusal.code == "invalid_lectr_key"
    assert routed(request("gpt-4o", ("x-api-key", KEY), bearer=KEY)).org.name == "acme"


def test_beside_a_key_of_ours_the_clients_key_for_the_provider_still_goes() -> None:
    route = routed(request("gpt-4o", ("x-api-key", CLIENT_KEY), key=None, bearer=KEY))
    assert route.sets == {"authorization": f"Bearer {CLIENT_KEY}"}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_refusal_has_the_shape_of_the_api_that_was_called(path: str) -> None:
    assert refused(request(path=path, key=None)).shape == "anthropic"
    assert refused(request(key=None)).shape == "openai"


def test_the_key_is_asked_for_before_anything_else() -> None:
    huge = request(None, ("content-length", "999999999"), key=None, content_type="text/plain")
    assert refused(huge).refusal.code == "missing_lectr_key"


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


def signing_snapshot() -> Snapshot:
    plain = snapshot()
    upstream = dataclasses.replace(plain.sites["bedrock"].upstream, signing=Signing(service="bedrock", region="r"))
    return dataclasses.replace(plain, sites={**plain.sites, "bedrock": Site(upstream=upstream)})


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


# --- Azure ------------------------------------------------------------------------------------------------------------

DATED = "/openai/deployments/gpt4/chat/completions?api-version=2024-02-01"
AZURE: dict[str, tuple[Facts, str, str]] = {
    "by header": (request("gpt4", ("x-lectr-provider", "azure")), "2024-02-01", DATED),
    "by prefix": (with_body(request("azure/gpt4"), b"{}"), "2024-02-01", DATED),
    "by path": (request(path="/openai/deployments/gpt4/chat/completions"), "2024-02-01", DATED),
    "by path, with the client's version": (
        request(path="/openai/deployments/gpt4/chat/completions?api-version=2025-01-01"),
        "2024-02-01",
        "/openai/deployments/gpt4/chat/completions?api-version=2025-01-01",
    ),
    "a later version": (
        request("gpt4", ("x-lectr-provider", "azure")),
        "2025-03-01-preview",
        DATED.replace("2024-02-01", "2025-03-01-preview"),
    ),
    "v1": (request("gpt4", ("x-lectr-provider", "azure")), "v1", "/openai/v1/chat/completions"),
    "a deployment that tries to climb": (
        request("..", ("x-lectr-provider", "azure")),
        "2024-02-01",
        DATED.replace("gpt4", "%252E%252E"),
    ),
    "a deployment with a slash": (
        request("a/b", ("x-lectr-provider", "azure")),
        "2024-02-01",
        DATED.replace("gpt4", "a%2Fb"),
    ),
    "a deployment with a question mark and blanks": (
        request("a? b", ("x-lectr-provider", "azure")),
        "2024-02-01",
        DATED.replace("gpt4", "a%3F%20b"),
    ),
    "a deployment with an escape": (
        request("%2e%2e", ("x-lectr-provider", "azure")),
        "2024-02-01",
        DATED.replace("gpt4", "%252e%252e"),
    ),
    "an escaped deployment in the path": (
        request(path="/openai/deployments/my%20gpt/chat/completions"),
        "2024-02-01",
        DATED.replace("gpt4", "my%20gpt"),
    ),
}


@pytest.mark.parametrize(("facts", "version", "path"), AZURE.values(), ids=AZURE)
def test_azure_gets_its_own_path_at_the_orgs_own_address(facts: Facts, version: str, path: str) -> None:
    route = routed(facts, snapshot(azure_site(version)))
    assert (route.choice.provider, route.authority, route.path) == ("azure", "acme.openai.azure.com", path)
    assert (route.sets, route.body) == ({"api-key": CLIENT_KEY}, facts.body)


@pytest.mark.parametrize("facts", [facts for facts, _, _ in AZURE.values()], ids=AZURE)
def test_an_org_without_an_azure_address_is_told_so(facts: Facts) -> None:
    decision = refused(facts)
    assert (decision.refusal.status, decision.refusal.code) == (400, "azure_config_missing")
    assert decision.org is not None
    assert decision.choice is not None
    assert (decision.org.name, decision.choice.provider) == ("acme", "azure")


def test_a_provider_without_any_address_is_never_sent_to_someone_else() -> None:
    bare = dataclasses.replace(snapshot(), sites={})
    assert refused(request("gpt-4o"), bare).refusal.code == "provider_unreachable"


# --- keys -------------------------------------------------------------------------------------------------------------

INGRESS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "Bearer": ("", [("authorization", "Bearer {}")]),
    "x-api-key": ("", [("x-api-key", "{}")]),
    "api-key": ("", [("api-key", "{}")]),
    "x-goog-api-key": ("", [("x-goog-api-key", "{}")]),
    "the query": ("?key={}", []),
    "every form at once": (
        "?key={}",
        [("x-goog-api-key", "{}"), ("api-key", "{}"), ("x-api-key", "{}"), ("authorization", "Bearer {}")],
    ),
}
EGRESS = {"anthropic": "x-api-key", "azure": "api-key", "ollama": None}
KEY_HEADERS = {"authorization", "x-api-key", "api-key", "x-goog-api-key"}


def call_with(ingress: str, secret: str, *headers: tuple[str, str], path: str = "/v1/chat/completions") -> Facts:
    query, forms = INGRESS[ingress]
    arrived = [(name, value.format(secret)) for name, value in forms]
    return request("m", *arrived, *headers, path=path + query.format(secret), bearer=None)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_key_leaves_in_its_providers_form_and_in_no_other(provider: str) -> None:
    header = EGRESS.get(provider, "authorization")
    value = f"Bearer {CLIENT_KEY}" if header == "authorization" else CLIENT_KEY
    for ingress in INGRESS:
        facts = call_with(ingress, CLIENT_KEY, ("x-lectr-provider", provider))
        route = routed(facts, EVERYWHERE)
        assert {name: value for name, value in route.sets.items() if name in KEY_HEADERS} == (
            {header: value} if header else {}
        )
        assert (KEY_HEADERS & facts.header_names) - {header} <= set(route.removes)
        assert header not in route.removes
        assert CLIENT_KEY not in route.path


NATIVE_GEMINI = {
    "an API key": ("AIzaabc", {"x-goog-api-key": "AIzaabc"}),
    "an OAuth token": ("ya29.abc", {"authorization": "Bearer ya29.abc"}),
}


@pytest.mark.parametrize(("secret", "sets"), NATIVE_GEMINI.values(), ids=NATIVE_GEMINI)
@pytest.mark.parametrize("ingress", INGRESS)
def test_geminis_own_api_gets_its_own_header(ingress: str, secret: str, sets: dict[str, str]) -> None:
    path = "/v1beta/models/gemini-2.5-pro:generateContent"
    route = routed(call_with(ingress, secret, path=path))
    assert (route.sets, route.path) == (sets, path)


def test_claude_at_azure_gets_its_key_as_anthropic_wants_it() -> None:
    route = routed(
        request("claude-sonnet-4-6", ("x-lectr-provider", "azure"), path="/v1/messages"), snapshot(azure_site())
    )
    assert (route.path, route.sets, route.removes[0]) == (
        "/anthropic/v1/messages",
        {"x-api-key": CLIENT_KEY},
        "authorization",
    )


def test_geminis_path_does_not_make_its_header_anyone_elses() -> None:
    path = "/v1beta/models/gemini-2.5-pro:generateContent"
    route = routed(request(None, ("x-lectr-provider", "groq"), path=path))
    assert route.sets == {"authorization": f"Bearer {CLIENT_KEY}"}


TOKENS = {
    "Anthropic's OAuth token": ("anthropic", "sk-ant-oat01-abc"),
    "an Entra token": ("azure", "eyJhbGciOiJSUzI1NiJ9.e30.sig"),
}


@pytest.mark.parametrize(("provider", "token"), TOKENS.values(), ids=TOKENS)
def test_a_token_stays_bearer(provider: str, token: str) -> None:
    route = routed(request("m", ("x-lectr-provider", provider), bearer=token), EVERYWHERE)
    assert route.sets["authorization"] == f"Bearer {token}"
    assert not {"x-api-key", "api-key"} & route.sets.keys()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_key_is_for_the_provider_to_answer(provider: str) -> None:
    route = routed(request("m", ("x-lectr-provider", provider), bearer=None), EVERYWHERE)
    assert not KEY_HEADERS & route.sets.keys()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_org_key_that_strayed_never_reaches_a_provider(provider: str) -> None:
    for ingress in INGRESS:
        facts = call_with(ingress, KEY, ("x-lectr-provider", provider))
        route = routed(facts, EVERYWHERE)
        assert KEY not in "".join((*route.sets.values(), route.path))
        assert KEY_HEADERS & facts.header_names <= set(route.removes)


# --- keys that the gateway holds --------------------------------------------------------------------------------------


def holding(everyones: dict[str, str] | None = None, /, **orgs: str) -> Snapshot:
    """Keys held for every org, and for acme."""
    tables = dataclasses.replace(EVERYWHERE, credentials=held(**(everyones or {})))
    return replaced_org(tables, credentials=held(**orgs))


def replaced_org(tables: Snapshot, **changes: Any) -> Snapshot:
    changed = {key: dataclasses.replace(org, **changes) for key, org in tables.orgs_by_key.items()}
    return dataclasses.replace(tables, orgs_by_key=changed)


def to(provider: str, bearer: str | None = None) -> Facts:
    return request("m", ("x-lectr-provider", provider), bearer=bearer)


def keys_out(route: Route) -> dict[str, str]:
    return {name: value for name, value in route.sets.items() if name in KEY_HEADERS}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_held_key_goes_out_in_its_providers_form_for_a_client_that_has_none(provider: str) -> None:
    route = routed(to(provider), holding(dict.fromkeys(PROVIDERS, "everyones"), **{provider: "acmes"}))
    header = EGRESS.get(provider, "authorization")
    value = "Bearer acmes" if header == "authorization" else "acmes"
    assert keys_out(route) == ({header: value} if header else {})
    assert route.credential == ("gateway" if header else "none")


def test_an_orgs_own_key_comes_before_everyones() -> None:
    both = holding({"openai": "everyones", "groq": "everyones"}, openai="acmes")
    assert keys_out(routed(to("openai"), both)) == {"authorization": "Bearer acmes"}
    assert keys_out(routed(to("groq"), both)) == {"authorization": "Bearer everyones"}


def test_everyones_key_never_goes_to_an_address_that_is_one_orgs_own() -> None:
    everyones = holding({"azure": "everyones"})
    assert (keys_out(routed(to("azure"), everyones)), routed(to("azure"), everyones).credential) == ({}, "none")
    unsited = replaced_org(everyones, sites={})
    shared = dataclasses.replace(unsited, sites={**unsited.sites, "azure": azure_site()})
    assert keys_out(routed(to("azure"), shared)) == {"api-key": "everyones"}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_key_held_for_one_provider_goes_to_no_other(provider: str) -> None:
    others = {name: f"held-{name}" for name in PROVIDERS if name != provider}
    route = routed(to(provider), holding(others, **others))
    assert (keys_out(route), route.credential) == ({}, "none")


WHOSE: dict[str, tuple[Facts, str, str]] = {
    "the client's own, as it should look": (to("groq", "gsk_theirs"), "gsk_theirs", "client"),
    "the client's own, that looks like nobody's": (to("groq", "theirs"), "theirs", "client"),
    "evidently another provider's": (to("groq", "sk-ant-theirs"), "held", "gateway"),
    "one of ours": (to("groq", KEY), "held", "gateway"),
    "none": (to("groq"), "held", "gateway"),
}
SHAPED = {
    "sk-ant-theirs": True,
    "gsk_theirs": True,
    "AIza-theirs": True,
    "xai-theirs": True,
    "csk-theirs": True,
    "sk-or-theirs": True,
    "fw_theirs": True,
    "ABSKtheirs": True,
    "sk-theirs": False,
    "sk-proj-theirs": False,
    "theirs": False,
}


@pytest.mark.parametrize("provider", ["mistral", "cohere", "custom"])
@pytest.mark.parametrize(("secret", "anothers"), SHAPED.items(), ids=SHAPED)
def test_a_provider_whose_keys_have_no_shape_never_gets_one_that_is_evidently_anothers(
    provider: str, secret: str, *, anothers: bool
) -> None:
    route = routed(to(provider, secret), holding({provider: "held"}))
    assert keys_out(route) == {"authorization": f"Bearer {'held' if anothers else secret}"}
    assert ("credential_of_another_provider" in route.choice.notes) is anothers


def test_a_second_address_of_a_kind_takes_the_keys_of_its_kind() -> None:
    second = dataclasses.replace(PROVIDERS["openrouter"], id="second", key_shapes=())
    tables = dataclasses.replace(snapshot(more=[second]), credentials=held(second="held"))
    route = routed(to("second", "sk-or-theirs"), tables)
    assert (route.credential, route.choice.notes) == ("client", ())


@pytest.mark.parametrize(("facts", "secret", "source"), WHOSE.values(), ids=WHOSE)
def test_the_clients_own_key_goes_unless_it_is_evidently_anothers(facts: Facts, secret: str, source: str) -> None:
    route = routed(facts, holding({"groq": "held"}))
    assert (keys_out(route), route.credential) == ({"authorization": f"Bearer {secret}"}, source)
    noted = "credential_of_another_provider" in route.choice.notes
    assert noted == (facts.credential is not None and facts.credential.secret.startswith("sk-ant-"))


def test_where_no_key_is_held_anothers_goes_where_the_client_sends_it() -> None:
    route = routed(to("groq", "sk-ant-theirs"), holding({"openai": "held"}))
    assert (keys_out(route), route.credential) == ({"authorization": "Bearer sk-ant-theirs"}, "client")


HELD_FORMS: dict[str, tuple[Facts, str, dict[str, str]]] = {
    "Gemini's own API": (
        request(None, path="/v1beta/models/gemini-2.5-pro:generateContent", bearer=None),
        "AIza1",
        {"x-goog-api-key": "AIza1"},
    ),
    "Gemini as OpenAI": (to("gemini"), "AIza1", {"authorization": "Bearer AIza1"}),
    "an Entra token": (to("azure"), "eyJ0.e30.sig", {"authorization": "Bearer eyJ0.e30.sig"}),
    "Anthropic's OAuth token": (to("anthropic"), "sk-ant-oat01-1", {"authorization": "Bearer sk-ant-oat01-1"}),
}


@pytest.mark.parametrize(("facts", "secret", "sets"), HELD_FORMS.values(), ids=HELD_FORMS)
def test_a_held_key_takes_the_form_of_its_path_and_kind(facts: Facts, secret: str, sets: dict[str, str]) -> None:
    provider = routed(facts, EVERYWHERE).choice.provider
    assert keys_out(routed(facts, holding(**{provider: secret}))) == sets


def test_a_held_key_is_never_shown() -> None:
    tables = holding({"groq": "hunter2"}, openai="hunter2")
    facts = to("openai")
    route = routed(facts, tables)
    assert "hunter2" in str(route.sets)
    assert "hunter2" not in repr(tables) + repr(route) + repr(to_metadata(route, facts, "c1"))


# --- headers, paths, addresses ----------------------------------------------------------------------------------------

HEADERS = [
    ("x-lectr-feature", "search"),
    ("x-lectr-task", "generation"),
    ("x-lectr-cluster", "elsewhere"),
    ("x-lectr-anything", "1"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-forwarded-proto", "https"),
    ("proxy-authorization", "Basic dTpw"),
    ("origin", "https://app.example"),
    ("sec-fetch-mode", "cors"),
    ("user-agent", "test"),
    ("x-request-id", "r1"),
    ("anthropic-beta", "b"),
    ("openai-organization", "org"),
    ("accept-encoding", "gzip"),
]


def test_everything_of_ours_and_of_proxies_is_removed_and_nothing_else() -> None:
    # x-forwarded-proto is the route's to remove: without it Envoy finds no route.
    assert routed(request("gpt-4o", *HEADERS)).removes == (
        "proxy-authorization",
        "x-forwarded-for",
        "x-lectr-anything",
        "x-lectr-cluster",
        "x-lectr-feature",
        "x-lectr-key",
        "x-lectr-task",
    )


def test_a_header_with_a_key_of_ours_in_it_is_removed_whatever_it_is_for() -> None:
    protocols = f"realtime, openai-insecure-api-key.{KEY}"
    headers = [("sec-websocket-protocol", protocols), ("referer", f"https://h/?k={KEY}"), ("x-own", "lc_keys")]
    route = routed(request("gpt-4o", *headers, path=f"/v1/chat/completions?a=1&api_key={KEY}&token={KEY}"))
    assert route.removes == ("referer", "sec-websocket-protocol", "x-lectr-key")
    assert (route.path, KEY in str(route.sets)) == ("/v1/chat/completions?a=1", False)


def test_anthropic_gets_its_version_and_nothing_that_looks_like_a_browser() -> None:
    route = routed(request("claude-opus-4-6", *HEADERS))
    assert route.sets == {"anthropic-version": "2023-06-01", "x-api-key": CLIENT_KEY}
    assert {"origin", "sec-fetch-mode", "authorization"} <= set(route.removes)
    assert "anthropic-beta" not in route.removes


def test_a_version_that_the_client_asks_for_is_kept() -> None:
    route = routed(request("claude-opus-4-6", ("anthropic-version", "2099-01-01"), path="/v1/messages"))
    assert "anthropic-version" not in {*route.sets, *route.removes}


PATHS = {
    "OpenAI": ("gpt-4o", "/v1/chat/completions", "api.openai.com", "/v1/chat/completions"),
    "Groq": ("llama-3.1-8b-instant", "/v1/chat/completions", "api.groq.com", "/openai/v1/chat/completions"),
    "Gemini": (
        "gemini-2.5-pro",
        "/v1/chat/completions",
        "generativelanguage.googleapis.com",
        "/v1beta/openai/chat/completions",
    ),
    "Gemini by its SDK's base URL": (
        "gemini-2.5-pro",
        "/v1beta/openai/embeddings",
        "generativelanguage.googleapis.com",
        "/v1beta/openai/embeddings",
    ),
    "Anthropic": ("claude-opus-4-6", "/v1/messages?beta=true", "api.anthropic.com", "/v1/messages?beta=true"),
    "a path we know nothing about": ("gpt-4o", "/v9/new?x=%20", "api.openai.com", "/v9/new?x=%20"),
    "an odd path": ("gpt-4o", "//v1/../%2e%2e/?", "api.openai.com", "//v1/../%2e%2e/"),
}


@pytest.mark.parametrize(("model", "client", "authority", "sent"), PATHS.values(), ids=PATHS)
def test_host_and_path_are_the_providers(model: str, client: str, authority: str, sent: str) -> None:
    route = routed(request(model, path=client))
    assert (route.authority, route.path) == (authority, sent)
    assert route.cluster.startswith(f"{route.choice.provider}-")


def test_an_address_from_the_settings_takes_the_catalogues_place() -> None:
    own = snapshot(addresses={"openai": "http://127.0.0.1:8000/team/v1"})
    route = routed(request("gpt-4o"), own)
    assert (route.authority, route.path) == ("127.0.0.1:8000", "/team/v1/chat/completions")
    assert route.cluster == own.sites["openai"].upstream.cluster != snapshot().sites["openai"].upstream.cluster


def test_an_upgrade_goes_to_the_same_address_over_http_1() -> None:
    path = "/v1/realtime?model=gpt-4o-realtime-preview"
    route = routed(request(None, ("upgrade", "websocket"), path=path, method="GET", has_body=False))
    assert route.cluster == snapshot().sites["openai"].upstream.cluster + UPGRADE_SUFFIX
    assert (route.choice.model_sent, route.path) == ("gpt-4o-realtime-preview", path)


def test_an_upgrade_has_its_models_prefix_taken_off_in_its_query() -> None:
    path = "/v1/realtime?intent=a%20b&model=groq%2Fx%2Fy&&b"
    route = routed(request(None, ("upgrade", "websocket"), path=path, method="GET", has_body=False))
    assert (route.choice.provider, route.choice.model_requested, route.choice.model_sent) == ("groq", "groq/x/y", "x/y")
    assert route.path == "/openai/v1/realtime?intent=a%20b&model=x%2Fy&&b"


# --- the models there are ---------------------------------------------------------------------------------------------

NOW = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
ANTHROPICS = ("anthropic-version", "2023-06-01")


def models_of(*headers: tuple[str, str], path: str = "/v1/models", **more: Any) -> Facts:
    facts = request(None, *headers, path=path, method="GET", has_body=False, content_type="", **more)
    return dataclasses.replace(facts, at_s=NOW)


def served(facts: Facts, tables: Snapshot | None = None) -> Any:
    decision = decide(facts, tables or snapshot())
    assert isinstance(decision, Serve), decision
    return json.loads(decision.body)


def test_every_model_that_is_listed_goes_to_its_owner_when_it_is_asked() -> None:
    registered = {"gpt-4o": "mine", "Own/Model": "mine", "our-gpt": "azure", "llama3.1:8b": "mine"}
    more = [dataclasses.replace(PROVIDERS["custom"], id="mine")]
    addresses = dict.fromkeys([*PROVIDERS, "mine"], "http://h/v1")
    for tables in (
        snapshot(),
        EVERYWHERE,
        snapshot(azure_site(), more=more, addresses=addresses, registered=registered),
    ):
        listed = [entry for entry in served(models_of(), tables)["data"] if entry["owned_by"] != "lectr"]
        choices = [routed_choice(request(entry["id"]), tables) for entry in listed]
        assert [(choice.provider, choice.unknown) for choice in choices] == [(e["owned_by"], False) for e in listed]
        assert len(listed) > 10


def routed_choice(facts: Facts, tables: Snapshot) -> Choice:
    decision = decide(facts, tables)
    if isinstance(decision, AskForBody):
        decision = decide(with_body(facts, b"{}"), tables)
    assert isinstance(decision, Route)
    return decision.choice


def test_an_org_is_offered_what_it_reaches_and_no_more() -> None:
    own = {"our-gpt": "azure"}
    without, having = (snapshot(site, registered=own) for site in (None, azure_site()))
    names = [[entry["id"] for entry in served(models_of(), tables)["data"]] for tables in (without, having)]
    assert set(names[1]) - set(names[0]) == {"our-gpt"}
    reached = {entry["owned_by"] for entry in served(models_of(), without)["data"]}
    assert reached <= without.sites.keys() | {"lectr"}


def test_the_sdk_that_asks_is_answered_in_its_shape() -> None:
    assert served(models_of())["object"] == "list"
    page = served(models_of(ANTHROPICS, path="/v1/models?limit=1"))
    assert (len(page["data"]), page["data"][0]["type"], page["has_more"]) == (1, "model", True)
    assert served(models_of(ANTHROPICS, path="/v1/models/gpt-4o"))["display_name"] == "gpt-4o"


def test_the_list_is_the_same_with_a_slash_behind_it_and_for_who_only_wants_its_head() -> None:
    head = dataclasses.replace(models_of(), method="HEAD")
    assert served(models_of()) == served(models_of(path="/v1/models/")) == served(head)


@pytest.mark.parametrize("path", ["/v1/models/mine/a:b", "/v1/models/mine%2Fa%3Ab"])
def test_a_model_is_found_by_its_name_with_slashes_and_escapes(path: str) -> None:
    assert served(models_of(path=path), snapshot(registered={"mine/a:b": "openai"}))["id"] == "mine/a:b"


@pytest.mark.parametrize(("headers", "shape"), [((), "openai"), ((ANTHROPICS,), "anthropic")])
def test_a_model_that_is_not_offered_is_not_found(headers: tuple[tuple[str, str], ...], shape: str) -> None:
    decision = refused(models_of(*headers, path="/v1/models/mystery"))
    assert (decision.refusal.code, decision.refusal.status, decision.shape) == ("model_not_found", 404, shape)
    assert decision.org is not None


def test_who_may_not_call_is_told_no_models() -> None:
    assert refused(models_of(key=None)).refusal.code == "missing_lectr_key"
    assert refused(models_of(key=DISABLED_KEY)).refusal.code == "org_disabled"


AT_GROQ = ("x-lectr-provider", "groq")
PASSED_ON: dict[str, tuple[Facts, str]] = {
    "a provider's own list": (models_of(AT_GROQ), "/openai/v1/models"),
    "a provider's own model": (models_of(AT_GROQ, path="/v1/models/x"), "/openai/v1/models/x"),
    "a deletion": (request(path="/v1/models/ft:gpt-4o:x", method="DELETE", has_body=False), "/v1/models/ft:gpt-4o:x"),
    "another prefix": (models_of(path="/openai/models"), "/openai/models"),
}


@pytest.mark.parametrize(("facts", "path"), PASSED_ON.values(), ids=PASSED_ON)
def test_every_other_question_for_models_is_a_providers(facts: Facts, path: str) -> None:
    assert routed(facts).path == path


def test_a_provider_that_is_none_is_noted_and_changes_nothing() -> None:
    decisions = [decide(models_of(*headers), snapshot()) for headers in ((), (("x-lectr-provider", "nobody"),))]
    assert all(isinstance(decision, Serve) for decision in decisions)
    records = [
        recorded(LogEntry(start_ns=1, status=200, response_bytes=9, decision=to_metadata(d, models_of(), "c1")))
        for d in decisions
        if isinstance(d, Serve)
    ]
    for record in records:
        assert (record.org, record.provider, record.dialect, record.outcome) == ("acme", None, "models", "ok")
        assert (record.cost, record.usage, record.token_source) == (None, None, "none")
    assert [record.notes for record in records] == [
        ("answered_by_gateway",),
        ("answered_by_gateway", "provider_header_invalid"),
    ]


# --- the body ---------------------------------------------------------------------------------------------------------


def sized(size: int, model: str | None = None, content_type: str = "application/json", **more: object) -> Facts:
    facts = request(model, ("content-length", str(size)), content_type=content_type)
    return dataclasses.replace(facts, **more)  # type: ignore[arg-type]


FORM = "application/x-www-form-urlencoded"
PARTS = 'multipart/form-data; boundary="x y"'
TRANSCRIPTIONS = "/v1/audio/transcriptions"


def in_parts(size: int, path: str = TRANSCRIPTIONS, content_type: str = PARTS, *headers: tuple[str, str]) -> Facts:
    return request(None, ("content-length", str(size)), *headers, path=path, content_type=content_type)


def of_parts(**fields: str) -> bytes:
    parts = (f'--x y\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{v}\r\n' for name, v in fields.items())
    return "".join([*parts, "--x y--\r\n"]).encode()


ASKED: dict[str, tuple[Facts, bool]] = {
    "a model from the metadata": (sized(9, "gpt-4o"), False),
    "JSON that Envoy made nothing of": (sized(9), True),
    "JSON without a model": (request(None, ("content-length", "9"), metadata={"stream": False}), False),
    "JSON that Envoy made nothing of, of unknown length": (request(), False),
    "JSON that Envoy made nothing of, larger than is read": (sized(1025), False),
    "JSON of another name": (sized(9, None, "application/vnd.api+json; charset=utf-8"), True),
    "JSON whose path has the model": (
        request(None, ("content-length", "9"), path="/v1beta/models/gemini-2.5-pro:generateContent"),
        False,
    ),
    "a picture": (sized(9, None, "image/png"), False),
    "curl's form without a model": (sized(9, None, FORM), True),
    "plain text without a model": (sized(9, None, "text/plain; charset=utf-8"), True),
    "no content type": (sized(9, None, ""), True),
    "a form that names a model": (sized(9, "gpt-4o", FORM), False),
    "a form as large as is read": (sized(1024, None, FORM), True),
    "a form larger than that": (sized(1025, None, FORM), False),
    "a form of unknown length": (request(content_type=FORM), False),
    "an empty form": (sized(0, None, FORM), False),
    "a form in parts where it names no model": (sized(9, None, PARTS), False),
    "a recording": (in_parts(9), True),
    "pictures": (in_parts(9, path="/v1/images/edits"), True),
    "a film": (in_parts(9, path="/v1/videos"), True),
    "a recording at Azure": (in_parts(9, path="/openai/v1/audio/translations"), True),
    "a recording as large as is read": (in_parts(2048), True),
    "a recording larger than that": (in_parts(2049), False),
    "a recording of unknown length": (request(path=TRANSCRIPTIONS, content_type=PARTS), False),
    "a recording without a boundary": (in_parts(9, content_type="multipart/form-data"), False),
    "a recording whose deployment is in the path": (
        in_parts(9, path="/openai/deployments/w/audio/transcriptions"),
        False,
    ),
    "a recording that was seen": (with_body(in_parts(9), b"x"), False),
    "a form whose path has the model": (
        sized(9, None, FORM, path="/v1beta/models/gemini-2.5-pro:generateContent"),
        False,
    ),
    "a form without a body": (sized(9, None, FORM, has_body=False), False),
    "a form on an upgrade": (sized(9, None, FORM, is_upgrade=True), False),
    "a form that was seen": (with_body(sized(9, None, FORM), b"x"), False),
    "a prefix to take off": (sized(9, "openai/gpt-4o"), True),
    "a prefix on an upgrade": (sized(9, "openai/gpt-4o", is_upgrade=True), False),
    "a prefix without a body": (sized(9, "openai/gpt-4o", has_body=False), False),
    "a prefix that the path takes, too": (sized(9, "azure/gpt4"), True),
    "a GET": (request(path="/v1/models", method="GET", has_body=False, content_type=""), False),
}


@pytest.mark.parametrize(("facts", "is_asked"), ASKED.values(), ids=ASKED)
def test_a_body_is_asked_for_exactly_when_it_is_needed(facts: Facts, is_asked: bool) -> None:
    tables = snapshot(azure_site(), limits=Limits(inspect_body_bytes=1024, inspect_multipart_bytes=2048))
    assert (decide(facts, tables) is ASK_FOR_BODY) is is_asked


def test_the_model_of_a_form_decides_and_its_prefix_is_taken_off_in_its_field() -> None:
    form = {"prompt": "model", "file": "\x00", "model": "groq/whisper-large-v3", "stream": "true"}
    facts = with_body(in_parts(9), of_parts(**form))
    route = routed(facts)
    assert (route.choice.provider, route.choice.model_sent, route.path) == (
        "groq",
        "whisper-large-v3",
        "/openai/v1/audio/transcriptions",
    )
    assert (facts.streaming, route.asks_for_usage) == (True, False)
    assert route.body == of_parts(**form | {"model": "whisper-large-v3"})


def test_a_form_that_needs_no_change_stays_as_it_is() -> None:
    route = routed(with_body(in_parts(9), of_parts(model="whisper-1", stream="false")))
    assert (route.choice.provider, route.choice.dialect, route.body) == ("openai", "openai.audio", None)


def test_a_form_without_a_model_goes_where_its_key_says() -> None:
    route = routed(with_body(in_parts(9), of_parts(prompt="groq/whisper-large-v3")))
    assert (route.choice.provider, route.choice.model_sent, route.choice.unknown) == ("openai", None, True)


def test_azure_takes_the_deployment_out_of_a_form() -> None:
    named = ("x-lectr-provider", "azure")
    facts = with_body(in_parts(9, TRANSCRIPTIONS, PARTS, named), of_parts(model="azure/our-whisper"))
    dated, newer = (routed(facts, snapshot(azure_site(version))) for version in ("2024-02-01", "v1"))
    assert dated.path == "/openai/deployments/our-whisper/audio/transcriptions?api-version=2024-02-01"
    assert newer.path == "/openai/v1/audio/transcriptions"
    assert dated.body == newer.body == of_parts(model="our-whisper")


PREFIXED = {
    "Ollama's chat": ("/api/chat", "ollama", "llama3.1:8b"),
    "Ollama's completion": ("/api/generate", "ollama", "llama3.2"),
    "Ollama's description": ("/api/show", "ollama", "org/llama3.2"),
    "Cohere's chat": ("/v2/chat", "cohere", "command-a-03-2025"),
    "Cohere's embeddings": ("/v2/embed", "cohere", "embed-english-v3.0"),
    "Cohere's older chat": ("/v1/chat", "cohere", "ours"),
    "Azure's newer API": ("/openai/v1/chat/completions", "azure", "gpt4"),
    "Azure's newer responses": ("/openai/v1/responses", "azure", "gpt4"),
    "Azure's dated API": ("/v1/chat/completions", "azure", "gpt4"),
    "Azure's dated responses": ("/v1/responses", "azure", "gpt4"),
}


@pytest.mark.parametrize(("path", "provider", "name"), PREFIXED.values(), ids=PREFIXED)
def test_a_provider_gets_its_model_without_its_own_prefix_on_its_own_paths_too(
    path: str, provider: str, name: str
) -> None:
    facts = request(f"{provider}/{name}", path=path)
    assert decide(facts, EVERYWHERE) is ASK_FOR_BODY
    route = routed(with_body(facts, b'{ "model": "%b/%b" }' % (provider.encode(), name.encode())), EVERYWHERE)
    assert (route.choice.provider, route.choice.model_sent) == (provider, name)
    assert route.body == b'{ "model": "%b" }' % name.encode()


def test_a_model_that_the_path_names_is_the_paths_own() -> None:
    facts = request(path="/model/bedrock%2Fmine/converse")
    for tables, named in ((EVERYWHERE, ()), (EVERYWHERE, (("x-lectr-provider", "bedrock"),))):
        route = routed(request(None, *named, path=facts.path), tables)
        assert (route.choice.model_sent, route.path) == ("bedrock/mine", facts.path)


def test_only_a_body_that_changes_is_sent_again() -> None:
    body = b'{"model": "openai/gpt-4o", "seed": 18446744073709551617, "messages": []}'
    facts = request("openai/gpt-4o")
    assert routed(with_body(facts, body)).body == body.replace(b"openai/", b"")
    assert routed(with_body(sized(9, None, FORM), b'{"model": "gpt-4o"}')).body is None


def test_a_model_that_only_the_body_told_decides() -> None:
    for seen in (sized(9, None, FORM), sized(9), sized(9, None, "application/merge-patch+json")):
        route = routed(with_body(seen, b'{"model": "claude-opus-4-6", "stream": true}'))
        assert (route.choice.provider, route.choice.source) == ("anthropic", "prefix")


def test_a_body_that_is_no_json_goes_on_as_it_is() -> None:
    route = routed(with_body(sized(9, None, FORM), b"model=gpt-4o"))
    assert (route.choice.provider, route.choice.unknown, route.body) == ("openai", True, None)


@pytest.mark.parametrize(("size", "code"), [(2048, None), (2049, "request_too_large")])
def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(size: int, code: str | None) -> None:
    decision = decide(sized(size, "gpt-4o"), snapshot(limits=Limits(max_body_bytes=2048)))
    assert (decision.refusal.code if isinstance(decision, Refuse) else None) == code


# --- the decision as metadata -----------------------------------------------------------------------------------------


def test_a_route_writes_what_its_record_needs() -> None:
    facts = request(
        "openai/gpt-4o",
        ("x-lectr-provider", "nobody"),
        ("x-lectr-feature", "Search\t1"),
        ("x-lectr-task", "Summarization"),
        path="/v1/chat/completions?key=k",
        bearer="gsk_abc",
        metadata={"stream": True},
    )
    facts = with_body(facts, b'{"model": "openai/gpt-4o"}')
    assert to_metadata(routed(facts), facts, "c1") == {
        "call_id": "c1",
        "routed": "1",
        "org": "acme",
        "provider": "openai",
        "source": "prefix",
        "dialect": "openai.chat",
        "shape": "openai",
        "requested": "openai/gpt-4o",
        "sent": "gpt-4o",
        "path": "/v1/chat/completions",
        "feature": "Search1",
        "task": "Summarization",
        "stream": "1",
        "host": "api.openai.com",
        "observe": "stream",
        "credential": "client",
        "notes": "provider_header_invalid,credential_of_another_provider",
    }


STREAMS: dict[str, tuple[Facts, bool]] = {
    "a chat": (request("gpt-4o"), False),
    "a message that asks": (request("claude-sonnet-4-6", path="/v1/messages", metadata={"stream": True}), True),
    "Gemini's answer": (request(path="/v1beta/models/gemini-2.5-pro:generateContent"), False),
    "Gemini's stream": (request(path="/v1beta/models/gemini-2.5-pro:streamGenerateContent"), True),
    "Ollama unasked": (request("llama3", path="/api/chat"), True),
    "Ollama refused": (request("llama3", path="/api/chat", metadata={"stream": False}), False),
    "Ollama with nothing to read": (request(path="/api/generate", has_body=False), False),
    "Ollama's embeddings": (request("llama3", path="/api/embed"), False),
}


@pytest.mark.parametrize("case", STREAMS)
def test_the_record_says_of_each_api_whether_it_streamed(case: str) -> None:
    facts, streaming = STREAMS[case]
    assert ("stream" in to_metadata(routed(facts), facts, "c1")) is streaming


def test_what_is_absent_has_no_key() -> None:
    facts = request("ollama/mistral", bearer=None)
    assert to_metadata(routed(facts), facts, "c1") == {
        "call_id": "c1",
        "routed": "1",
        "org": "acme",
        "provider": "openai",
        "source": "default",
        "unknown": "1",
        "detected": "ollama",
        "dialect": "openai.chat",
        "shape": "openai",
        "requested": "ollama/mistral",
        "sent": "ollama/mistral",
        "path": "/v1/chat/completions",
        "host": "api.openai.com",
        "observe": "stream",
        "credential": "none",
    }


def test_a_refusal_is_never_routed() -> None:
    facts = request("gpt-4o", path="/v1/messages", key=None)
    assert to_metadata(refused(facts), facts, "c1") == {
        "call_id": "c1",
        "refused": "missing_lectr_key",
        "shape": "anthropic",
        "path": "/v1/messages",
    }


def test_a_refusal_after_the_choice_tells_the_choice() -> None:
    facts = request("gpt4", ("x-lectr-provider", "azure"))
    written = to_metadata(refused(facts), facts, "c1")
    assert (written["refused"], written["provider"], written["org"]) == ("azure_config_missing", "azure", "acme")
    assert "routed" not in written


def test_the_decision_comes_back_as_the_record() -> None:
    facts = request(
        "grok-3",
        ("x-lectr-provider", "nobody"),
        ("x-lectr-feature", "search"),
        ("x-lectr-task", "Summarization"),
        metadata={"stream": True, "include_usage": True},
    )
    route = routed(facts)
    record = recorded(LogEntry(start_ns=1, decision=to_metadata(route, facts, "c1")))
    choice = route.choice
    assert (record.call_id, record.org, record.path) == ("c1", route.org.name, facts.path)
    assert (record.provider, record.provider_source) == (choice.provider, choice.source)
    assert (record.provider_unknown, record.provider_detected) == (choice.unknown, choice.detected)
    assert record.credential == route.credential == "client"
    assert (record.dialect, record.notes) == (choice.dialect, choice.notes)
    assert (record.model_requested, record.model_sent) == (choice.model_requested, choice.model_sent)
    assert (record.feature, record.task, record.task_known) == ("search", "Summarization", "summarisation")
    assert (record.streaming, record.model_answered, record.error_code) == (True, None, None)


def test_a_refusal_comes_back_as_the_record() -> None:
    facts = request("gpt-4o", key=DISABLED_KEY)
    record = recorded(LogEntry(start_ns=1, status=401, decision=to_metadata(refused(facts), facts, "c1")))
    assert (record.call_id, record.error_source, record.error_code) == ("c1", "gateway", "org_disabled")
    assert (record.outcome, record.provider, record.path) == ("authentication", None, facts.path)


def test_a_long_name_is_cut_on_the_record_and_not_on_its_way() -> None:
    name = "gpt-" + "x" * 1000
    facts = request(name, path="/v1/" + "y" * 1000)
    route = routed(facts)
    written = to_metadata(route, facts, "c1")
    assert (len(written["requested"]), len(written["sent"]), len(written["path"])) == (256, 256, 512)
    assert (route.choice.model_sent, len(route.path)) == (name, 1004)


SECRETS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=24, max_size=40)


@given(
    SECRETS, st.sampled_from(["", *sorted({shape for row in PROVIDERS.values() for shape in row.key_shapes})]), SECRETS
)
def test_no_key_is_ever_in_the_metadata_or_shown(secret: str, shape: str, own: str) -> None:
    everywhere = itertools.product(
        INGRESS, ("gpt-4o", "azure/gpt4", "mystery"), (KEY, f"lc_key_{own}"), (SMALLEST, EVERYWHERE)
    )
    for ingress, model, key, tables in everywhere:
        query, forms = INGRESS[ingress]
        arrived = [(name, value.format(shape + secret)) for name, value in forms]
        path = "/v1/chat/completions" + query.format(shape + secret)
        facts = request(model, *arrived, path=path, key=key, bearer=None)
        decision = decide(facts, tables)
        shown = repr(facts.credential) + facts.query
        if not isinstance(decision, AskForBody):
            shown += repr(to_metadata(decision, facts, "c1"))
        assert secret not in shown
        assert own not in shown
        assert KEY not in shown


ANY = st.text(st.characters(), max_size=40)
ODD_PATHS = ANY | st.sampled_from(
    [
        "/v1/models",
        "/v1/models/\udcff%ff",
        "/v1/messages",
        "/openai/deployments/\udcff/chat/completions",
        "/v1beta/models/\udc80%ff:x",
        "/v1/\x00?key=\udcff",
    ]
)


@given(
    model=ANY,
    path=ODD_PATHS,
    method=st.sampled_from(["POST", "GET"]),
    label=ANY,
    secret=ANY,
    provider=st.sampled_from([None, "azure", "anthropic", "ollama"]),
    body=st.binary() | st.none(),
)
def test_whatever_arrives_is_decided_and_can_be_written_down(
    *, model: str, path: str, method: str, label: str, secret: str, provider: str | None, body: bytes | None
) -> None:
    named = [("x-lectr-provider", provider)] if provider else []
    facts = request(model, *named, ("x-lectr-feature", label), path=path, method=method, bearer=secret, content_type="")
    facts = facts if body is None else with_body(facts, body)
    decision = decide(facts, EVERYWHERE)
    if not isinstance(decision, AskForBody):
        for value in to_metadata(decision, facts, "c1").values():
            assert value.encode().decode().isprintable()
    if isinstance(decision, Route):
        assert decision.path is not None


# --- routing rules ----------------------------------------------------------------------------------------------------

EVERY_KEY = {name: f"held-{name}" for name in PROVIDERS}


def ruled(
    *arms: Arm, when: Terms | None = None, sticky: str | None = None, keys: dict[str, str] | None = None
) -> Snapshot:
    """One rule of acme's, and keys that the gateway holds for it."""
    rules = Rules((Rule(name="ours", when=when or Terms(), arms=arms, sticky=sticky),))
    return replaced_org(holding(**(keys or {})), rules=rules)


def becoming(facts: Facts, tables: Snapshot) -> tuple[str, str | None, str, tuple[str, ...]]:
    """Provider, model sent, why, and the notes."""
    choice = routed(facts, tables).choice
    return choice.provider, choice.model_sent, choice.source, choice.notes


def test_a_rule_gives_calls_another_model() -> None:
    tables = ruled(Arm("gpt-4o-mini"), when=Terms(model="gpt-4o"))
    facts = request("gpt-4o")
    assert decide(facts, tables) == ASK_FOR_BODY
    route = routed(with_body(facts, b'{"model": "gpt-4o", "n": 1}'), tables)
    assert route.body == b'{"model": "gpt-4o-mini", "n": 1}'
    choice = route.choice
    assert (choice.provider, choice.source) == ("openai", "rule")
    assert (choice.model_requested, choice.model_sent) == ("gpt-4o", "gpt-4o-mini")
    assert (choice.rule, choice.rule_arm, choice.notes) == ("ours", "gpt-4o-mini", ())
    assert keys_out(route) == {"authorization": f"Bearer {CLIENT_KEY}"}, "at the same provider it is the client's own"
    other = request("gpt-4o-2024-08-06")
    unruled = routed(other, EVERYWHERE)
    assert routed(other, tables) == dataclasses.replace(unruled, org=routed(other, tables).org)


NARROW = Terms("search", "summarisation", "openai", "gpt-4o")
SEARCH, SUMMARY = ("x-lectr-feature", " search\t"), ("x-lectr-task", "SUMMARIZATION")
KINDS: dict[str, tuple[Facts, bool]] = {
    "all of it": (request("gpt-4o", SEARCH, SUMMARY), True),
    "the provider named": (request("gpt-4o", SEARCH, SUMMARY, ("x-lectr-provider", "openai")), True),
    "another feature": (request("gpt-4o", ("x-lectr-feature", "Search"), SUMMARY), False),
    "no feature": (request("gpt-4o", SUMMARY), False),
    "a word of the client's own for the task": (request("gpt-4o", SEARCH, ("x-lectr-task", "summary")), False),
    "another provider": (request("gpt-4o", SEARCH, SUMMARY, ("x-lectr-provider", "groq")), False),
    "the model with its provider before it": (request("openai/gpt-4o", SEARCH, SUMMARY), False),
    "another letter case": (request("GPT-4o", SEARCH, SUMMARY), False),
    "no model": (request(None, SEARCH, SUMMARY, has_body=False), False),
}


@pytest.mark.parametrize(("facts", "is_ruled"), KINDS.values(), ids=KINDS)
def test_a_rule_sees_the_call_as_the_record_does_and_the_model_as_it_was_written(facts: Facts, is_ruled: bool) -> None:
    facts = dataclasses.replace(facts, body=b"{}") if facts.has_body else facts
    choice = routed(facts, ruled(Arm("gpt-4.1"), when=NARROW)).choice
    assert (choice.rule == "ours", choice.source == "rule") == (is_ruled, is_ruled)


def test_a_rule_can_be_about_a_provider_that_has_no_address() -> None:
    tables = dataclasses.replace(ruled(Arm(None, "groq"), when=Terms(provider="ollama"), keys={"groq": "held"}))
    tables = dataclasses.replace(tables, sites={k: v for k, v in tables.sites.items() if k != "ollama"})
    assert becoming(request("ollama/llama3.2", bearer=None), tables) == ("groq", "ollama/llama3.2", "rule", ())


ELSEWHERE: dict[str, tuple[Facts, Arm, tuple[str, str]]] = {
    "a provider": (request("gpt-4o"), Arm(None, "groq"), ("groq", "gpt-4o")),
    "a provider and a model": (request("gpt-4o"), Arm("llama", "groq"), ("groq", "llama")),
    "a model with its provider before it": (request("gpt-4o"), Arm("groq/llama"), ("groq", "llama")),
    "a provider, and its own prefix": (request("gpt-4o"), Arm("groq/llama", "groq"), ("groq", "llama")),
    "a model that is known": (request("gpt-4o"), Arm("claude-opus-4-9"), ("anthropic", "claude-opus-4-9")),
    "a model that nobody knows": (request("claude-opus-4-9"), Arm("ours-7b"), ("anthropic", "ours-7b")),
    "a model, of a client that names a provider": (
        request("gpt-4o", ("x-lectr-provider", "openrouter")),
        Arm("claude-opus-4-9"),
        ("openrouter", "claude-opus-4-9"),
    ),
    "another, of a client that names one": (
        request("gpt-4o", ("x-lectr-provider", "openrouter")),
        Arm(None, "groq"),
        ("groq", "gpt-4o"),
    ),
    "the API of Anthropic": (
        request("claude-opus-4-9", path="/v1/messages"),
        Arm("deepseek-chat"),
        ("deepseek", "deepseek-chat"),
    ),
    "a server of one's own": (request("gpt-4o"), Arm("m", "custom"), ("custom", "m")),
    "Azure": (request("gpt-4o"), Arm("our-gpt", "azure"), ("azure", "our-gpt")),
}


@pytest.mark.parametrize(("facts", "arm", "becomes"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_rule_sends_calls_to_another_provider_with_the_key_that_is_held_for_it(
    facts: Facts, arm: Arm, becomes: tuple[str, str]
) -> None:
    tables = ruled(arm, keys=EVERY_KEY)
    named = dataclasses.replace(facts, body=b'{"model": ""}')
    provider, model, source, notes = becoming(named, tables)
    assert (provider, model, source, notes) == (*becomes, "rule", ())
    stays = provider == routed(named, EVERYWHERE).choice.provider
    sent = "".join(keys_out(routed(named, tables)).values()).removeprefix("Bearer ")
    assert sent == (CLIENT_KEY if stays else f"held-{provider}")


STAYS: dict[str, tuple[Facts, Snapshot, str]] = {
    "no key is held": (request("gpt-4o"), ruled(Arm(None, "groq")), "credential"),
    "the client's looks like many vendors'": (
        request("deepseek-chat", bearer="sk-theirs"),
        ruled(Arm("gpt-4o"), keys={"deepseek": "held"}),
        "credential",
    ),
    "the provider has no such API": (
        request("claude-opus-4-9", path="/v1/messages"),
        ruled(Arm("gpt-4o"), keys=EVERY_KEY),
        "api",
    ),
    "the path is another provider's own": (
        request(None, path="/v1beta/models/gemini-2.5-pro:generateContent"),
        ruled(Arm(None, "openai"), keys=EVERY_KEY),
        "api",
    ),
    "the path begins as another provider's do": (
        request("llama-3.3-70b-versatile", path="/openai/v1/chat/completions"),
        ruled(Arm(None, "openai"), keys=EVERY_KEY),
        "api",
    ),
    "nobody knows what the path is": (
        request("gpt-4o", path="/v1/other"),
        ruled(Arm(None, "groq"), keys={"groq": "k"}),
        "api",
    ),
    "the model's provider has no address": (
        request("gpt-4o"),
        dataclasses.replace(ruled(Arm("ollama/llama3.2")), sites=snapshot().sites),
        "address",
    ),
    "the org has no address there": (
        request("gpt-4o"),
        replaced_org(ruled(Arm("azure/our-gpt"), keys=EVERY_KEY), sites={}),
        "address",
    ),
}


@pytest.mark.parametrize(("facts", "tables", "lacks"), STAYS.values(), ids=STAYS)
def test_where_a_rule_cannot_be_followed_the_call_goes_on_as_it_came(
    facts: Facts, tables: Snapshot, lacks: str
) -> None:
    route, unruled = routed(facts, tables), routed(facts, replaced_org(tables, rules=None))
    assert route.choice.notes == (*unruled.choice.notes, f"rule_without_{lacks}")
    assert route.choice.rule == "ours"
    as_unruled = dataclasses.replace(route.choice, notes=unruled.choice.notes, rule=None, rule_arm=None)
    assert dataclasses.replace(route, choice=as_unruled, org=unruled.org) == unruled


OF_GROQ = "gsk_theirs"


def test_the_clients_key_follows_a_rule_only_where_it_is_certainly_the_other_providers() -> None:
    misplaced = request("gpt-4o", bearer=OF_GROQ)
    route = routed(misplaced, ruled(Arm(None, "groq"), keys={"groq": "held"}))
    assert (keys_out(route), route.credential) == ({"authorization": f"Bearer {OF_GROQ}"}, "client")
    assert route.choice.notes == ()
    route = routed(misplaced, ruled(Arm(None, "xai"), keys={"xai": "held"}))
    assert (keys_out(route), route.choice.notes) == ({"authorization": "Bearer held"}, ())


def test_where_envoy_signs_or_no_key_is_taken_none_need_be_held() -> None:
    facts = request("gpt-4o", ("x-api-key", "theirs"), bearer="theirs")
    for provider in ("ollama", "custom"):
        route = routed(facts, ruled(Arm(None, provider)))
        assert (route.choice.provider, keys_out(route), route.credential) == (provider, {}, "none")
    signing = dataclasses.replace(ruled(Arm(None, "bedrock")), sites=signing_snapshot().sites)
    route = routed(facts, signing)
    assert (route.choice.provider, keys_out(route), route.credential) == ("bedrock", {}, "gateway")


IN_PATHS = {
    "Azure's deployment": (
        "/openai/deployments/our-gpt/chat/completions?api-version=2024-10-21",
        "a/b",
        "/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21",
    ),
    "Gemini's model": (
        "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        "gemini-2.5-flash",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
    ),
    "Bedrock's model": ("/model/anthropic.claude-v1:0/converse", "us.meta.l:0", "/model/us.meta.l%3A0/converse"),
}


@pytest.mark.parametrize(("path", "model", "sent"), IN_PATHS.values(), ids=IN_PATHS)
def test_a_model_that_the_path_names_is_changed_in_it(path: str, model: str, sent: str) -> None:
    facts = request(None, path=path)
    route = routed(facts, ruled(Arm(model)))
    assert route.path == sent
    assert (route.choice.source, route.choice.model_sent) == ("rule", model)
    assert route.choice.model_requested == routed(facts, EVERYWHERE).choice.model_requested
    assert to_metadata(route, facts, "c1")["path"] == path.partition("?")[0], "the record has the client's"


def test_a_second_address_of_a_kind_has_its_native_paths() -> None:
    second = dataclasses.replace(PROVIDERS["bedrock"], id="second")
    tables = ruled(Arm("m", "second"), keys={"second": "held"})
    site = Site(upstream=Upstream.parse("second", "https://second.example/openai/v1"))
    tables = dataclasses.replace(
        tables, providers={**tables.providers, "second": second}, sites={**tables.sites, "second": site}
    )
    route = routed(request(None, path="/model/claude/converse"), tables)
    assert (route.authority, route.path, route.choice.notes) == ("second.example", "/model/m/converse", ())


def test_a_form_and_the_query_of_an_upgrade_get_the_other_model_too() -> None:
    tables = ruled(Arm("gpt-4o-mini-transcribe"))
    body = of_parts(model="whisper-1")
    route = routed(with_body(in_parts(len(body)), body), tables)
    assert route.body == of_parts(model="gpt-4o-mini-transcribe")
    upgrade = request(None, ("upgrade", "websocket"), path="/v1/realtime?model=gpt-4o-realtime", has_body=False)
    assert routed(upgrade, tables).path == "/v1/realtime?model=gpt-4o-mini-transcribe"


def test_a_call_that_a_rule_leaves_as_it_is_still_is_on_the_record_as_its_own() -> None:
    unruled = routed(request("gpt-4o"), EVERYWHERE)
    route = routed(request("gpt-4o"), ruled(Arm()))
    told = dataclasses.replace(unruled.choice, rule="ours", rule_arm="unchanged")
    assert route == dataclasses.replace(unruled, choice=told, org=route.org)


def test_what_was_noted_about_the_client_stays_noted() -> None:
    facts = request("nobodys", ("x-lectr-provider", "nobody"), bearer="gsk_theirs")
    noted = ("provider_header_invalid",)
    assert becoming(facts, ruled(Arm(None, "openai"), keys={"openai": "k"})) == ("openai", "nobodys", "rule", noted)
    assert becoming(facts, ruled(Arm(None, "xai"), keys={"xai": "k"})) == ("xai", "nobodys", "rule", noted)
    unknown = dataclasses.replace(request("nobodys"), body=b"{}")
    choice = routed(unknown, ruled(Arm("nobodys-either"))).choice
    assert (choice.provider, choice.unknown, choice.source) == ("openai", True, "rule")


def test_a_header_decides_who_gets_which_part_and_without_it_chance_does() -> None:
    tables = ruled(Arm(None, None, 50), Arm("gpt-4.1", None, 50), sticky="x-user-id")
    assert tables.sticky_headers == {"x-user-id"}

    def arm(user: str | None, call_id: str) -> str | None:
        named = {"x-user-id": user} if user is not None else {}
        facts = dataclasses.replace(request("gpt-4o"), sticky=named, call_id=call_id, body=b"{}")
        return routed(facts, tables).choice.rule_arm

    ids = [str(i) for i in range(40)]
    for user in ids:
        assert len({arm(user, call_id) for call_id in ids}) == 1
    assert {arm(user, "1") for user in ids} == {arm(None, call_id) for call_id in ids} == {"unchanged", "gpt-4.1"}
    assert {arm("", call_id) for call_id in ids} == {"unchanged", "gpt-4.1"}, "an empty value says nothing"


def test_the_rule_of_a_call_comes_back_as_the_record() -> None:
    facts = dataclasses.replace(request("gpt-4o"), body=b"{}")
    route = routed(facts, ruled(Arm("llama", "groq"), keys={"groq": "k"}))
    record = recorded(LogEntry(start_ns=1, decision=to_metadata(route, facts, "c1")))
    assert (record.rule, record.rule_arm, record.provider_source) == ("ours", "groq/llama", "rule")
    assert (record.model_requested, record.model_sent) == ("gpt-4o", "llama")


@given(
    model=ANY,
    path=ODD_PATHS | st.sampled_from(["/v1/messages", "/v1/chat/completions", "/model/m/converse"]),
    arm=st.builds(Arm, ANY | st.none(), st.sampled_from([None, *PROVIDERS])),
    named=st.sampled_from([None, *PROVIDERS]),
    secret=st.sampled_from(["theirs", *SHAPED]),
    is_upgrade=st.booleans(),
)
def test_whatever_a_rule_says_no_call_fails_and_no_key_goes_astray(
    *, model: str, path: str, arm: Arm, named: str | None, secret: str, is_upgrade: bool
) -> None:
    headers = [("x-lectr-provider", named)] if named else []
    headers += [("upgrade", "websocket")] if is_upgrade else []
    facts = dataclasses.replace(request(model, *headers, path=path, bearer=secret), body=b'{"model": "m"}')
    tables = ruled(arm, Arm(), keys=EVERY_KEY)
    decision, unruled = decide(facts, tables), decide(facts, replaced_org(tables, rules=None))
    assert type(decision) is type(unruled)
    if isinstance(decision, Route) and isinstance(unruled, Route):
        provider = decision.choice.provider
        keys = "".join(keys_out(decision).values())
        assert decision.choice.model_requested == unruled.choice.model_requested
        assert not any(held in keys for name, held in EVERY_KEY.items() if name != provider)
        if provider != unruled.choice.provider and secret in keys:
            assert any(secret.startswith(shape) for shape in PROVIDERS[provider].key_shapes)
            assert not secret.startswith(tuple(PROVIDERS[provider].shared_key_shapes))


# --- how the answer is read -------------------------------------------------------------------------------------------


def observing(**more: Any) -> Snapshot:
    return dataclasses.replace(EVERYWHERE, observation=dataclasses.replace(EVERYWHERE.observation, **more))


def at(provider: str, path: str = "/v1/chat/completions", **metadata: object) -> Facts:
    """A call that names its provider."""
    headers = [("x-lectr-provider", provider), ("accept-encoding", "gzip, br")]
    return request("m-1", *headers, path=path, metadata={"stream": False, **metadata})


CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
GENERATE = "/v1beta/models/gemini-2.5-pro:generateContent"
OBSERVED: dict[str, tuple[Facts, str, str, str]] = {
    # the call; by whom its answer is read if the settings say auto, native, stream
    "complete in Envoy's words": (at("custom"), "native", "native", "stream"),
    "another dialect of that provider": (at("custom", RESPONSES), "stream", "native", "stream"),
    "where Envoy leaves out what has a price": (at("openai"), "stream", "native", "stream"),
    "responses": (at("openai", RESPONSES), "stream", "native", "stream"),
    "messages": (at("anthropic", MESSAGES), "stream", "native", "stream"),
    "Gemini's own API": (at("gemini", GENERATE), "stream", "native", "stream"),
    "a dialect Envoy does not know": (at("openai", "/v1/embeddings"), "stream", "stream", "stream"),
    "an API nobody reads": (at("openai", "/v1/files"), "none", "none", "none"),
    "a stream that is asked for usage": (
        with_body(at("custom", stream=True), b'{"model":"m-1","stream":true}'),
        "stream",
        "stream",
        "stream",
    ),
    "a stream whose client asked": (at("custom", stream=True, include_usage=True), "native", "native", "stream"),
    "an upgrade": (
        request("m-1", ("x-lectr-provider", "custom"), ("upgrade", "websocket"), method="GET", has_body=False),
        "none",
        "none",
        "none",
    ),
}


@pytest.mark.parametrize("wanted", ["auto", "native", "stream"])
@pytest.mark.parametrize("name", OBSERVED)
def test_envoy_reads_where_that_is_complete_or_wanted_and_lectr_elsewhere(name: str, wanted: str) -> None:
    facts, *by = OBSERVED[name]
    expected = by[("auto", "native", "stream").index(wanted)]
    by_provider = dict.fromkeys(PROVIDERS, wanted)
    assert routed(facts, observing(wanted=by_provider)).observe == expected
    portable = routed(facts, observing(wanted=by_provider, envoy_reads_usage=False))
    assert portable.observe == ("none" if expected == "none" else "stream"), "an Envoy that reads nothing"


def test_a_wish_about_one_provider_is_about_no_other() -> None:
    tables = observing(wanted={"anthropic": "native", "custom": "stream"})
    assert [routed(at(name), tables).observe for name in ("anthropic", "custom", "openai")] == [
        "native",
        "stream",
        "stream",
    ]


def test_only_answers_that_must_be_plain_are_asked_for_plain() -> None:
    asked = with_body(at("openai", stream=True), b'{"model":"m-1","stream":true}')
    unasked = at("openai", stream=True, include_usage=True)
    native, read = at("custom"), at("openai")
    removed = ["accept-encoding" in routed(facts, EVERYWHERE).removes for facts in (asked, native, unasked, read)]
    assert removed == [True, True, False, False]


# --- asking for usage -------------------------------------------------------------------------------------------------

MAY_BE_ASKED = {"openai", "anthropic", "gemini", "azure", "xai", "ollama", "custom", "cerebras"}


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", RESPONSES, MESSAGES, "/v1/embeddings"])
def test_a_stream_is_asked_for_usage_only_where_its_provider_and_its_api_know_the_option(path: str) -> None:
    tables = dataclasses.replace(EVERYWHERE, orgs_by_key=snapshot(azure_site("v1")).orgs_by_key)
    body = b'{"model":"m-1","stream":true}'
    for provider in PROVIDERS:
        facts = at(provider, path, stream=True)
        is_asked = provider in MAY_BE_ASKED and path in {CHAT, "/v1/completions"}
        assert (decide(facts, tables) is ASK_FOR_BODY) is is_asked, provider
        route = routed(with_body(facts, body), tables)
        assert route.asks_for_usage is is_asked, provider
        assert route.body == (b'{"stream_options":{"include_usage":true},' + body[1:] if is_asked else None)
        assert to_metadata(route, facts, "c1").get("asked") == ("1" if is_asked else None)


NOT_ASKED: dict[str, dict[str, object]] = {
    "no stream": {"stream": False},
    "a stream whose client asked": {"stream": True, "stream_options": {"include_usage": True}},
    "options that are none": {"stream": True, "stream_options": 7},
}


@pytest.mark.parametrize("fields", NOT_ASKED.values(), ids=NOT_ASKED)
def test_who_need_not_be_asked_is_not(fields: dict[str, object]) -> None:
    facts = with_body(at("openai"), json.dumps({"model": "m-1", **fields}).encode())
    assert (routed(facts).asks_for_usage, routed(facts).body) == (False, None)


def test_options_of_the_client_stay_beside_ours() -> None:
    body = {"model": "m-1", "stream": True, "stream_options": {"include_usage": False, "include_obfuscation": False}}
    route = routed(with_body(at("openai"), json.dumps(body).encode()))
    options = {"include_usage": True, "include_obfuscation": False}
    assert json.loads(route.body or b"") == {**body, "stream_options": options}


def test_a_model_is_renamed_and_usage_asked_for_in_one_body() -> None:
    facts = request("openai/gpt-4o", metadata={"stream": True})
    route = routed(with_body(facts, b'{"model":"openai/gpt-4o","stream":true,"seed":1234567890123}'))
    assert route.body == (
        b'{"stream_options":{"include_usage":true},"model":"gpt-4o","stream":true,"seed":1234567890123}'
    )


AZURES: dict[str, tuple[str, dict[str, object], bool]] = {
    "before the option": ("2024-08-01-preview", {}, False),
    "with the option": ("2024-09-01-preview", {}, True),
    "after it": ("2024-10-21", {}, True),
    "its v1 API": ("v1", {}, True),
    "no version of a deployment": ("latest", {}, False),
    "with the customer's own data": ("2024-10-21", {"data_sources": [{"type": "azure_search"}]}, False),
}


@pytest.mark.parametrize(("version", "more", "is_asked"), AZURES.values(), ids=AZURES)
def test_azure_is_asked_by_the_version_of_its_api(version: str, more: dict[str, object], is_asked: bool) -> None:
    if version == "latest":
        path = f"/openai/deployments/gpt4/chat/completions?api-version={version}"
        facts, tables = request("gpt4", path=path, metadata={"stream": True}), snapshot(azure_site())
    else:
        facts, tables = at("azure", stream=True), snapshot(azure_site(version))
    facts = with_body(facts, json.dumps({"model": "gpt4", "stream": True, **more}).encode())
    route = routed(facts, tables)
    assert (route.choice.provider, route.asks_for_usage) == ("azure", is_asked)


@pytest.mark.parametrize(("setting", "is_asked"), [("strip", True), ("keep", True), ("never", False)])
def test_the_setting_says_whether_anyone_is_asked(setting: str, is_asked: bool) -> None:
    facts = at("openai", stream=True)
    assert (decide(facts, observing(usage_chunk=setting)) is ASK_FOR_BODY) is is_asked


def test_a_body_that_envoy_did_not_hold_is_not_asked_for_to_add_an_option() -> None:
    facts = dataclasses.replace(at("openai", stream=True), is_read_by_envoy=False)
    route = routed(facts)
    assert (route.asks_for_usage, route.body, route.observe) == (False, None, "stream")


AZURES_OWN: dict[str, tuple[str, str | None, bool, str]] = {
    "the v1 API of an org with an endpoint": ("/openai/v1/chat/completions", "gpt-4o", True, "azure"),
    "a dated path without a deployment": ("/openai/responses?api-version=2025-03-01-preview", "gpt-4o", True, "azure"),
    "an Azure path without a model": ("/openai/files?api-version=2024-10-21", None, True, "azure"),
    "Groq's own address": ("/openai/v1/chat/completions", "llama-3.3-70b-versatile", True, "groq"),
    "the v1 API of an org without an endpoint": ("/openai/v1/chat/completions", "gpt-4o", False, "openai"),
}


@pytest.mark.parametrize(("path", "model", "is_sited", "provider"), AZURES_OWN.values(), ids=AZURES_OWN)
def test_azures_own_paths_go_to_azure(path: str, model: str | None, is_sited: bool, provider: str) -> None:
    facts = request(model, path=path)
    route = decide(facts, snapshot(azure_site() if is_sited else None))
    assert isinstance(route, Route)
    assert (route.choice.provider, route.path.partition("?")[0]) == (provider, path.partition("?")[0])


def test_an_azure_path_with_its_api_version_is_never_sent_elsewhere() -> None:
    refusal = refused(request("gpt-4o", path="/openai/responses?api-version=2025-03-01-preview"))
    assert refusal.refusal.code == "azure_config_missing"


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


# --- choosing a model -------------------------------------------------------------------------------------------------

SAID: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


def asked(body: dict[str, Any], *headers: tuple[str, str], bearer: str | None = None, **more: Any) -> Facts:
    """A call whose body was seen, at the time that the catalogue is of."""
    read: dict[str, object] = {name: body[name] for name in ("model", "stream", "tier", "prefer") if name in body}
    facts = dataclasses.replace(request(None, *headers, bearer=bearer, metadata=read, **more), at_s=NOW)
    return with_body(facts, json.dumps(body).encode())


def picked(facts: Facts, tables: Snapshot) -> tuple[str, str | None]:
    choice = routed(facts, tables).choice
    return choice.provider, choice.model_sent


def why_not(facts: Facts, tables: Snapshot) -> dict[str, str]:
    plan = routed(facts, tables).choice.plan
    assert plan is not None
    return {one.model: one.reason for one in plan.dropped}


def test_a_call_that_leaves_the_choice_is_asked_for_its_body_and_goes_to_the_first_candidate() -> None:
    tables = holding(**EVERY_KEY)
    body = {"model": "economy", "prefer": "cheap", **SAID}
    facts = asked(body)
    assert decide(dataclasses.replace(facts, body=None), tables) == ASK_FOR_BODY
    route = routed(facts, tables)
    first = route.choice.plan
    assert first is not None
    assert first.candidates[0].row.model == route.choice.model_sent
    assert json.loads(route.body or b"") == {"model": route.choice.model_sent, **SAID}
    assert (route.choice.source, route.choice.model_requested, route.choice.unknown) == ("chosen", "economy", False)
    assert route.credential == "gateway"
    (key,) = keys_out(route).values()
    assert key.endswith(f"held-{route.choice.provider}")


def test_a_fallback_comes_before_a_chosen_model_that_fails_and_after_a_pinned_one() -> None:
    tables = holding(openai="k", anthropic="k")
    sick = Health(sick={Target("openai", "gpt-4.1-mini", "api.openai.com"): NOW + 1})
    alias = replaced_org(tables, aliases={"mini": ("gpt-4.1-mini",)})

    def first(model: str) -> str | None:
        decision = decide(asked({"model": model, "fallback": ["claude-haiku-4-5"], **SAID}), alias, sick)
        assert isinstance(decision, Route)
        assert decision.choice.plan is not None
        assert len(decision.choice.plan.candidates) == 2
        return decision.choice.model_sent

    assert (first("mini"), first("gpt-4.1-mini")) == ("claude-haiku-4-5", "gpt-4.1-mini")


def test_who_wants_it_fast_gets_what_was_measured_to_be_where_it_would_be_asked() -> None:
    tables = holding(openai="k", anthropic="k")

    def fast(host: str) -> str | None:
        health = Health(first_token_ms={Target("openai", "gpt-4.1-mini", host): 1})
        decision = decide(asked({"model": "economy", "prefer": "fast", **SAID}), tables, health)
        assert isinstance(decision, Route)
        return decision.choice.model_sent

    assert (fast("api.openai.com"), fast("eu.api.openai.com")) == ("gpt-4.1-mini", "claude-haiku-4-5")


def test_lectr_reads_every_stream_of_a_chosen_model_so_that_it_cannot_end_unnoticed() -> None:
    observation = dataclasses.replace(EVERYWHERE.observation, wanted={"anthropic": "native"})
    tables = dataclasses.replace(holding(anthropic="k"), observation=observation)

    def found(body: dict[str, Any]) -> tuple[str, bool]:
        facts = asked({**body, **SAID}, ("accept-encoding", "gzip"), path="/v1/messages")
        route = routed(facts, tables)
        return route.observe, "accept-encoding" in route.removes

    assert found({"model": "claude-haiku-4-5", "stream": True}) == ("native", True)
    assert found({"model": "economy", "stream": True}) == ("stream", True)
    assert found({"model": "economy"}) == ("native", True)


def test_a_model_that_fails_is_chosen_only_where_no_other_is_left_and_pinned_all_the_same() -> None:
    tables = holding(openai="k", anthropic="k")
    sick = Health(sick={Target("openai", "gpt-4.1-mini", "api.openai.com"): NOW + 1})
    elsewhere = Health(sick={Target("openai", "gpt-4.1-mini", "eu.api.openai.com"): NOW + 1})

    def chosen(health: Health, tables: Snapshot = tables, model: str = "economy") -> str | None:
        decision = decide(asked({"model": model, **SAID}), tables, health)
        assert isinstance(decision, Route)
        return decision.choice.model_sent

    assert chosen(elsewhere) == "gpt-4.1-mini"
    assert chosen(sick) == "claude-haiku-4-5"
    assert chosen(sick, model="gpt-4.1-mini") == "gpt-4.1-mini"
    assert chosen(sick, replaced_org(holding(openai="k"), blocked=frozenset({"o4-mini"}))) == "gpt-4.1-mini"


def test_a_body_that_never_comes_is_not_waited_for() -> None:
    tables = holding(openai="k")
    upgrade = request(None, ("upgrade", "websocket"), path="/v1/realtime?model=economy", method="GET", has_body=False)
    assert routed(upgrade, tables).choice.notes == ("no_candidate",)
    unread = dataclasses.replace(
        request(None, path="/v1beta/models/auto:generateContent", bearer=None), content_length=None
    )
    assert routed(unread, holding(gemini="k")).choice.model_sent == "gemini-2.5-flash"


def test_a_tier_in_the_body_outranks_the_model_and_a_model_of_its_own_pins() -> None:
    tables = holding(openai="k")
    assert picked(asked({"model": "gpt-4o", "tier": "economy", **SAID}), tables) == ("openai", "gpt-4.1-mini")
    route = routed(asked({"tier": "economy", **SAID}), tables)
    assert json.loads(route.body or b"") == {"model": "gpt-4.1-mini", **SAID}
    pinned = routed(asked({"model": "gpt-4o", **SAID}), tables)
    assert (pinned.choice.plan, pinned.body) == (None, None)


def test_what_counts_is_removed_from_a_pinned_call() -> None:
    facts = asked({"model": "gpt-4o", "prefer": "fast", **SAID})
    assert decide(dataclasses.replace(facts, body=None), snapshot()) == ASK_FOR_BODY
    assert json.loads(routed(facts).body or b"") == {"model": "gpt-4o", **SAID}


def test_a_word_that_settings_give_a_provider_is_its_model() -> None:
    tables = snapshot(registered={"premium": "openai"})
    assert routed(asked({"model": "premium", **SAID}), tables).choice.plan is None


@pytest.mark.parametrize(("text", "tier"), [("hi", "economy"), ("Prove this lemma by induction. " * 40, "premium")])
def test_auto_is_the_tier_of_the_conversation(text: str, tier: str) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    facts = asked(body)
    route = routed(facts, holding(openai="k"))
    plan = route.choice.plan
    assert plan is not None
    assert plan.auto is not None
    assert plan.tier == plan.auto.tier == tier
    told = to_metadata(route, facts, "c1")
    assert (told["tier"], told["auto_tier"], told["auto_score"]) == (tier, tier, str(plan.auto.score))
    assert (told["candidates"], told["chosen"]) == (str(len(plan.candidates)), "1")
    assert text[:9] not in repr(told)


@pytest.mark.parametrize(
    ("path", "said"), [("/v1/messages/count_tokens", "messages"), ("/v1/responses/input_tokens", "input")]
)
def test_a_call_that_counts_tokens_goes_where_the_call_would(path: str, said: str) -> None:
    body = {"model": "auto", said: [{"role": "user", "content": "Prove this lemma by induction. " * 40}]}
    plan = routed(asked(body, path=path), holding(openai="k", anthropic="k")).choice.plan
    assert plan is not None
    assert plan.tier == "premium"
    assert plan.candidates


def test_without_a_candidate_the_call_goes_on_as_it_came_less_what_is_ours() -> None:
    facts = asked({"model": "premium", "prefer": "fast", "input": "x"}, path="/v1/embeddings", bearer=CLIENT_KEY)
    route = routed(facts, holding(openai="k"))
    assert route.choice.notes == ("no_candidate",)
    assert (route.choice.provider, route.choice.source) == ("openai", "default")
    assert json.loads(route.body or b"") == {"model": "premium", "input": "x"}
    told = to_metadata(route, facts, "c1")
    assert (told["candidates"], told.get("chosen")) == ("0", None)


NOT_ALLOWED: dict[str, tuple[dict[str, frozenset[str]], Facts]] = {
    "a model that is blocked": ({"blocked": frozenset({"gpt-4o"})}, request("gpt-4o")),
    "one that is renamed to it": ({"blocked": frozenset({"gpt-4o"})}, request("openai/gpt-4o")),
    "a provider that is not allowed": ({"allowed_providers": frozenset({"openai"})}, request("claude-opus-4-1")),
    "a model in a path": (
        {"allowed_models": frozenset({"gpt-4o"})},
        request(path="/v1beta/models/gemini-2.5-pro:generateContent"),
    ),
    "a body that hides its model": (
        {"allowed_models": frozenset({"gpt-4o"})},
        request(content_type="application/octet-stream"),
    ),
    "a choice without a candidate": ({"allowed_models": frozenset({"gpt-4o"})}, asked({"model": "economy", **SAID})),
}


@pytest.mark.parametrize(("bounds", "facts"), NOT_ALLOWED.values(), ids=NOT_ALLOWED)
def test_what_an_org_may_not_use_is_refused_and_only_that(bounds: dict[str, frozenset[str]], facts: Facts) -> None:
    tables = replaced_org(snapshot(), **bounds)
    refused = decide(facts, tables)
    assert isinstance(refused, Refuse)
    assert (refused.refusal.code, refused.org) == ("model_not_allowed", next(iter(tables.orgs_by_key.values())))
    assert isinstance(decide(request(path="/v1/files", method="GET", has_body=False), tables), Route)
    assert isinstance(decide(request("gpt-4.1" if "blocked" in bounds else "gpt-4o"), tables), Route)


def test_models_without_a_key_an_address_or_the_api_are_not_chosen_and_say_why() -> None:
    tables = replaced_org(holding(openai="k", gemini="k", groq="k"), blocked=frozenset({"gpt-4.1", "gemini"}))
    reasons = why_not(asked({"model": "standard", **SAID}), tables)
    assert reasons["gpt-4.1"] == reasons["gemini-2.5-pro"] == "blocked"
    assert reasons["claude-sonnet-4-6"] == reasons["zai.glm-4.7"] == "credential"
    assert reasons["gpt-5.3-codex"] == "api"
    assert reasons["grok-3-beta"] == "retired"
    assert picked(asked({"model": "standard", **SAID}), tables) == ("openai", "o3")
    responses = asked({"model": "standard", "input": "hi"}, path="/v1/responses")
    assert "gpt-5.3-codex" not in why_not(responses, tables)
    without = dataclasses.replace(tables, sites={k: v for k, v in tables.sites.items() if k != "anthropic"})
    assert why_not(asked({"model": "standard", **SAID}), without)["claude-sonnet-4-6"] == "address"


def test_a_provider_that_the_client_names_is_the_only_one_to_choose_from() -> None:
    facts = asked({"model": "economy", **SAID}, ("x-lectr-provider", "anthropic"))
    assert picked(facts, holding(**EVERY_KEY)) == ("anthropic", "claude-haiku-4-5")
    assert why_not(facts, holding(**EVERY_KEY))["gpt-4.1-mini"] == "another_provider"


ORIGINS = {
    "the default's, by nothing said": (CLIENT_KEY, "openai"),
    "one by its shape": ("sk-ant-api03-x", "anthropic"),
    "another by its shape": ("AIza-x", "gemini"),
}


@pytest.mark.parametrize(("key", "owner"), ORIGINS.values(), ids=ORIGINS)
def test_a_clients_own_key_is_enough_for_its_provider_and_for_no_other(key: str, owner: str) -> None:
    facts = asked({"model": "economy", **SAID}, bearer=key)
    route = routed(facts, snapshot())
    plan = route.choice.plan
    assert plan is not None
    assert {one.row.provider for one in plan.candidates} == {owner}
    assert any(key in value for value in route.sets.values())


@pytest.mark.parametrize("key", [CLIENT_KEY, "sk-ant-api03-x", "gsk_x", "AIza-x", None])
def test_no_key_goes_to_another_provider_whatever_is_chosen(key: str | None) -> None:
    owners = {CLIENT_KEY: "openai", "sk-ant-api03-x": "anthropic", "gsk_x": "groq", "AIza-x": "gemini"}
    tables = holding(**EVERY_KEY)
    for tier, prefer in itertools.product(WANTED, PREFERENCES):
        route = routed(asked({"model": tier, "prefer": prefer, **SAID}, bearer=key), tables)
        (value,) = keys_out(route).values()
        held, owner = f"held-{route.choice.provider}", owners.get(key or "")
        assert held in value or (owner == route.choice.provider and key is not None and key in value)


def test_an_alias_is_a_tier_or_the_first_of_its_models_that_fits() -> None:
    aliases = {"chat": ("economy",), "writer": ("claude-opus-4-7", "groq/openai/gpt-oss-120b", "our-own", "gpt-4o")}
    tables = replaced_org(holding(openai="k", groq="k"), aliases=aliases)
    assert picked(asked({"model": "chat", **SAID}), tables) == ("openai", "gpt-4.1-mini")
    facts = asked({"model": "writer", **SAID})
    assert picked(facts, tables) == ("groq", "openai/gpt-oss-120b")
    assert why_not(facts, tables) == {"claude-opus-4-7": "credential"}
    plan = routed(facts, tables).choice.plan
    assert plan is not None
    assert [(one.row.provider, one.row.model) for one in plan.candidates][1:] == [
        ("openai", "our-own"),
        ("openai", "gpt-4o"),
    ]
    assert (plan.tier, plan.prefer) == (None, None)
    assert "tier" not in to_metadata(routed(facts, tables), facts, "c1")


def test_the_aliases_for_embeddings_are_there_without_settings() -> None:
    facts = asked({"model": "embed-large", "input": "x"}, path="/v1/embeddings")
    assert picked(facts, holding(openai="k")) == ("openai", "text-embedding-3-large")


def test_a_model_in_the_path_is_written_there() -> None:
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    facts = asked(body, path="/v1beta/models/premium:generateContent")
    route = routed(facts, holding(**EVERY_KEY))
    assert route.path == "/v1beta/models/gemini-3.1-pro-preview:generateContent"
    assert (json.loads(route.body or b""), route.choice.provider) == (body, "gemini")


def test_a_rule_may_choose_a_tier_an_alias_or_a_providers_model_of_a_tier() -> None:
    keys = {"openai": "k", "anthropic": "k"}
    facts = asked({"model": "gpt-4o", **SAID})
    for arm, expected in (
        (Arm(tier="economy"), ("openai", "gpt-4.1-mini")),
        (Arm(tier="premium", provider="anthropic"), ("anthropic", "claude-opus-4-7")),
        (Arm("embed-small"), ("openai", None)),
    ):
        choice = routed(facts, ruled(arm, keys=keys)).choice
        assert choice.provider == expected[0]
        assert (choice.rule, choice.rule_arm) == ("ours", str(arm))
        if expected[1]:
            assert (choice.model_sent, choice.source, choice.model_requested) == (expected[1], "chosen", "gpt-4o")
    pinning = ruled(Arm("gpt-4o-mini"), keys=keys)
    assert picked(asked({"model": "auto", **SAID}), pinning) == ("openai", "gpt-4o-mini")
    assert picked(asked({"model": "x", "tier": "premium", **SAID}), pinning) == ("openai", "gpt-4o-mini")


def test_the_words_an_org_can_use_are_listed() -> None:
    def words_of(tables: Snapshot, **more: Any) -> set[str]:
        return {entry["id"] for entry in served(models_of(**more), tables)["data"] if entry["owned_by"] == "lectr"}

    tiers = {"auto", "economy", "standard", "premium"}
    none = dataclasses.replace(snapshot(), sites={})
    assert words_of(none, bearer=None) == set()
    assert words_of(snapshot(), bearer=CLIENT_KEY) == tiers | {"embed-small", "embed-large"}
    assert words_of(holding(groq="k"), bearer=None) == set(), "all of its models have been retired"
    aliases = {"a": ("premium",), "b": ("auto",), "c": ("claude-x", "gemini-x"), "d": ("gpt-4o",)}
    blocking = replaced_org(holding(openai="k", gemini="k"), aliases=aliases, blocked=frozenset({"openai"}))
    assert words_of(blocking, bearer=None) == tiers | {"a", "b", "c"}


def test_a_clients_key_follows_to_the_provider_that_it_certainly_is_of() -> None:
    tables = replaced_org(snapshot(), aliases={"talk": ("grok-4.3",)})
    facts = asked({"model": "talk", **SAID}, path="/v1/messages", bearer="xai-x")
    route = routed(facts, tables)
    assert (route.choice.provider, keys_out(route)) == ("xai", {"authorization": "Bearer xai-x"})
    assert route.choice.notes == ()


# --- several candidates -----------------------------------------------------------------------------------------------


def failing_over(attempts_max: int = 3, **keys: str) -> Snapshot:
    return dataclasses.replace(holding(**(keys or EVERY_KEY)), failover=Failover(attempts_max=attempts_max))


def test_a_pinned_call_with_a_fallback_is_asked_for_its_body_and_any_that_envoy_read_where_settings_say_so() -> None:
    pinned = request("gpt-4o", bearer="sk-proj-x")
    tables = failing_over()
    assert isinstance(decide(pinned, tables), Route)
    assert isinstance(decide(request("gpt-4o", ("x-lectr-fallback", "gpt-4.1")), tables), AskForBody)
    looking = dataclasses.replace(tables, failover=Failover(looks_in_bodies=True))
    assert isinstance(decide(pinned, looking), AskForBody)
    seen = routed(with_body(pinned, b'{"model": "gpt-4o", "fallback": ["claude-opus-4-7"]}'), looking)
    assert [each.choice.model_sent for each in seen.tries] == ["gpt-4o", "claude-opus-4-7"]
    assert routed(with_body(pinned, b'{"model": "gpt-4o"}'), looking).tries == ()


def tried(facts: Facts, tables: Snapshot) -> list[tuple[str, str | None]]:
    return [(each.choice.provider, each.choice.model_sent) for each in routed(facts, tables).tries]


def test_a_choice_has_a_route_to_each_of_its_first_candidates() -> None:
    facts = asked({"model": "premium", **SAID})
    route = routed(facts, failing_over())
    assert len(route.tries) == 3
    assert route.tries[0].cluster == route.cluster
    assert (route.body, route.choice.source) == (None, "chosen")
    assert len(routed(facts, failing_over(attempts_max=2)).tries) == 2
    said = to_metadata(route, facts, "c1")
    assert (said["attempts"], said["candidates"]) == ("3", "5")
    for one in (failing_over(attempts_max=1), holding(**EVERY_KEY)):
        alone = routed(facts, one)
        assert (alone.tries, "attempts" in to_metadata(alone, facts, "c1")) == ((), False)
        assert alone.body is not None


def test_what_a_client_falls_back_to_comes_after_what_it_asked_for() -> None:
    tables = failing_over()
    facts = asked({"model": "gpt-4o", "fallback": ["claude-opus-4-7", "gpt-4o", "groq/openai/gpt-oss-120b"], **SAID})
    assert decide(dataclasses.replace(facts, body=None), tables) == ASK_FOR_BODY
    assert tried(facts, tables) == [
        ("openai", "gpt-4o"),
        ("anthropic", "claude-opus-4-7"),
        ("groq", "openai/gpt-oss-120b"),
    ]
    route = routed(facts, tables)
    assert (route.choice.source, to_metadata(route, facts, "c1")["chosen"]) == ("prefix", "1")
    chosen = asked({"model": "economy", "fallback": ["claude-opus-4-7"], **SAID})
    assert [model for _, model in tried(chosen, tables)][1:] == ["claude-opus-4-7"]


def test_a_tier_to_fall_back_to_is_its_models_by_price() -> None:
    tables = replaced_org(failing_over(attempts_max=8), aliases={"cheap": ("economy",)})
    economy = [model for _, model in tried(asked({"model": "economy", **SAID}), tables)]
    for word in ("economy", "cheap", "auto"):
        facts = asked({"model": "gpt-4o", "fallback": [word], **SAID})
        assert tried(facts, tables)[0] == ("openai", "gpt-4o")
        assert [model for _, model in tried(facts, tables)][1:] == economy[:7]
    ours = dataclasses.replace(tables, models=dataclasses.replace(tables.models, registered={"economy": "groq"}))
    assert tried(asked({"model": "gpt-4o", "fallback": ["economy"], **SAID}), ours)[1:] == [("groq", "economy")]


def test_what_a_call_cannot_fall_back_to_is_dropped_and_a_lone_candidate_is_sent_as_a_choice() -> None:
    facts = asked({"model": "gpt-4o", "fallback": ["claude-opus-4-7"], **SAID})
    tables = failing_over(openai="k")
    route = routed(facts, tables)
    assert (route.tries, why_not(facts, tables)) == ((), {"claude-opus-4-7": "credential"})
    assert json.loads(route.body or b"") == {"model": "gpt-4o", **SAID}


def test_a_call_without_a_model_has_nothing_to_fall_back_from() -> None:
    facts = asked({"fallback": ["gpt-4o"], **SAID})
    route = routed(facts, failing_over())
    assert (route.tries, route.choice.plan, json.loads(route.body or b"")) == ((), None, SAID)


def test_a_body_that_leaves_no_room_is_sent_once() -> None:
    tables = dataclasses.replace(failing_over(), limits=Limits(max_body_bytes=100_000))
    assert tried(asked({"model": "premium", **SAID}), tables) == []


def test_an_answer_is_read_by_envoy_only_where_it_can_read_every_candidates() -> None:
    native = asked({"model": "gpt-4o", "fallback": ["gpt-4.1"], **SAID})
    mixed = asked({"model": "cerebras/llama3.1-8b", "fallback": ["gpt-4o"], **SAID})
    assert {each.observe for each in routed(mixed, failing_over()).tries} == {"native", "stream"}
    assert routed(mixed, failing_over()).observe == "stream"
    route = routed(native, failing_over())
    assert {each.observe for each in route.tries} == {route.observe}


def test_a_limit_that_leaves_a_cheaper_tier_leaves_no_way_around_it() -> None:
    facts = asked({"model": "gpt-4o", "fallback": ["claude-opus-4-7"], **SAID})
    cheaper = dataclasses.replace(facts, at_most="economy")
    assert "claude-opus-4-7" not in [model for _, model in tried(cheaper, failing_over(attempts_max=8))]
    assert json.loads(routed(cheaper, failing_over(attempts_max=1)).body or b"").keys() == {"model", "messages"}
