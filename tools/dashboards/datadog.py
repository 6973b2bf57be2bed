"""The views as a Datadog dashboard over lectr's metrics, and the rules as monitors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tools.dashboards.measures import COUNTED, FILTERS, Measure, Other, Value
from tools.dashboards.rules import RULES, Rule
from tools.dashboards.views import ABOUT, TITLE, VIEWS, Panel, Unit, View

UNITS: Mapping[Unit, str] = {"USD": "dollar", "s": "second", "part": "fraction"}
PRIORITIES = {"critical": 2, "warning": 3, "info": 5}


def query(measure: Measure, chosen: Sequence[str] = ()) -> str:
    """A measure as a metric query; what was counted as counts, or as a rate per second."""
    scope = ",".join([*(_term(name, value) for name, value in measure.where.items()), *(f"${one}" for one in chosen)])
    by = f" by {{{','.join(measure.by)}}}" if measure.by else ""
    aggregate = {"mean": "avg", "last": "max", "p50": "p50", "p95": "p95"}.get(measure.how, "sum")
    counts = (".as_count()" if measure.how == "total" else ".as_rate()") if measure.how in COUNTED else ""
    return f"{aggregate}:{measure.metric}{{{scope or '*'}}}{by}{counts}"


def _term(name: str, value: Value) -> str:
    match value:
        case bool():
            return f"{name}:*" if value else f"!{name}:*"
        case tuple():
            return f"{name} IN ({','.join(value)})"
        case Other():
            return ",".join([f"{name}:*", *(f"!{name}:{each}" for each in value.than)])
        case str():
            return f"{name}:{value}"


def dashboard() -> dict[str, Any]:
    """To be imported, or posted."""
    return {
        "title": TITLE,
        "description": ABOUT,
        "layout_type": "ordered",
        "reflow_type": "auto",
        "template_variables": [
            {"name": name, "prefix": tag, "available_values": [], "defaults": ["*"]} for name, tag in FILTERS.items()
        ],
        "widgets": [_group(view) for view in VIEWS],
    }


def _group(view: View) -> dict[str, Any]:
    widgets = [{"definition": _widget(panel)} for panel in view.panels]
    return {"definition": {"type": "group", "title": view.title, "layout_type": "ordered", "widgets": widgets}}


def _widget(panel: Panel) -> dict[str, Any]:
    kind = {"number": "query_value", "time": "timeseries", "table": "query_table"}[panel.shape]
    asked = [_asked(measure, chr(ord("a") + place), panel) for place, measure in enumerate(panel.measures)]
    request: dict[str, Any] = {
        "response_format": "timeseries" if panel.shape == "time" else "scalar",
        "queries": [one for queries, _ in asked for one in queries],
        "formulas": [_formula(formula, panel, place) for place, (_, formula) in enumerate(asked)],
    }
    widget: dict[str, Any] = {"type": kind, "title": panel.title, "requests": [request]}
    if panel.shape == "number":
        widget |= {"autoscale": True, "precision": 2}
    if panel.shape == "time":
        request["display_type"] = "line"
        widget |= {"show_legend": True, "legend_layout": "auto"}
    return widget


def _asked(measure: Measure, name: str, panel: Panel) -> tuple[list[dict[str, str]], str]:
    """The queries of a measure, and the formula that makes it of them."""
    both = [measure] if measure.over is None else [measure, measure.over]
    names = [f"{name}{place}" for place in range(len(both))]
    queries = [
        {"data_source": "metrics", "name": called, "query": query(each, each.filters)}
        | ({} if panel.shape == "time" else {"aggregator": _aggregator(each)})
        for called, each in zip(names, both, strict=True)
    ]
    if measure.over is not None:
        return queries, f"default_zero({names[0]}) / {names[1]}"
    seconds = {"per minute": 60, "per hour": 3600}.get(measure.how)
    # An interval without calls has no value, and would count for nothing in an average.
    return queries, f"{seconds} * default_zero({names[0]})" if seconds else names[0]


def _aggregator(measure: Measure) -> str:
    """What makes one figure of a time range."""
    return {"total": "sum", "last": "last", "p50": "percentile", "p95": "percentile"}.get(measure.how, "avg")


def _formula(formula: str, panel: Panel, place: int) -> dict[str, Any]:
    name, unit = panel.measures[place].name, UNITS.get(panel.unit(place))
    return {
        "formula": formula,
        **({"alias": name} if name else {}),
        **({"number_format": {"unit": {"type": "canonical_unit", "unit_name": unit}}} if unit else {}),
    }


def monitors() -> list[dict[str, Any]]:
    """Each is posted by itself."""
    return [_monitor(rule) for rule in RULES]


def _monitor(rule: Rule) -> dict[str, Any]:
    said = ", ".join(f"{{{{[{name}].name}}}}" for name in rule.measure.by)
    above = rule.times_last_week * 100 - 100 if rule.times_last_week else rule.above
    options: dict[str, Any] = {"thresholds": {"critical": above}, "include_tags": True}
    if rule.is_silence:
        options |= {"thresholds": {"critical": 1}, "on_missing_data": "show_and_notify_no_data"}
    return {
        "name": f"{rule.name}: {rule.summary}",
        "type": "query alert",
        "query": f"{_window(rule)}:{_watched(rule.measure)} > {options['thresholds']['critical']}",
        "message": f"{f'{rule.summary}: {said}' if said else rule.summary}\n\n{rule.do}\n\nRunbook: {rule.runbook}",
        "tags": ["service:lectr", f"severity:{rule.severity}"],
        "priority": PRIORITIES[rule.severity],
        "options": options,
    }


def _window(rule: Rule) -> str:
    minutes = max(rule.lasts, 5) if rule.measure.how == "last" else rule.minutes
    aggregate = {"last": "min" if rule.lasts else "max", "p95": "percentile"}.get(rule.measure.how, "sum")
    window = f"{aggregate}(last_{minutes}m)"
    return f"pct_change({window},last_1w)" if rule.times_last_week else window


def _watched(measure: Measure) -> str:
    if measure.over is None:
        return query(replace(measure, how="total") if measure.how in COUNTED else measure)
    return f"default_zero({query(measure)}) / {query(measure.over)}"
