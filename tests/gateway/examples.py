"""Upstreams and parsed renderings that the gateway's tests share."""

import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import yaml

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.upstream import Upstream
from lectr_extproc.gateway import Finding, GatewayOptions, check, found_in_files, render_bootstrap

DEFAULT_UPSTREAMS = [Upstream.parse(row.id, row.base_url) for row in PROVIDERS.values() if row.base_url]
ONE = DEFAULT_UPSTREAMS[:1]
"Where one is like the others: parsing them all takes a tenth of a second."
NATIVE, PORTABLE = GatewayOptions(profile="native"), GatewayOptions(profile="portable")
RELAYING = GatewayOptions(profile="portable", relays=True)

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"A second of parsing becomes a tenth; dozens of tests parse."


def parsed(text: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(text, _LOADER)
    return document


def bootstrap(options: GatewayOptions = NATIVE, upstreams: Iterable[Upstream] = DEFAULT_UPSTREAMS) -> dict[str, Any]:
    """A new one each time, which a test may change; but parsed once."""
    document: dict[str, Any] = json.loads(_bootstrap(options, tuple(upstreams)))
    return document


@cache
def _bootstrap(options: GatewayOptions, upstreams: tuple[Upstream, ...]) -> str:
    return json.dumps(parsed(render_bootstrap(options, upstreams)))


def listener(document: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = document["static_resources"]["listeners"][0]
    return first


def manager(document: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = listener(document)["filter_chains"][0]["filters"][0]["typed_config"]
    return config


def clusters(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cluster["name"]: cluster for cluster in document["static_resources"]["clusters"]}


Change = Callable[[dict[str, Any]], object]
"Breaks a bootstrap in one way."


def findings(change: Change = len, options: GatewayOptions = NATIVE) -> list[Finding]:
    """What is found wrong with our own bootstrap after a change."""
    document = bootstrap(options, ONE)
    change(document)
    return check(found_in_files([document]), options, ONE)


def http_filter(document: dict[str, Any], name: str = "lectr") -> dict[str, Any]:
    """What a filter is configured with."""
    config: dict[str, Any] = next(each for each in manager(document)["http_filters"] if each["name"] == name)
    typed: dict[str, Any] = config["typed_config"]
    return typed


def host(document: dict[str, Any]) -> dict[str, Any]:
    """The virtual host."""
    first: dict[str, Any] = manager(document)["route_config"]["virtual_hosts"][0]
    return first


def route(document: dict[str, Any], name: str) -> dict[str, Any]:
    """One of its routes."""
    found: dict[str, Any] = next(each for each in host(document)["routes"] if each["name"] == name)
    return found


def dump_of(document: dict[str, Any]) -> dict[str, Any]:
    """What an Envoy with this bootstrap would tell of its configuration."""
    static = document["static_resources"]
    return {
        "configs": [
            {"bootstrap": document},
            {"static_clusters": [{"cluster": each} for each in static["clusters"]]},
            {"static_listeners": [{"listener": each} for each in static["listeners"]]},
        ]
    }
