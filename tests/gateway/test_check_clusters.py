from dataclasses import replace
from typing import Any

import pytest

from lectr_extproc.core.upstream import Signing, Upstream
from lectr_extproc.gateway import GatewayOptions, LectrTls, check, found_in_dump, found_in_files
from tests.gateway.examples import NATIVE, ONE, RELAYING, Change, bootstrap, clusters, dump_of, findings

TO = ONE[0].cluster
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def drop(name: str) -> Change:
    return lambda document: document["static_resources"]["clusters"].remove(clusters(document)[name])


def tls(document: dict[str, Any]) -> dict[str, Any]:
    """How the certificate of the first provider is looked at."""
    context: dict[str, Any] = clusters(document)[TO]["transport_socket"]["typed_config"]["common_tls_context"]
    return context


CASES: dict[str, tuple[str, Change]] = {
    "cluster lectr: there is none": ("error", drop("lectr")),
    "cluster lectr_unrouted: there is none": ("error", drop("lectr_unrouted")),
    f"cluster {TO}: there is none": ("error", drop(TO)),
    f"cluster {TO}.h1: there is none": ("warning", drop(f"{TO}.h1")),
    f"cluster {TO}.attempt: there is none": ("error", drop(f"{TO}.attempt")),
    "cluster lectr: no http2_protocol_options": (
        "error",
        lambda document: clusters(document)["lectr"].pop("typed_extension_protocol_options"),
    ),
    "cluster lectr: no health_checks": ("warning", lambda document: clusters(document)["lectr"].pop("health_checks")),
    "cluster lectr: no circuit_breakers": (
        "warning",
        lambda document: clusters(document)["lectr"].pop("circuit_breakers"),
    ),
    f"cluster {TO}: no transport_socket": ("error", lambda document: clusters(document)[TO].pop("transport_socket")),
    f"cluster {TO}: no trusted_ca": ("error", lambda document: tls(document)["validation_context"].pop("trusted_ca")),
    f"cluster {TO}: match_typed_subject_alt_names is not its host": (
        "error",
        lambda document: tls(document)["validation_context"].pop("match_typed_subject_alt_names"),
    ),
    f"cluster {TO}.attempt: http_filters are not lectr_attempt, lectr_attempt_guard": (
        "error",
        lambda document: clusters(document)[f"{TO}.attempt"]["typed_extension_protocol_options"][HTTP].pop(
            "http_filters"
        ),
    ),
}


def test_the_way_to_the_next_candidate_of_an_envoy_1_36_is_missed() -> None:
    (finding,) = findings(drop("lectr_attempts"), RELAYING)
    assert (finding.what, finding.severity) == ("cluster lectr_attempts: there is none", "error")


@pytest.mark.parametrize(("words", "severity", "change"), [(k, *v) for k, v in CASES.items()], ids=CASES)
def test_what_a_cluster_lacks_is_named_once(words: str, severity: str, change: Change) -> None:
    (finding,) = findings(change)
    assert words in finding.what
    assert finding.severity == severity


def test_what_many_lack_is_one_finding() -> None:
    def change(document: dict[str, Any]) -> None:
        for cluster in clusters(document).values():
            cluster.pop("circuit_breakers", None)

    (finding,) = findings(change)
    assert finding.what == f"clusters lectr, {TO}, {TO}.h1, {TO}.attempt: no circuit_breakers"


def test_http2_may_be_said_in_the_old_way() -> None:
    def change(document: dict[str, Any]) -> None:
        lectr = clusters(document)["lectr"]
        lectr.pop("typed_extension_protocol_options")
        lectr["http2_protocol_options"] = {}

    assert findings(change) == []


def test_what_a_secret_service_delivers_is_not_judged() -> None:
    def change(document: dict[str, Any]) -> None:
        tls(document).pop("validation_context")
        tls(document)["validation_context_sds_secret_config"] = {"name": "roots"}

    assert findings(change) == []


def test_a_lectr_that_speaks_tls_is_spoken_to_in_tls() -> None:
    options = GatewayOptions(lectr_tls=LectrTls(ca="/ca.pem", server_name="lectr.internal"))
    (finding,) = findings(lambda document: clusters(document)["lectr"].pop("transport_socket"), options)
    assert finding.what == "cluster lectr: no transport_socket"


def test_a_cluster_that_does_not_sign_is_named() -> None:
    signing = Signing(service="bedrock", region="us-east-1", credentials_file=None, profile=None)
    plain = Upstream.parse("bedrock", "http://127.0.0.1:1")
    signed = replace(plain, signing=signing)
    document = bootstrap(upstreams=[signed])
    clusters(document)[signed.cluster]["typed_extension_protocol_options"][HTTP].pop("http_filters")
    (finding,) = check(found_in_files([document]), NATIVE, [signed])
    assert finding.what.endswith(
        "http_filters are not envoy.filters.http.aws_request_signing, envoy.filters.http.upstream_codec"
    )


def test_clusters_that_are_delivered_from_elsewhere_are_judged_where_envoy_runs() -> None:
    def change(document: dict[str, Any]) -> None:
        document["static_resources"]["clusters"] = []

    assert findings(change) == []
    document = bootstrap(upstreams=ONE)
    change(document)
    assert {each.severity for each in check(found_in_dump(dump_of(document)), NATIVE, ONE)} == {
        "error",
        "warning",
    }
