"""Orgs in lectr.yaml."""

import pytest

from lectr_extproc.settings import ConfigError, load
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


WEB = "spiffe://cluster.local/ns/shop/sa/web"
ATTRIBUTE = "identity: {attribute: connection.uri_san_peer_certificate}"


def test_an_org_may_have_workloads_and_no_key() -> None:
    org = f"name: a, workloads: [{WEB}, 'spiffe://cluster.local/ns/batch/*']"
    keyed = f"keys: [{{sha256: {DIGEST}, label: web}}]"
    limits = "limits: {daily_usd: 5, narrower: [{for: {key: web}, daily_usd: 1}]}"
    settings = load(f"orgs: [{{{org}, {keyed}, {limits}}}]\n{ATTRIBUTE}")
    snapshot = settings.snapshot
    assert snapshot.identity == settings.gateway.identity == "connection.uri_san_peer_certificate"
    assert snapshot.orgs_by_workload.keys() == {WEB, "spiffe://cluster.local/ns/batch/*"}
    limits_of_web = snapshot.orgs_by_workload[WEB].limits
    assert limits_of_web is not None
    (everybodys,) = limits_of_web.rows
    assert everybodys.key is None, "the limits of a key are not theirs"
    alone = load(f"orgs: [{{{org}}}]\nidentity: {{xfcc: true}}")
    assert (alone.snapshot.identity, [*alone.snapshot.orgs]) == ("xfcc", ["a"])
    assert alone.snapshot.orgs_by_workload[WEB].limits is None


@pytest.mark.parametrize(
    "workload", ["web", "spiffe://", "spiffe://*", "spiffe://a/*/b", "spiffe://a/b*", "spiffe://a b", "/ns/shop", "*"]
)
def test_a_workload_is_a_uri_whole_or_all_below_one(workload: str) -> None:
    with pytest.raises(ConfigError, match=r"workloads\[0\]: write a URI such as spiffe://"):
        load(f"orgs: [{{name: a, workloads: ['{workload}']}}]\n{ATTRIBUTE}")
