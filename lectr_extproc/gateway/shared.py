"""The same configuration in pieces, for a listener that others made and that serves others' hosts, too.

Whoever programs that Envoy (Istio, Envoy Gateway) puts the pieces where they belong. Filters are there for all of the
listener's calls and off, and on for one virtual host: of other hosts' calls nothing is asked, told or logged. Portable
only: failing over takes fields of the router, which is everybody's, and counting by Envoy a version that no mesh has.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from lectr_extproc.core.upstream import UPGRADE_SUFFIX, Upstream
from lectr_extproc.gateway.clusters import clusters
from lectr_extproc.gateway.connection_manager import call_log, local_replies
from lectr_extproc.gateway.filters import filters
from lectr_extproc.gateway.options import GatewayOptions
from lectr_extproc.gateway.render import render_bootstrap
from lectr_extproc.gateway.routes import route_configuration

Piece = dict[str, Any]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_FILTER_CONFIG = "type.googleapis.com/envoy.config.route.v3.FilterConfig"

_OURS: Piece = {
    "extension_filter": {
        "name": "envoy.access_loggers.extension_filters.cel",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            "expression": "xds.route_name.startsWith('lectr_')",
        },
    }
}
"Calls that met a route of ours. Only a connection manager logs and words answers, and it is everybody's."

_PROTOCOL = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
_WITHOUT_ENVOYS: Piece = {
    "name": "lectr_no_envoy_headers",
    "typed_config": {
        "@type": f"{_FILTERS}.header_mutation.v3.HeaderMutation",
        "mutations": {"request_mutations": [{"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}}]},
    },
}
"What Envoys tell each other. A router of our own leaves it out; this one is everybody's."

_CODEC: Piece = {
    "name": "envoy.filters.http.upstream_codec",
    "typed_config": {"@type": f"{_FILTERS}.upstream_codec.v3.UpstreamCodec"},
}

_CLIENT_CONTROL = (
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-hedge-on-per-try-timeout",
)
"By which a client would have Envoy repeat or cut its call. A listener of our own takes them away before anything else."


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """What one virtual host needs, and where it belongs."""

    filters: list[Piece]
    "Before the router, in this order."
    manager: Piece
    "Fields of the connection manager, to be merged into what is there."
    virtual_host: Piece
    clusters: list[Piece]
    max_body_bytes: int
    "What the listener must let through."


def pieces(
    options: GatewayOptions, upstreams: Iterable[Upstream], host: str, names: Mapping[str, str] | None = None
) -> Pieces:
    """For one host. `names` says what filters are called there, where that is not for us to choose."""
    called = {name: (names or {}).get(name, name) for name in filters(options)}
    return Pieces(
        filters=[
            {"name": called[name], "disabled": True, "typed_config": _keeping_host(parsed(config))}
            for name, config in filters(options).items()
        ],
        manager=_manager(options),
        virtual_host=_virtual_host(options, host, called),
        clusters=_clusters(options, upstreams),
        max_body_bytes=options.max_body_bytes,
    )


def own_listener(options: GatewayOptions, upstreams: Iterable[Upstream]) -> tuple[Piece, list[Piece]]:
    """A listener of lectr's own with all that it promises, and its clusters."""
    rendered = parsed(render_bootstrap(options, upstreams))["static_resources"]
    return rendered["listeners"][0], rendered["clusters"]


def parsed(text: str) -> Piece:
    """Rendered text as values."""
    piece: Piece = yaml.load(text, _LOADER)  # noqa: S506 - both are safe loaders
    return piece


def written(head: str, documents: Iterable[Piece]) -> str:
    """Values as YAML: without the reasons, which stand in what `lectr envoy render` writes otherwise."""
    return head + "".join(
        "---\n" + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, default_flow_style=None)
        for document in documents
    )


class _Dumper(yaml.SafeDumper):
    """Everything where it belongs, however often, and programs in lines."""

    def ignore_aliases(self, _: object) -> bool:
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _keeping_host(config: Piece) -> Piece:
    """The host says whose routes a call meets, also when these are read again: so it changes after that."""
    if "mutation_rules" in config:
        config["mutation_rules"]["disallow_expression"] = {"regex": "^(:method|:scheme|:authority|host)$"}
    return config


def _clusters(options: GatewayOptions, upstreams: Iterable[Upstream]) -> list[Piece]:
    by_name = {upstream.cluster: upstream for upstream in upstreams}
    made = [parsed(cluster) for cluster in clusters(options, by_name.values())]
    made = [cluster for cluster in made if not cluster["name"].endswith(UPGRADE_SUFFIX)]
    for cluster in made:
        if upstream := by_name.get(cluster["name"]):
            protocol = cluster["typed_extension_protocol_options"][_PROTOCOL]
            protocol["http_filters"] = [_meant_for(upstream), _WITHOUT_ENVOYS, *protocol.get("http_filters", [_CODEC])]
    return made


def _meant_for(upstream: Upstream) -> Piece:
    """The host of a provider, which a call gets here and no sooner: below the router, and above what signs it."""
    lines = (
        "function envoy_on_request(call)",
        f'  call:headers():replace(":authority", "{upstream.authority}")',
        f'  call:headers():replace(":scheme", "{upstream.scheme}")',  # over HTTP/2 it would say how the client called
        "end",
    )
    return {
        "name": "lectr_host",
        "typed_config": {
            "@type": f"{_FILTERS}.lua.v3.Lua",
            "default_source_code": {"inline_string": "\n".join(lines) + "\n"},
        },
    }


def _manager(options: GatewayOptions) -> Piece:
    (log,) = parsed("access_log:\n" + call_log(options))["access_log"]
    replies = parsed(local_replies(options))
    for mapper in replies["local_reply_config"]["mappers"]:
        mapper["filter"]["and_filter"]["filters"].insert(0, _OURS)
    return {"access_log": [{**log, "filter": _OURS}], **replies}


def _virtual_host(options: GatewayOptions, host: str, called: Mapping[str, str]) -> Piece:
    (virtual_host,) = parsed(route_configuration(options))["virtual_hosts"]
    for route in virtual_host["routes"]:
        if "typed_per_filter_config" in route:
            route["typed_per_filter_config"] = {
                called[name]: config for name, config in route["typed_per_filter_config"].items()
            }
    off = {name: {"@type": _FILTER_CONFIG, "disabled": True} for name in called.values()}
    # json_to_metadata waits for a body, which an upgrade does not have; its own list of filters would be everybody's.
    no_upgrade = {
        "name": "lectr_no_upgrade",
        "match": {"prefix": "/", "headers": [{"name": "upgrade", "present_match": True}]},
        "direct_response": {"status": 403},
        "typed_per_filter_config": off,
    }
    return {
        **virtual_host,
        "domains": [host, f"{host}:*"],
        "request_headers_to_remove": list(_CLIENT_CONTROL),
        "response_headers_to_remove": ["x-envoy-upstream-service-time"],
        "typed_per_filter_config": {name: {"@type": _FILTER_CONFIG, "config": {}} for name in called.values()},
        "routes": [no_upgrade, *virtual_host["routes"]],
    }
