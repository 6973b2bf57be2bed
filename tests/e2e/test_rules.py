"""An org's rules send calls to other models and providers: the record says so, and every key stays at home."""

import copy
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.answers import TEXT, Flavour
from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, JSON, asking, call, new_id, traffic
from tests.e2e.conftest import Launch, once
from tests.e2e.gateway import Build, Gateway, wait_until
from tests.e2e.scene import (
    ANTHROPIC_KEY,
    MESSAGES,
    OPENAI_KEY,
    PROMPT,
    SECOND_KEY,
    Providers,
    assert_nothing_of_ours,
    contacted,
    credentials_in,
    held_in,
    secret,
    settings_for,
)
from tests.e2e.sdks import anthropic_client, openai_client
from tests.e2e.test_reload import adopt

HELD: dict[Flavour, str] = {"groq": secret("gsk_"), "anthropic": secret("sk-ant-api03-")}
LLAMA = "llama-3.3-70b-versatile"
RULES: list[dict[str, Any]] = [
    {"name": "asleep", "enabled": False, "then": {"model": "gpt-asleep"}},
    {
        "name": "cheap-summaries",
        "when": {"task": "summarisation", "model": "gpt-4o"},
        "then": {"model": "gpt-4o-mini"},
        "priority": 1,
    },
    {"name": "search-at-groq", "when": {"feature": "search"}, "then": {"model": LLAMA, "provider": "groq"}},
    {"name": "to-gemini", "when": {"feature": "keyless"}, "then": {"provider": "gemini"}},
    {"name": "haiku", "when": {"model": "claude-opus-4-6"}, "then": {"model": "claude-haiku-4-5"}},
    {"name": "claude-for-all", "when": {"feature": "claude"}, "then": {"model": "claude-haiku-4-5"}},
    {"name": "no-claude", "when": {"model": "claude-sonnet-4-6"}, "then": {"model": "gpt-4o-mini"}},
    {
        "name": "canary",
        "when": {"model": "gpt-4o"},
        "split": [{"weight": 50}, {"weight": 50, "model": "gpt-4.1"}],
        "sticky": "x-lectr-user",
    },
]


def ruled_settings(providers: Providers, directory: Path) -> dict[str, Any]:
    """The first org has rules, and keys held for two providers."""
    settings = settings_for(providers)
    settings["orgs"][0]["rules"] = RULES
    settings["orgs"][0]["credentials"] = held_in(directory, HELD)
    return settings


@pytest.fixture(scope="module")
def ruled(build: Build, listening: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = ruled_settings(listening, tmp_path_factory.mktemp("keys"))
    with Gateway(build, settings, tmp_path_factory.mktemp("ruled")) as gateway:
        yield gateway


ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]
KEYS: dict[str, Flavour] = {
    OPENAI_KEY: "openai",
    ANTHROPIC_KEY: "anthropic",
    **{key: flavour for flavour, key in HELD.items()},
}


def assert_keys_at_home(providers: Providers) -> None:
    for name, provider in providers.items():
        for received in provider.requests:
            assert_nothing_of_ours(received)
            assert len(credentials_in(received)) <= 1
            assert {KEYS[key] for key in KEYS if key in repr(received)} <= {name}


def told(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(name) for name in ("rule", "provider", "provider_source", "model_requested", "model_sent"))


@pytest.mark.parametrize("stream", [False, True])
def test_a_rule_gives_the_openai_sdk_another_model(
    ruled: Gateway, providers: Providers, call_id: str, *, stream: bool
) -> None:
    with openai_client(ruled, **{"X-Lectr-Task": "Summarization", "x-request-id": call_id}) as client:
        if stream:
            pieces = client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True)
            assert "".join(one.choices[0].delta.content or "" for one in pieces if one.choices) == TEXT
        else:
            answer = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=ASK)
            assert not [name for name in answer.headers if "model-router" in name or "lectr" in name]
            assert answer.parse().choices[0].message.content == TEXT
    received = providers["openai"].next_request()
    assert received.json()["model"] == "gpt-4o-mini"
    assert received.json()["messages"] == MESSAGES
    assert credentials_in(received) == [("authorization", f"Bearer {OPENAI_KEY}")]
    assert_keys_at_home(providers)
    record = ruled.record(call_id)
    assert told(record) == ("cheap-summaries", "openai", "rule", "gpt-4o", "gpt-4o-mini")
    assert record["model_answered"] == "gpt-4o-mini-2024-07-18"


def test_a_rule_sends_calls_to_another_provider_with_the_key_held_for_it(
    ruled: Gateway, providers: Providers, call_id: str
) -> None:
    with openai_client(ruled, **{"X-Lectr-Feature": "search", "x-request-id": call_id}) as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=ASK)
        assert answer.model == LLAMA
    received = providers["groq"].next_request()
    assert (received.target, received.json()["model"]) == ("/openai/v1/chat/completions", LLAMA)
    assert credentials_in(received) == [("authorization", f"Bearer {HELD['groq']}")]
    assert contacted(providers) == ["groq"]
    assert_keys_at_home(providers)
    record = ruled.record(call_id)
    assert told(record) == ("search-at-groq", "groq", "rule", "gpt-4o", LLAMA)
    assert record["credential"] == "gateway"


def test_a_rule_gives_the_anthropic_sdk_another_model(ruled: Gateway, providers: Providers, call_id: str) -> None:
    with anthropic_client(ruled) as client:
        answer = client.messages.create(
            model="claude-opus-4-6",
            max_tokens=99,
            messages=[{"role": "user", "content": PROMPT}],
            extra_headers={"x-request-id": call_id},
        )
        assert isinstance(answer.content[0], anthropic.types.TextBlock)
        assert answer.content[0].text == TEXT
    received = providers["anthropic"].next_request()
    assert received.json()["model"] == "claude-haiku-4-5"
    assert credentials_in(received) == [("x-api-key", ANTHROPIC_KEY)]
    assert told(ruled.record(call_id)) == ("haiku", "anthropic", "rule", "claude-opus-4-6", "claude-haiku-4-5")
    assert_keys_at_home(providers)


def test_calls_in_openais_api_reach_anthropic_when_a_rule_says_so(
    ruled: Gateway, providers: Providers, call_id: str
) -> None:
    call(ruled, headers={**JSON, "X-Lectr-Feature": "claude"}, call_id=call_id)
    received = providers["anthropic"].next_request()
    assert credentials_in(received) == [("x-api-key", HELD["anthropic"])]
    assert told(ruled.record(call_id))[:3] == ("claude-for-all", "anthropic", "rule")
    assert_keys_at_home(providers)


UNFOLLOWED: dict[str, tuple[str, dict[str, str], Flavour, str, str]] = {
    "gpt-4o": (CHAT, {"X-Lectr-Feature": "keyless"}, "openai", "to-gemini", "credential"),
    "claude-sonnet-4-6": (CLAUDE_MESSAGES, {}, "anthropic", "no-claude", "api"),
}


@pytest.mark.parametrize("model", UNFOLLOWED)
def test_a_rule_that_cannot_be_followed_leaves_the_call_as_it_came(
    ruled: Gateway, providers: Providers, call_id: str, model: str
) -> None:
    path, headers, stays, rule, lacks = UNFOLLOWED[model]
    body = asking(model, max_tokens=9)
    assert call(ruled, path, headers={**JSON, **headers}, body=body, call_id=call_id).status_code == 200
    assert contacted(providers) == [stays]
    assert providers[stays].next_request().body == body
    record = ruled.record(call_id)
    assert (record["rule"], record["model_sent"]) == (rule, model)
    assert f"rule_without_{lacks}" in record["notes"]


def test_a_rule_that_is_not_enabled_and_rules_of_another_org_are_not_asked(
    ruled: Gateway, providers: Providers
) -> None:
    ids = [new_id(), new_id()]
    call(ruled, body=asking("gpt-4.1-nano"), call_id=ids[0])
    call(ruled, headers={**JSON, "X-Lectr-Key": SECOND_KEY, "X-Lectr-Feature": "search"}, call_id=ids[1])
    assert contacted(providers) == ["openai", "openai"]
    assert [record.get("rule") for record in map(ruled.record, ids)] == [None, None]


USERS = [f"user-{i}" for i in range(16)]


def test_whoever_the_header_names_stays_with_a_part_in_every_call(ruled: Gateway, providers: Providers) -> None:
    ids = [(user, new_id()) for user in USERS for _ in range(3)]
    for user, call_id in ids:
        call(ruled, headers={**JSON, "X-Lectr-User": user}, call_id=call_id)
    for received in providers["openai"].requests:
        assert_nothing_of_ours(received)
    parts: dict[str, set[str]] = {}
    for user, call_id in ids:
        record = ruled.record(call_id)
        parts.setdefault(user, set()).add(record["rule_arm"])
        assert (record["model_requested"], record["rule"]) == ("gpt-4o", "canary")
        assert record["model_sent"] == {"unchanged": "gpt-4o", "gpt-4.1": "gpt-4.1"}[record["rule_arm"]]
    assert {len(of_user) for of_user in parts.values()} == {1}
    assert set.union(*parts.values()) == {"unchanged", "gpt-4.1"}

    for _ in range(40):  # without the header by chance: all alike once in 2⁴⁰
        call(ruled)
    sent = Counter(received.json()["model"] for received in providers["openai"].requests[len(ids) :])
    assert sent.keys() == {"gpt-4o", "gpt-4.1"}


def test_a_rule_is_switched_on_and_off_under_load_and_no_call_is_lost(
    launch: Launch, providers: Providers, tmp_path: Path
) -> None:
    settings = ruled_settings(providers, tmp_path)
    settings["orgs"][0]["rules"] = [{"name": "switch", "then": {"model": "gpt-4.1"}, "enabled": False}]
    gateway = launch(settings)

    def arrives(model: str) -> None:
        seen = len(providers["openai"].requests)
        wait_until(
            lambda: model in [one.json()["model"] for one in providers["openai"].requests[seen:]], f"a call for {model}"
        )

    with traffic(gateway) as outcomes:
        arrives("gpt-4o")
        for is_on in (True, False, True):
            settings = copy.deepcopy(settings)
            settings["orgs"][0]["rules"][0]["enabled"] = is_on
            adopt(gateway, settings)
            arrives("gpt-4.1" if is_on else "gpt-4o")
    assert set(outcomes.values()) == {200}
    assert {json.loads(one.body)["model"] for one in providers["openai"].requests} == {"gpt-4o", "gpt-4.1"}
    assert_keys_at_home(providers)


@once
def test_explain_check_and_the_ledger_tell_of_rules(ruled: Gateway, providers: Providers, call_id: str) -> None:
    call(ruled, headers={**JSON, "X-Lectr-Feature": "search"}, call_id=call_id)
    ruled.record(call_id)
    arguments = ("explain", "--json", "--rules", "--model", "gpt-4o", "--header", "X-Lectr-Feature: search")
    answer = json.loads(ruled.ask(*arguments))
    assert answer["rule"] == {"name": "search-at-groq", "because": "feature=search", "arm": f"groq/{LLAMA}"}
    assert answer["rules"]["asleep"] == "it is not enabled"
    assert (answer["provider"], answer["model_sent"]) == ("groq", LLAMA)
    assert "never matches" not in ruled.ask("check")
