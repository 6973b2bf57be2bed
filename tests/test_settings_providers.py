"""Providers, their models and prices in lectr.yaml."""

from datetime import date
from decimal import Decimal

import pytest

from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.prices import Override
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.credential import Form
from lectr_extproc.core.inject import Asking
from lectr_extproc.core.pricing import UNITS
from lectr_extproc.core.tables import Known
from lectr_extproc.core.upstream import Signing
from lectr_extproc.settings import (
    load,
)
from tests.test_settings import problems


@pytest.mark.parametrize("id_", ["{id: azure", "{id: eu, kind: azure"])
def test_an_azure_resource_of_every_org_is_understood_the_same_way(id_: str) -> None:
    for path, version in (("", "2024-02-01"), ("/openai/v1/", "v1")):
        settings = load(f"providers: [{id_}, base_url: 'https://x.openai.azure.com{path}'}}]")
        (site,) = (site for id_, site in settings.snapshot.sites.items() if id_ in {"azure", "eu"})
        assert (site.upstream.authority, site.upstream.prefix, site.api_version) == (
            "x.openai.azure.com",
            "",
            version,
        )


def test_a_price_of_ones_own_arrives_exactly() -> None:
    prices = load(
        """
        prices:
        - {provider: openai, model: gpt-4o, input: 0.1, cache_read: 0, web_search: 7, from: 2026-01-01, reason: ours}
        - {provider: xai, discount: 0.15}
        """
    ).prices
    assert prices == (
        Override(
            provider="openai",
            model="gpt-4o",
            prices={"input": Decimal("0.1"), "cache_read": Decimal(0), "web_search": Decimal(7)},
            since=date(2026, 1, 1),
            reason="ours",
        ),
        Override(provider="xai", discount=Decimal("0.15")),
    )


BAD_PRICES = {
    "a provider that is none": ("{provider: opneai, discount: 0.1}", "provider: 'opneai' is not a provider"),
    "a price below zero": ("{provider: xai, model: m, input: -1}", "input: Input should be greater than or equal to 0"),
    "a price that is none": ("{provider: xai, model: m, input: .nan}", "input: "),
    "a price beyond reason": (
        "{provider: xai, model: m, input: '1e9999'}",
        "input: Input should be less than or equal to 1000000000",
    ),
    "a percentage": ("{provider: xai, discount: 20}", "discount: Input should be less than or equal to 1"),
    "a price for every model": ("{provider: xai, input: 1}", "name the model whose price this is"),
    "nothing": ("{provider: xai, model: m}", "write a price or a discount"),
    "a unit that is none": ("{provider: xai, model: m, inptu: 1}", "inptu: there is no such setting"),
}


@pytest.mark.parametrize(("written", "told"), BAD_PRICES.values(), ids=BAD_PRICES)
def test_a_price_that_cannot_be_meant_is_told(written: str, told: str) -> None:
    (problem,) = problems(f"prices: [{written}]")
    assert problem.startswith("line 1: prices[0]")
    assert told in problem


def test_lectr_reads_what_the_operator_gave_a_price_that_envoy_does_not_count() -> None:
    settings = load(
        """
providers:
- {id: talker, base_url: "http://10.0.0.5/v1", models: [{id: t, input: 1, audio_input: 9}]}
- {id: thinker, base_url: "http://10.0.0.6/v1", models: [{id: h, input: 1, output: 2, cache_read: 0.1}]}
- {id: finder, base_url: "http://10.0.0.7/v1", observe: native}
prices:
- {provider: finder, model: f, input: 1, web_search: 5}
- {provider: cerebras, model: gpt-oss-120b, web_search: 5}
"""
    )
    assert settings.snapshot.observation.wanted == {"talker": "stream", "cerebras": "stream", "finder": "native"}


def test_an_address_in_the_file_takes_the_catalogues_place() -> None:
    sites = load(
        "providers: [{id: openai, base_url: 'http://h:1/v1'}, {id: mistral, base_url: 'https://m/v1'}]"
    ).snapshot.sites
    assert (sites["openai"].upstream.authority, sites["openai"].upstream.scheme) == ("h:1", "http")
    assert sites["mistral"].upstream.authority == "m"
    assert sites["groq"].upstream.authority == "api.groq.com"


OWN = """
providers:
- id: my-vllm
  base_url: http://10.0.0.5:8000/v1
  models:
  - Qwen/Qwen3-32B
  - {id: gpt-4o, input: 1, output: 2, context_window: 4096}
- {id: cloud, kind: ollama, name: The cloud, base_url: https://ollama.example, auth: bearer, include_usage: false}
- {id: eu, kind: groq, base_url: https://eu.example, include_usage: true}
- {id: together, base_url: https://t.example/v1, models: [Org/Model], auth: x-api-key}
- {id: azure, include_usage: true, models: [gpt-4.1]}
prices:
- {provider: my-vllm, model: gpt-4o, input: 3}
- {provider: eu, discount: 0.5}
"""


def test_a_provider_of_ones_own_is_like_its_kind_but_for_what_is_said() -> None:
    rows = load(OWN).snapshot.providers
    mine, cloud, eu = rows["my-vllm"], rows["cloud"], rows["eu"]
    assert (mine.kind, mine.name, mine.key_form, mine.asking) == ("custom", "my-vllm", Form.BEARER, Asking.YES)
    assert (cloud.kind, cloud.name, cloud.key_form, cloud.asking) == ("ollama", "The cloud", Form.BEARER, Asking.NEVER)
    assert (eu.kind, eu.prefix, eu.asking) == ("groq", "/openai/v1", Asking.YES)
    for row in (mine, cloud, eu):
        assert (row.synonyms, row.model_prefixes, row.key_shapes, row.key_env) == ((), (), (), None)
        assert row.native == PROVIDERS[row.kind].native
    assert (rows["together"].key_form, rows["together"].model_prefixes) == (Form.X_API_KEY, ("together_ai",))
    assert rows["azure"].asking is Asking.AZURE
    assert list(rows)[: len(PROVIDERS)] == list(PROVIDERS)


REGIONS = """
providers:
- {id: bedrock, region: eu-central-1}
- {id: bedrock-us, kind: bedrock, region: us-gov-west-1, sign: true}
- id: bedrock-private
  kind: bedrock
  region: eu-west-1
  base_url: https://vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com
  sign: {credentials_file: /run/aws, profile: lectr}
- {id: mantle, kind: bedrock, region: eu-west-1, base_url: 'https://mantle.example/v1', sign: {service: bedrock-mantle}}
- {id: keyed, kind: bedrock, base_url: 'https://bedrock.example', sign: false}
"""


def test_bedrock_is_in_the_region_that_settings_say_as_often_as_they_say() -> None:
    sites = load(REGIONS).snapshot.sites
    reached = {id_: (site.upstream.authority, site.upstream.prefix) for id_, site in sites.items()}
    assert reached["bedrock"] == ("bedrock-runtime.eu-central-1.amazonaws.com", "/openai/v1")
    assert reached["bedrock-us"] == ("bedrock-runtime.us-gov-west-1.amazonaws.com", "/openai/v1")
    assert reached["bedrock-private"] == ("vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com", "/openai/v1")
    assert reached["mantle"] == ("mantle.example", "/v1")


def test_calls_are_signed_where_settings_say_so_for_the_region_they_say() -> None:
    signings = {id_: site.upstream.signing for id_, site in load(REGIONS).snapshot.sites.items()}
    assert {id_: signing for id_, signing in signings.items() if signing} == {
        "bedrock-us": Signing(service="bedrock", region="us-gov-west-1"),
        "bedrock-private": Signing(service="bedrock", region="eu-west-1", credentials_file="/run/aws", profile="lectr"),
        "mantle": Signing(service="bedrock-mantle", region="eu-west-1"),
    }
    at_home = load("providers: [{id: bedrock, sign: true}]").snapshot.sites["bedrock"].upstream
    assert (at_home.authority, at_home.signing) == (
        "bedrock-runtime.us-east-1.amazonaws.com",
        Signing(service="bedrock", region="us-east-1"),
    )


def test_the_models_of_ones_own_providers_are_registered_and_priced_and_listed() -> None:
    settings = load(OWN)
    registered = {"Qwen/Qwen3-32B": "my-vllm", "gpt-4o": "my-vllm", "Org/Model": "together", "gpt-4.1": "azure"}
    assert settings.snapshot.models.registered == registered
    assert settings.snapshot.lineup["my-vllm", "gpt-4o"] == Known("gpt-4o", 4096)
    assert settings.snapshot.lineup["my-vllm", "Qwen/Qwen3-32B"] == Known("Qwen/Qwen3-32B", None)
    row = settings.snapshot.prices.row("my-vllm", "gpt-4o")
    assert row is not None
    level = dict(zip(UNITS, row.rates(0)[0].base, strict=True))
    assert (level["input"], level["output"]) == (3_000_000, 2_000_000)  # `prices:` has the last word
    assert settings.snapshot.prices.row("my-vllm", "gpt-4o-mini") is None
    ours, theirs = (settings.snapshot.prices.row(id_, "llama-3.1-8b-instant") for id_ in ("eu", "groq"))
    assert ours is not None
    assert theirs is not None
    assert ours.rates(0)[0].base[0] * 2 == theirs.rates(0)[0].base[0]


def test_a_model_of_the_lineup_that_is_registered_keeps_what_is_known_of_it() -> None:
    settings = load("providers: [{id: openai, models: [gpt-5.4, {id: gpt-4, context_window: 1000}]}]")
    lineup = settings.snapshot.lineup
    assert lineup["openai", "gpt-5.4"] == LINEUP["openai", "gpt-5.4"]
    assert (lineup["openai", "gpt-4"].window, lineup["openai", "gpt-4"].to) == (1000, ("gpt-4o",))
    assert lineup["openai", "gpt-4"].retires is None, "who registers a model says that it is there"


@pytest.mark.parametrize(
    ("id_", "url", "prefix"),
    [
        ("openai", "http://h:9000/v1", "/v1"),
        ("openai", "http://h:9000/proxy/openai/v1/", "/proxy/openai/v1"),
        ("openai", "http://h:9000", "/v1"),
        ("groq", "http://h:9000/", "/openai/v1"),
        ("ollama", "http://localhost:11434", "/v1"),
        ("mine", "http://h:8000", "/v1"),
        ("mine", "http://h:8000/proxy/api", "/proxy/api"),
    ],
)
def test_an_address_without_a_path_keeps_the_providers_prefix(id_: str, url: str, prefix: str) -> None:
    settings = load(f"providers: [{{id: {id_}, base_url: '{url}'}}]")
    assert settings.snapshot.sites[id_].upstream.prefix == prefix
