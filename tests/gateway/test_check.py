import json
from collections.abc import Callable
from typing import Any

import pytest

from lectr_extproc.gateway import GatewayOptions, check_existing, render_bootstrap, render_include_bootstrap
from tests.gateway.examples import DEFAULT_UPSTREAMS, NATIVE, PORTABLE, bootstrap, listener, manager

NOTHING: tuple[list[str], list[str]] = ([], [])
PROFILES = pytest.mark.parametrize("options", [NATIVE, PORTABLE], ids=lambda options: options.profile)


@PROFILES
def test_nothing_is_missing_in_our_own_files(options: GatewayOptions) -> None:
    assert check_existing(render_bootstrap(options, DEFAULT_UPSTREAMS), options) == NOTHING
    assert check_existing(render_include_bootstrap(options, "/etc/envoy/lectr"), options) == NOTHING


def drop(field: str) -> Callable[[dict[str, Any]], object]:
    return lambda document: manager(document).pop(field)


def drop_filter(position: int) -> Callable[[dict[str, Any]], object]:
    return lambda document: manager(document)["http_filters"].pop(position)


MISSING = {
    "early_header_mutation_extensions": drop("early_header_mutation_extensions"),
    "preserve_external_request_id": drop("preserve_external_request_id"),
    "scheme_header_transformation": drop("scheme_header_transformation"),
    "server_header_transformation": drop("server_header_transformation"),
    "normalize_path": drop("normalize_path"),
    "merge_slashes": drop("merge_slashes"),
    "upgrade_configs": drop("upgrade_configs"),
    "local_reply_config": drop("local_reply_config"),
    "access_log": drop("access_log"),
    "filter lectr_json_to_metadata": drop_filter(0),
    "filter lectr_fallback": drop_filter(1),
    "filter lectr_ai_protocol_manager": drop_filter(3),
    "no connection manager": drop_filter(2),
    "order": lambda document: manager(document)["http_filters"].insert(0, manager(document)["http_filters"].pop(2)),
    "suppress_envoy_headers": lambda document: manager(document)["http_filters"][-1]["typed_config"].pop(
        "suppress_envoy_headers"
    ),
    "upstream_log": lambda document: manager(document)["http_filters"][-1]["typed_config"].pop("upstream_log"),
}


@pytest.mark.parametrize(("words", "change"), MISSING.items(), ids=MISSING.keys())
def test_what_is_missing_is_named_once(words: str, change: Callable[[dict[str, Any]], object]) -> None:
    document = bootstrap()
    change(document)
    ((problem,), _) = check_existing(json.dumps(document), NATIVE)
    assert words in problem


def test_a_listener_that_holds_too_little_is_named_for_envoy_1_36() -> None:
    document = bootstrap(PORTABLE)
    listener(document).pop("per_connection_buffer_limit_bytes")
    ((problem,), _) = check_existing(json.dumps(document), PORTABLE)
    assert problem.startswith("listener lectr: per_connection_buffer_limit_bytes is 1048576")


def test_other_listeners_and_managers_are_none_of_our_business() -> None:
    document = bootstrap(PORTABLE)
    other = manager(bootstrap(PORTABLE)) | {"http_filters": None, "access_log": []}
    listeners = document["static_resources"]["listeners"]
    listeners.append({"name": "other", "filter_chains": [{"filters": [{"name": "hcm", "typed_config": other}]}]})
    assert check_existing(json.dumps(document), PORTABLE) == NOTHING


@pytest.mark.parametrize("text", ["", "just words", "[1, 2]", "a: {b: null}"])
def test_a_file_that_is_no_envoy_configuration_has_no_way_to_lectr(text: str) -> None:
    assert check_existing(text, NATIVE).lacks == [
        "no connection manager has a filter named lectr: no call reaches lectr"
    ]


def test_a_file_that_is_not_yaml_is_said_to_be_so() -> None:
    ((problem,), _) = check_existing("a: [", NATIVE)
    assert problem.startswith("not readable as YAML: ")


def with_resolver(resolver: object) -> str:
    return json.dumps(bootstrap() | {"typed_dns_resolver_config": resolver})


CARES = bootstrap()["typed_dns_resolver_config"]
SLOW = {
    "none at all": None,
    "one that cannot be": "cares",
    "one without its settings": CARES | {"typed_config": None},
    "one that waits as long as it likes": CARES | {"typed_config": {"@type": CARES["typed_config"]["@type"]}},
}


@pytest.mark.parametrize("resolver", SLOW.values(), ids=SLOW.keys())
def test_a_resolver_that_waits_a_minute_is_warned_of(resolver: object) -> None:
    lacks, (warning,) = check_existing(with_resolver(resolver), NATIVE)
    assert (lacks, "query_timeout_seconds" in warning) == ([], True)


def test_another_resolver_is_left_alone() -> None:
    asks_the_system = {"name": "getaddrinfo", "typed_config": {"@type": "…GetAddrInfoDnsResolverConfig"}}
    assert check_existing(with_resolver(asks_the_system), NATIVE) == NOTHING
