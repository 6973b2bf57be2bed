import dataclasses

import pytest

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.facts import Facts
from lectr_extproc.core.outcome import to_metadata
from tests.core.calls import EGRESS, EVERYWHERE, SHAPED, holding, keys_out, replaced_org
from tests.core.given import KEY, azure_site, held, request, routed, snapshot


def to(provider: str, bearer: str | None = None) -> Facts:
    return request("m", ("x-lectr-provider", provider), bearer=bearer)


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
