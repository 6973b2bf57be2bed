from dataclasses import replace
from typing import Any

import pytest

from lectr_extproc.core.upstream import Signing, Upstream
from lectr_extproc.gateway import GatewayOptions, LectrTls
from lectr_extproc.gateway.clusters import clusters as rendered
from tests.gateway.examples import DEFAULT_UPSTREAMS, NATIVE, PORTABLE, RELAYING, bootstrap, clusters


def cluster_of(url: str, suffix: str = "") -> dict[str, Any]:
    upstream = Upstream.parse("some", url)
    return clusters(bootstrap(upstreams=[upstream]))[upstream.cluster + suffix]


def lectr(options: GatewayOptions) -> dict[str, Any]:
    return clusters(bootstrap(options))["lectr"]


def protocol(cluster: dict[str, Any]) -> list[str]:
    (options,) = cluster["typed_extension_protocol_options"].values()
    return [name for name in options if name in ("auto_config", "explicit_http_config")]


def test_upstreams_that_differ_only_in_their_path_share_a_cluster() -> None:
    same = [Upstream.parse("some", f"https://some.test{path}") for path in ("/v1", "/v2")]
    assert len(rendered(NATIVE, same)) == len(rendered(NATIVE, same[:1]))


def test_a_provider_must_show_a_certificate_for_its_own_name() -> None:
    tls = cluster_of("https://some.test/v1")["transport_socket"]["typed_config"]
    assert tls["sni"] == "some.test"
    assert tls["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "some.test"}}],
    }


def test_a_provider_at_an_ip_address_must_show_a_certificate_for_that_address() -> None:
    cluster = cluster_of("https://10.0.0.1:8443")
    tls = cluster["transport_socket"]["typed_config"]
    assert "sni" not in tls
    assert cluster["type"] == "STATIC"
    (name,) = tls["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
    assert name == {"san_type": "IP_ADDRESS", "matcher": {"exact": "10.0.0.1"}}


def test_plain_http_stays_plain() -> None:
    assert "transport_socket" not in cluster_of("http://localhost:11434/v1")


def test_https_providers_are_called_over_http_2_where_they_speak_it_but_never_for_an_upgrade() -> None:
    assert protocol(cluster_of("https://some.test")) == ["auto_config"]
    assert protocol(cluster_of("https://some.test", ".h1")) == ["explicit_http_config"]
    assert protocol(cluster_of("http://some.test")) == ["explicit_http_config"]


@pytest.mark.parametrize(
    ("options", "kinds"), [(NATIVE, ("", ".h1", ".attempt")), (PORTABLE, ("", ".h1")), (RELAYING, ("", ".h1"))]
)
def test_every_upstream_has_a_cluster_for_upgrades_and_one_for_attempts(
    options: GatewayOptions, kinds: tuple[str, ...]
) -> None:
    names = set(clusters(bootstrap(options)))
    expected = {upstream.cluster + kind for upstream in DEFAULT_UPSTREAMS for kind in kinds}
    expected |= {"lectr_attempts"} if options is RELAYING else set()
    assert names == {"lectr", "lectr_unrouted"} | expected


def test_an_attempt_is_made_ready_and_guarded_before_it_is_signed() -> None:
    signing = Signing(service="bedrock", region="eu-central-1")
    ready, guard, signs, codec = signing_in(signing, ".attempt")
    assert [part["name"] for part in (ready, guard, signs, codec)] == [
        "lectr_attempt",
        "lectr_attempt_guard",
        "envoy.filters.http.aws_request_signing",
        "envoy.filters.http.upstream_codec",
    ]
    assert ready["typed_config"]["processing_mode"]["request_body_mode"] == "BUFFERED"
    assert ready["typed_config"]["request_attributes"] == ["xds.cluster_name", "upstream.request_attempt_count"]
    assert 'get("x-lectr-rewritten")' in guard["typed_config"]["default_source_code"]["inline_string"]


def signing_in(signing: Signing, suffix: str = "") -> list[dict[str, Any]]:
    upstream = replace(Upstream.parse("bedrock", "https://bedrock.example"), signing=signing)
    cluster = clusters(bootstrap(upstreams=[upstream]))[upstream.cluster + suffix]
    (options,) = cluster["typed_extension_protocol_options"].values()
    filters: list[dict[str, Any]] = options.get("http_filters", [])
    return filters


def test_a_cluster_signs_last_before_its_codec_and_never_an_upgrade() -> None:
    signing = Signing(service="bedrock", region="eu-west-1")
    signs, codec = signing_in(signing)
    assert (signs["name"], codec["name"]) == (
        "envoy.filters.http.aws_request_signing",
        "envoy.filters.http.upstream_codec",
    )
    said = {name: value for name, value in signs["typed_config"].items() if name != "@type"}
    assert said == {"service_name": "bedrock", "region": "eu-west-1"}
    assert signing_in(signing, ".h1") == []


FILES = {
    "a file": (Signing(service="s", region="r", credentials_file="/run/aws/key"), "/run/aws", None),
    "a section of a file": (Signing(service="s", region="r", credentials_file="/aws", profile="lectr"), "/", "lectr"),
}


@pytest.mark.parametrize(("signing", "directory", "profile"), FILES.values(), ids=FILES)
def test_credentials_of_a_file_are_the_only_ones(signing: Signing, directory: str, profile: str | None) -> None:
    provider = signing_in(signing)[0]["typed_config"]["credential_provider"]
    assert provider["custom_credential_provider_chain"] is True
    file = provider["credentials_file_provider"]
    data = {"filename": signing.credentials_file, "watched_directory": {"path": directory}}
    assert (file["credentials_data_source"], file.get("profile")) == (data, profile)


def test_lectr_is_found_by_socket_address_or_name() -> None:
    assert lectr(GatewayOptions(lectr="unix:/run/lectr.sock"))["type"] == "STATIC"
    assert lectr(GatewayOptions(lectr="127.0.0.1:9191"))["type"] == "STATIC"
    assert lectr(GatewayOptions(lectr="lectr.example:9191"))["cluster_type"]["name"] == "envoy.clusters.dns"


def test_every_worker_has_an_address_of_its_own() -> None:
    found = lectr(GatewayOptions(lectr="unix:/run/lectr.sock", workers=3))["load_assignment"]["endpoints"]
    pipes = [one["endpoint"]["address"]["pipe"]["path"] for one in found[0]["lb_endpoints"]]
    assert pipes == ["/run/lectr.sock", "/run/lectr.sock.1", "/run/lectr.sock.2"]


def test_lectr_is_called_without_tls_with_tls_or_with_mutual_tls() -> None:
    one_way = LectrTls(ca="/ca.pem", server_name="lectr.test")
    mutual = LectrTls(ca="/ca.pem", server_name="lectr.test", cert="/cert.pem", key="/key.pem")
    assert "transport_socket" not in lectr(GatewayOptions())
    context = [
        lectr(GatewayOptions(lectr_tls=tls))["transport_socket"]["typed_config"]["common_tls_context"]
        for tls in (one_way, mutual)
    ]
    assert ["tls_certificates" in each for each in context] == [False, True]
    assert [each["alpn_protocols"] for each in context] == [["h2"], ["h2"]]


def test_no_body_on_its_way_to_lectr_makes_envoy_tell_a_call_to_wait() -> None:
    room = 4 * NATIVE.max_body_bytes
    (settings,) = lectr(NATIVE)["typed_extension_protocol_options"].values()
    http2 = settings["explicit_http_config"]["http2_protocol_options"]
    assert lectr(NATIVE)["per_connection_buffer_limit_bytes"] >= room
    assert min(http2["initial_stream_window_size"], http2["initial_connection_window_size"]) >= room
