"""The clusters: lectr's own, and one for each address of a provider with its twins."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from lectr_extproc.core.upstream import ATTEMPT_SUFFIX, RELAY, UPGRADE_SUFFIX
from lectr_extproc.gateway.filters import CLUSTER
from lectr_extproc.gateway.finding import Finding, Severity, lines, some
from lectr_extproc.gateway.found import Config, Found, at, includes
from lectr_extproc.gateway.routes import UNROUTED

_SEE = "docs/doctor.md#the-clusters"
_CDS = "take the clusters of `lectr envoy render`, include/cds.yaml"

_MISSING: Mapping[str, tuple[Severity, str]] = {
    "": ("error", "calls to these providers get 503"),
    UPGRADE_SUFFIX: ("warning", "WebSockets to these providers get 503"),
    ATTEMPT_SUFFIX: ("error", "calls with several candidates skip these providers"),
}


def check_clusters(found: Found, wanted: Found, unused: tuple[str, ...] = ()) -> Iterator[Finding]:
    """What is missing, and what is said otherwise in a way that matters; each once, with the clusters it is true of.

    `unused` are the kinds that nobody calls there.
    """
    if not found.clusters and not found.is_running:
        return  # they are delivered from elsewhere
    told: dict[tuple[Severity, str, str, str], list[str]] = defaultdict(list)
    for name, right in wanted.clusters.items():
        if name.endswith(unused):
            continue
        for severity, what, why, do in _cluster(name, found.clusters.get(name), right):
            told[severity, what, why, do].append(name)
    for (severity, what, why, do), names in told.items():
        plural = "s" * (len(names) > 1)
        yield Finding(severity=severity, what=f"cluster{plural} {some(names)}: {what}", why=why, do=do, see=_SEE)


_Told = tuple[Severity, str, str, str]


def _cluster(name: str, own: Config | None, right: Config) -> Iterator[_Told]:
    if own is None:
        if name == CLUSTER:
            yield "error", "there is none", "nobody decides on calls: each gets 503", _CDS
        elif name == UNROUTED:
            yield "error", "there is none", "Envoy refuses the routes that name it", _CDS
        elif name == RELAY:
            yield "error", "there is none", "calls with several candidates get 503", _CDS
        else:
            kind = next((each for each in (UPGRADE_SUFFIX, ATTEMPT_SUFFIX) if name.endswith(each)), "")
            severity, why = _MISSING[kind]
            yield severity, "there is none", why, _CDS
        return
    if name == CLUSTER:
        yield from _lectr(own, right)
    elif name != UNROUTED:
        yield from _provider(own, right)


_DELIVERED = ("combined_validation_context", "validation_context_sds_secret_config")
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def _protocol(cluster: Config) -> dict[str, Any]:
    options: dict[str, Any] = (cluster.get("typed_extension_protocol_options") or {}).get(_HTTP) or {}
    return options


def _lectr(own: Config, right: Config) -> Iterator[_Told]:
    if not any("http2_protocol_options" in each for each in (_protocol(own).get("explicit_http_config") or {}, own)):
        do = lines(_protocol(right), "typed_extension_protocol_options", _HTTP)
        yield "error", "no http2_protocol_options", "gRPC is HTTP/2: no decision arrives, each call gets 503", do
    if not own.get("health_checks"):
        do = lines(right["health_checks"], "health_checks")
        yield "warning", "no health_checks", "a lectr that drains still gets calls", do
    if "transport_socket" in right and not own.get("transport_socket"):
        do = lines(right["transport_socket"], "transport_socket")
        yield "error", "no transport_socket", "lectr speaks TLS (grpc.tls), and is spoken to in plain text", do
    yield from _breakers(own, right)


def _provider(own: Config, right: Config) -> Iterator[_Told]:
    if (secured := right.get("transport_socket")) is not None:
        context = at(own, "transport_socket.typed_config")
        validation = at(secured, "typed_config.common_tls_context.validation_context")
        # What a secret service delivers cannot be seen here.
        elsewhere = any(at(context, f"common_tls_context.{name}") for name in _DELIVERED)
        validated = at(context, "common_tls_context.validation_context") or {}
        if not context:
            yield (
                "error",
                "no transport_socket",
                "prompts and keys travel in plain text, and the provider refuses",
                _CDS,
            )
        elif elsewhere:
            pass
        elif not (validated.get("trusted_ca") or validated.get("system_root_certs") is not None):
            why = "the provider's certificate is not looked at: anybody can be it, and get the key"
            yield "error", "no trusted_ca", why, lines(validation["trusted_ca"], "validation_context", "trusted_ca")
        elif not includes(validated, {"match_typed_subject_alt_names": validation["match_typed_subject_alt_names"]}):
            yield (
                "error",
                "match_typed_subject_alt_names is not its host",
                "any certificate of any trusted CA will do",
                _CDS,
            )
    wanted = [each["name"] for each in _protocol(right).get("http_filters") or ()]
    if [each.get("name") for each in _protocol(own).get("http_filters") or () if each.get("name") in wanted] != wanted:
        why = "calls leave unsigned, or attempts leave as they were for another provider, with its key"
        yield "error", f"http_filters are not {', '.join(wanted)}", why, _CDS
    yield from _breakers(own, right)


def _breakers(own: Config, right: Config) -> Iterator[_Told]:
    if not own.get("circuit_breakers"):
        why = "the defaults of 1024 (retries: 3) refuse calls in a crowd"
        yield "warning", "no circuit_breakers", why, lines(right["circuit_breakers"], "circuit_breakers")
