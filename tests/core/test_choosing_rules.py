import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, with_body
from lectr_extproc.core.outcome import ASK_FOR_BODY, Route, to_metadata
from lectr_extproc.core.record import LogEntry
from lectr_extproc.core.rules import Arm, Terms
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Site
from lectr_extproc.core.upstream import Upstream
from tests.core.calls import (
    ANY,
    EVERY_KEY,
    EVERYWHERE,
    ODD_PATHS,
    SHAPED,
    in_parts,
    keys_out,
    of_parts,
    replaced_org,
    ruled,
    signing_snapshot,
)
from tests.core.given import CLIENT_KEY, recorded, request, routed, snapshot


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
    "the org may not use the model": (
        request("gpt-4o"),
        replaced_org(ruled(Arm("openai/gpt-4.1")), blocked=frozenset({"gpt-4.1"})),
        "permission",
    ),
    "the org may not use the provider": (
        request("gpt-4o"),
        replaced_org(ruled(Arm("claude-opus-4-9"), keys=EVERY_KEY), allowed_providers=frozenset({"openai"})),
        "permission",
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
