"""Envoy Gateway's resources are what is rendered, where its patches put it."""

from dataclasses import replace

import yaml

from lectr_extproc.gateway.envoy_gateway import render_envoy_gateway
from lectr_extproc.gateway.options import GatewayOptions
from lectr_extproc.gateway.shared import Piece, pieces
from tests.gateway.examples import DEFAULT_UPSTREAMS, PORTABLE

HOST, FILTER = "llm.example.com", "envoy.filters.http.ext_proc/envoyextensionpolicy/apps/lectr/extproc/0"
TYPE = "type.googleapis.com/envoy.config."


def resources(options: GatewayOptions = PORTABLE) -> dict[str, Piece]:
    text = render_envoy_gateway(options, DEFAULT_UPSTREAMS, HOST, "apps/edge/web")
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


THERE = pieces(PORTABLE, DEFAULT_UPSTREAMS, HOST, {"lectr": FILTER})
MADE = resources()
PATCHES = MADE["EnvoyPatchPolicy"]["spec"]["jsonPatches"]


def operations(kind: str) -> list[Piece]:
    return [patch["operation"] for patch in PATCHES if patch["type"] == TYPE + kind]


def test_a_route_that_is_not_patched_leads_nowhere() -> None:
    spec = MADE["HTTPRoute"]["spec"]
    assert (spec["parentRefs"], spec["hostnames"]) == ([{"name": "edge", "sectionName": "web"}], [HOST])
    assert all("backendRefs" not in rule for rule in spec["rules"])
    assert MADE["EnvoyPatchPolicy"]["spec"]["targetRef"]["name"] == "edge"


def test_the_policy_asks_lectr_on_that_route_alone() -> None:
    spec = MADE["EnvoyExtensionPolicy"]["spec"]
    assert [target["kind"] for target in spec["targetRefs"]] == ["HTTPRoute"]
    (asks,) = spec["extProc"]
    wanted = next(each for each in THERE.filters if each["name"] == FILTER)["typed_config"]
    assert asks["messageTimeout"] == wanted["message_timeout"]
    assert asks["failOpen"] == wanted["failure_mode_allow"]
    assert asks["metadata"]["accessibleNamespaces"] == wanted["metadata_options"]["forwarding_namespaces"]["untyped"]
    assert asks["metadata"]["writableNamespaces"] == wanted["metadata_options"]["receiving_namespaces"]["untyped"]


def test_its_address_is_lectrs() -> None:
    for lectr, endpoint in {
        "unix:/run/lectr.sock": {"unix": {"path": "/run/lectr.sock"}},
        "lectr.apps.svc:9191": {"fqdn": {"hostname": "lectr.apps.svc", "port": 9191}},
    }.items():
        assert resources(replace(PORTABLE, lectr=lectr))["Backend"]["spec"]["endpoints"] == [endpoint]


def test_patches_are_the_pieces_of_one_host() -> None:
    assert [each["value"] for each in operations("cluster.v3.Cluster")] == THERE.clusters
    assert {patch["name"] for patch in PATCHES if patch["type"] != f"{TYPE}cluster.v3.Cluster"} == {"apps/edge/web"}
    host = {each["path"]: each["value"] for each in operations("route.v3.RouteConfiguration")}
    assert host == {key: value for key, value in THERE.virtual_host.items() if key not in {"name", "domains"}}
    assert {each["jsonPath"] for each in operations("route.v3.RouteConfiguration")} == {
        f'$.virtual_hosts[?(@.domains[0]=="{HOST}")]'
    }


def test_filters_are_put_before_the_policys_which_becomes_the_rendered_one() -> None:
    manager = '$..filters[?(@.name=="envoy.filters.network.http_connection_manager")].typed_config'
    *first, asks = operations("listener.v3.Listener")[: len(THERE.filters)]
    assert {(each["jsonPath"], each["path"]) for each in first} == {(manager, "http_filters/0")}
    assert (asks["jsonPath"], asks["path"]) == (f'{manager}.http_filters[?(@.name=="{FILTER}")]', "typed_config")
    put = [each["value"] for each in reversed(first)]
    assert [*put, asks["value"]] == [*THERE.filters[:-1], THERE.filters[-1]["typed_config"]]
    others = [
        (each.get("jsonPath"), each["path"], each["value"])
        for each in operations("listener.v3.Listener")[len(THERE.filters) :]
    ]
    assert others == [
        (manager, "access_log/-", THERE.manager["access_log"][0]),
        (manager, "local_reply_config", THERE.manager["local_reply_config"]),
        (None, "/per_connection_buffer_limit_bytes", PORTABLE.max_body_bytes),
    ]
