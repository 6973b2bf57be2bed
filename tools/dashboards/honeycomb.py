"""The views as a Honeycomb board and the rules as triggers: spans say most of it, metrics the rest.

In Terraform's JSON: its provider is how Honeycomb keeps boards as code, and JSON needs no writer of HCL.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.dashboards.layout import placed
from tools.dashboards.measures import (
    COST,
    DURATION,
    ERROR,
    FEATURE,
    FIRST_CHUNK,
    PRICING,
    REQUESTS,
    TOKEN_TYPE,
    TOKENS,
    Measure,
    Other,
    Value,
)
from tools.dashboards.rules import NOT_THEIRS, RULES, Rule
from tools.dashboards.views import ABOUT, TITLE, VIEWS, Panel

COLUMNS: Mapping[str, str | None] = {
    REQUESTS: None,
    COST: "gen_ai.usage.cost",
    DURATION: "duration_ms",
    FIRST_CHUNK: "gen_ai.response.time_to_first_chunk",
}
"Of a span, by the metric that it is measured by elsewhere. Calls are counted. `duration_ms` is Honeycomb's own."
TOKEN_COLUMNS = {
    "input": "gen_ai.usage.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "cache_read": "gen_ai.usage.cache_read.input_tokens",
    "cache_write": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
}
MADE = {
    "lectr_feature": ('COALESCE($lectr.feature, "untagged")', "X-Lectr-Feature, or untagged."),
    "lectr_failed": ("IF(EXISTS($error.type), 1, 0)", "1 for a call that failed."),
    "lectr_failed_there": (
        'IF(EQUALS($lectr.error.source, "provider"), 1, 0)',
        "1 for a call that failed at its provider.",
    ),
    "lectr_unpriced": ('IF(EQUALS($lectr.pricing_status, "unavailable"), 1, 0)', "1 for a call without a known price."),
}
"Columns that Honeycomb makes of others."
SHARES: Mapping[tuple[str, Value], str] = {
    (ERROR, True): "lectr_failed",
    (ERROR, NOT_THEIRS): "lectr_failed_there",
    (PRICING, "unavailable"): "lectr_unpriced",
}
COLUMNS_ARE_THERE = "terraform_data.columns"
MAKE_COLUMN = (
    "curl -sS -o /dev/null ${var.endpoint}/1/columns/${each.value.dataset} -H 'Content-Type: application/json'"
    ' -H "X-Honeycomb-Team: $HONEYCOMB_API_KEY"'
    ' -d \'{"key_name": "${each.value.name}", "type": "${each.value.type}"}\''
)
"""A query that names a column which nothing has filled yet is refused; those of trouble are empty while all is well.
Honeycomb refuses to make one that is there; the provider's own resource would stop at that, and might delete it."""
A_CALL = {"column": "gen_ai.operation.name", "op": "exists"}
"Spans of attempts have none."

SIZES = {"number": (4, 3), "time": (6, 4), "table": (6, 4)}
WIDTH = 12
DAY_S = 86_400
SPANNED: Mapping[str, Mapping[str, int]] = {
    "per minute": {"time_range": 7200, "granularity": 60},
    "per hour": {"time_range": DAY_S, "granularity": 3600},
}
"A rate is what was counted in each step of a line."


def is_of_spans(measure: Measure) -> bool:
    """Whether spans tell it; else metrics do."""
    return measure.metric in COLUMNS or measure.metric == TOKENS


def calculations(measure: Measure) -> Iterator[dict[str, str]]:
    """What is computed, as a query has it."""
    if measure.over and (column := next((SHARES[part] for part in measure.where.items() if part in SHARES), None)):
        yield {"op": "AVG", "column": column}
        return
    if measure.over:
        yield from calculations(measure.over)
    op = {"mean": "AVG", "p50": "P50", "p95": "P95", "last": "MAX"}.get(measure.how)
    if measure.metric == TOKENS:
        kind = measure.where.get(TOKEN_TYPE)
        yield from ({"op": "SUM", "column": TOKEN_COLUMNS[each]} for each in TOKEN_COLUMNS if kind in (None, each))
    elif not is_of_spans(measure):
        yield {"op": op or "RATE_MAX", "column": measure.metric}
    elif column := COLUMNS[measure.metric]:
        yield {"op": op or "SUM", "column": column}
    else:
        yield {"op": "COUNT"}


def _filter(name: str, value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"column": name, "op": "exists" if value else "does-not-exist"}
        case tuple():
            return {"column": name, "op": "in", "value": list(value)}
        case Other():
            return {"column": name, "op": "not-in", "value": list(value.than)}
        case str():
            return {"column": name, "op": "=", "value": value}


def query_of(*measures: Measure, time_range_s: int = DAY_S) -> dict[str, Any]:
    """Measures of one panel as one query: they are of the same calls, by the same labels."""
    first = measures[0]
    asked = [each for measure in measures for each in calculations(measure)]
    of_spans = is_of_spans(first)
    narrowed = {} if first.over else {name: value for name, value in first.where.items() if name != TOKEN_TYPE}
    made: dict[str, Any] = {
        "calculations": asked,
        "filters": [*([A_CALL] if of_spans else []), *(_filter(*one) for one in narrowed.items())],
        "breakdowns": [
            "lectr_feature" if name == FEATURE and of_spans else name for name in first.by if name != TOKEN_TYPE
        ],
        "time_range": time_range_s,
    }
    return made


def configuration() -> dict[str, Any]:
    """What `terraform apply` makes: columns, queries with their names, a board of them, and triggers."""
    panels = [panel for view in VIEWS for panel in view.panels if not _is_average(panel)]
    asked = [
        *((_key(panel.title), panel.measures[0], _panel_query(panel)) for panel in panels),
        *((rule.name, rule.measure, _rule_query(rule)) for rule in _triggering()),
    ]
    return {
        "terraform": {
            "required_version": ">= 1.4",
            "required_providers": {"honeycombio": {"source": "honeycombio/honeycombio", "version": ">= 0.38"}},
        },
        "variable": {
            "dataset": {"type": "string", "default": "lectr", "description": "Of the spans: the service's name."},
            "metrics_dataset": {
                "type": "string",
                "default": "lectr-metrics",
                "description": "Of the metrics: x-honeycomb-dataset in OTEL_EXPORTER_OTLP_METRICS_HEADERS.",
            },
            "endpoint": {
                "type": "string",
                "default": "https://api.honeycomb.io",
                "description": "Where columns are made; the provider has it from HONEYCOMB_API_ENDPOINT.",
            },
            "recipients": {
                "type": "list(string)",
                "default": [],
                "description": "Ids of those whom triggers tell.",
            },
        },
        "resource": {
            "terraform_data": {"columns": _columns([(measure, made) for _, measure, made in asked])},
            "honeycombio_derived_column": {
                name: {
                    "dataset": "${var.dataset}",
                    "alias": name,
                    "expression": expression,
                    "description": said,
                    "depends_on": [COLUMNS_ARE_THERE],
                }
                for name, (expression, said) in MADE.items()
            },
            "honeycombio_query": {
                name: {
                    "dataset": _dataset(measure),
                    "query_json": json.dumps(made),
                    "depends_on": [COLUMNS_ARE_THERE, *(f"honeycombio_derived_column.{name}" for name in MADE)],
                }
                for name, measure, made in asked
            },
            "honeycombio_query_annotation": {
                _key(panel.title): {
                    "dataset": _dataset(panel.measures[0]),
                    "query_id": f"${{honeycombio_query.{_key(panel.title)}.id}}",
                    "name": panel.title,
                    "description": panel.text,
                }
                for panel in panels
            },
            "honeycombio_flexible_board": {
                "lectr": {
                    "name": TITLE,
                    "description": ABOUT,
                    "panel": list(_placed(panels)),
                }
            },
            "honeycombio_trigger": {rule.name: _trigger(rule) for rule in _triggering()},
        },
    }


def _is_average(panel: Panel) -> bool:
    """A rate of the whole time range, which no query gives: the lines that have it are there."""
    return panel.shape == "number" and panel.measures[0].how in SPANNED


def _key(title: str) -> str:
    return re.sub(r"\W+", "_", title.lower())


def _dataset(measure: Measure) -> str:
    return "${var.dataset}" if is_of_spans(measure) else "${var.metrics_dataset}"


def _columns(asked: Sequence[tuple[Measure, dict[str, Any]]]) -> dict[str, Any]:
    """Every column that a query or a calculated field reads."""
    read = [("${var.dataset}", name, "string") for made, _ in MADE.values() for name in re.findall(r"\$([\w.]+)", made)]
    for measure, query in asked:
        named = [*(one["column"] for one in query["filters"]), *query["breakdowns"]]
        read += [(_dataset(measure), name, "string") for name in named]
        read += [(_dataset(measure), one["column"], "float") for one in query["calculations"] if "column" in one]
    each = {
        f"{dataset[6:-1]}/{name}": {"dataset": dataset, "name": name, "type": kind}
        for dataset, name, kind in sorted(set(read))
        if name not in MADE
    }
    return {"for_each": each, "provisioner": {"local-exec": {"command": MAKE_COLUMN}}}


def _panel_query(panel: Panel) -> dict[str, Any]:
    asked = query_of(*panel.measures)
    spanned = SPANNED.get(panel.measures[0].how, {})
    orders = [{**asked["calculations"][0], "order": "descending"}] if asked["breakdowns"] else []
    return {**asked, **spanned, "orders": orders, "limit": 100}


def _placed(panels: list[Panel]) -> Iterator[dict[str, Any]]:
    for panel, at in zip(panels, placed([SIZES[panel.shape] for panel in panels], WIDTH), strict=True):
        key, is_line = _key(panel.title), panel.shape == "time" or panel.measures[0].how == "last"
        yield {
            "type": "query",
            "position": {"x_coordinate": at.x, "y_coordinate": at.y, "width": at.width, "height": at.height},
            "query_panel": {
                "query_id": f"${{honeycombio_query.{key}.id}}",
                "query_annotation_id": f"${{honeycombio_query_annotation.{key}.id}}",
                "query_style": "graph" if is_line else "table",
            },
        }


def _triggering() -> Iterator[Rule]:
    """Rules that a trigger can tell: it has one calculation, and neither rates nor last week."""
    for rule in RULES:
        is_a_rate = not is_of_spans(rule.measure) and rule.measure.how != "last"
        if not (is_a_rate or rule.times_last_week or rule.is_silence):
            yield rule


def _rule_query(rule: Rule) -> dict[str, Any]:
    return query_of(rule.measure, time_range_s=60 * rule.minutes)


def _trigger(rule: Rule) -> dict[str, Any]:
    scale = 1000 if COLUMNS.get(rule.measure.metric) == "duration_ms" else 1
    return {
        "name": rule.name,
        "description": f"{rule.summary}. {rule.do} {rule.runbook}",
        "dataset": _dataset(rule.measure),
        "query_id": f"${{honeycombio_query.{rule.name}.id}}",
        "frequency": 900,
        "threshold": {"op": ">", "value": rule.above * scale},
        "dynamic": {
            "recipient": {"for_each": "${var.recipients}", "content": {"id": "${recipient.value}"}},
        },
    }
