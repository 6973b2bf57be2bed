"""What an Envoy configuration written by others lacks for lectr to keep its promises."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from lectr_extproc.gateway.filters import AI_PROTOCOL_MANAGER, EXT_PROC, FALLBACK, JSON_TO_METADATA, filters
from lectr_extproc.gateway.options import GatewayOptions

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"libyaml where PyYAML has it: a bootstrap takes a tenth of the time."

_MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"

# What only a connection manager or a router can say, and what breaks without it. hcm.yaml has the values.
_MANAGER_NEEDS: Mapping[str, str] = {
    "early_header_mutation_extensions": "a client can make Envoy retry or cut its call with x-envoy-* headers",
    "scheme_header_transformation": "providers read `:scheme: http` over HTTP/2",
    "server_header_transformation": "clients read `server: envoy` in place of the provider's",
    "normalize_path": "`/v1/../x` leaves the path prefix that lectr chose",
    "merge_slashes": "`/v1//chat/completions`, from a base URL that ends in a slash, is no path of any provider",
    "upgrade_configs": "WebSockets get 403",
    "local_reply_config": "Envoy's own answers are plain text about connections, which no SDK understands",
    "access_log": "no call is recorded",
}
_ROUTER_NEEDS: Mapping[str, str] = {
    "suppress_envoy_headers": "providers and clients get x-envoy-* headers",
    "upstream_log": "nobody knows why an attempt failed",
}
_FILTER_BREAKS: Mapping[str, str] = {
    JSON_TO_METADATA: "lectr does not know the model",
    FALLBACK: "a `fallback` in the body of a call that pins its model goes to the provider, and nobody else is asked",
    EXT_PROC: "no call is decided",
    AI_PROTOCOL_MANAGER: "lectr has to read every answer to count its tokens",
}

_CARES = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"


class Found(NamedTuple):
    """What is wrong with a configuration, one line each."""

    lacks: list[str]
    warnings: list[str]
    "What works until something else fails."


def check_existing(text: str, options: GatewayOptions) -> Found:
    """What is missing in each connection manager that uses lectr, with what breaks."""
    try:
        document = yaml.load(text, _LOADER)  # noqa: S506 - both are safe loaders
    except yaml.YAMLError as error:
        return Found([f"not readable as YAML: {error}"], [])
    managers = [manager for manager in _of_type(document, _MANAGER) if EXT_PROC in _filters_of(manager)]
    problems = [problem for manager in managers for problem in _missing(manager, options)]
    if not managers:
        problems.append(f"no connection manager has a filter named {EXT_PROC}: no call reaches lectr")
    if options.profile == "portable":
        problems += _small_listeners(document, options)
    return Found(problems, list(_slow_start(document)))


def _missing(manager: Mapping[str, Any], options: GatewayOptions) -> Iterator[str]:
    where = f"connection manager {manager.get('stat_prefix', '')}"
    for field, breaks in _MANAGER_NEEDS.items():
        if not manager.get(field):
            yield f"{where}: no {field}: {breaks}"
    if manager.get("use_remote_address") and not manager.get("preserve_external_request_id"):
        yield f"{where}: no preserve_external_request_id: a client's own x-request-id is replaced"
    present, wanted = _filters_of(manager), list(filters(options))
    for name in wanted:
        if name not in present:
            yield f"{where}: no filter {name}: {_FILTER_BREAKS[name]}"
    if [name for name in present if name in wanted] != [name for name in wanted if name in present]:
        yield f"{where}: the filters must come in the order {', '.join(wanted)}: each uses what the one before it found"
    for router in _of_type(manager.get("http_filters"), _ROUTER):
        for field, breaks in _ROUTER_NEEDS.items():
            if not router.get(field):
                yield f"{where}: router without {field}: {breaks}"


def _small_listeners(document: object, options: GatewayOptions) -> Iterator[str]:
    """Envoy 1.36 looks nowhere else for how much of a body it may hold."""
    for listener in _mappings(document):
        if "filter_chains" in listener and any(EXT_PROC in _filters_of(m) for m in _of_type(listener, _MANAGER)):
            limit = listener.get("per_connection_buffer_limit_bytes") or 1024 * 1024
            if limit < options.max_body_bytes:
                yield (
                    f"listener {listener.get('name', '')}: per_connection_buffer_limit_bytes is {limit}:"
                    f" larger requests get 413, and {options.max_body_bytes} should pass"
                )


def _slow_start(document: object) -> Iterator[str]:
    """What a part of a configuration says nothing of: names are looked up as the bootstrap says."""
    if not isinstance(document, dict) or not document.keys() & {"static_resources", "dynamic_resources"}:
        return
    configs = [mapping for mapping in _mappings(document.get("typed_dns_resolver_config")) if "@type" in mapping]
    config = configs[0] if configs else {"@type": _CARES}  # Envoy's own choice
    if config["@type"] == _CARES and not config.get("query_timeout_seconds"):
        yield (
            "typed_dns_resolver_config without query_timeout_seconds: one name for which no answer comes keeps Envoy"
            " from serving for about a minute when it starts"
        )


def _filters_of(manager: Mapping[str, Any]) -> list[str]:
    return [str(item.get("name")) for item in manager.get("http_filters") or [] if isinstance(item, dict)]


def _of_type(value: object, type_url: str) -> Iterator[dict[str, Any]]:
    return (mapping for mapping in _mappings(value) if mapping.get("@type") == type_url)


def _mappings(value: object) -> Iterator[dict[str, Any]]:
    """Every mapping in a document, at any depth."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _mappings(item)
