"""Each case breaks our own bootstrap in one way and expects one finding."""

from typing import Any

import pytest

from lectr_extproc.gateway import GatewayOptions, check, found_in_dump, found_in_files, render_include_bootstrap
from lectr_extproc.gateway.found import MANAGER
from lectr_extproc.gateway.running import Running, check_running
from lectr_extproc.gateway.shared import pieces
from tests.gateway.examples import (
    NATIVE,
    ONE,
    PORTABLE,
    RELAYING,
    Change,
    bootstrap,
    dump_of,
    findings,
    http_filter,
    listener,
    manager,
    parsed,
)

ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
PROFILES = pytest.mark.parametrize("options", [NATIVE, PORTABLE, RELAYING], ids=["native", "portable", "relaying"])


@PROFILES
def test_nothing_is_missing_in_our_own_files(options: GatewayOptions) -> None:
    assert findings(options=options) == []
    included = found_in_files([parsed(render_include_bootstrap(options, "/etc/envoy/lectr"))])
    assert check(included, options, ONE) == []


@PROFILES
def test_nothing_is_missing_where_envoy_runs_them(options: GatewayOptions) -> None:
    assert check(found_in_dump(dump_of(bootstrap(options, ONE))), options, ONE) == []


def drop(field: str) -> Change:
    return lambda document: manager(document).pop(field)


def early(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What is done to a client's headers first."""
    found: list[dict[str, Any]] = manager(document)["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    return found


def remove(prefix: str) -> dict[str, Any]:
    return {"remove_on_match": {"key_matcher": {"prefix": prefix}}}


def log(document: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = manager(document)["access_log"][0]
    return first


def router(document: dict[str, Any]) -> dict[str, Any]:
    last: dict[str, Any] = manager(document)["http_filters"][-1]["typed_config"]
    return last


MISSING: dict[str, tuple[str, Change]] = {
    "no early_header_mutation_extensions": ("error", drop("early_header_mutation_extensions")),
    "extensions leave x-envoy-* headers": ("error", lambda document: early(document).pop(0)),
    "extensions remove x-lectr-*": ("error", lambda document: early(document).append(remove("x-lectr-"))),
    "no preserve_external_request_id": ("warning", drop("preserve_external_request_id")),
    "no use_remote_address": ("warning", drop("use_remote_address")),
    "no scheme_header_transformation": ("warning", drop("scheme_header_transformation")),
    "no server_header_transformation": ("warning", drop("server_header_transformation")),
    "no normalize_path": ("error", drop("normalize_path")),
    "no merge_slashes": ("warning", drop("merge_slashes")),
    "no upgrade_configs": ("warning", drop("upgrade_configs")),
    "no local_reply_config": ("warning", drop("local_reply_config")),
    "access_log has no gRPC log": ("error", drop("access_log")),
    "no gRPC log `lectr`": (
        "error",
        lambda document: log(document)["typed_config"]["common_config"].update(log_name="x"),
    ),
    "log of lectr has a filter": (
        "warning",
        lambda document: log(document).update(filter={"not_health_check_filter": {}}),
    ),
    "log of lectr has Authorization": (
        "error",
        lambda document: log(document)["typed_config"].update(
            additional_request_headers_to_log=["Authorization", "te"]
        ),
    ),
    "no connection manager has a filter": ("error", lambda document: manager(document)["http_filters"].pop(2)),
    "router without suppress_envoy_headers": (
        "warning",
        lambda document: router(document).pop("suppress_envoy_headers"),
    ),
    "router without upstream_log": ("warning", lambda document: router(document).pop("upstream_log")),
    "typed_dns_resolver_config without query_timeout_seconds": (
        "warning",
        lambda document: document.pop("typed_dns_resolver_config"),
    ),
    "no overload_manager": ("warning", lambda document: document.pop("overload_manager")),
}


@pytest.mark.parametrize(("words", "severity", "change"), [(k, *v) for k, v in MISSING.items()], ids=MISSING)
def test_what_is_missing_is_named_once(words: str, severity: str, change: Change) -> None:
    (finding,) = findings(change)
    assert words in finding.what
    assert finding.severity == severity
    assert finding.why
    assert finding.do
    assert finding.see.startswith("docs/")


def test_behind_proxies_a_clients_address_may_come_in_a_header() -> None:
    def change(document: dict[str, Any]) -> None:
        manager(document).pop("use_remote_address")
        manager(document)["xff_num_trusted_hops"] = 1

    assert findings(change) == []


def test_a_file_in_the_place_of_the_log_holds_all_its_fields() -> None:
    spooling = GatewayOptions(spool="/var/spool/lectr")
    assert findings(options=spooling) == []
    (finding,) = findings(
        lambda document: log(document)["typed_config"]["log_format"]["json_format"].popitem(), spooling
    )
    assert "access_log has no file /var/spool/lectr with all fields" in finding.what


def test_a_listener_that_holds_too_little_is_named_for_envoy_1_36() -> None:
    (finding,) = findings(lambda document: listener(document).pop("per_connection_buffer_limit_bytes"), PORTABLE)
    assert finding.what == "listener lectr: per_connection_buffer_limit_bytes is 1048576"
    assert finding.do == "per_connection_buffer_limit_bytes: 33554432"


def without_relay(document: dict[str, Any]) -> None:
    del document["static_resources"]["listeners"][1]
    del document["bootstrap_extensions"]


def test_an_envoy_1_36_that_could_not_go_on_to_the_next_candidate_is_told_what_it_lacks() -> None:
    missing, extension = findings(without_relay, RELAYING)
    assert missing.what == "no listener lectr_attempts"
    assert extension.what == "no bootstrap extension envoy.bootstrap.internal_listener"
    assert extension.do.startswith("bootstrap_extensions:")


def test_a_listener_that_is_delivered_from_elsewhere_cannot_be_missed() -> None:
    def change(document: dict[str, Any]) -> None:
        del document["static_resources"]["listeners"][1]
        document["dynamic_resources"] = {"lds_config": {"ads": {}}}

    assert findings(change, RELAYING) == []


def test_other_listeners_and_managers_are_none_of_our_business() -> None:
    def change(document: dict[str, Any]) -> None:
        other = manager(bootstrap(PORTABLE, ONE)) | {"http_filters": None, "access_log": []}
        listeners = document["static_resources"]["listeners"]
        listeners.append({"name": "other", "filter_chains": [{"filters": [{"name": "hcm", "typed_config": other}]}]})

    assert findings(change, PORTABLE) == []


def shared(name: str = "lectr", **manager: Any) -> dict[str, Any]:
    """A listener of others, that serves one host of lectr's."""
    there = pieces(PORTABLE, ONE, "llm.example", {"lectr": name})
    of_others = {"name": "shop", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "shop"}}]}
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}
    config = {
        "@type": MANAGER,
        "http_filters": [*there.filters, router],
        **there.manager,
        "route_config": {"virtual_hosts": [of_others, there.virtual_host]},
        **manager,
    }
    chain = {"filters": [{"name": "hcm", "typed_config": config}]}
    one = {"name": "80", "per_connection_buffer_limit_bytes": there.max_body_bytes, "filter_chains": [chain]}
    return {"static_resources": {"listeners": [one], "clusters": there.clusters}}


def test_of_a_listener_that_others_share_only_what_is_lectrs_is_judged() -> None:
    assert check(found_in_files([shared()]), PORTABLE, ONE) == []
    envoy_gateways = "envoy.filters.http.ext_proc/envoyextensionpolicy/default/lectr/extproc/0"
    assert check(found_in_files([shared(envoy_gateways)]), PORTABLE, ONE) == []
    finding, *_ = check(found_in_files([shared("another")]), PORTABLE, ONE)
    assert finding.what == "no connection manager has a filter named lectr"
    (finding,) = check(found_in_files([shared(access_log=[])]), PORTABLE, ONE)
    assert "access_log has no gRPC log `lectr`" in finding.what
    upgraded = shared(upgrade_configs=[{"upgrade_type": "websocket"}])
    assert check(found_in_files([upgraded]), PORTABLE, ONE) == []
    written_late = {"http.outbound.ext_proc.rejected_header_mutations": 7}
    at: dict[str, Any] = {"version": (1, 36, 4), "server": {}, "dump": dump_of(upgraded), "clusters": {}}
    assert check_running(Running(**at, counters=written_late), PORTABLE, ONE) == []
    below = {"cluster.x.ext_proc.attempt.rejected_header_mutations": 7}
    (finding,) = check_running(Running(**at, counters=below), PORTABLE, ONE)
    assert finding.what.startswith("Envoy dropped headers")
    broken = shared()
    http_filter(broken).pop("failure_mode_allow")
    (finding,) = check(found_in_files([broken]), PORTABLE, ONE)
    assert finding.what.endswith("failure_mode_allow is missing")


@pytest.mark.parametrize("document", [None, "just words", [1, 2], {"a": {"b": None}}])
def test_a_file_that_is_no_envoy_configuration_has_no_way_to_lectr(document: object) -> None:
    (finding,) = check(found_in_files([document]), NATIVE, ONE)
    assert finding.what == "no connection manager has a filter named lectr"


CARES = bootstrap(upstreams=ONE)["typed_dns_resolver_config"]
SLOW = {
    "none at all": None,
    "one that cannot be": "cares",
    "one without its settings": CARES | {"typed_config": None},
    "one that waits as long as it likes": CARES | {"typed_config": {"@type": CARES["typed_config"]["@type"]}},
}


@pytest.mark.parametrize("resolver", SLOW.values(), ids=SLOW)
def test_a_resolver_that_waits_a_minute_is_warned_of(resolver: object) -> None:
    (finding,) = findings(lambda document: document.update(typed_dns_resolver_config=resolver))
    assert finding.severity == "warning"


def test_another_resolver_is_left_alone() -> None:
    asks_the_system = {"name": "getaddrinfo", "typed_config": {"@type": "…GetAddrInfoDnsResolverConfig"}}
    assert findings(lambda document: document.update(typed_dns_resolver_config=asks_the_system)) == []
