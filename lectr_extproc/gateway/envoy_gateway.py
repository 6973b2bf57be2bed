"""Envoy Gateway's resources: a host on a listener of a Gateway.

EnvoyExtensionPolicy says which route asks lectr, and Envoy Gateway makes the filter, off for all others. What that
cannot say is patched into what it made: the rest of the filter, reading the model, the routes, clusters and the log.
"""

from collections.abc import Iterable
from typing import Any

from lectr_extproc.core.upstream import Upstream
from lectr_extproc.core.words import ATTEMPT_NAMESPACE, NAMESPACE, ORDER_NAMESPACE, REQUEST_NAMESPACE, USAGE_NAMESPACE
from lectr_extproc.gateway.filters import EXT_PROC
from lectr_extproc.gateway.options import GatewayOptions
from lectr_extproc.gateway.shared import Piece, pieces, written
from lectr_extproc.gateway.text import seconds

NAME = "lectr"
"Of all resources here."

_HEAD = "# Rendered by `lectr envoy render --for envoy-gateway`; change lectr.yaml, not this file.\n"
_TYPE = "type.googleapis.com/envoy.config."
_LISTENER = "listener.v3.Listener"
# Wherever in the listener it is: with TLS it has a chain of filters for each name, without one for all.
_MANAGER = '$..filters[?(@.name=="envoy.filters.network.http_connection_manager")].typed_config'


def render_envoy_gateway(options: GatewayOptions, upstreams: Iterable[Upstream], host: str, listener: str) -> str:
    """`listener` is one as Envoy Gateway names them: default/eg/http, of the Gateway `eg`."""
    namespace, gateway, section = listener.split("/")
    ext_proc = f"envoy.filters.http.ext_proc/envoyextensionpolicy/{namespace}/{NAME}/extproc/0"
    there = pieces(options, upstreams, host, {EXT_PROC: ext_proc})
    before = [each for each in there.filters if each["name"] != ext_proc]
    (asks,) = (each["typed_config"] for each in there.filters if each["name"] == ext_proc)
    of_route = f'$.virtual_hosts[?(@.domains[0]=="{host}")]'
    of_host = {key: value for key, value in there.virtual_host.items() if key not in {"name", "domains"}}
    patches = [
        *(_patch("cluster.v3.Cluster", each["name"], "", each) for each in there.clusters),
        # From the last to the first, so that they stand in their order before all that Envoy Gateway put there.
        *(_patch(_LISTENER, listener, "http_filters/0", each, _MANAGER) for each in reversed(before)),
        _patch(_LISTENER, listener, "typed_config", asks, f'{_MANAGER}.http_filters[?(@.name=="{ext_proc}")]'),
        # Beside the log that Envoy Gateway writes by default.
        _patch(_LISTENER, listener, "access_log/-", there.manager["access_log"][0], _MANAGER),
        _patch(_LISTENER, listener, "local_reply_config", there.manager["local_reply_config"], _MANAGER),
        _patch(_LISTENER, listener, "/per_connection_buffer_limit_bytes", there.max_body_bytes),
        *(_patch("route.v3.RouteConfiguration", listener, key, each, of_route) for key, each in of_host.items()),
    ]
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway}
    return written(
        _HEAD,
        [
            _route(namespace, gateway, section, host),
            _resource("Backend", namespace, {"endpoints": [_endpoint(options.lectr)]}),
            _resource("EnvoyExtensionPolicy", namespace, _policy(options)),
            _resource(
                "EnvoyPatchPolicy", namespace, {"targetRef": target, "type": "JSONPatch", "jsonPatches": patches}
            ),
        ],
    )


def _resource(kind: str, namespace: str, spec: Piece) -> Piece:
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": spec,
    }


def _route(namespace: str, gateway: str, section: str, host: str) -> Piece:
    """Without a backend, so that what is not patched answers 500 and reaches nobody."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "parentRefs": [{"name": gateway, "sectionName": section}],
            "hostnames": [host],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}],
        },
    }


def _endpoint(lectr: str) -> Piece:
    if lectr.startswith("unix:"):
        return {"unix": {"path": lectr.removeprefix("unix:")}}
    host, _, port = lectr.rpartition(":")
    return {"fqdn": {"hostname": host, "port": int(port)}}


def _policy(options: GatewayOptions) -> Piece:
    return {
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": NAME}],
        "extProc": [
            {
                "backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": NAME}],
                "messageTimeout": seconds(options.message_timeout_s),
                "failOpen": True,
                "processingMode": {"request": {}, "allowModeOverride": True},
                "metadata": {
                    "accessibleNamespaces": [REQUEST_NAMESPACE, ATTEMPT_NAMESPACE],
                    "writableNamespaces": [NAMESPACE, USAGE_NAMESPACE, ORDER_NAMESPACE],
                },
            }
        ],
    }


def _patch(kind: str, name: str, path: str, value: Any, where: str | None = None) -> Piece:
    place = {"jsonPath": where} if where else {}
    return {"type": _TYPE + kind, "name": name, "operation": {"op": "add", **place, "path": path, "value": value}}
