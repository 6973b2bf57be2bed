"""`lectr doctor` before real Envoys: a healthy one says nothing, and what is broken in one is told, each thing once."""

from pathlib import Path
from typing import Any

import yaml

from lectr_extproc.core.upstream import Upstream
from lectr_extproc.doctor import as_text, examine
from lectr_extproc.edge.envoy_admin import look_at
from lectr_extproc.gateway import render_bootstrap
from lectr_extproc.gateway.running import check_running
from lectr_extproc.settings import load
from tests.e2e.calls import call
from tests.e2e.conftest import LaunchApart
from tests.e2e.envoy import Envoy, ScriptedLectr, decide_for, options_for
from tests.e2e.gateway import Build, wait_until
from tests.e2e.scene import Providers, settings_for
from tests.e2e.tls import Authority
from tests.ports import free_port


def test_a_gateway_in_good_health_has_no_findings_and_one_without_lectr_has(
    launch_apart: LaunchApart, providers: Providers
) -> None:
    gateway = launch_apart(settings_for(providers))
    assert call(gateway).status_code == 200
    settings = load(gateway.served.read_text())
    for admin in (None, f"http://127.0.0.1:{gateway.envoy_admin_port}"):
        assert (
            as_text(examine(settings, admin))
            == f"Envoy {gateway.build.version}, profile {gateway.build.profile}: nothing is wrong\n"
        )

    gateway.process.kill()
    gateway.process.wait()
    assert call(gateway).status_code == 503

    def told() -> list[str]:
        return [finding.what for finding in examine(settings).findings]

    away = "no lectr answers Envoy's health checks"
    wait_until(lambda: away in told(), "an Envoy that has noticed")
    assert told() == [
        away,
        f"no lectr answers at 127.0.0.1:{gateway.admin_port} (admin.listen)",
        "Envoy's question to lectr failed (1 times since Envoy started)",
    ]


def broken(document: dict[str, Any], to: Upstream) -> set[str]:
    """Break a bootstrap in many ways that Envoy accepts; the words of what is to be told of each."""
    document.pop("typed_dns_resolver_config")
    static = document["static_resources"]
    (listener,), clusters = static["listeners"], {each["name"]: each for each in static["clusters"]}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager.pop("normalize_path")
    manager.pop("use_remote_address")
    manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"].pop(0)
    manager["access_log"][0]["typed_config"]["additional_request_headers_to_log"] = ["authorization"]
    chain = {each["name"]: each.get("typed_config") for each in manager["http_filters"]}
    chain["lectr"].pop("failure_mode_allow")
    chain["lectr"].pop("message_timeout")
    chain["lectr"]["metadata_options"]["receiving_namespaces"]["untyped"].remove("lectr.usage")
    chain["lectr_json_to_metadata"]["request_rules"]["rules"].pop()
    (host,) = manager["route_config"]["virtual_hosts"]
    routes = {route["name"]: route for route in host["routes"]}
    routes["lectr_routed"]["route"]["timeout"] = "30s"
    routes["lectr_chosen"]["route"]["retry_policy"] = {"retry_on": "5xx"}
    host["routes"].insert(0, {"name": "own", "match": {"prefix": "/own"}, "route": {"cluster": to.cluster}})
    host["retry_policy"] = {"retry_on": "5xx"}
    validation = clusters[to.cluster]["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
    validation.pop("match_typed_subject_alt_names")
    clusters["lectr"].pop("circuit_breakers")
    static["clusters"].remove(clusters[f"{to.cluster}.h1"])
    where = "connection manager lectr"
    return {
        "no lectr answers Envoy's health checks",  # one that a test scripts does not
        "typed_dns_resolver_config without query_timeout_seconds",
        f"{where}: no normalize_path",
        f"{where}: no use_remote_address",
        f"{where}: early_header_mutation_extensions leave x-envoy-* headers",
        f"{where}: the access log of lectr has authorization",
        f"{where}: filter lectr: failure_mode_allow is missing",
        f"{where}: filter lectr: message_timeout is missing",
        f"{where}: filter lectr: metadata_options.receiving_namespaces is another",
        f"{where}: filter lectr_json_to_metadata: request_rules.rules is another",
        f"{where}: route lectr_routed: timeout is not 0s",
        f"{where}: route lectr_chosen: retry_policy",
        f"{where}: route own leads to {to.cluster} without asking for lectr's metadata",
        f"{where}: virtual host lectr: retry_policy",
        f"cluster {to.cluster}: match_typed_subject_alt_names is not its host",
        "cluster lectr: no circuit_breakers",
        f"cluster {to.cluster}.h1: there is none",
    }


def test_each_thing_that_is_broken_in_an_envoy_that_runs_is_told_once(build: Build, tmp_path: Path) -> None:
    to = Upstream.parse("provider", f"https://127.0.0.1:{free_port()}/v1")
    options = options_for(build, tmp_path, trusted_ca=str(Authority(tmp_path / "ca").bundle))
    document = yaml.safe_load(render_bootstrap(options, [to]))
    words = broken(document, to)
    with ScriptedLectr(options.lectr, decide_for(to)), Envoy(build, options, yaml.safe_dump(document), tmp_path):

        def told() -> list[str]:
            return [finding.what for finding in check_running(look_at(options.admin), options, [to])]

        wait_until(lambda: words <= set(told()), f"{words}")
        assert sorted(told()) == sorted(words)
