import json

from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.gateway.filters import filters
from tests.gateway.examples import NATIVE, bootstrap, manager

HOST = manager(bootstrap())["route_config"]["virtual_hosts"][0]
ROUTES = {route["name"]: route for route in HOST["routes"]}


def test_routes_are_tried_in_the_order_that_works_when_lectr_has_removed_the_key() -> None:
    assert list(ROUTES) == [
        "lectr_routed",
        "lectr_missing_key_anthropic",
        "lectr_missing_key",
        "lectr_invalid_key_anthropic",
        "lectr_invalid_key",
        "lectr_unrouted",
    ]


def test_only_a_call_with_lectrs_metadata_reaches_a_provider_and_once() -> None:
    routed = ROUTES["lectr_routed"]
    assert routed["match"]["dynamic_metadata"] == [
        {"filter": "lectr", "path": [{"key": "routed"}], "value": {"present_match": True}}
    ]
    assert "retry_policy" not in routed["route"]
    assert [name for name, route in ROUTES.items() if "cluster_header" in route.get("route", {})] == ["lectr_routed"]


def test_strangers_are_turned_away_before_any_filter_runs_and_in_the_words_of_the_core() -> None:
    for name, route in ROUTES.items():
        if "direct_response" in route:
            code = "missing_lectr_key" if "missing" in name else "invalid_lectr_key"
            shape = "anthropic" if name.endswith("_anthropic") else "openai"
            body = REFUSALS[code].body("anthropic" if shape == "anthropic" else "openai")
            assert route["direct_response"] == {"status": 401, "body": {"inline_string": body.decode()}}
            assert json.loads(body)
            assert [n for n, config in route["typed_per_filter_config"].items() if config["disabled"]] == list(
                filters(NATIVE)
            )
