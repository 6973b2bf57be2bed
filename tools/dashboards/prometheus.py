"""The rules as Prometheus' alerting rules."""

from typing import Any

from tools.dashboards.grafana import label, prometheus_name, promql
from tools.dashboards.rules import RULES, Rule


def rules() -> dict[str, Any]:
    """A file of rules, as `rule_files` names it."""
    return {"groups": [{"name": "lectr", "rules": [_rule(rule) for rule in RULES]}]}


def _rule(rule: Rule) -> dict[str, Any]:
    said = ", ".join(f"{{{{ $labels.{label(name)} }}}}" for name in rule.measure.by)
    return {
        "alert": rule.name,
        "expr": expression(rule),
        **({"for": f"{rule.lasts}m"} if rule.lasts else {}),
        "labels": {"severity": rule.severity},
        "annotations": {
            "summary": f"{rule.summary}: {said}" if said else rule.summary,
            "description": rule.do,
            "runbook_url": rule.runbook,
        },
    }


def expression(rule: Rule) -> str:
    """When it is so."""
    measure, window = rule.measure, f"{rule.minutes}m"
    if rule.is_silence:
        return f"absent({prometheus_name(measure.metric, measure.how)})"
    found = promql(measure, window)
    parts = [f"{found} > {rule.above}"]
    if measure.over and rule.enough:
        parts.append(f"{promql(measure.over, window)} >= {rule.enough}")
    if rule.times_last_week:
        parts.append(f"{found} > {rule.times_last_week} * {promql(measure, window, offset=' offset 1w')}")
    return " and ".join(parts)
