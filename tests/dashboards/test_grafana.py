import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.dashboards.grafana import dashboard
from tools.dashboards.measures import FILTERS
from tools.dashboards.views import VIEWS

TOOLS = Path(__file__).parents[2] / ".tools/dashboards"
READ_AND_WRITE = """
import json, sys
from grafana_foundation_sdk.cog import encoder, plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
plugins.register_default_plugins()
print(json.dumps(Dashboard.from_json(json.load(sys.stdin)), cls=encoder.JSONEncoder))
"""

PANELS = dashboard()["panels"]


def lost(ours: Any, theirs: Any, place: str = "") -> set[str]:
    """What is in ours and not, or otherwise, in theirs."""
    match ours, theirs:
        case dict(), dict():
            return {each for key, value in ours.items() for each in lost(value, theirs.get(key), f"{place}.{key}")}
        case list(), list() if len(ours) == len(theirs):
            pairs = zip(ours, theirs, strict=True)
            return {each for n, (one, other) in enumerate(pairs) for each in lost(one, other, f"{place}[{n}]")}
        case _:
            return set() if ours == theirs else {f"{place}: {ours!r} became {theirs!r}"}


def test_grafanas_own_types_know_every_field() -> None:
    assert TOOLS.exists(), "`make setup` unpacks them into .tools"
    ours = dashboard()
    command = [sys.executable, "-c", READ_AND_WRITE]
    done = subprocess.run(
        command, input=json.dumps(ours), capture_output=True, text=True, check=True, env={"PYTHONPATH": str(TOOLS)}
    )
    assert lost(ours, json.loads(done.stdout)) == set()


def test_panels_have_numbers_of_their_own_and_stand_below_the_row_of_their_view() -> None:
    assert [panel["id"] for panel in PANELS] == list(range(1, len(PANELS) + 1))
    tops = [panel["gridPos"]["y"] for panel in PANELS]
    assert tops == sorted(tops)
    assert len([panel for panel in PANELS if panel["type"] == "row"]) == len(VIEWS) + 1


def test_every_variable_of_a_query_can_be_chosen_and_no_data_source_is_anybodys() -> None:
    text = json.dumps(dashboard())
    built_in = {"__all", "__range", "__rate_interval", "__url_time_range", "__value"}
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    assert variables == {"prometheus", "tempo", *FILTERS}
    assert set(re.findall(r"\$\{?(\w+)", text)) == variables | built_in
    assert set(re.findall(r'"uid": "([^"]*)"', text)) == {"lectr", "${prometheus}", "${tempo}"}


def test_a_column_that_can_be_chosen_leads_to_the_dashboard_of_its_value() -> None:
    (models,) = (panel for panel in PANELS if panel["title"] == "Models" and panel["type"] == "table")
    links = {
        said["matcher"]["options"]: each["value"][0]["url"]
        for said in models["fieldConfig"]["overrides"]
        for each in said["properties"]
        if each["id"] == "links"
    }
    assert links == {
        "Model": "/d/lectr?${__url_time_range}&var-model=${__value.raw}",
        "Provider": "/d/lectr?${__url_time_range}&var-provider=${__value.raw}",
    }
