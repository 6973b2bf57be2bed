"""Istio's EnvoyFilters: a listener of lectr's own in an app's sidecar, or a host on the listeners of a gateway."""

from collections.abc import Iterable

from lectr_extproc.core.upstream import Upstream
from lectr_extproc.gateway.options import GatewayOptions
from lectr_extproc.gateway.shared import Piece, own_listener, pieces, written

_HEAD = "# Rendered by `lectr envoy render --for {}`; change lectr.yaml, not this file.\n"
_MANAGER = "envoy.filters.network.http_connection_manager"
_MANAGER_TYPE = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def render_istio_sidecar(options: GatewayOptions, upstreams: Iterable[Upstream]) -> str:
    """Beside an app: nothing of what it does otherwise meets lectr's listener."""
    listener, clusters = own_listener(options, upstreams)
    patches = [_patch("LISTENER", "SIDECAR_OUTBOUND", "ADD", listener), *_clusters("SIDECAR_OUTBOUND", clusters)]
    return written(_HEAD.format("istio-sidecar"), [_envoy_filter("lectr-sidecar", patches)])


def render_istio_gateway(options: GatewayOptions, upstreams: Iterable[Upstream], host: str, port: int) -> str:
    """At a gateway: one host of a port that others' hosts share."""
    there = pieces(options, upstreams, host)
    manager = {"listener": {"filterChain": {"filter": {"name": _MANAGER}}}}
    router = {
        "listener": {"filterChain": {"filter": {"name": _MANAGER, "subFilter": {"name": "envoy.filters.http.router"}}}}
    }
    merged = {"name": _MANAGER, "typed_config": {"@type": _MANAGER_TYPE, **there.manager}}
    limit = {"per_connection_buffer_limit_bytes": there.max_body_bytes}
    patches = [
        *(_patch("HTTP_FILTER", "GATEWAY", "INSERT_BEFORE", each, router) for each in there.filters),
        _patch("NETWORK_FILTER", "GATEWAY", "MERGE", merged, manager),
        _patch("LISTENER", "GATEWAY", "MERGE", limit),
        _patch("VIRTUAL_HOST", "GATEWAY", "ADD", there.virtual_host, {"routeConfiguration": {"portNumber": port}}),
        *_clusters("GATEWAY", there.clusters),
    ]
    return written(_HEAD.format("istio-gateway"), [_envoy_filter("lectr-gateway", patches)])


def _envoy_filter(name: str, patches: list[Piece]) -> Piece:
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": name},
        # Pods without the label have nothing of lectr.
        "spec": {"workloadSelector": {"labels": {"lectr": "enabled"}}, "configPatches": patches},
    }


def _patch(to: str, context: str, operation: str, value: Piece, match: Piece | None = None) -> Piece:
    return {
        "applyTo": to,
        "match": {"context": context, **(match or {})},
        "patch": {"operation": operation, "value": value},
    }


def _clusters(context: str, clusters: Iterable[Piece]) -> list[Piece]:
    # Istio's filter for ALPN is for its own proxies: a provider negotiates what its cluster says.
    own_alpn = {"filter_metadata": {"istio": {"alpn_override": "false"}}}
    return [_patch("CLUSTER", context, "ADD", {**cluster, "metadata": own_alpn}) for cluster in clusters]
