"""Orgs in lectr.yaml."""

import pytest

from lectr_extproc.settings import (
    load,
)
from tests.test_settings import DIGEST, OTHER


def test_an_org_may_be_disabled_and_have_many_keys() -> None:
    settings = load(f"orgs: [{{name: a, enabled: false, keys: [{{sha256: {DIGEST}, label: x}}, {{sha256: {OTHER}}}]}}]")
    by_key = settings.snapshot.orgs_by_key
    assert by_key[DIGEST] is by_key[OTHER]
    assert not by_key[DIGEST].enabled


def test_a_key_may_be_allowed_less_than_its_org() -> None:
    own = "blocked: {providers: [groq]}, allowed: {models: [gpt-4o]}"
    org = "blocked: {models: [gpt-4o-mini]}, limits: {daily_usd: 1}"
    settings = load(f"orgs: [{{name: a, keys: [{{sha256: {DIGEST}, {own}}}, {{sha256: {OTHER}}}], {org}}}]")
    calls = [("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("groq", "gpt-4o"), ("openai", "o3")]
    bounded, free = (settings.snapshot.orgs_by_key[digest] for digest in (DIGEST, OTHER))
    assert [bounded.may_use(*call) for call in calls] == [True, False, False, False]
    assert [free.may_use(*call) for call in calls] == [True, False, True, True]
    assert bounded.limits == free.limits is not None


AZURE = {
    "an endpoint": ("{endpoint: 'https://x.openai.azure.com'}", "", "2024-02-01"),
    "a slash behind it": ("{endpoint: 'https://x.openai.azure.com/'}", "", "2024-02-01"),
    "a version": (
        "{endpoint: 'https://x.openai.azure.com', api_version: 2025-01-01-preview}",
        "",
        "2025-01-01-preview",
    ),
    "a version that YAML takes for a date": (
        "{endpoint: 'https://x.openai.azure.com', api_version: 2024-10-21}",
        "",
        "2024-10-21",
    ),
    "v1": ("{endpoint: 'https://x.openai.azure.com', api_version: v1}", "", "v1"),
    "the base URL of the v1 SDK": ("{endpoint: 'https://x.openai.azure.com/openai/v1/'}", "", "v1"),
    "a gateway before it": ("{endpoint: 'https://x.openai.azure.com/team'}", "/team", "2024-02-01"),
}


@pytest.mark.parametrize(("written", "prefix", "version"), AZURE.values(), ids=AZURE)
def test_an_azure_endpoint_is_understood_as_people_write_it(written: str, prefix: str, version: str) -> None:
    settings = load(f"orgs: [{{name: acme, keys: [{{sha256: {DIGEST}}}], azure: {written}}}]")
    site = settings.snapshot.orgs_by_key[DIGEST].sites["azure"]
    assert (site.upstream.authority, site.upstream.prefix, site.api_version) == ("x.openai.azure.com", prefix, version)
    assert site.upstream in settings.snapshot.upstreams
