import json
from typing import Any

import pytest

from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.gateway import GatewayOptions
from tests.gateway.examples import NATIVE, PORTABLE, RELAYING, bootstrap, clusters, manager

DOCUMENT = bootstrap(RELAYING)
LISTENER: dict[str, Any] = DOCUMENT["static_resources"]["listeners"][1]
MANAGER: dict[str, Any] = LISTENER["filter_chains"][0]["filters"][0]["typed_config"]


def test_attempts_go_to_a_listener_that_nobody_else_can_call() -> None:
    (endpoints,) = clusters(DOCUMENT)["lectr_attempts"]["load_assignment"]["endpoints"]
    (endpoint,) = endpoints["lb_endpoints"]
    assert endpoint["endpoint"]["address"] == {"envoy_internal_address": {"server_listener_name": LISTENER["name"]}}
    assert LISTENER["internal_listener"] == {}
    assert "address" not in LISTENER
    assert [one["name"] for one in DOCUMENT["bootstrap_extensions"]] == ["envoy.bootstrap.internal_listener"]
    assert LISTENER["per_connection_buffer_limit_bytes"] == RELAYING.max_body_bytes


def test_each_is_made_ready_and_guarded_and_its_answer_is_not_held_which_envoy_1_36_does_not_survive() -> None:
    (options,) = clusters(DOCUMENT)["lectr_attempts"]["typed_extension_protocol_options"].values()
    ready, guard, codec = options["http_filters"]
    assert [ready["name"], guard["name"]] == ["lectr_attempt", "lectr_attempt_guard"]
    assert codec["name"] == "envoy.filters.http.upstream_codec"
    assert ready["typed_config"]["processing_mode"]["response_header_mode"] == "SKIP"
    assert "allow_mode_override" not in ready["typed_config"]
    assert '"answered"' in guard["typed_config"]["default_source_code"]["inline_string"]


def test_each_goes_on_to_the_cluster_in_its_header_and_what_is_ours_stays_here() -> None:
    routes = MANAGER["route_config"]["virtual_hosts"][0]["routes"]
    assert [route["name"] for route in routes] == ["lectr_attempts_anthropic", "lectr_attempts_openai"]
    for route in routes:
        assert route["route"] == {"cluster_header": "x-lectr-cluster", "timeout": "0s", "idle_timeout": "0s"}
        assert route["request_headers_to_remove"] == ["x-lectr-cluster", "x-lectr-shape", "x-forwarded-proto"]
        assert route["response_headers_to_remove"] == ["x-lectr-unanswered", "x-lectr-retry"]


def test_a_candidate_that_cannot_be_asked_is_marked_and_told_in_the_clients_shape() -> None:
    refusal = REFUSALS["provider_unreachable"]
    mappers = MANAGER["local_reply_config"]["mappers"]
    bodies = [json.loads(one["body_format_override"]["text_format_source"]["inline_string"]) for one in mappers]
    assert bodies == [json.loads(refusal.body(shape)) for shape in ("anthropic", "openai")]
    for mapper in mappers:
        assert mapper["status_code"] == refusal.status
        assert mapper["headers_to_add"] == [{"header": {"key": "x-lectr-unanswered", "value": "1"}}]


@pytest.mark.parametrize("options", [NATIVE, PORTABLE])
def test_where_it_is_not_needed_or_not_wanted_there_is_nothing_of_it(options: GatewayOptions) -> None:
    document = bootstrap(options)
    assert len(document["static_resources"]["listeners"]) == 1
    assert "bootstrap_extensions" not in document
    assert "lectr_attempts" not in clusters(document)
    routes = [route["name"] for route in manager(document)["route_config"]["virtual_hosts"][0]["routes"]]
    assert ("lectr_attempted" in routes) is (options is NATIVE)
