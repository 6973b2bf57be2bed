import dataclasses
import json
from typing import Any

import pytest

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, with_body
from lectr_extproc.core.outcome import ASK_FOR_BODY, Route, to_metadata
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.upstream import UPGRADE_SUFFIX
from tests.core.calls import EGRESS, EVERYWHERE, INGRESS, KEY_HEADERS, refused
from tests.core.given import CLIENT_KEY, KEY, azure_site, request, routed, snapshot

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
