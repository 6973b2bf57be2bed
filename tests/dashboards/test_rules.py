"""Each alert is told when it should be, and not when it should not, by Prometheus itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.dashboards.promtool import Series, case, mistakes, run
from tools.dashboards.rules import RULES

ROOT = Path(__file__).parents[2]
FILE = ROOT / "dashboards/prometheus-rules.yml"

WEEK = 7 * 24 * 60
OPENAI = 'gen_ai_provider_name="openai"'
UP = {'lectr_degraded{part="ledger"}': "0x20000"}
"A lectr that is well; without one there is silence."


class Case(NamedTuple):
    """Series with which an alert is told in this minute, and others with which it is not."""

    fires: Series
    silent: Sequence[Series]
    labels: str = ""
    minute: int = 30


def buckets(metric: str, at_s: str) -> Series:
    """A histogram of which all is between these two bounds."""
    below, above = at_s.split()
    name = f"gen_ai_client_operation_{metric}_seconds_bucket"
    model = 'gen_ai_request_model="gpt-4o"'
    return {
        f'{name}{{{model},le="{below}"}}': "0x60",
        f'{name}{{{model},le="{above}"}}': "0+10x60",
        f'{name}{{{model},le="+Inf"}}': "0+10x60",
    }


def requests(ok: str, failed: str) -> Series:
    """Calls to one provider, from minute to minute."""
    return {
        f"lectr_llm_requests_total{{{OPENAI}}}": ok,
        f'lectr_llm_requests_total{{{OPENAI},error_type="503"}}': failed,
        'lectr_llm_requests_total{error_type="invalid_lectr_key"}': "0+100x60",
        f'lectr_llm_requests_total{{{OPENAI},error_type="cancelled"}}': ok,
        f'lectr_llm_requests_total{{{OPENAI},error_type="daily_spend_limit_exceeded"}}': ok,
    }


def only(series: str, fires: str, silent: str, **more: object) -> Case:
    """One series, in two ways."""
    return Case({series: fires}, [{series: silent}], **more)  # type: ignore[arg-type]


COST = 'lectr_llm_cost_total{lectr_org="acme"}'
BREAKER = f'lectr_breaker_state{{{OPENAI},gen_ai_request_model="gpt-4o",server_address="api.openai.com"}}'
USED = 'lectr_limit_used{lectr_org="acme",limit="daily USD",for="the organisation"}'
CASES: Mapping[str, Case] = {
    # 0.6 USD an hour a week ago, then 6; and 6 after 3.
    "LectrCostSpike": only(
        COST,
        f"0+0.01x{WEEK} {0.01 * WEEK}+0.1x180",
        f"0+0.05x{WEEK} {0.05 * WEEK}+0.1x180",
        labels='lectr_org="acme"',
        minute=WEEK + 120,
    ),
    "LectrErrors": Case(
        requests("0+8x60", "0+4x60"), [requests("0+8x60", "0+1x60"), requests("0x60", "0+1x60")], OPENAI
    ),
    "LectrSlow": Case(
        buckets("duration", "81.92 163.84"), [buckets("duration", "20.48 40.96")], 'gen_ai_request_model="gpt-4o"'
    ),
    "LectrSlowFirstToken": Case(
        buckets("time_to_first_chunk", "20.48 40.96"),
        [buckets("time_to_first_chunk", "2.56 5.12")],
        'gen_ai_request_model="gpt-4o"',
    ),
    "LectrBreakerOpen": only(
        BREAKER, "2x60", "1x60", labels=f'{OPENAI},gen_ai_request_model="gpt-4o",server_address="api.openai.com"'
    ),
    "LectrLimitNear": only(
        USED, "0.85x60", "0.8x60", labels='lectr_org="acme",limit="daily USD",for="the organisation"'
    ),
    "LectrLimitReached": only("lectr_limit_refused_total", "0x20 1x40", "5x60"),
    "LectrLimitsNotHeld": only("lectr_limit_let_through_total", "0x20 1x40", "5x60"),
    "LectrRecordsLost": only(
        'lectr_events_dropped_total{reason="queue_full"}', "0x20 1x40", "5x60", labels='reason="queue_full"'
    ),
    "LectrExportBehind": only("lectr_export_age_seconds", "700x60", "500x60"),
    "LectrExportRefused": only("lectr_events_refused_total", "0x20 1x40", "5x60"),
    "LectrUnpriced": only(
        f'lectr_llm_requests_total{{{OPENAI},gen_ai_request_model="x",lectr_pricing_status="unavailable"}}',
        "0x20 1x40",
        "5x60",
        labels=f'{OPENAI},gen_ai_request_model="x"',
    ),
    "LectrDegraded": only('lectr_degraded{part="spool"}', "1x60", "0x28 1x30", labels='part="spool"'),
    "LectrSettingsRefused": only('lectr_degraded{part="settings"}', "1x60", "0x60"),
    "LectrSilent": Case({}, [UP]),
}


def test_every_rule_is_tried() -> None:
    assert [rule.name for rule in RULES] == list(CASES)


def test_promtool_finds_no_fault_with_the_rules() -> None:
    checked = run("check", "rules", FILE)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout


@pytest.mark.parametrize("every", ["1m", "1h"])
def test_an_alert_is_told_when_it_should_be_and_no_other_is(every: str, tmp_path: Path) -> None:
    """Those about last week are looked at every hour: a week of minutes takes promtool half a minute."""
    severities = {rule.name: rule.severity for rule in RULES}
    cases = []
    for name, each in CASES.items():
        if (each.minute > WEEK) != (every == "1h"):
            continue
        for series in (each.fires, *each.silent):
            is_told = series is each.fires
            labels = f'ALERTS{{alertname="{name}",alertstate="firing",severity="{severities[name]}"'
            labels += f",{each.labels}}}" if each.labels else "}"
            asked = {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": f"{each.minute}m",
                "exp_samples": [{"labels": labels, "value": 1}] if is_told else [],
            }
            up = {} if name == "LectrSilent" else UP
            called = f"{name} {'fires' if is_told else 'is silent'}"
            cases.append(case({**up, **series}, name=called, promql_expr_test=[asked]))
    assert cases
    assert mistakes(tmp_path, FILE, cases, every) == ""


def test_what_is_told_names_whose_it_is_and_where_the_page_says_what_to_do(tmp_path: Path) -> None:
    rule = next(rule for rule in RULES if rule.name == "LectrRecordsLost")
    told = {
        "summary": f"{rule.summary}: queue_full",
        "description": rule.do,
        "runbook_url": "docs/dashboards.md#lectrrecordslost",
    }
    alert = {
        "eval_time": "30m",
        "alertname": rule.name,
        "exp_alerts": [{"exp_labels": {"severity": "critical", "reason": "queue_full"}, "exp_annotations": told}],
    }
    assert mistakes(tmp_path, FILE, [case(CASES[rule.name].fires, alert_rule_test=[alert])]) == ""


def test_the_page_has_a_section_for_every_alert() -> None:
    page = (ROOT / "docs/dashboards.md").read_text()
    runbooks = [
        rule["annotations"]["runbook_url"]
        for group in yaml.safe_load(FILE.read_text())["groups"]
        for rule in group["rules"]
    ]
    assert runbooks == [f"docs/dashboards.md#{name.lower()}" for name in CASES]
    for name in CASES:
        assert f"\n### {name}\n" in page
