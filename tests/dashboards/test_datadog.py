import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.dashboards.datadog import dashboard, monitors, query
from tools.dashboards.measures import LABELS, REQUESTS, Measure, Other

TOOLS = Path(__file__).parents[2] / ".tools/dashboards"
READ = """
import json, sys
from datadog_api_client import Configuration
from datadog_api_client.model_utils import validate_and_convert_types
from datadog_api_client.v1.model.dashboard import Dashboard
from datadog_api_client.v1.model.monitor import Monitor
for kind, value in json.load(sys.stdin):
    types = ({"dashboard": Dashboard, "monitor": Monitor}[kind],)
    read = validate_and_convert_types(value, types, ["it"], True, True, Configuration())
    print("unknown" if read._unparsed else "known")
"""


def read(*values: tuple[str, Any]) -> list[str]:
    """Whether Datadog's client knows every field and every word of each."""
    assert TOOLS.exists(), "`make setup` unpacks it into .tools"
    command = [sys.executable, "-c", READ]
    return subprocess.run(
        command, input=json.dumps(values), capture_output=True, text=True, check=True, env={"PYTHONPATH": str(TOOLS)}
    ).stdout.split()


def test_datadogs_own_client_knows_every_field_and_word() -> None:
    wrong = dashboard() | {"layout_type": "disordered"}
    every = [("dashboard", dashboard()), *(("monitor", one) for one in monitors()), ("dashboard", wrong)]
    assert read(*every) == ["known"] * (len(every) - 1) + ["unknown"]


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        (Measure(metric=REQUESTS, how="total"), "sum:lectr.llm.requests{*}.as_count()"),
        (
            Measure(metric=REQUESTS, how="total", by=("error.type", "lectr.org"), where={"error.type": True}),
            "sum:lectr.llm.requests{error.type:*} by {error.type,lectr.org}.as_count()",
        ),
        (
            Measure(metric="lectr.degraded", how="last", where={"part": ("ledger", "spool")}),
            "max:lectr.degraded{part IN (ledger,spool)}",
        ),
        (
            Measure(metric=REQUESTS, how="per hour", where={"error.type": False, "lectr.task": "other"}),
            "sum:lectr.llm.requests{!error.type:*,lectr.task:other}.as_rate()",
        ),
        (
            Measure(metric=REQUESTS, how="total", where={"error.type": Other(("a", "b"))}),
            "sum:lectr.llm.requests{error.type:*,!error.type:a,!error.type:b}.as_count()",
        ),
    ],
    ids=["all", "by labels, of those that have one", "one of these", "of those that have none", "another one"],
)
def test_a_measure_is_a_metric_query(measure: Measure, text: str) -> None:
    assert query(measure) == text


def test_a_monitor_compares_with_the_threshold_it_names() -> None:
    for one in monitors():
        assert one["query"].endswith(f" > {one['options']['thresholds']['critical']}"), one["name"]
        assert any(metric in one["query"] for metric in (*LABELS, "lectr.events", "lectr.export", "lectr.limit"))
