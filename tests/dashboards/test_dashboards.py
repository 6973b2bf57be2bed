"""The dashboards ask for what lectr exports, by its names and with values that it has."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Metric

from lectr_extproc.core.pricing import Cost
from lectr_extproc.edge import attributes
from lectr_extproc.edge.metrics import EVENTS, METRICS, Metrics
from tests.dashboards.promtool import found
from tests.edge.finished import call
from tools.dashboards.__main__ import FILES
from tools.dashboards.grafana import label, promql
from tools.dashboards.honeycomb import MADE
from tools.dashboards.measures import LABELS, ORG, Measure
from tools.dashboards.rules import RULES
from tools.dashboards.views import VIEWS

ROOT = Path(__file__).parents[2]
MEASURES = [measure for view in VIEWS for panel in view.panels for measure in panel.measures]


class InTrouble:
    """A process of which everything is told that can be."""

    counts: Mapping[str, int] = {"decisions": 4}

    def events(self) -> Mapping[str, Any]:
        used = {"org": "acme", "for": "the organisation", "limit": "daily USD", "part": 0.9}
        return {figure: 7 for parts in EVENTS.values() for figure in parts} | {"limits_used": [used]}

    def problems(self) -> Mapping[str, str | None]:
        parts = ("settings", "prices", "spool", "ledger", "export", "limits", "telemetry", "records")
        return dict.fromkeys(parts, "no")

    def breakers(self) -> Sequence[Mapping[str, Any]]:
        return [{"provider": "groq", "model": "llama", "host": "api.groq.com:443", "state": "open"}]


@pytest.fixture(scope="module")
def scraped() -> list[Metric]:
    """What Prometheus finds at a lectr that had calls of every kind."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    metrics = Metrics([reader], Resource({}), lambda _provider, _model: True, InTrouble())
    unpriced = Cost("unavailable", "no price for this model")
    failed = {"status": 503, "error_category": "overloaded", "error_source": "provider", "usage": None}
    metrics.record([call(), call(cost=unpriced), call(cost=None, **failed)])
    return list(registry.collect())


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_what_the_views_and_rules_make(name: str) -> None:
    assert (ROOT / name).read_text() == FILES[name](), "`make dashboards`"


def test_every_panel_and_every_rule_finds_something_in_what_is_scraped(scraped: list[Metric], tmp_path: Path) -> None:
    series = {}
    for sample in (sample for metric in scraped for sample in metric.samples):
        labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
        series[f"{sample.name}{{{labels}}}"] = f"{sample.value}+{sample.value}x15"
    asked = {re.sub(r"\$\w+", ".*", promql(each, "10m", is_filtered=True)) for each in MEASURES}
    asked |= {promql(rule.measure, f"{rule.minutes}m") for rule in RULES}
    assert asked - found(tmp_path, series, asked, minute=15) == set()


def test_every_metric_has_the_labels_it_is_asked_by(scraped: list[Metric]) -> None:
    told: defaultdict[str, set[str]] = defaultdict(set)
    for sample in (sample for metric in scraped for sample in metric.samples):
        told[re.sub(r"(_seconds)?(_total|_bucket|_sum|_count)?$", "", sample.name)] |= sample.labels.keys() - {"le"}
    for metric, labels in LABELS.items():
        assert {label(name) for name in labels} == told[label(metric)], metric


def test_no_name_is_in_a_file_that_lectr_does_not_export() -> None:
    labels = {name for every in LABELS.values() for name in every}
    known = METRICS.keys() | attributes.SPAN.keys() | labels | MADE.keys()
    known |= {label(name) for name in known}
    for name in FILES.keys() - {"docs/dashboards.md"}:
        text = (ROOT / name).read_text()
        said = set(re.findall(r"\b(?:lectr|gen_ai|server|error)(?:[._][a-z]+)+", text))
        plain = {re.sub(r"(_seconds)?(_total|_bucket|_sum|_count)?$", "", each) for each in said}
        assert plain - known - {"lectr.yaml"} == set(), name
        assert len(plain) > 10, name


def test_a_measure_by_a_label_that_its_metric_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no label lectr"):
        Measure(metric="lectr.events.dropped", how="total", by=(ORG,))
