from typing import Any

import pytest
import yaml

from lectr_extproc.gateway import files_named, found_in_dump, found_in_files, render_include_bootstrap, render_includes
from lectr_extproc.gateway.found import at, includes, mappings, plain
from tests.gateway.examples import DEFAULT_UPSTREAMS, NATIVE, bootstrap, dump_of, parsed


def test_what_stands_in_one_file_is_found() -> None:
    found = found_in_files([bootstrap()])
    (manager,) = found.managers
    assert (len(found.listeners), found.is_running, "lectr" in found.clusters) == (1, False, True)
    assert found.bootstrap["node"]["id"] == "lectr"
    assert found.routes_of(manager) is manager["route_config"]
    assert (found.filter_of(manager, "lectr") or {})["failure_mode_allow"] is True


def test_what_stands_in_included_files_is_found_too() -> None:
    whole = parsed(render_include_bootstrap(NATIVE, "/x"))
    files = [parsed(text) for text in render_includes(NATIVE, DEFAULT_UPSTREAMS).values()]
    found, alone = found_in_files([whole, *files[:-1]]), found_in_files([whole])
    (manager,) = found.managers
    assert found.clusters.keys() == found_in_files([bootstrap()]).clusters.keys()
    assert (found.routes_of(manager) or {})["name"] == "lectr"
    assert "request_rules" in (found.filter_of(manager, "lectr_json_to_metadata") or {})
    assert (alone.clusters, alone.routes_of(manager), alone.filter_of(manager, "lectr")) == ({}, None, None)
    assert files_named(whole) == [
        "/x/ecds-lectr.yaml",
        "/x/ecds-lectr_json_to_metadata.yaml",
        "/x/ecds-lectr_fallback.yaml",
        "/x/ecds-lectr_ai_protocol_manager.yaml",
        "/x/rds.yaml",
        "/x/cds.yaml",
    ]


def test_of_a_dump_what_is_in_force_is_found() -> None:
    document = bootstrap()
    dump = dump_of(document)
    dump["configs"] += [
        {"dynamic_listeners": [{"name": "new", "error_state": {}}, {"active_state": {"listener": {"name": "own"}}}]},
        {"dynamic_route_configs": [{"route_config": {"name": "by-name"}}]},
        {
            "ecds_filters": [
                {"ecds_filter": {"name": "one", "typed_config": {"a": 1}}},
                {"ecds_filter": {"name": "two"}},
            ]
        },
    ]
    found, written = found_in_dump(dump), found_in_files([document])
    assert (found.managers, found.clusters, found.bootstrap) == (written.managers, written.clusters, written.bootstrap)
    assert [each["name"] for each in found.listeners] == ["lectr", "own"]
    assert found.routes_of({"rds": {"route_config_name": "by-name"}}) == {"name": "by-name"}
    assert (found.filter_of({}, "one"), found.filter_of({}, "two"), found.is_running) == ({"a": 1}, {}, True)


def test_a_file_that_is_no_bootstrap_has_none() -> None:
    assert found_in_files([{"filter_chains": []}]).bootstrap == {}
    assert found_in_files([None]).managers == []


SAME: dict[str, tuple[Any, Any]] = {
    "more than is wanted": ({"a": 1, "b": 2}, {"a": 1}),
    "a time in other words": ("0.050s", "0.05s"),
    "a number as text": ("33554432", 33554432),
    "a default that is left out": ({}, {"mode": "NONE", "flag": False}),
    "a list in another order": ([{"k": 1}, {"k": 2, "x": 3}], [{"k": 2}, {"k": 1}]),
}
OTHER: dict[str, tuple[Any, Any]] = {
    "nothing": (None, {"a": 1}),
    "an empty mapping, which says something": (None, {}),
    "another value": ({"a": 1}, {"a": 2}),
    "less": (["a"], ["a", "b"]),
    "no list": ("a", ["a"]),
}


@pytest.mark.parametrize(("have", "want"), SAME.values(), ids=SAME)
def test_what_is_wanted_is_there_however_it_is_written(have: object, want: object) -> None:
    assert includes(have, want)


@pytest.mark.parametrize(("have", "want"), OTHER.values(), ids=OTHER)
def test_what_is_wanted_is_not_there(have: object, want: object) -> None:
    assert not includes(have, want)


def test_values_are_found_below_names() -> None:
    document = yaml.safe_load("a: {b: [{c: 1}]}\nd: 2s")
    assert (at(document, "a.b"), at(document, "a.x.y"), at(document, "d")) == ([{"c": 1}], None, "2s")
    assert [*mappings(document)] == [document, {"b": [{"c": 1}]}, {"c": 1}]
    assert (plain("2s"), plain("2 s"), plain(True)) == (2.0, "2 s", True)
