"""What an Envoy's configuration lacks for lectr to keep its promises, by comparison with the one that lectr renders."""

from collections.abc import Iterable, Iterator, Mapping

import yaml

from lectr_extproc.core.credential import HEADERS
from lectr_extproc.core.upstream import RELAY, UPGRADE_SUFFIX, Upstream
from lectr_extproc.core.words import OWN_PREFIX
from lectr_extproc.gateway.check_clusters import check_clusters
from lectr_extproc.gateway.check_filters import check_filters, is_shared
from lectr_extproc.gateway.check_identity import check_identity
from lectr_extproc.gateway.check_routes import check_routes
from lectr_extproc.gateway.connection_manager import CALL_LOG
from lectr_extproc.gateway.filters import EXT_PROC
from lectr_extproc.gateway.finding import Finding, Severity, error, lines, warning
from lectr_extproc.gateway.found import (
    MANAGER,
    Config,
    Found,
    at,
    filters_in,
    found_in_files,
    includes,
    mappings,
    name_of,
    of_type,
    plain,
)
from lectr_extproc.gateway.options import GatewayOptions
from lectr_extproc.gateway.render import render_bootstrap

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"libyaml where PyYAML has it: a bootstrap takes a tenth of the time."

_CARES = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
_INTERNAL_LISTENER = "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_SEE = "docs/doctor.md#the-connection-manager"
_OF_ALL = "docs/doctor.md#the-bootstrap"

# What only a connection manager or a router can say, and what breaks without it. hcm.yaml has the values.
_MANAGER_NEEDS: Mapping[str, tuple[Severity, str]] = {
    "early_header_mutation_extensions": (
        "error",
        "a client can make Envoy retry or cut its call with x-envoy-* headers",
    ),
    "scheme_header_transformation": ("warning", "providers read `:scheme: http` over HTTP/2"),
    "server_header_transformation": ("warning", "clients read `server: envoy` in place of the provider's"),
    "normalize_path": ("error", "`/v1/../x` leaves the path prefix that lectr chose"),
    "merge_slashes": (
        "warning",
        "`/v1//chat/completions`, from a base URL that ends in a slash, is no path of any provider",
    ),
    "upgrade_configs": ("warning", "WebSockets get 403"),
    "local_reply_config": ("warning", "Envoy's own answers are plain text about connections, which no SDK understands"),
}
_ROUTER_NEEDS: Mapping[str, str] = {
    "suppress_envoy_headers": "providers and clients get x-envoy-* headers",
    "upstream_log": "nobody knows why an attempt failed",
}


def check(found: Found, options: GatewayOptions, upstreams: Iterable[Upstream]) -> list[Finding]:
    """What is missing or wrong in each connection manager that uses lectr, and in what belongs to it."""
    wanted = found_in_files([yaml.load(render_bootstrap(options, upstreams), LOADER)])  # noqa: S506 - both are safe
    (model,) = filter(_asks_lectr, wanted.managers)
    managers = [each for each in found.managers if _asks_lectr(each)]
    findings: list[Finding] = []
    for manager in managers:
        findings += () if is_shared(manager) else _manager(manager, model)
        findings += [*_access_log(manager, model), *check_filters(found, manager, wanted, model)]
        findings += check_routes(found, manager, wanted, model, options)
        findings += check_identity(found, manager, options.identity) if options.identity else ()
    if not managers:
        findings.append(
            error(
                f"no connection manager has a filter named {EXT_PROC}",
                "no call reaches lectr",
                "take the `http_filters` of `lectr envoy render`, include/hcm.yaml",
                _SEE,
            )
        )
    if options.profile == "portable":
        findings += _small_listeners(found, options)
    if options.relays:
        findings += _relay(found, wanted)
    if managers and all(map(is_shared, managers)):  # there the bootstrap is others', and upgrades are refused
        return [*findings, *check_clusters(found, wanted, (UPGRADE_SUFFIX,))]
    return [*findings, *check_clusters(found, wanted), *_bootstrap(found, wanted)]


def _asks_lectr(manager: Config) -> bool:
    return any(each.get("name") == EXT_PROC for each in filters_in(manager))


def _manager(manager: Config, model: Config) -> Iterator[Finding]:
    where = name_of(manager)
    for field, (severity, breaks) in _MANAGER_NEEDS.items():
        if not manager.get(field):
            do = lines(model[field], field)
            yield Finding(severity=severity, what=f"{where}: no {field}", why=breaks, do=do, see=_SEE)
    if manager.get("use_remote_address"):
        if not manager.get("preserve_external_request_id"):
            why, do = "a client's own x-request-id is replaced", "preserve_external_request_id: true"
            yield warning(f"{where}: no preserve_external_request_id", why, do, _SEE)
    elif not manager.get("xff_num_trusted_hops") and not manager.get("original_ip_detection_extensions"):
        why = "a client names itself in the log, by x-forwarded-for"
        do = "use_remote_address: true\n# or, behind proxies of yours, how many they are:\nxff_num_trusted_hops: 1"
        yield warning(f"{where}: no use_remote_address", why, do, _SEE)
    yield from _early(manager, model, where)
    for router in of_type(manager.get("http_filters"), _ROUTER):
        own = next(of_type(model["http_filters"], _ROUTER))
        for field, breaks in _ROUTER_NEEDS.items():
            if not router.get(field):
                yield warning(f"{where}: router without {field}", breaks, lines(own[field], field), _SEE)


def _early(manager: Config, model: Config, where: str) -> Iterator[Finding]:
    """What is done to a client's headers before anybody looks at them."""
    early = manager.get("early_header_mutation_extensions")
    removed = [prefix for each in mappings(early) if (prefix := at(each, "remove_on_match.key_matcher.prefix"))]
    for name in (OWN_PREFIX, OWN_PREFIX[:-1], "x-"):
        if name in removed:
            why = "it takes clients' X-Lectr-Key along: their calls get 401"
            yield error(f"{where}: early_header_mutation_extensions remove {name}*", why, "take that prefix away", _SEE)
    if early and "x-envoy-" not in removed:
        why = _MANAGER_NEEDS["early_header_mutation_extensions"][1]
        do = lines(model["early_header_mutation_extensions"], "early_header_mutation_extensions")
        yield error(f"{where}: early_header_mutation_extensions leave x-envoy-* headers", why, do, _SEE)


def _access_log(manager: Config, model: Config) -> Iterator[Finding]:
    where = name_of(manager)
    (wanted,) = model["access_log"]
    config = wanted["typed_config"]
    is_file = "path" in config
    # Of the gRPC log what makes it ours; how often it is handed on is anybody's choice. Of the file all there is.
    core = (
        config
        if is_file
        else {"common_config": {"log_name": CALL_LOG, "grpc_service": config["common_config"]["grpc_service"]}}
    )
    ours = [each for each in manager.get("access_log") or () if includes(each.get("typed_config"), core)]
    see = "docs/nothing-lost.md" if is_file else _SEE
    if not ours:
        kind = f"file {config['path']} with all fields" if is_file else "gRPC log `lectr` to the cluster `lectr`"
        yield error(f"{where}: access_log has no {kind}", "no call is recorded", lines(wanted, "access_log"), see)
    for each in ours:
        if each.get("filter") and not is_shared(manager):
            why = "calls that it leaves out are not recorded, and cost nothing in reports"
            yield warning(f"{where}: the access log of lectr has a filter", why, "take `filter` away", see)
        logged = at(each, "typed_config.additional_request_headers_to_log") or []
        if secret := [name for name in logged if str(name).lower() in {form.value for form in HEADERS}]:
            why = "headers are logged as they leave Envoy: with the provider's key"
            do = "take `additional_request_headers_to_log` away"
            yield error(f"{where}: the access log of lectr has {', '.join(secret)}", why, do, see)


def _small_listeners(found: Found, options: GatewayOptions) -> Iterator[Finding]:
    """Envoy 1.36 looks nowhere else for how much of a body it may hold."""
    for listener in found.listeners:
        if any(map(_asks_lectr, of_type(listener, MANAGER))):
            limit = plain(listener.get("per_connection_buffer_limit_bytes") or 1024 * 1024)
            if isinstance(limit, int | float) and limit < options.max_body_bytes:
                yield warning(
                    f"listener {listener.get('name', '')}: per_connection_buffer_limit_bytes is {limit:.0f}",
                    f"larger requests get 413, and {options.max_body_bytes} should pass",
                    lines(options.max_body_bytes, "per_connection_buffer_limit_bytes"),
                    _SEE,
                )


def _relay(found: Found, wanted: Found) -> Iterator[Finding]:
    """How an Envoy before 1.40 goes from one candidate to the next."""
    why = "calls with several candidates get 503, but with failover.attempts_max: 1"
    is_told = found.is_running or (found.bootstrap and not at(found.bootstrap, "dynamic_resources.lds_config"))
    if is_told and RELAY not in [each.get("name") for each in found.listeners]:
        yield error(f"no listener {RELAY}", why, "take it from `lectr envoy render`, include/hcm.yaml", _OF_ALL)
    if found.bootstrap and not any(of_type(found.bootstrap.get("bootstrap_extensions"), _INTERNAL_LISTENER)):
        do = lines(wanted.bootstrap["bootstrap_extensions"], "bootstrap_extensions")
        yield error("no bootstrap extension envoy.bootstrap.internal_listener", why, do, _OF_ALL)


def _bootstrap(found: Found, wanted: Found) -> Iterator[Finding]:
    """What holds for all of an Envoy."""
    resolvers = [each for each in mappings(found.bootstrap.get("typed_dns_resolver_config")) if "@type" in each]
    resolver = resolvers[0] if resolvers else {"@type": _CARES}  # Envoy's own choice
    if found.bootstrap and resolver["@type"] == _CARES and not resolver.get("query_timeout_seconds"):
        why = "one name for which no answer comes keeps an Envoy that starts from serving anybody for a minute"
        do = lines(wanted.bootstrap["typed_dns_resolver_config"], "typed_dns_resolver_config")
        yield warning("typed_dns_resolver_config without query_timeout_seconds", why, do, _OF_ALL)
    if found.bootstrap and not found.bootstrap.get("overload_manager"):
        why = "bodies are held before their key is checked: strangers can fill the memory"
        do = lines(wanted.bootstrap["overload_manager"], "overload_manager")
        yield warning("the bootstrap has no overload_manager", why, do, _OF_ALL)
