"""Exactly one credential leaves, in the provider's own form; a key of ours never does."""

import pytest

from tests.e2e.answers import Flavour, error
from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, asking, call
from tests.e2e.gateway import Gateway
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import ORG_KEY, SECOND_KEY, Providers, assert_nothing_of_ours, contacted, credentials_in, secret

OURS = {"X-Lectr-Key": ORG_KEY, "Content-Type": "application/json"}
KEY = secret("")
PLACES: dict[str, tuple[dict[str, str], str]] = {
    "Bearer": ({"Authorization": f"Bearer {KEY}"}, ""),
    "bearer, in lower case": ({"Authorization": f"bearer {KEY}"}, ""),
    "x-api-key": ({"x-api-key": KEY}, ""),
    "api-key": ({"api-key": KEY}, ""),
    "x-goog-api-key": ({"x-goog-api-key": KEY}, ""),
    "the query": ({}, f"?key={KEY}"),
    "the query, behind others": ({}, f"?a=1&key={KEY}&b=2"),
    "everywhere at once": (
        {
            "Authorization": f"Bearer {KEY}",
            "x-api-key": secret(""),
            "api-key": secret(""),
            "x-goog-api-key": secret(""),
        },
        f"?key={secret('')}",
    ),
}
FORMS: dict[Flavour, tuple[str, str]] = {
    "openai": ("authorization", "Bearer {}"),
    "anthropic": ("x-api-key", "{}"),
    "groq": ("authorization", "Bearer {}"),
    "gemini": ("authorization", "Bearer {}"),
    "azure": ("api-key", "{}"),
}


@pytest.mark.parametrize("flavour", FORMS)
def test_a_key_from_anywhere_arrives_in_the_providers_form(
    gateway: Gateway, providers: Providers, flavour: Flavour
) -> None:
    name, value = FORMS[flavour]
    for headers, query in PLACES.values():
        call(gateway, CHAT + query, headers={**OURS, **headers, "X-Lectr-Provider": flavour})

    received = [providers[flavour].next_request() for _ in PLACES]
    assert [credentials_in(one) for one in received] == [[(name, value.format(KEY))]] * len(PLACES)
    assert ["key=" in one.query or KEY in one.target for one in received] == [False] * len(PLACES)
    assert received[list(PLACES).index("the query, behind others")].query.startswith("a=1&b=2")
    for one in received:
        assert_nothing_of_ours(one)


def test_native_gemini_gets_its_key_in_its_native_header(gateway: Gateway, providers: Providers) -> None:
    path = "/v1beta/models/gemini-2.5-flash:generateContent"
    for headers, query in PLACES.values():
        call(gateway, path + query, headers={**OURS, **headers})

    received = [providers["gemini"].next_request() for _ in PLACES]
    assert [credentials_in(one) for one in received] == [[("x-goog-api-key", KEY)]] * len(PLACES)


TOKENS: dict[str, tuple[Flavour, str]] = {
    "an OAuth token of Anthropic": ("anthropic", secret("sk-ant-oat01-")),
    "an Entra token for Azure": ("azure", secret("eyJ0eXAi.") + ".sig"),
    "an OAuth token of Google": ("gemini", secret("ya29.")),
}


@pytest.mark.parametrize("case", TOKENS)
def test_a_token_stays_behind_bearer(gateway: Gateway, providers: Providers, case: str) -> None:
    flavour, token = TOKENS[case]
    call(gateway, headers={**OURS, "Authorization": f"Bearer {token}", "X-Lectr-Provider": flavour})
    assert credentials_in(providers[flavour].next_request()) == [("authorization", f"Bearer {token}")]


NONE: dict[str, dict[str, str]] = {
    "nothing": {},
    "an empty Bearer": {"Authorization": "Bearer"},
    "a scheme that is not Bearer": {"Authorization": f"Basic {KEY}"},
    "a key of ours behind Bearer": {"Authorization": f"Bearer {ORG_KEY}"},
    "a key of ours as x-api-key": {"x-api-key": ORG_KEY},
}


@pytest.mark.parametrize("flavour", FORMS)
def test_without_a_credential_none_leaves_and_the_providers_own_401_comes_back(
    gateway: Gateway, providers: Providers, flavour: Flavour
) -> None:
    refusal = error(flavour, 401)
    for headers in NONE.values():
        providers[flavour].answer_with(refusal)
        answer = call(gateway, headers={**OURS, **headers, "X-Lectr-Provider": flavour})
        assert (answer.status_code, answer.content) == (401, refusal.body)
        assert credentials_in(providers[flavour].next_request()) == []


def test_a_key_of_ours_never_leaves_wherever_a_client_puts_it(gateway: Gateway, providers: Providers) -> None:
    strayed = {"Authorization": f"Bearer {ORG_KEY}", "x-api-key": ORG_KEY, "api-key": ORG_KEY}
    call(gateway, f"{CHAT}?key={SECOND_KEY}", headers={**OURS, **strayed, "x-goog-api-key": ORG_KEY})
    call(gateway, f"{CHAT}?%6bey={SECOND_KEY}&a=1", headers={**OURS, "Proxy-Authorization": f"Bearer {ORG_KEY}"})

    for _ in range(2):
        received = providers["openai"].next_request()
        assert credentials_in(received) == []
        assert "proxy-authorization" not in received.names
        assert_nothing_of_ours(received)


def test_two_differing_credentials_of_one_form_leave_as_one(gateway: Gateway, providers: Providers) -> None:
    keys = [secret(""), secret("")]
    pairs = [("authorization", f"Bearer {key}") for key in keys] + [("x-api-key", key) for key in keys]
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, [*OURS.items(), *pairs], asking())
        connection.read_head()
    assert len(credentials_in(providers["openai"].next_request())) == 1


VERSIONS = {"absent": (None, "2023-06-01"), "the client's own": ("2024-01-01", "2024-01-01")}


@pytest.mark.parametrize("case", VERSIONS)
def test_anthropic_version_is_added_only_where_it_is_absent(gateway: Gateway, providers: Providers, case: str) -> None:
    sent, arrived = VERSIONS[case]
    headers = {**OURS, "x-api-key": secret("sk-ant-"), "anthropic-beta": "context-1m-2025-08-07"}
    if sent:
        headers["anthropic-version"] = sent
    call(gateway, CLAUDE_MESSAGES, headers=headers, body=asking("claude-sonnet-4-6"))

    received = providers["anthropic"].next_request()
    assert received.values("anthropic-version") == [arrived]
    assert received.values("anthropic-beta") == ["context-1m-2025-08-07"]


def test_only_anthropic_gets_an_anthropic_version(gateway: Gateway, providers: Providers) -> None:
    call(gateway, headers=OURS)
    assert providers["openai"].next_request().values("anthropic-version") == []


def test_the_clients_other_headers_reach_the_provider(gateway: Gateway, providers: Providers) -> None:
    theirs = {"openai-organization": "org-1", "user-agent": "client/1", "accept": "*/*", "traceparent": "00-1-2-01"}
    call(gateway, headers={**OURS, **theirs, "cookie": "a=1"}, call_id="client-chose-this")

    received = providers["openai"].next_request()
    expected = {**theirs, "cookie": "a=1", "x-request-id": "client-chose-this", "content-type": "application/json"}
    hop_by_hop = {"host", "content-length", "connection", "transfer-encoding"}
    assert {name.lower(): value for name, value in received.headers if name.lower() not in hop_by_hop} == expected
    assert contacted(providers) == ["openai"]
