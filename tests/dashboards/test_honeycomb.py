import json
import re
import shlex
from typing import Any

from lectr_extproc.edge import attributes
from tools.dashboards.honeycomb import COLUMNS, MADE, TOKEN_COLUMNS, configuration

RESOURCES: dict[str, dict[str, Any]] = configuration()["resource"]
QUERIES = {name: json.loads(one["query_json"]) for name, one in RESOURCES["honeycombio_query"].items()}


def test_whatever_is_referred_to_is_there() -> None:
    declared = {f"{kind}.{name}" for kind, every in RESOURCES.items() for name in every}
    text = json.dumps(configuration())
    assert set(re.findall(r"honeycombio_\w+\.\w+", text)) <= declared
    assert set(re.findall(r"var\.(\w+)", text)) == configuration()["variable"].keys()


def test_spans_are_asked_for_what_is_on_them() -> None:
    of_spans = [name for name, one in RESOURCES["honeycombio_query"].items() if one["dataset"] == "${var.dataset}"]
    known = attributes.SPAN.keys() | MADE.keys() | {"duration_ms"}
    for name in of_spans:
        asked = QUERIES[name]
        columns = {each["column"] for each in [*asked["calculations"], *asked["filters"]] if "column" in each}
        assert columns | set(asked["breakdowns"]) <= known, name
        assert {"column": "gen_ai.operation.name", "op": "exists"} in asked["filters"], "not of attempts"
    assert len(of_spans) > 15
    assert {*COLUMNS.values(), *TOKEN_COLUMNS.values()} - {None, "duration_ms"} <= attributes.SPAN.keys()
    for expression, _ in MADE.values():
        assert set(re.findall(r"\$([\w.]+)", expression)) <= attributes.SPAN.keys()


def test_every_column_that_is_read_is_made_where_it_is_read() -> None:
    made = RESOURCES["terraform_data"]["columns"]["for_each"].values()
    there = {(each["dataset"], each["name"]) for each in made} | {("${var.dataset}", name) for name in MADE}
    for name, asked in QUERIES.items():
        columns = {each["column"] for each in [*asked["calculations"], *asked["filters"]] if "column" in each}
        dataset = RESOURCES["honeycombio_query"][name]["dataset"]
        assert {(dataset, column) for column in [*columns, *asked["breakdowns"]]} <= there, name
    *_, body = shlex.split(RESOURCES["terraform_data"]["columns"]["provisioner"]["local-exec"]["command"])
    assert json.loads(body).keys() == {"key_name", "type"}


def test_a_trigger_has_one_calculation_and_looks_back_no_further_than_it_may() -> None:
    for name, trigger in RESOURCES["honeycombio_trigger"].items():
        assert len(QUERIES[name]["calculations"]) == 1, name
        assert trigger["frequency"] <= QUERIES[name]["time_range"] <= 4 * trigger["frequency"], name
        assert QUERIES[name].keys() <= {"calculations", "filters", "breakdowns", "time_range"}, name
    thresholds = {name: each["threshold"]["value"] for name, each in RESOURCES["honeycombio_trigger"].items()}
    assert (thresholds["LectrSlow"], thresholds["LectrSlowFirstToken"]) == (60_000, 10), "milliseconds, and seconds"


def test_a_rate_is_counted_in_steps_that_its_time_range_may_have() -> None:
    steps = {
        name: (asked["time_range"], asked["granularity"]) for name, asked in QUERIES.items() if "granularity" in asked
    }
    assert steps["requests_per_minute_by_provider"] == (2 * 3600, 60)
    assert steps["cost_per_hour_by_model"] == (24 * 3600, 3600)
    assert all(range_s / 1000 <= step_s <= range_s / 10 for range_s, step_s in steps.values())
    assert not {"cost_per_hour", "requests_per_minute"} & QUERIES.keys(), "of a whole range there is none"


def test_a_panel_is_ordered_by_something_it_computes() -> None:
    for name, asked in QUERIES.items():
        for order in asked.get("orders", ()):
            assert {key: value for key, value in order.items() if key != "order"} in asked["calculations"], name
