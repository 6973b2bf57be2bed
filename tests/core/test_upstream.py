from dataclasses import replace

import pytest

from lectr_extproc.core.upstream import Signing, Upstream

ADDRESSES = {
    "a host alone": ("https://api.example.com", "api.example.com", ""),
    "a path": ("https://api.example.com/openai/v1", "api.example.com", "/openai/v1"),
    "a slash at the end": ("https://api.example.com/v1/", "api.example.com", "/v1"),
    "blanks around it": (" https://api.example.com/v1\n", "api.example.com", "/v1"),
    "the scheme's own port": ("https://api.example.com:443", "api.example.com", ""),
    "a port of its own": ("http://127.0.0.1:8000/v1", "127.0.0.1:8000", "/v1"),
    "plain http": ("http://llm.internal", "llm.internal", ""),
    "IPv6": ("http://[::1]:8000/v1", "[::1]:8000", "/v1"),
    "names of a network of one's own": ("http://vllm_1.my-net:8000", "vllm_1.my-net:8000", ""),
    "a dot at the end": ("https://api.example.com./v1", "api.example.com.", "/v1"),
    "what a path may hold": ("https://x/a-b_c.d~e:f+g=h%2Fi", "x", "/a-b_c.d~e:f+g=h%2Fi"),
    "the largest port and label": (f"http://{'a' * 63}:65535", f"{'a' * 63}:65535", ""),
    "upper case in the host": ("https://API.Example.com/V1", "api.example.com", "/V1"),
}


@pytest.mark.parametrize(("url", "authority", "prefix"), ADDRESSES.values(), ids=ADDRESSES)
def test_a_base_url_is_a_host_header_and_a_prefix(url: str, authority: str, prefix: str) -> None:
    upstream = Upstream.parse("openai", url)
    assert (upstream.authority, upstream.prefix) == (authority, prefix)


MISTAKES = {
    "no scheme": ("api.example.com/v1", "must start with https:// or http://"),
    "another scheme": ("ftp://api.example.com", "must start with https:// or http://"),
    "no host": ("https:///v1", "names no host"),
    "a query": ("https://api.example.com/v1?key=1", "may hold a scheme, host, port and path"),
    "a fragment": ("https://api.example.com/v1#top", "may hold a scheme, host, port and path"),
    "a user": ("https://user@api.example.com", "may hold a scheme, host, port and path"),
    "a port that is no number": ("https://api.example.com:http", "a port is a number from 1 to 65535"),
    "port 0": ("https://api.example.com:0", "a port is a number from 1 to 65535"),
    "a port beyond all ports": ("https://api.example.com:65536", "a port is a number from 1 to 65535"),
    "brackets around nothing": ("https://[", "is no URL"),
    "brackets around a name": ("https://[example]", "is no URL"),
    "a zone": ("http://[fe80::1%25eth0]", "a host is"),
    "a blank in the host": ("https://api example.com", "a host is"),
    "a tab in the host": ("https://api\texample.com", "is no URL"),
    "a comma in the host": ("https://a.example,b.example", "a host is"),
    "a quote in the host": ("https://a'b.example", "a host is"),
    "a dollar in the host": ("https://$HOST/v1", "a host is"),
    "a letter that DNS has not": ("https://bücher.example", "a host is"),
    "an empty label": ("https://a..example", "a host is"),
    "a label with a hyphen at its end": ("https://a-.example", "a host is"),
    "a label too long": (f"https://{'a' * 64}.example", "a host is"),
    "a host too long": (f"https://{'a.' * 126}aa", "a host is"),
    "numbers that are no address": ("http://300.1.2.3", "a host is"),
    "a blank in the path": ("https://api.example.com/a b", "a path may hold"),
    "a quote in the path": ('https://api.example.com/"v1"', "a path may hold"),
    "a dollar in the path": ("https://api.example.com/$STAGE", "a path may hold"),
    "a comma in the path": ("https://api.example.com/v1,v2", "a path may hold"),
    "half an escape in the path": ("https://api.example.com/%2", "a path may hold"),
}


@pytest.mark.parametrize(("url", "reason"), MISTAKES.values(), ids=MISTAKES)
def test_a_base_url_that_cannot_be_right_says_why(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Upstream.parse("openai", url)


SECRETS = (
    "https://user:hunter2@api.example.com",
    "https://api.example.com?key=hunter2",
    "api.example.com?key=hunter2",
    "https://user:hunter2@",
    "https:///v1?key=hunter2",
    "https://user:hunter2/@api.example.com",
    "https://user:hunter2@[api.example.com",
    "https://user:hunter2\u2100@api.example.com",
    "https://hunter2 @api.example.com/v1",
    "https://api.example.com/v1,hunter2",
    "https://hunter2,api.example.com",
)


@pytest.mark.parametrize("url", SECRETS)
def test_a_secret_in_a_base_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=" ") as caught:
        Upstream.parse("openai", url)
    assert "hunter2" not in str(caught.value)


def test_the_same_address_signed_for_otherwise_is_another_cluster() -> None:
    plain = Upstream.parse("bedrock", "https://bedrock.example")
    signings = [Signing(service="bedrock", region=region) for region in ("us-east-1", "eu-west-1")]
    signings.append(replace(signings[0], credentials_file="/run/aws"))
    names = [plain.cluster, *(replace(plain, signing=signing).cluster for signing in signings)]
    assert len(set(names)) == 4


def test_a_changed_address_is_another_cluster_and_a_changed_path_is_not() -> None:
    one = Upstream.parse("openai", "https://api.example.com/v1")
    assert one.cluster.startswith("openai-")
    assert one.cluster == Upstream.parse("openai", "https://api.example.com:443/v2").cluster
    others = ["http://api.example.com:443", "https://api.example.com:8443", "https://eu.example.com"]
    assert len({one.cluster, *(Upstream.parse("openai", url).cluster for url in others)}) == 4
    assert one.cluster != Upstream.parse("groq", "https://api.example.com/v1").cluster
