from dataclasses import replace

from lectr_extproc.gateway.filters import AI_PROTOCOL_MANAGER, EXT_PROC, FALLBACK, JSON_TO_METADATA, filters
from tests.gateway.examples import NATIVE, PORTABLE, bootstrap, http_filter, manager


def test_the_body_is_read_before_lectr_is_asked_and_usage_before_lectr_removes_it() -> None:
    assert list(filters(NATIVE)) == [JSON_TO_METADATA, FALLBACK, EXT_PROC, AI_PROTOCOL_MANAGER]


def test_the_portable_profile_has_nothing_that_only_envoy_1_40_knows() -> None:
    assert list(filters(PORTABLE)) == [JSON_TO_METADATA, FALLBACK, EXT_PROC]


def test_lectr_sees_request_headers_and_nothing_else_unless_it_asks() -> None:
    ext_proc = manager(bootstrap())["http_filters"][2]["typed_config"]
    assert ext_proc["processing_mode"] == {
        "request_header_mode": "SEND",
        "request_body_mode": "NONE",
        "response_header_mode": "SKIP",
        "response_body_mode": "NONE",
    }
    assert ext_proc["allow_mode_override"] is True
    assert ext_proc["failure_mode_allow"] is True


def test_envoy_tells_whose_certificate_it_was_only_where_that_is_asked_for() -> None:
    attribute = "connection.uri_san_peer_certificate"

    def told(identity: str | None) -> object:
        return http_filter(bootstrap(replace(NATIVE, identity=identity), [])).get("request_attributes")

    assert (told(attribute), told("xfcc"), told(None)) == ([attribute], None, None)
