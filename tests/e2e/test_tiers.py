"""Tiers, `auto` and aliases: the gateway chooses the model, says which, and leaves pinned calls as they are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.answers import TEXT, Flavour
from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, JSON, asking, call
from tests.e2e.conftest import once
from tests.e2e.gateway import Build, Gateway
from tests.e2e.scene import (
    ANTHROPIC_KEY,
    MESSAGES,
    OPENAI_KEY,
    PROMPT,
    Providers,
    assert_nothing_of_ours,
    contacted,
    credentials_in,
    held_in,
    secret,
    settings_for,
)
from tests.e2e.sdks import anthropic_client, openai_client

HELD: dict[Flavour, str] = {"anthropic": secret("sk-ant-api03-"), "gemini": secret("AIza")}
STAYS = {
    "openai": ["gpt-4.1-mini", "gpt-4.1", "text-embedding-3-small"],
    "anthropic": ["claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-7"],
    "gemini": ["gemini-2.5-flash"],
}
"What settings register is not retired, whenever this runs."
ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]
HARD = (
    "Prove step by step that this lock-free queue is linearizable under the C++ memory model, compare it with a "
    "formal proof in TLA+, and analyse the trade-offs.\n```cpp\nstd::atomic<Node*> head;\n```\n" * 3
)


@pytest.fixture(scope="module")
def choosing(build: Build, listening: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The first org has two keys held, aliases, a rule and a provider that it never wants to be chosen."""
    settings = settings_for(listening)
    for provider in settings["providers"]:
        provider["models"] = STAYS.get(provider["id"], [])
    settings["orgs"][0] |= {
        "credentials": held_in(tmp_path_factory.mktemp("keys"), HELD),
        "aliases": {"small-talk": "economy", "writer": ["gpt-4.1", "claude-sonnet-4-6"]},
        "blocked": {"providers": ["gemini"]},
        "rules": [{"name": "cheaper", "when": {"feature": "drafts"}, "then": {"tier": "economy"}}],
    }
    with Gateway(build, settings, tmp_path_factory.mktemp("choosing")) as gateway:
        yield gateway


def told(answer: Any) -> dict[str, str]:
    """What an answer says of the choice."""
    headers = getattr(answer, "headers", answer)
    prefix = "x-model-router-"
    return {name.removeprefix(prefix): value for name, value in headers.items() if name.startswith(prefix)}


def kept(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(name) for name in ("model_requested", "model_sent", "provider_source", "tier"))


@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_sdk_asks_for_a_tier_and_is_told_what_answered(
    choosing: Gateway, providers: Providers, call_id: str, *, stream: bool
) -> None:
    with openai_client(choosing, **{"x-request-id": call_id}) as client:
        if stream:
            streamed = client.chat.completions.with_raw_response.create(model="economy", messages=ASK, stream=True)
            assert "".join(one.choices[0].delta.content or "" for one in streamed.parse() if one.choices) == TEXT
            headers = streamed.headers
        else:
            answer = client.chat.completions.with_raw_response.create(model="economy", messages=ASK)
            assert answer.parse().choices[0].message.content == TEXT
            headers = answer.headers
    assert told(headers) == {"model": "gpt-4.1-mini", "provider": "openai", "tier": "economy"}
    received = providers["openai"].next_request()
    assert (received.json()["model"], received.json()["messages"]) == ("gpt-4.1-mini", MESSAGES)
    assert credentials_in(received) == [("authorization", f"Bearer {OPENAI_KEY}")]
    assert_nothing_of_ours(received)
    record = choosing.record(call_id)
    assert kept(record) == ("economy", "gpt-4.1-mini", "chosen", "economy")
    assert record["candidates"] == 2
    assert "auto_score" not in record


def test_what_counts_decides_within_the_tier_and_every_other_byte_arrives_as_it_was_sent(
    choosing: Gateway, providers: Providers, call_id: str
) -> None:
    rest = b',\n "messages": [{"role":"user","content":"\\u0068i"}],"n":1.0 }'
    body = b'{ "prefer":"fast" , "model" : "economy","tier": "economy"' + rest
    answer = call(choosing, body=body, call_id=call_id)
    assert told(answer) == {"model": "claude-haiku-4-5", "provider": "anthropic", "tier": "economy"}
    assert contacted(providers) == ["anthropic"]
    received = providers["anthropic"].next_request()
    assert received.body == b'{ "model" : "claude-haiku-4-5"' + rest
    assert credentials_in(received) == [("x-api-key", HELD["anthropic"])]
    assert OPENAI_KEY not in repr(received)


def test_the_anthropic_sdk_gets_a_model_that_speaks_its_api(
    choosing: Gateway, providers: Providers, call_id: str
) -> None:
    with anthropic_client(choosing) as client:
        raw = client.messages.with_raw_response.create(
            model="premium",
            max_tokens=99,
            messages=[{"role": "user", "content": PROMPT}],
            extra_headers={"x-request-id": call_id},
        )
        answer = raw.parse()
        assert isinstance(answer.content[0], anthropic.types.TextBlock)
        assert answer.content[0].text == TEXT
    assert told(raw.headers) == {"model": "claude-opus-4-7", "provider": "anthropic", "tier": "premium"}
    received = providers["anthropic"].next_request()
    assert received.json()["model"] == "claude-opus-4-7"
    assert credentials_in(received) == [("x-api-key", ANTHROPIC_KEY)]
    assert kept(choosing.record(call_id)) == ("premium", "claude-opus-4-7", "chosen", "premium")


@pytest.mark.parametrize(("text", "tier"), [("hi", "economy"), (HARD, "premium")])
def test_auto_takes_the_tier_that_the_conversation_asks_for(
    choosing: Gateway, providers: Providers, call_id: str, text: str, tier: str
) -> None:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]}).encode()
    said = told(call(choosing, body=body, call_id=call_id))
    record = choosing.record(call_id)
    assert (said["tier"], said["auto-tier"], record["tier"], record["auto_tier"]) == (tier,) * 4
    assert said["auto-score"] == str(record["auto_score"])
    assert len(json.loads(record["auto_signals"])) == 7
    (provider,) = [provider for name, provider in providers.items() if name == said["provider"]]
    assert said["model"] == record["model_sent"] == provider.next_request().json()["model"]
    assert HARD[:20] not in json.dumps(record)


def test_a_tier_in_the_body_outranks_the_model_and_needs_none(
    choosing: Gateway, providers: Providers, call_id: str
) -> None:
    assert told(call(choosing, body=asking("gpt-4o", tier="economy")))["model"] == "gpt-4.1-mini"
    body = json.dumps({"tier": "economy", "messages": MESSAGES}).encode()
    assert told(call(choosing, body=body, call_id=call_id))["model"] == "gpt-4.1-mini"
    sent = [received.json() for received in providers["openai"].requests]
    assert sent == [{"model": "gpt-4.1-mini", "messages": MESSAGES}] * 2
    record = choosing.record(call_id)
    assert (record.get("model_requested"), record["model_sent"]) == (None, "gpt-4.1-mini")


def test_a_pinned_call_is_answered_as_if_there_were_nothing_to_choose(
    choosing: Gateway, providers: Providers, call_id: str
) -> None:
    body = asking("gpt-4o", n=1)
    answer = call(choosing, body=body, call_id=call_id)
    assert told(answer) == {}
    assert providers["openai"].next_request().body == body
    record = choosing.record(call_id)
    assert not {"tier", "auto_tier", "auto_score", "candidates"} & record.keys()
    assert told(call(choosing, CLAUDE_MESSAGES, body=asking("claude-haiku-4-5", max_tokens=9))) == {}


def test_what_counts_is_taken_out_of_a_pinned_call_and_changes_nothing(choosing: Gateway, providers: Providers) -> None:
    answer = call(choosing, body=asking("gpt-4o", prefer="quality"))
    assert told(answer) == {}
    assert providers["openai"].next_request().body == asking("gpt-4o")
    foreign = asking("gpt-4o", tier="gold", prefer="warm")
    call(choosing, body=foreign)
    assert providers["openai"].requests[-1].body == foreign


def test_models_to_fall_back_to_are_taken_out_of_the_body_and_make_a_call_a_chosen_one(
    choosing: Gateway, providers: Providers, call_id: str
) -> None:
    headers = {**JSON, "X-Lectr-Fallback": "gpt-4o-mini"}
    answer = call(choosing, body=asking("gpt-4o", fallback=["claude-haiku-4-5"]), headers=headers, call_id=call_id)
    assert told(answer) == {"model": "gpt-4o", "provider": "openai"}
    assert providers["openai"].next_request().body == asking("gpt-4o")
    assert contacted(providers) == ["openai"]
    assert choosing.record(call_id)["candidates"] == 2
    foreign = asking("gpt-4o", fallback="claude-haiku-4-5")
    call(choosing, body=foreign)
    assert providers["openai"].requests[-1].body == foreign


def test_a_call_that_pins_its_model_is_decided_without_its_body(choosing: Gateway, providers: Providers) -> None:
    def asked_for() -> int:
        count: int = choosing.healthz().json()["counts"].get("bodies_asked_for", 0)
        return count

    before = asked_for()
    said = asking("gpt-4o", user='a "fallback" in a text')
    assert call(choosing, body=said).status_code == 200
    assert asked_for() == before
    assert call(choosing, body=said, headers={**JSON, "X-Lectr-Fallback": "gpt-4o-mini"}).status_code == 200
    assert asked_for() == before + 1
    assert "x-lectr-fallback" not in dict(providers["openai"].requests[-1].headers)


def test_a_fallback_is_found_wherever_it_stands_in_a_body_of_any_length_that_comes_in_any_pieces(
    choosing: Gateway, providers: Providers
) -> None:
    edge = 16_384 - asking("gpt-4o", user="", fallback=[]).index(b'"fallback"')
    for length in (0, *range(edge - len('"fallback"'), edge + 1), 1_500_000):  # Envoy looks at one piece after another
        sent = asking("gpt-4o", user="x" * length, fallback=["claude-haiku-4-5"])
        answer = call(choosing, body=sent, headers={**JSON, "Content-Type": "Application/JSON; charset=utf-8"})
        assert told(answer) == {"model": "gpt-4o", "provider": "openai"}, length
    pieces = (sent[at : at + 9_999] for at in range(0, len(sent), 9_999))
    assert told(call(choosing, body=pieces)) == {"model": "gpt-4o", "provider": "openai"}
    assert providers["openai"].requests[-1].body == asking("gpt-4o", user="x" * length)


NAMES: dict[str, tuple[str, str, dict[str, str]]] = {
    "small-talk": (CHAT, "gpt-4.1-mini", {"tier": "economy"}),
    "writer": (CHAT, "gpt-4.1", {}),
    "embed-small": ("/v1/embeddings", "text-embedding-3-small", {}),
}


@pytest.mark.parametrize("name", NAMES)
def test_an_alias_is_the_model_it_stands_for(choosing: Gateway, providers: Providers, name: str) -> None:
    path, model, tier = NAMES[name]
    body = json.dumps({"model": name, "input" if "embed" in path else "messages": MESSAGES}).encode()
    assert told(call(choosing, path, body=body)) == {"model": model, "provider": "openai", **tier}
    assert providers["openai"].next_request().json()["model"] == model


def test_a_rule_may_take_a_call_to_a_tier(choosing: Gateway, providers: Providers, call_id: str) -> None:
    answer = call(choosing, headers={**JSON, "X-Lectr-Feature": "drafts"}, call_id=call_id)
    assert told(answer)["model"] == "gpt-4.1-mini"
    record = choosing.record(call_id)
    assert kept(record) == ("gpt-4o", "gpt-4.1-mini", "chosen", "economy")
    assert (record["rule"], record["rule_arm"]) == ("cheaper", "economy")


def test_where_no_model_fits_the_call_goes_on_as_it_came(choosing: Gateway, providers: Providers, call_id: str) -> None:
    body = json.dumps({"model": "premium", "input": "text"}).encode()
    assert told(call(choosing, "/v1/embeddings", body=body, call_id=call_id)) == {}
    assert providers["openai"].next_request().body == body
    record = choosing.record(call_id)
    assert (record["model_sent"], record["candidates"]) == ("premium", 0)
    assert "no_candidate" in record["notes"]


def test_a_key_never_leaves_its_provider_whatever_is_chosen(choosing: Gateway, providers: Providers) -> None:
    for tier in ("economy", "standard", "premium", "auto"):
        for prefer in ("cheap", "fast", "balanced", "quality", "coding"):
            assert call(choosing, body=asking(tier, prefer=prefer)).status_code == 200
    owners: dict[str, Flavour] = {OPENAI_KEY: "openai", ANTHROPIC_KEY: "anthropic"}
    owners |= {key: flavour for flavour, key in HELD.items()}
    assert set(contacted(providers)) == {"openai", "anthropic"}  # gemini has a key, and is blocked
    for name, provider in providers.items():
        for received in provider.requests:
            assert_nothing_of_ours(received)
            assert {owner for key, owner in owners.items() if key in repr(received)} <= {name}
            assert not {"prefer", "tier"} & received.json().keys()


@once
def test_words_are_listed_and_explained(choosing: Gateway, tmp_path: Path) -> None:
    with openai_client(choosing) as client:
        listed = {model.id: model.owned_by for model in client.models.list()}
    words = ("auto", "economy", "standard", "premium", "small-talk", "writer", "embed-small")
    assert [listed[word] for word in words] == ["lectr"] * len(words)
    assert "embed-titan" not in listed
    body = tmp_path / "body.json"
    body.write_bytes(asking("auto"))
    key = ("--header", "Authorization: Bearer sk-proj-none")
    plan = json.loads(choosing.ask("explain", "--json", "--body", str(body), *key))["plan"]
    assert plan["tier"] == "economy"
    assert plan["candidates"][0]["model"] == "gpt-4.1-mini"
    assert {"model": "gemini-2.5-flash", "provider": "gemini", "reason": "blocked"} in plan["dropped"]
