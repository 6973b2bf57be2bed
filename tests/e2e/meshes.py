"""What Istio and Envoy Gateway make of a gateway with a shop behind it, and what they do with resources of ours.

Written from what istiod (1.31) and Envoy Gateway (1.9) make, in Envoy's words, without what is theirs alone (filters of
Istio's own build, xDS). Their patches are applied as their code does; whatever is not known here is refused.
"""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

Piece = dict[str, Any]

MANAGER = "envoy.filters.network.http_connection_manager"
_TYPES = "type.googleapis.com/envoy.extensions.filters"
SHOP, HOST = "shop.example.com", "llm.example.com"


def documents(text: str) -> list[Piece]:
    return list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def of_kind(resources: list[Piece], kind: str) -> Piece:
    (found,) = [resource for resource in resources if resource["kind"] == kind]
    return found


def _filter(name: str, type_name: str, **config: Any) -> Piece:
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": f"{_TYPES}.http.{type_name}", **config}}


def _shop(port: int) -> Piece:
    return {
        "name": "shop",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "shop",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(port)}}]},
            ],
        },
    }


def _address(port: int) -> Piece:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


# --- Istio ------------------------------------------------------------------------------------------------------------


def istio_gateway(port: int, shop: int) -> Piece:
    """A gateway's listener, routes and clusters, for port 80 of its Service."""
    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound_0.0.0.0_8080",
        "use_remote_address": True,
        "server_name": "istio-envoy",
        "normalize_path": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [
            _filter("grpc_stats", "grpc_stats.v3.FilterConfig", emit_filter_state=True),
            _filter("fault", "fault.v3.HTTPFault"),
            _filter("cors", "cors.v3.Cors"),
            _filter("router", "router.v3.Router"),
        ],
    }
    return {
        "listener": {
            "name": "0.0.0.0_8080",
            "address": _address(port),
            "per_connection_buffer_limit_bytes": 32768,
            "filter_chains": [{"filters": [{"name": MANAGER, "typed_config": manager}]}],
        },
        "routes": {
            "name": "http.80",
            "ignore_port_in_host_matching": True,
            "virtual_hosts": [
                {
                    "name": f"{SHOP}:80",
                    "domains": [SHOP],
                    "include_request_attempt_count": True,
                    "routes": [{"name": "default", "match": {"prefix": "/"}, "route": {"cluster": "shop"}}],
                }
            ],
        },
        "clusters": [_shop(shop)],
        "listeners": [],
    }


def apply_envoy_filter(there: Piece, resource: Piece, context: str) -> Piece:
    """What istiod makes of it: patches of a kind in their order, and lists that are merged become longer."""
    there = copy.deepcopy(there)
    chain = there["listener"]["filter_chains"][0]["filters"][0]
    for patch in resource["spec"]["configPatches"]:
        match, operation, value = patch["match"], patch["patch"]["operation"], copy.deepcopy(patch["patch"]["value"])
        assert match["context"] == context
        what = (patch["applyTo"], operation)
        if what == ("CLUSTER", "ADD"):
            there["clusters"].append(value)
        elif what == ("LISTENER", "ADD"):
            there["listeners"].append(value)
        elif what == ("LISTENER", "MERGE"):
            _merge(there["listener"], value)
        elif what == ("VIRTUAL_HOST", "ADD"):
            assert there["routes"]["name"] == f"http.{match['routeConfiguration']['portNumber']}"
            there["routes"]["virtual_hosts"].append(value)
        elif what == ("NETWORK_FILTER", "MERGE"):
            assert match["listener"]["filterChain"]["filter"]["name"] == value["name"] == chain["name"]
            _merge(chain["typed_config"], value["typed_config"])
        elif what == ("HTTP_FILTER", "INSERT_BEFORE"):
            before = match["listener"]["filterChain"]["filter"]["subFilter"]["name"]
            chained = chain["typed_config"]["http_filters"]
            chained.insert([each["name"] for each in chained].index(before), value)
        else:
            raise AssertionError(f"not known here: {what}")
    return there


def _merge(into: Piece, value: Piece) -> None:
    for key, new in value.items():
        if isinstance(new, list):
            into[key] = [*into.get(key, []), *new]
        elif isinstance(new, dict) and key in into:
            _merge(into[key], new)
        else:
            into[key] = new


# --- Envoy Gateway ----------------------------------------------------------------------------------------------------


def envoy_gateway(port: int, shop: int, resources: list[Piece]) -> Piece:
    """The listener default/eg/http with the shop's route and ours, and the filter of our EnvoyExtensionPolicy."""
    (policy,) = of_kind(resources, "EnvoyExtensionPolicy")["spec"]["extProc"]
    name = "envoy.filters.http.ext_proc/envoyextensionpolicy/default/lectr/extproc/0"
    ext_proc = {
        "@type": f"{_TYPES}.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {
            "envoy_grpc": {"cluster_name": "envoyextensionpolicy/default/lectr/extproc/0"},
            "timeout": "10s",
        },
        "failure_mode_allow": policy["failOpen"],
        "message_timeout": policy["messageTimeout"],
        "allow_mode_override": policy["processingMode"]["allowModeOverride"],
    }
    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http-10080",
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": "/dev/null",
                },
            }
        ],
        "http_filters": [
            {"name": name, "disabled": True, "typed_config": ext_proc},
            _filter("router", "router.v3.Router", suppress_envoy_headers=True),
        ],
    }
    route = of_kind(resources, "HTTPRoute")["spec"]
    assert "backendRefs" not in route["rules"][0]
    enabled = {name: {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}}
    return {
        "listener": {
            "name": "default/eg/http",
            "address": _address(port),
            "per_connection_buffer_limit_bytes": 32768,
            "default_filter_chain": {"filters": [{"name": MANAGER, "typed_config": manager}]},
        },
        "routes": {
            "name": "default/eg/http",
            "ignore_port_in_host_matching": True,
            "virtual_hosts": [
                {
                    "name": "default/eg/http/shop_example_com",
                    "domains": [SHOP],
                    "routes": [
                        {"name": "httproute/default/shop", "match": {"prefix": "/"}, "route": {"cluster": "shop"}}
                    ],
                },
                {
                    "name": "default/eg/http/llm_example_com",
                    "domains": route["hostnames"],
                    "routes": [
                        {
                            "name": "httproute/default/lectr/rule/0/match/0/llm_example_com",
                            "match": {"prefix": "/"},
                            "direct_response": {"status": 500},
                            "typed_per_filter_config": enabled,
                        }
                    ],
                },
            ],
        },
        "clusters": [_shop(shop)],
        "listeners": [],
    }


def apply_envoy_patches(there: Piece, resources: list[Piece]) -> Piece:
    """What Envoy Gateway makes of an EnvoyPatchPolicy: whole resources without a path, JSON patches with one."""
    there = copy.deepcopy(there)
    resource_of = {
        "cluster.v3.Cluster": None,
        "listener.v3.Listener": "listener",
        "route.v3.RouteConfiguration": "routes",
    }
    for patch in of_kind(resources, "EnvoyPatchPolicy")["spec"]["jsonPatches"]:
        kind = resource_of[patch["type"].removeprefix("type.googleapis.com/envoy.config.")]
        operation = patch["operation"]
        assert operation["op"] == "add"
        if kind is None:
            assert (operation["path"], operation["value"]["name"]) == ("", patch["name"])
            there["clusters"].append(operation["value"])
        else:
            assert there[kind]["name"] == patch["name"]
            _add(_found(there[kind], operation.get("jsonPath")), operation["path"], copy.deepcopy(operation["value"]))
    return there


_STEP = re.compile(r'(\.\.?)(\w+)|\[\?\(@\.(\w+)(?:\[0\])?==("[^"]*")\)\]')


def _found(document: Piece, json_path: str | None) -> Any:
    """The one place of `$.a..b[?(@.c=="d")]`."""
    here: list[Any] = [document]
    for dots, name, key, wanted in _STEP.findall((json_path or "$")[1:]):
        if name:
            inside = [each for one in here for each in _below(one)] if dots == ".." else here
            here = [each[name] for each in inside if isinstance(each, dict) and name in each]
        else:
            here = [each for one in here for each in one if each[key] in (json.loads(wanted), [json.loads(wanted)])]
    (found,) = here
    return found


def _below(value: Any) -> Iterator[Any]:
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _below(each)


def _add(to: Any, pointer: str, value: Any) -> None:
    *steps, last = pointer.removeprefix("/").split("/")
    for step in steps:
        to = to[int(step)] if step.isdigit() else to[step]
    if isinstance(to, list):
        to.insert(len(to) if last == "-" else int(last), value)
    else:
        to[last] = value
