import copy
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from lectr_extproc.core.credential import HEADERS
from lectr_extproc.core.decision import WELL_FORMED_KEY
from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.gateway.filters import filters
from tests.gateway.examples import NATIVE, RELAYING, bootstrap, manager

HOST = manager(bootstrap())["route_config"]["virtual_hosts"][0]
ROUTES = {route["name"]: route for route in HOST["routes"]}


def test_routes_are_tried_in_the_order_that_works_when_lectr_has_removed_the_key() -> None:
    assert list(ROUTES) == [
        "lectr_attempted",
        "lectr_chosen",
        "lectr_routed",
        "lectr_connect",
        "lectr_missing_key_anthropic",
        "lectr_missing_key",
        "lectr_invalid_key_anthropic",
        "lectr_invalid_key",
        "lectr_unrouted",
    ]


def test_only_a_call_with_lectrs_metadata_reaches_a_provider_and_once() -> None:
    for key in ("chosen", "routed"):
        routed = ROUTES[f"lectr_{key}"]
        assert routed["match"]["dynamic_metadata"] == [
            {"filter": "lectr", "path": [{"key": key}], "value": {"present_match": True}}
        ]
        assert "retry_policy" not in routed["route"]
    to_providers = [name for name, route in ROUTES.items() if "cluster_header" in route.get("route", {})]
    assert to_providers == ["lectr_chosen", "lectr_routed"]


def test_a_call_with_several_candidates_goes_from_one_to_the_next_as_lectrs_metadata_says() -> None:
    attempted = ROUTES["lectr_attempted"]
    (match,) = attempted["match"]["dynamic_metadata"]
    assert (match["filter"], match["path"]) == ("lectr", [{"key": "attempts"}])
    plugin = attempted["route"]["inline_cluster_specifier_plugin"]["extension"]["typed_config"]
    assert plugin["override_metadata_namespace"] == "lectr.route"
    assert [group["clusters"] for group in plugin["priority_groups"]] == [
        [{"cluster_name": "lectr_unrouted", "weight": 1}]
    ]
    retry = attempted["route"]["retry_policy"]
    assert (retry["num_retries"], retry["refresh_cluster_on_retry"]) == (0, True)
    assert retry["retriable_headers"] == [{"name": "x-lectr-retry", "present_match": True}]
    gone = ROUTES["lectr_chosen"]["response_headers_to_remove"]
    assert attempted["response_headers_to_remove"] == ["x-lectr-retry", "x-lectr-unanswered", *gone]
    assert attempted["response_headers_to_add"] == ROUTES["lectr_chosen"]["response_headers_to_add"]


def test_in_the_portable_profile_its_attempts_differ_only_in_where_they_go() -> None:
    routes = manager(bootstrap(RELAYING))["route_config"]["virtual_hosts"][0]["routes"]
    (portable,) = (route for route in routes if route["name"] == "lectr_attempted")
    native = copy.deepcopy(ROUTES["lectr_attempted"])
    del native["route"]["inline_cluster_specifier_plugin"], native["route"]["retry_policy"]["refresh_cluster_on_retry"]
    assert portable == native | {"route": native["route"] | {"cluster": "lectr_attempts"}}


def test_the_answer_of_a_chosen_call_alone_says_what_was_chosen() -> None:
    chosen, pinned = ROUTES["lectr_chosen"], ROUTES["lectr_routed"]
    told = {one["header"]["key"]: one["header"]["value"] for one in chosen["response_headers_to_add"]}
    assert told == {
        "x-model-router-model": "%DYNAMIC_METADATA(lectr:sent)%",
        "x-model-router-provider": "%DYNAMIC_METADATA(lectr:provider)%",
        "x-model-router-tier": "%DYNAMIC_METADATA(lectr:tier)%",
        "x-model-router-auto-tier": "%DYNAMIC_METADATA(lectr:auto_tier)%",
        "x-model-router-auto-score": "%DYNAMIC_METADATA(lectr:auto_score)%",
    }
    assert chosen["response_headers_to_remove"] == list(told), "a provider may not say them"
    assert pinned == {
        name: value
        for name, value in {**chosen, "name": "lectr_routed", "match": pinned["match"]}.items()
        if name not in ("response_headers_to_add", "response_headers_to_remove")
    }


def test_strangers_are_turned_away_before_any_filter_runs_and_in_the_words_of_the_core() -> None:
    for name, route in ROUTES.items():
        if "body" in route.get("direct_response", {}):
            code = "missing_lectr_key" if "missing" in name else "invalid_lectr_key"
            shape = "anthropic" if name.endswith("_anthropic") else "openai"
            body = REFUSALS[code].body("anthropic" if shape == "anthropic" else "openai")
            assert route["direct_response"] == {"status": 401, "body": {"inline_string": body.decode()}}
            assert json.loads(body)
            assert [n for n, config in route["typed_per_filter_config"].items() if config["disabled"]] == list(
                filters(NATIVE)
            )


def test_a_connect_which_no_prefix_matches_is_turned_away_before_any_filter_runs_too() -> None:
    connect = ROUTES["lectr_connect"]
    assert (connect["match"], connect["direct_response"]) == ({"connect_matcher": {}}, {"status": 403})
    assert connect["typed_per_filter_config"] == ROUTES["lectr_missing_key"]["typed_per_filter_config"]


KEY = "lc_key_0123456789abcdef"
IN: dict[str, tuple[dict[str, str], bool]] = {
    "X-Lectr-Key": ({"x-lectr-key": KEY}, True),
    "X-Lectr-Key twice": ({"x-lectr-key": f"{KEY}, {KEY}"}, True),
    "Bearer": ({"authorization": f"Bearer {KEY}"}, True),
    "bearer, twice": ({"authorization": f"bearer  {KEY},BEARER {KEY}"}, True),
    "x-api-key": ({"x-api-key": KEY, "authorization": "Bearer sk-1"}, True),
    "api-key": ({"api-key": KEY}, True),
    "x-goog-api-key": ({"x-goog-api-key": KEY}, True),
    "nothing": ({}, False),
    "an empty key": ({"x-lectr-key": ""}, False),
    "an ill-formed key beside a good one": ({"x-lectr-key": "lc_key_1", "x-api-key": KEY}, False),
    "a key too short": ({"authorization": f"Bearer {KEY[:-1]}"}, False),
    "a key behind another scheme": ({"authorization": f"Basic {KEY}"}, False),
    "a key without a scheme": ({"authorization": KEY}, False),
    "a scheme where none belongs": ({"x-api-key": f"Bearer {KEY}"}, False),
    "a key and more": ({"x-api-key": f"{KEY}; sk-1"}, False),
    "a provider's key": ({"authorization": "Bearer sk-0123456789abcdefghij"}, False),
    "another header": ({"cookie": KEY, "proxy-authorization": f"Bearer {KEY}"}, False),
}


@pytest.mark.parametrize(("headers", "is_let_in"), IN.values(), ids=IN)
def test_only_a_call_with_a_key_that_may_be_ours_passes_the_doors(headers: dict[str, str], is_let_in: bool) -> None:
    doors = [route["match"]["headers"] for route in ROUTES.values() if "headers" in route["match"]]
    assert any(all(_matches(one, headers) for one in door) for door in doors) is not is_let_in


def _matches(matcher: dict[str, Any], headers: dict[str, str]) -> bool:
    """A header matcher as Envoy reads it; tests/e2e has the real one."""
    value = headers.get(matcher["name"], "" if matcher.get("treat_missing_header_as_empty") else None)
    if "present_match" in matcher:
        return (value is None) is matcher["invert_match"]
    regex = matcher["string_match"]["safe_regex"]["regex"]
    return value is not None and (re.fullmatch(regex, value, re.ASCII) is None) is matcher["invert_match"]


def test_every_place_of_a_key_is_looked_at() -> None:
    assert [one["name"] for one in ROUTES["lectr_missing_key"]["match"]["headers"]] == ["x-lectr-key", *HEADERS]
    assert WELL_FORMED_KEY.fullmatch(KEY)
    assert not WELL_FORMED_KEY.fullmatch(KEY[:-1])


@pytest.mark.parametrize(
    ("identity", "asks"),
    [
        ("xfcc", {"name": "x-forwarded-client-cert", "present_match": True, "invert_match": True}),
        ("connection.uri_san_peer_certificate", {"presented": False}),
    ],
)
def test_whoever_shows_a_certificate_is_not_turned_away_for_having_no_key(identity: str, asks: object) -> None:
    document = bootstrap(replace(NATIVE, identity=identity), [])
    routes = {route["name"]: route for route in manager(document)["route_config"]["virtual_hosts"][0]["routes"]}
    for shape in ("", "_anthropic"):
        match, invalid = (routes[f"lectr_{what}_key{shape}"]["match"] for what in ("missing", "invalid"))
        assert match.get("tls_context", match["headers"][-1]) == asks
        assert invalid == ROUTES[f"lectr_invalid_key{shape}"]["match"], "one that is ill-formed is nobody's"
