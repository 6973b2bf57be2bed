"""The views as a Grafana dashboard over Prometheus, with a table of calls from Tempo."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from lectr_extproc.edge.metrics import METRICS
from tools.dashboards.layout import Place, placed
from tools.dashboards.measures import COUNTED, FILTERS, REQUESTS, Measure, Other, Value
from tools.dashboards.views import ABOUT, TITLE, VIEWS, Panel, Unit

UID = "lectr"
WIDTH = 24
SIZES = {"number": (4, 4), "time": (12, 8), "table": (12, 8)}
UNITS: Mapping[Unit, str] = {"": "short", "USD": "currencyUSD", "s": "s", "part": "percentunit"}

COLUMNS = {
    "gen_ai.request.model": "Model",
    "gen_ai.provider.name": "Provider",
    "lectr.feature": "Feature",
    "error.type": "Error",
}
CALLS = (
    ("Failed calls", "status = error"),
    ("Dear calls", "span.gen_ai.usage.cost > 0.1"),
    ("Slow calls", "duration > 30s"),
)
SHOWN = (
    "gen_ai.request.model",
    "lectr.org",
    "lectr.feature",
    "error.type",
    "gen_ai.usage.cost",
    "gen_ai.usage.output_tokens",
    "lectr.ttft_ms",
    "lectr.attempts",
)


def prometheus_name(metric: str, how: str) -> str:
    """As Prometheus has it, scraped or by OTLP; a histogram's without the endings of its parts."""
    name = metric.replace(".", "_") + ("_seconds" if METRICS[metric][0] == "s" else "")
    return f"{name}_total" if how in COUNTED else name


def label(name: str) -> str:
    """The same of a label."""
    return name.replace(".", "_")


def promql(measure: Measure, window: str, *, offset: str = "", is_filtered: bool = False) -> str:
    """A measure as PromQL, over a window of time, that long ago."""
    name = prometheus_name(measure.metric, measure.how)
    chosen = [f'{label(FILTERS[each])}=~"${each}"' for each in measure.filters if is_filtered]
    selector = ", ".join([*(_matcher(label(on), value) for on, value in measure.where.items()), *chosen])

    def of(part: str = "") -> str:
        return f"{name}{part}{{{selector}}}" if selector else f"{name}{part}"

    def together(how: str, what: str, *more: str) -> str:
        labels = ", ".join([*map(label, measure.by), *more])
        return f"{how} by ({labels}) ({what})" if labels else f"{how}({what})"

    def summed(change: str, *more: str, part: str = "") -> str:
        return together("sum", f"{change}({of(part)}[{window}]{offset})", *more)

    match measure.how:
        case "total":
            found = summed("increase")
        case "per minute":
            found = f"60 * {summed('rate')}"
        case "per hour":
            found = f"3600 * {summed('rate')}"
        case "mean":
            found = f"{summed('rate', part='_sum')} / {summed('rate', part='_count')}"
        case "p50" | "p95":
            found = f"histogram_quantile(0.{measure.how[1:]}, {summed('rate', 'le', part='_bucket')})"
        case "last":
            found = together("max", of())
    if measure.over is None:
        return found
    whole = promql(measure.over, window, offset=offset, is_filtered=is_filtered)
    # What never happened has no series: none of something is 0, not unknown.
    return f"({found} or 0 * {whole}) / {whole}"


def _matcher(name: str, value: Value) -> str:
    match value:
        case bool():
            return f'{name}{"!=" if value else "="}""'
        case tuple():
            return f'{name}=~"{"|".join(value)}"'
        case Other():
            return f'{name}!~"|{"|".join(value.than)}"'
        case str():
            return f'{name}="{value}"'


def dashboard() -> dict[str, Any]:
    """To be imported, or put where Grafana finds dashboards."""
    return {
        "uid": UID,
        "title": TITLE,
        "description": ABOUT,
        "tags": ["lectr", "llm"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [*_data_sources(), *map(_variable, FILTERS)]},
        "annotations": {"list": []},
        "links": [],
        "panels": list(_panels()),
    }


def _data_sources() -> Iterator[dict[str, Any]]:
    for kind, title in (("prometheus", "Prometheus"), ("tempo", "Tempo")):
        yield {"type": "datasource", "name": kind, "label": title, "query": kind, "hide": 0, "current": {}}


def _variable(name: str) -> dict[str, Any]:
    query = f"label_values({prometheus_name(REQUESTS, 'total')}, {label(FILTERS[name])})"
    return {
        "type": "query",
        "name": name,
        "label": {"org": "Organisation"}.get(name, name.capitalize()),
        "datasource": {"type": "prometheus", "uid": "${prometheus}"},
        "query": {"query": query, "refId": "values"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels() -> Iterator[dict[str, Any]]:
    groups: list[tuple[str, Sequence[tuple[tuple[int, int], dict[str, Any]]]]] = [
        (view.title, [(SIZES[panel.shape], _panel(panel)) for panel in view.panels]) for view in VIEWS
    ]
    groups.append(("Calls", [((WIDTH, 8), _calls(*each)) for each in CALLS]))
    numbers, top = count(1), 0
    for title, members in groups:
        row = {"type": "row", "title": title, "collapsed": False, "panels": []}
        yield {"id": next(numbers), **row, "gridPos": _at(Place(0, top, WIDTH, 1))}
        places = placed([size for size, _ in members], WIDTH, top + 1)
        for place, (_, panel) in zip(places, members, strict=True):
            yield {"id": next(numbers), **panel, "gridPos": _at(place)}
        top = max(place.y + place.height for place in places)


def _at(place: Place) -> dict[str, int]:
    return {"x": place.x, "y": place.y, "w": place.width, "h": place.height}


def _panel(panel: Panel) -> dict[str, Any]:
    is_time = panel.shape == "time"
    window = "$__rate_interval" if is_time else "$__range"
    targets = [
        {
            "refId": chr(ord("A") + place),
            "datasource": {"type": "prometheus", "uid": "${prometheus}"},
            "expr": promql(measure, window, is_filtered=True),
            "legendFormat": measure.name or " ".join(f"{{{{{label(name)}}}}}" for name in measure.by) or panel.title,
            "range": is_time,
            "instant": not is_time,
            "format": "table" if panel.shape == "table" else "time_series",
        }
        for place, measure in enumerate(panel.measures)
    ]
    shapes = {"number": _number, "time": _time, "table": _table}
    return {
        "title": panel.title,
        "description": panel.text,
        "datasource": {"type": "prometheus", "uid": "${prometheus}"},
        "targets": targets,
        **shapes[panel.shape](panel),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    empty = {"noValue": "nothing"} if panel.measures[0].how == "last" else {}
    return {"unit": UNITS[panel.unit(0)], **empty}


def _number(panel: Panel) -> dict[str, Any]:
    color = {"mode": "fixed", "fixedColor": "text"}
    return {
        "type": "stat",
        "fieldConfig": {"defaults": {**_defaults(panel), "color": color}, "overrides": []},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "graphMode": "none",
        },
    }


def _time(panel: Panel) -> dict[str, Any]:
    custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    return {
        "type": "timeseries",
        "fieldConfig": {"defaults": {**_defaults(panel), "min": 0, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"displayMode": "table", "placement": "right", "showLegend": True, "calcs": ["mean", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _table(panel: Panel) -> dict[str, Any]:
    by = panel.measures[0].by
    values = (
        ["Value"] if len(panel.measures) == 1 else [f"Value #{chr(ord('A') + n)}" for n in range(len(panel.measures))]
    )
    renamed = {label(name): COLUMNS[name] for name in by} | dict(
        zip(values, [measure.name for measure in panel.measures], strict=True)
    )
    chosen = {name: each for each, name in FILTERS.items() if name in by}
    overrides = [
        _override(measure.name, {"id": "unit", "value": UNITS[panel.unit(place)]})
        for place, measure in enumerate(panel.measures)
    ]
    for name, variable in chosen.items():
        url = f"/d/{UID}?${{__url_time_range}}&var-{variable}=${{__value.raw}}"
        overrides.append(_override(COLUMNS[name], {"id": "links", "value": [{"title": "Only this", "url": url}]}))
    return {
        "type": "table",
        "fieldConfig": {"defaults": {}, "overrides": overrides},
        "options": {"showHeader": True, "sortBy": [{"displayName": panel.measures[0].name, "desc": True}]},
        "transformations": [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "indexByName": {name: place for place, name in enumerate(renamed)},
                    "renameByName": renamed,
                },
            },
        ],
    }


def _override(column: str, said: dict[str, Any]) -> dict[str, Any]:
    return {"matcher": {"id": "byName", "options": column}, "properties": [said]}


def _calls(title: str, condition: str) -> dict[str, Any]:
    """Spans that a reader's choices are for, less features: where there is none no pattern matches."""
    chosen = [f"span.{FILTERS[each]} =~ `${{{each}:regex}}`" for each in ("org", "provider", "model")]
    query = f"{{ span.gen_ai.operation.name != nil && {condition} && {' && '.join(chosen)} }}"
    return {
        "title": title,
        "description": "The newest of them in Tempo; each leads to its trace.",
        "type": "table",
        "datasource": {"type": "tempo", "uid": "${tempo}"},
        "targets": [
            {
                "refId": "A",
                "datasource": {"type": "tempo", "uid": "${tempo}"},
                "queryType": "traceql",
                "query": f"{query} | select({', '.join(f'span.{name}' for name in SHOWN)})",
                "tableType": "spans",
                "limit": 20,
            }
        ],
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {"showHeader": True},
    }
