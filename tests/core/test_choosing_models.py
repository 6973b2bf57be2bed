import dataclasses
import itertools
import json
from typing import Any

import pytest

from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, with_body
from lectr_extproc.core.health import Health, Target
from lectr_extproc.core.outcome import ASK_FOR_BODY, AskForBody, Refuse, Route, to_metadata
from lectr_extproc.core.rules import Arm
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Failover, Limits
from lectr_extproc.core.words import PREFERENCES, WANTED
from tests.core.calls import EVERY_KEY, EVERYWHERE, NOW, asked, holding, keys_out, replaced_org, ruled
from tests.core.given import CLIENT_KEY, request, routed, snapshot

# --- choosing a model -------------------------------------------------------------------------------------------------


SAID: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


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
    assert json.loads(told["auto_signals"]) == plan.auto.signals
    assert sum(json.loads(told["dropped"]).values()) == len(plan.dropped)
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


def test_a_clients_key_follows_to_the_provider_that_it_certainly_is_of() -> None:
    tables = replaced_org(snapshot(), aliases={"talk": ("grok-4.3",)})
    facts = asked({"model": "talk", **SAID}, path="/v1/messages", bearer="xai-x")
    route = routed(facts, tables)
    assert (route.choice.provider, keys_out(route)) == ("xai", {"authorization": "Bearer xai-x"})
    assert route.choice.notes == ()


# --- several candidates -----------------------------------------------------------------------------------------------


def failing_over(attempts_max: int = 3, **keys: str) -> Snapshot:
    return dataclasses.replace(holding(**(keys or EVERY_KEY)), failover=Failover(attempts_max=attempts_max))


def test_a_pinned_call_is_asked_for_its_body_where_a_header_or_a_name_in_it_says_that_it_may_fall_back() -> None:
    tables = failing_over()
    assert isinstance(decide(request("gpt-4o", bearer="sk-proj-x"), tables), Route)
    assert isinstance(decide(request("gpt-4o", ("x-lectr-fallback", "gpt-4.1")), tables), AskForBody)
    named = request(None, bearer="sk-proj-x", metadata={"model": "gpt-4o", "fallback": True})
    assert isinstance(decide(named, tables), AskForBody)
    seen = routed(with_body(named, b'{"model": "gpt-4o", "fallback": ["claude-opus-4-7"]}'), tables)
    assert [each.choice.model_sent for each in seen.tries] == ["gpt-4o", "claude-opus-4-7"]
    elsewhere = routed(with_body(named, b'{"model": "gpt-4o", "tools": [{"fallback": 1}]}'), tables)
    assert (elsewhere.tries, elsewhere.choice.plan, elsewhere.body) == ((), None, None)


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
