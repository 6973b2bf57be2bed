"""Upstreams and parsed renderings that the gateway's tests share."""

from typing import Any

import yaml

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.upstream import Upstream
from lectr_extproc.gateway import GatewayOptions, render_bootstrap

DEFAULT_UPSTREAMS = [Upstream.parse(row.id, row.base_url) for row in PROVIDERS.values() if row.base_url]
NATIVE, PORTABLE = GatewayOptions(profile="native"), GatewayOptions(profile="portable")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"A second of parsing becomes a tenth; dozens of tests parse."


def parsed(text: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(text, _LOADER)
    return document


def bootstrap(options: GatewayOptions = NATIVE, upstreams: list[Upstream] = DEFAULT_UPSTREAMS) -> dict[str, Any]:
    return parsed(render_bootstrap(options, upstreams))


def listener(document: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = document["static_resources"]["listeners"][0]
    return first


def manager(document: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = listener(document)["filter_chains"][0]["filters"][0]["typed_config"]
    return config


def clusters(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cluster["name"]: cluster for cluster in document["static_resources"]["clusters"]}
