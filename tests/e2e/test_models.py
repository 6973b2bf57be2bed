"""`GET /v1/models` tells the official SDKs which models there are; a provider's own list is a header away."""

from typing import Any

import anthropic
import openai
import pytest

from lectr_extproc.catalog.ranking import ALIASES
from tests.e2e.calls import KEYS, call, error_of, new_id
from tests.e2e.conftest import Launch
from tests.e2e.gateway import Gateway, Record
from tests.e2e.scene import OPENAI_KEY, SECOND_KEY, Providers, contacted, credentials_in, settings_for
from tests.e2e.sdks import openai_client

OWN = {"id": "fjord-llm", "models": ["gpt-4o", {"id": "Fjord/Skald:7b", "context_window": 8192}]}


def test_openais_sdk_lists_the_models_of_every_provider(client: openai.OpenAI, providers: Providers) -> None:
    owners = {model.id: model.owned_by for model in client.models.list()}
    assert (owners["gpt-4o"], owners["claude-opus-4-6"], owners["gemini-2.5-pro"]) == ("openai", "anthropic", "gemini")
    assert not owners.keys() & {"gpt-3.5-turbo", "o1-mini", "claude-3-opus-20240229"}, "they retired"
    assert "azure" not in owners.values()
    assert contacted(providers) == []


def test_a_head_and_a_slash_ask_for_the_same_list(gateway: Gateway, providers: Providers) -> None:
    listed, slashed, head = (
        call(gateway, path, method=method, headers=KEYS)
        for method, path in (("GET", "/v1/models"), ("GET", "/v1/models/"), ("HEAD", "/v1/models"))
    )
    assert (slashed.status_code, slashed.content) == (200, listed.content)
    assert (head.status_code, head.content, head.headers["content-type"]) == (200, b"", "application/json")
    assert contacted(providers) == []


def test_openais_sdk_retrieves_a_model(client: openai.OpenAI, providers: Providers) -> None:
    model = client.models.retrieve("claude-opus-4-6")
    assert (model.id, model.object, model.created, model.owned_by) == ("claude-opus-4-6", "model", 0, "anthropic")
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("mystery-1")
    assert caught.value.code == "model_not_found"
    assert contacted(providers) == []


def test_anthropics_sdk_lists_the_models_page_by_page(
    claude: anthropic.Anthropic, client: openai.OpenAI, providers: Providers
) -> None:
    first = claude.models.list(limit=2)
    assert (len(first.data), first.has_more, first.last_id) == (2, True, first.data[-1].id)
    # Anthropic has no embeddings: its key alone is no reason to list aliases for them.
    listed = [model.id for model in client.models.list() if model.id not in ALIASES]
    assert [model.id for model in first] == listed
    assert [model.id for model in claude.models.list(limit=3, before_id=listed[5])][:3] == listed[2:5]
    assert contacted(providers) == []


def test_anthropics_sdk_retrieves_a_model(claude: anthropic.Anthropic, providers: Providers) -> None:
    model = claude.models.retrieve("claude-opus-4-6")
    assert (model.type, model.display_name, model.created_at.year) == ("model", "claude-opus-4-6", 1970)
    assert (model.max_input_tokens, model.max_tokens) == (1_000_000, 128_000)
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.models.retrieve("mystery-1")
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"], body["error"]["code"]) == (
        "error",
        "not_found_error",
        "model_not_found",
    )
    assert contacted(providers) == []


def test_registered_models_are_listed_under_names_that_lead_to_them(launch: Launch, providers: Providers) -> None:
    settings = settings_for(providers)
    settings["providers"].append({**OWN, "base_url": f"{providers['groq'].origin}/own"})
    with openai_client(launch(settings)) as client:
        owners = {model.id: model.owned_by for model in client.models.list()}
        assert (owners["gpt-4o"], owners["openai/gpt-4o"]) == ("fjord-llm", "openai")
        assert client.models.retrieve("Fjord/Skald:7b").id == "Fjord/Skald:7b"
        for model, flavour in (("gpt-4o", "groq"), ("openai/gpt-4o", "openai"), ("Fjord/Skald:7b", "groq")):
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": "?"}])
            assert contacted(providers).pop() == flavour, model
            for provider in providers.values():
                provider.reset()


def test_a_named_provider_answers_with_its_own_list(gateway: Gateway, providers: Providers) -> None:
    with openai_client(gateway, **{"X-Lectr-Provider": "groq"}) as client:
        assert [model.id for model in client.models.list()] == ["gpt-4o", "gpt-4o-mini"]
    received = providers["groq"].next_request()
    assert received.target == "/openai/v1/models"
    assert credentials_in(received) == [("authorization", f"Bearer {OPENAI_KEY}")]


def test_an_org_without_azure_is_told_so_where_it_asks_for_azures_list(gateway: Gateway, providers: Providers) -> None:
    named = {**KEYS, "X-Lectr-Key": SECOND_KEY, "X-Lectr-Provider": "azure"}
    assert error_of(call(gateway, "/v1/models", method="GET", headers=named))[3] == "azure_config_missing"


def told(record: Record) -> dict[str, object]:
    names = ("provider", "dialect", "notes", "status", "error_category", "error_source", "error_code", "cost", "usage")
    return {name: record[name] for name in names if name in record}


def test_the_record_says_that_the_gateway_answered(gateway: Gateway, providers: Providers) -> None:
    found, missing = new_id(), new_id()
    answer = call(gateway, "/v1/models?limit=1", method="GET", headers=KEYS, call_id=found)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    call(gateway, "/v1/models/mystery-1", method="GET", headers=KEYS, call_id=missing)

    record = gateway.record(found)
    assert told(record) == {"dialect": "models", "notes": ["answered_by_gateway"], "status": 200}
    assert (record["org"], record["path"], record["response_bytes"]) == (
        "fjord-works",
        "/v1/models",
        len(answer.content),
    )
    assert told(gateway.record(missing)) == {
        "status": 404,
        "error_category": "not_found",
        "error_source": "gateway",
        "error_code": "model_not_found",
    }


@pytest.mark.parametrize("path", ["/openai/models", "/v1beta/openai/models"])
def test_the_lists_at_other_paths_are_the_providers(gateway: Gateway, providers: Providers, path: str) -> None:
    assert call(gateway, path, method="GET", headers=KEYS).status_code == 200
    assert len(contacted(providers)) == 1
