from typing import Any

import pytest

from lectr_extproc.gateway import check, found_in_dump
from tests.gateway.examples import (
    NATIVE,
    ONE,
    PORTABLE,
    Change,
    bootstrap,
    dump_of,
    findings,
    host,
    manager,
    route,
)

TO = ONE[0].cluster


def drop(name: str) -> Change:
    return lambda document: host(document)["routes"].remove(route(document, name))


def add(to: dict[str, Any], **match: Any) -> Change:
    added = {"name": "own", "match": {"prefix": "/own", **match}, "route": to}
    return lambda document: host(document)["routes"].insert(0, added)


def asks(key: str, **more: Any) -> list[dict[str, Any]]:
    return [{"filter": "lectr", "path": [{"key": key}], "value": {"present_match": True}, **more}]


CASES: dict[str, tuple[str, Change]] = {
    "no route asks for the metadata `routed`": ("error", drop("lectr_routed")),
    "no route asks for the metadata `chosen`": ("warning", drop("lectr_chosen")),
    "no route asks for the metadata `attempts`": ("warning", drop("lectr_attempted")),
    "no route leads to lectr_unrouted": ("error", drop("lectr_unrouted")),
    "routes that turn away are missing: lectr_missing_key": ("warning", drop("lectr_missing_key")),
    f"route own leads to {TO} without asking": ("error", add({"cluster": TO})),
    f"route own leads to {TO}": ("error", add({"weighted_clusters": {"clusters": [{"name": TO, "weight": 1}]}})),
    "route own leads to whatever x-lectr-cluster says": ("error", add({"cluster_header": "X-Lectr-Cluster"})),
    f"route own leads to {TO} ": ("error", add({"cluster": TO}, dynamic_metadata=asks("routed", invert=True))),
    "timeout is not 0s": ("error", lambda document: route(document, "lectr_routed")["route"].pop("timeout")),
    "no idle_timeout": ("warning", lambda document: route(document, "lectr_chosen")["route"].pop("idle_timeout")),
    "route lectr_routed: retry_policy": (
        "error",
        lambda document: route(document, "lectr_routed")["route"].update(retry_policy={"retry_on": "5xx"}),
    ),
    "route lectr_attempted: no retry_policy": (
        "warning",
        lambda document: route(document, "lectr_attempted")["route"].pop("retry_policy"),
    ),
    "request_headers_to_remove lacks x-lectr-cluster, x-forwarded-for": (
        "warning",
        lambda document: route(document, "lectr_routed").pop("request_headers_to_remove"),
    ),
    "virtual host lectr: retry_policy": (
        "error",
        lambda document: host(document).update(retry_policy={"retry_on": "5xx"}),
    ),
    "request_body_buffer_limit is 1048576": (
        "warning",
        lambda document: host(document).pop("request_body_buffer_limit"),
    ),
}


@pytest.mark.parametrize(("words", "severity", "change"), [(k, *v) for k, v in CASES.items()], ids=CASES)
def test_what_routes_lack_is_named_once(words: str, severity: str, change: Change) -> None:
    (finding,) = findings(change)
    assert words in f"{finding.what} "
    assert finding.severity == severity


def test_routes_of_the_operators_own_lead_where_they_like() -> None:
    assert findings(add({"cluster": "shop"})) == []
    assert findings(add({"cluster": "shop"}, dynamic_metadata=[{"filter": "other", "path": [{"key": "routed"}]}])) == []


def test_envoy_1_36_is_not_asked_for_what_it_does_not_look_at() -> None:
    assert findings(lambda document: host(document).pop("request_body_buffer_limit"), PORTABLE) == []


def test_routes_that_have_not_arrived_are_named_where_envoy_runs() -> None:
    document = bootstrap(upstreams=ONE)
    manager(document).pop("route_config")
    (finding,) = check(found_in_dump(dump_of(document)), NATIVE, ONE)
    assert finding.what.endswith("its routes have not arrived")
    assert findings(lambda one: manager(one).pop("route_config")) == []
