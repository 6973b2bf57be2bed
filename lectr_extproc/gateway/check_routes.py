"""The routes: which calls find a provider, and which must not."""

from collections.abc import Iterator
from typing import Any

from lectr_extproc.core.words import CLUSTER_HEADER, NAMESPACE
from lectr_extproc.gateway.finding import Finding, error, lines, some, warning
from lectr_extproc.gateway.found import Config, Found, at, mappings, name_of, plain
from lectr_extproc.gateway.options import GatewayOptions
from lectr_extproc.gateway.routes import UNROUTED

_SEE = "docs/doctor.md#the-routes"
_DO = "take the routes of `lectr envoy render`, include/rds.yaml, as they are"

_BY_KEY = {
    "routed": "no call finds its provider: each gets 503",
    "chosen": "answers do not say which model was chosen",
    "attempts": "a call that fails is not asked of the next candidate",
}


def check_routes(
    found: Found, manager: Config, wanted: Found, model: Config, options: GatewayOptions
) -> Iterator[Finding]:
    """What a manager's routes lack or let through."""
    where = name_of(manager)
    own, right = found.routes_of(manager), wanted.routes_of(model) or {}
    if own is None:
        if found.is_running:
            why, do = "Envoy has none: every call gets 404", "see why, in Envoy's log: a file is missing or refused"
            yield error(f"{where}: its routes have not arrived", why, do, _SEE)
        return
    hosts = [each for each in own.get("virtual_hosts") or () if isinstance(each, dict)]
    routes = [(route, _key_of(route)) for route in _routes(own)]
    ours = {key: each["request_headers_to_remove"] for each in _routes(right) if (key := _key_of(each))}
    for key in ours:
        if key not in [each for _, each in routes]:
            severity = error if key == "routed" else warning
            yield severity(f"{where}: no route asks for the metadata `{key}`", _BY_KEY[key], _DO, _SEE)
    yield from _open_ways(where, routes, [*wanted.clusters])
    if UNROUTED not in [at(route, "route.cluster") for route, key in routes if key is None]:
        why = "a call that lectr has not seen has no route: Envoy answers 404 before it asks"
        yield error(f"{where}: no route leads to {UNROUTED}", why, _DO, _SEE)
    names = {route.get("name") for route, _ in routes}
    if missing := [
        str(each["name"]) for each in _routes(right) if "direct_response" in each and each["name"] not in names
    ]:
        why = "bodies of strangers are held before anybody asks for a key"
        yield warning(f"{where}: routes that turn away are missing: {some(missing)}", why, _DO, _SEE)
    for route, key in routes:
        if key in ours:
            yield from _route(where, route, key, ours[key])
    for host in hosts:
        yield from _host(where, host, options)


def _routes(configuration: Config) -> list[Config]:
    return [route for host in configuration.get("virtual_hosts") or () for route in host.get("routes") or ()]


def _key_of(route: Config) -> str | None:
    """Which metadata of lectr's a route asks for."""
    for each in at(route, "match.dynamic_metadata") or ():
        if each.get("filter") == NAMESPACE and each.get("path") and not each.get("invert"):
            return str(each["path"][0].get("key"))
    return None


def _open_ways(where: str, routes: list[tuple[Config, str | None]], providers: list[str]) -> Iterator[Finding]:
    """Routes to a provider that a call may take which lectr has not let through."""
    for route, key in routes:
        if key is None and (cluster := _leads_to(route, providers)):
            why = "calls reach a provider that lectr has not let through, and clients' keys with them"
            what = f"{where}: route {route.get('name', '')} leads to {cluster} without asking for lectr's metadata"
            yield error(what, why, "take it away, or point it elsewhere", _SEE)


def _leads_to(route: Config, providers: list[str]) -> str | None:
    to = route.get("route") or {}
    if str(to.get("cluster_header", "")).lower() == CLUSTER_HEADER:
        return f"whatever {CLUSTER_HEADER} says"
    named = [to.get("cluster"), *(each.get("name") for each in mappings(to.get("weighted_clusters")))]
    return next((str(name) for name in named if name in providers and name != UNROUTED), None)


def _route(where: str, route: Config, key: str, removed: list[str]) -> Iterator[Finding]:
    """What is said of calls that lectr let through."""
    name = f"{where}: route {route.get('name', '')}"
    to: dict[str, Any] = route.get("route") or {}
    if plain(to.get("timeout", "15s")) != 0:
        why = "every answer that takes longer is cut: the default is 15 s"
        yield error(f"{name}: timeout is not 0s", why, lines("0s", "route", "timeout"), _SEE)
    if to.get("idle_timeout") is None:
        why = "a model that thinks in silence is cut after 300 s"
        yield warning(f"{name}: no idle_timeout", why, lines("900s", "route", "idle_timeout"), _SEE)
    if key != "attempts" and to.get("retry_policy"):
        why = "a call whose model the client chose is sent, and paid, more than once"
        yield error(f"{name}: retry_policy", why, "take `retry_policy` away", _SEE)
    if key == "attempts" and not to.get("retry_policy"):
        yield warning(f"{name}: no retry_policy", _BY_KEY[key], _DO, _SEE)
    gone = {str(each).lower() for each in route.get("request_headers_to_remove") or ()}
    if missing := [each for each in removed if each not in gone]:
        why = "providers get what is ours and what proxies add"
        yield warning(
            f"{name}: request_headers_to_remove lacks {some(missing)}",
            why,
            lines(removed, "request_headers_to_remove"),
            _SEE,
        )


def _host(where: str, host: Config, options: GatewayOptions) -> Iterator[Finding]:
    name = f"{where}: virtual host {host.get('name', '')}"
    if host.get("retry_policy"):
        why = "a call whose model the client chose is sent, and paid, more than once"
        yield error(f"{name}: retry_policy", why, "take `retry_policy` away", _SEE)
    limit = plain(host.get("request_body_buffer_limit") or host.get("per_request_buffer_limit_bytes") or 1024 * 1024)
    if options.profile == "native" and isinstance(limit, int | float) and limit < options.max_body_bytes:
        yield warning(
            f"{name}: request_body_buffer_limit is {limit:.0f}",
            f"larger requests get 413, and {options.max_body_bytes} should pass",
            lines(options.max_body_bytes, "request_body_buffer_limit"),
            _SEE,
        )
