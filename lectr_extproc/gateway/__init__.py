"""Renders Envoy's configuration from options and upstreams: data in, YAML out."""

from lectr_extproc.gateway.check import check_existing
from lectr_extproc.gateway.options import GatewayOptions, LectrTls
from lectr_extproc.gateway.render import render_all, render_bootstrap, render_include_bootstrap, render_includes

__all__ = [
    "GatewayOptions",
    "LectrTls",
    "check_existing",
    "render_all",
    "render_bootstrap",
    "render_include_bootstrap",
    "render_includes",
]
