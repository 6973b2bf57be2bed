from dataclasses import replace
from typing import Any

import pytest

from lectr_extproc.gateway import ServerTls, check, found_in_files
from tests.gateway.examples import NATIVE, ONE, PORTABLE, Change, bootstrap, findings, http_filter, listener, manager

TLS = ServerTls(cert="/cert.pem", key="/key.pem", client_ca="/ca.pem")
ATTRIBUTE = replace(NATIVE, tls=TLS, identity="connection.uri_san_peer_certificate")
XFCC = replace(PORTABLE, tls=TLS, identity="xfcc")
BOTH = pytest.mark.parametrize("options", [ATTRIBUTE, XFCC], ids=lambda options: options.identity)


def chain(document: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = listener(document)["filter_chains"][0]
    return first


def common(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = chain(document)["transport_socket"]["typed_config"]["common_tls_context"]
    return found


def forwarding(how: str) -> Change:
    return lambda document: manager(document).update(forward_client_cert_details=how)


@BOTH
def test_where_envoy_verifies_certificates_all_is_well(options: Any) -> None:
    assert findings(options=options) == []


OF_THE_CONNECTION: dict[str, tuple[str, Change]] = {
    "no transport_socket with TLS": ("warning", lambda document: chain(document).pop("transport_socket")),
    "no trusted_ca for clients": ("error", lambda document: common(document).pop("validation_context")),
    "trust_chain_verification is ACCEPT_UNTRUSTED": (
        "error",
        lambda document: common(document)["validation_context"].update(trust_chain_verification="ACCEPT_UNTRUSTED"),
    ),
}


@BOTH
@pytest.mark.parametrize(
    ("words", "severity", "change"), [(k, *v) for k, v in OF_THE_CONNECTION.items()], ids=OF_THE_CONNECTION
)
def test_a_connection_that_verifies_nobody_is_named_once(
    words: str, severity: str, change: Change, options: Any
) -> None:
    (finding,) = findings(change, options)
    assert words in finding.what
    assert finding.severity == severity


OF_THE_HEADER: dict[str, Change] = {
    "forward_client_cert_details is ALWAYS_FORWARD_ONLY": forwarding("ALWAYS_FORWARD_ONLY"),
    "forward_client_cert_details is FORWARD_ONLY": forwarding("FORWARD_ONLY"),
    "forward_client_cert_details is SANITIZE": lambda document: manager(document).pop("forward_client_cert_details"),
    "no set_current_client_cert_details.uri": lambda document: manager(document).pop("set_current_client_cert_details"),
}


@pytest.mark.parametrize(("words", "change"), OF_THE_HEADER.items(), ids=OF_THE_HEADER)
def test_an_envoy_that_lets_a_clients_word_for_itself_through_is_named(words: str, change: Change) -> None:
    (finding,) = findings(change, XFCC)
    assert words in finding.what
    assert finding.severity == "error"
    assert findings(forwarding("ALWAYS_FORWARD_ONLY"), PORTABLE) == [], "nobody believes it there"


def test_a_certificate_that_is_appended_to_others_is_the_last() -> None:
    assert findings(forwarding("APPEND_FORWARD"), XFCC) == []


def test_what_a_secret_service_delivers_is_not_judged() -> None:
    def change(document: dict[str, Any]) -> None:
        common(document)["combined_validation_context"] = {"default_validation_context": {}}
        common(document).pop("validation_context")

    assert findings(change, ATTRIBUTE) == []


def test_an_attribute_that_is_not_asked_for_is_named() -> None:
    (finding,) = findings(lambda document: http_filter(document).pop("request_attributes"), ATTRIBUTE)
    assert finding.what.endswith("filter lectr: request_attributes is missing")


def test_other_listeners_are_none_of_our_business() -> None:
    document = bootstrap(ATTRIBUTE, ONE)
    document["static_resources"]["listeners"].append({"name": "other", "default_filter_chain": {"filters": []}})
    assert check(found_in_files([document]), ATTRIBUTE, ONE) == []
