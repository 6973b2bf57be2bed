"""Whether the certificates that settings take for identities were verified, and no client can write its own."""

from collections.abc import Iterator

from lectr_extproc.core.identity import XFCC
from lectr_extproc.gateway.finding import Finding, error, lines, warning
from lectr_extproc.gateway.found import Config, Found, at, mappings, name_of, of_type

_DOWNSTREAM = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_SEE = "docs/mesh.md#what-envoy-must-do"
_DELIVERED = ("combined_validation_context", "validation_context_sds_secret_config")


def check_identity(found: Found, manager: Config, identity: str) -> Iterator[Finding]:
    """What lets a client write its own identity, or have none."""
    where = name_of(manager)
    if identity == XFCC:
        yield from _header(manager, where)
    for listener in found.listeners:
        chains = [*(listener.get("filter_chains") or ()), listener.get("default_filter_chain") or {}]
        for chain in chains:
            if any(each is manager for each in mappings(chain)):
                yield from _connection(listener, chain, identity)


def _header(manager: Config, where: str) -> Iterator[Finding]:
    details = manager.get("forward_client_cert_details", "SANITIZE")
    do = "forward_client_cert_details: SANITIZE_SET\nset_current_client_cert_details: {uri: true}"
    if details in ("FORWARD_ONLY", "ALWAYS_FORWARD_ONLY"):
        why = "clients write X-Forwarded-Client-Cert, and so their own identity: anybody is whom they like"
        yield error(f"{where}: forward_client_cert_details is {details}", why, do, _SEE)
    elif details == "SANITIZE":
        why = "X-Forwarded-Client-Cert is taken away: no workload is known, and its calls get 401"
        yield error(f"{where}: forward_client_cert_details is SANITIZE", why, do, _SEE)
    elif not at(manager, "set_current_client_cert_details.uri"):
        why = "Envoy does not write the certificate's URI: no workload is known, and its calls get 401"
        yield error(f"{where}: no set_current_client_cert_details.uri", why, do, _SEE)


def _connection(listener: Config, chain: Config, identity: str) -> Iterator[Finding]:
    name = f"listener {listener.get('name', '')}"
    context = next(of_type(chain.get("transport_socket"), _DOWNSTREAM), None)
    if context is None:
        why = f"without TLS no certificate arrives ({identity}): no workload is known, and its calls get 401"
        do = "set `envoy: {tls: {cert: …, key: …, client_ca: …}}`, or give it a transport_socket"
        yield warning(f"{name}: no transport_socket with TLS", why, do, _SEE)
        return
    common = context.get("common_tls_context") or {}
    validation = common.get("validation_context") or at(
        common, "combined_validation_context.default_validation_context"
    )
    if at(validation, "trust_chain_verification") == "ACCEPT_UNTRUSTED":
        why = "whoever signs a certificate for themselves is whom they like"
        yield error(f"{name}: trust_chain_verification is ACCEPT_UNTRUSTED", why, "take that away", _SEE)
    is_delivered = any(common.get(each) for each in _DELIVERED)
    if not is_delivered and not at(validation, "trusted_ca"):
        why = "certificates of clients are not verified: none is asked for, or any will do"
        do = lines({"filename": "/etc/envoy/clients-ca.pem"}, "validation_context", "trusted_ca")
        yield error(f"{name}: no trusted_ca for clients", why, do, _SEE)
