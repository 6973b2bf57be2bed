"""EnvoyFilters are what is rendered, where Istio puts it."""

from lectr_extproc.gateway.istio import render_istio_gateway, render_istio_sidecar
from lectr_extproc.gateway.shared import Piece, own_listener, pieces
from tests.gateway.examples import DEFAULT_UPSTREAMS, PORTABLE, parsed

HOST = "llm.example.com"
GATEWAY = parsed(render_istio_gateway(PORTABLE, DEFAULT_UPSTREAMS, HOST, 8080))
SIDECAR = parsed(render_istio_sidecar(PORTABLE, DEFAULT_UPSTREAMS))


def values(resource: Piece, to: str) -> list[Piece]:
    return [patch["patch"]["value"] for patch in resource["spec"]["configPatches"] if patch["applyTo"] == to]


def without_metadata(clusters: list[Piece]) -> list[Piece]:
    for cluster in clusters:
        assert cluster["metadata"] == {"filter_metadata": {"istio": {"alpn_override": "false"}}}
    return [{key: value for key, value in cluster.items() if key != "metadata"} for cluster in clusters]


def test_only_pods_that_ask_for_it_get_it() -> None:
    for resource in (GATEWAY, SIDECAR):
        assert resource["kind"] == "EnvoyFilter"
        assert resource["spec"]["workloadSelector"] == {"labels": {"lectr": "enabled"}}


def test_a_gateway_gets_the_pieces_of_one_host() -> None:
    there = pieces(PORTABLE, DEFAULT_UPSTREAMS, HOST)
    assert values(GATEWAY, "HTTP_FILTER") == there.filters
    assert values(GATEWAY, "VIRTUAL_HOST") == [there.virtual_host]
    assert values(GATEWAY, "LISTENER") == [{"per_connection_buffer_limit_bytes": PORTABLE.max_body_bytes}]
    (manager,) = values(GATEWAY, "NETWORK_FILTER")
    assert {key: manager["typed_config"][key] for key in there.manager} == there.manager
    assert without_metadata(values(GATEWAY, "CLUSTER")) == there.clusters
    (host,) = [patch for patch in GATEWAY["spec"]["configPatches"] if patch["applyTo"] == "VIRTUAL_HOST"]
    assert host["match"] == {"context": "GATEWAY", "routeConfiguration": {"portNumber": 8080}}


def test_a_sidecar_gets_a_listener_of_lectrs_own() -> None:
    listener, clusters = own_listener(PORTABLE, DEFAULT_UPSTREAMS)
    assert values(SIDECAR, "LISTENER") == [listener]
    assert without_metadata(values(SIDECAR, "CLUSTER")) == clusters
    assert {patch["match"]["context"] for patch in SIDECAR["spec"]["configPatches"]} == {"SIDECAR_OUTBOUND"}
