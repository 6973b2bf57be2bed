"""Renders Envoy's configuration from options and upstreams: data in, YAML out."""

from lectr_extproc.gateway.check import check
from lectr_extproc.gateway.envoy_gateway import render_envoy_gateway
from lectr_extproc.gateway.finding import Finding
from lectr_extproc.gateway.found import files_named, found_in_dump, found_in_files
from lectr_extproc.gateway.istio import render_istio_gateway, render_istio_sidecar
from lectr_extproc.gateway.options import GatewayOptions, LectrTls, ServerTls
from lectr_extproc.gateway.render import render_all, render_bootstrap, render_include_bootstrap, render_includes

__all__ = [
    "Finding",
    "GatewayOptions",
    "LectrTls",
    "ServerTls",
    "check",
    "files_named",
    "found_in_dump",
    "found_in_files",
    "render_all",
    "render_bootstrap",
    "render_envoy_gateway",
    "render_include_bootstrap",
    "render_includes",
    "render_istio_gateway",
    "render_istio_sidecar",
]
