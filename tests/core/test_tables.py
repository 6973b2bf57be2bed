import dataclasses
import re

import pytest

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.tables import Bounds, CatalogError, Family, Limits, Models, Org, Provider
from tests.core.given import azure_site, snapshot

MISTAKES = {
    "an id in upper case": ({"id": "OpenAI"}, "provider 'OpenAI': an id is lower-case letters, digits, - and _"),
    "an id with a slash": ({"id": "open/ai"}, "provider 'open/ai': an id is"),
    "no id": ({"id": ""}, "provider '': an id is"),
    "a base URL without a scheme": ({"base_url": "api.openai.com"}, "provider 'openai': it must start"),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_row_that_cannot_be_right_is_named_when_it_is_loaded(change: dict[str, str], message: str) -> None:
    with pytest.raises(CatalogError, match=re.escape(message)):
        dataclasses.replace(PROVIDERS["openai"], **change)  # type: ignore[arg-type]


def test_a_providers_prefix_is_its_public_addresses_path() -> None:
    prefixes = {name: PROVIDERS[name].prefix for name in ("openai", "groq", "gemini", "azure")}
    assert prefixes == {"openai": "/v1", "groq": "/openai/v1", "gemini": "/v1beta/openai", "azure": ""}


def test_a_row_cannot_be_changed() -> None:
    row: Provider = PROVIDERS["openai"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.base_url = "https://elsewhere.example"  # type: ignore[misc]


def test_each_address_is_listed_once_however_many_orgs_share_it() -> None:
    plain = snapshot()
    azure = azure_site()
    orgs = {name: Org(name=name, sites={"azure": azure}) for name in ("a", "b")}
    shared = dataclasses.replace(plain, orgs_by_key=orgs)
    assert shared.upstreams == (*plain.upstreams, azure.upstream)
    assert [upstream.provider for upstream in plain.upstreams] == [row.id for row in PROVIDERS.values() if row.base_url]


def test_the_first_family_that_matches_is_found() -> None:
    models = Models(exact={}, families=(Family("a", re.compile("x-")), Family("b", re.compile("x|y"))))
    found = {name: models.any_family.match(name) for name in ("x-1", "x", "y", "z")}
    assert {name: match and match.lastindex for name, match in found.items()} == {"x-1": 1, "x": 2, "y": 2, "z": None}


def test_bodies_whose_size_decides_alike_exceed_as_many_limits() -> None:
    limits = Limits(max_body_bytes=100, inspect_body_bytes=10, inspect_multipart_bytes=50)
    assert [limits.passed_by(size) for size in (0, 1, 10, 11, 50, 51, 100, 101)] == [0, 1, 1, 2, 2, 3, 3, 4]


BOUNDS: dict[str, tuple[Org, list[str]]] = {
    "nothing": (Org(name="a"), ["openai gpt-4o", "openai", "groq m"]),
    "a provider blocked": (Org(name="a", blocked=frozenset({"groq"})), ["openai gpt-4o", "openai"]),
    "a model blocked": (Org(name="a", blocked=frozenset({"gpt-4o"})), ["openai", "groq m"]),
    "a provider allowed": (Org(name="a", allowed_providers=frozenset({"groq"})), ["groq m"]),
    "a model allowed": (Org(name="a", allowed_models=frozenset({"gpt-4o"})), ["openai gpt-4o", "openai"]),
    "another one allowed to its key": (
        Org(name="a", allowed_models=frozenset({"gpt-4o"}), of_key=Bounds(allowed_models=frozenset({"m"}))),
        ["openai"],
    ),
    "a provider blocked for its key": (
        Org(name="a", of_key=Bounds(blocked=frozenset({"groq"}))),
        ["openai gpt-4o", "openai"],
    ),
}


@pytest.mark.parametrize(("org", "allowed"), BOUNDS.values(), ids=BOUNDS)
def test_an_org_may_use_what_nothing_takes_from_it(org: Org, allowed: list[str]) -> None:
    calls = {"openai gpt-4o": ("openai", "gpt-4o"), "openai": ("openai", None), "groq m": ("groq", "m")}
    assert [name for name, call in calls.items() if org.may_use(*call)] == allowed
