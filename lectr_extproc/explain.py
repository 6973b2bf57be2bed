"""`lectr explain`: what would be decided for a call that never happens, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from lectr_extproc.core.candidates import Candidate, Plan
from lectr_extproc.core.choosing import as_terms, choose_provider
from lectr_extproc.core.credential import HEADERS, Credential, Form
from lectr_extproc.core.decision import choose_route, is_answered_here
from lectr_extproc.core.facts import Facts, read_facts, with_body
from lectr_extproc.core.health import UNKNOWN, Health
from lectr_extproc.core.limits import OrgLimits
from lectr_extproc.core.outcome import AskForBody, Choice, Refuse, Route, is_chosen
from lectr_extproc.core.pricing import usd
from lectr_extproc.core.reach import find_endpoint
from lectr_extproc.core.rules import Rule, Terms
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.spending import ask_for, less_one
from lectr_extproc.core.tables import Endpoint, Org
from lectr_extproc.limits import Read, verdicts
from lectr_extproc.settings import ConfigError, Settings


def explain(
    settings: Settings,
    *,
    model: str | None,
    path: str,
    headers: Sequence[str],
    method: str = "POST",
    org: str | None = None,
    every_rule: bool = False,
    body: bytes | None = None,
    at_s: int = 0,
    health: Health = UNKNOWN,
    counted: Read | None = None,
) -> dict[str, Any]:
    """The decision for a call that never happens, as `lectr explain --json` prints it."""
    pairs = [(":method", method), (":path", path), ("content-type", "application/json")]
    for header in headers:
        name, _, value = header.partition(":")
        pairs.append((name.strip().lower(), value.strip()))
    snapshot = settings.snapshot
    orgs = snapshot.orgs
    if org is not None and org not in orgs:
        raise ConfigError("lectr explain", [f"there is no org {org!r}; known are {', '.join(orgs) or 'none'}"])
    caller = orgs[org] if org else next(iter(orgs.values()), Org(name="-"))
    is_bodiless = method in ("GET", "HEAD", "DELETE")
    read = {"model": model} if model else {}
    facts = read_facts(pairs, read, end_of_stream=is_bodiless, at_s=at_s, sticky=snapshot.sticky_headers)
    if not is_bodiless:
        facts = with_body(facts, body or orjson.dumps(read))
    endpoint = find_endpoint(facts.path, snapshot)
    answer: dict[str, Any] = {
        "org": caller.name,
        "provider": None,
        "provider_source": None,
        "provider_unknown": False,
        "provider_detected": None,
        "dialect": endpoint.dialect,
        "model_requested": None,
        "model_sent": None,
        "upstream": None,
        "auth_header": None,
        "credential": None,
        "rule": None,
        "notes": ["answered_by_gateway"],
        "refused": None,
    }
    if is_answered_here(facts, endpoint, caller, snapshot):
        return answer
    decision = choose_route(facts, endpoint, caller, snapshot, health)
    if isinstance(decision, Route) and decision.credential == "none" and not facts.header_names & set(HEADERS):
        # None is held or told: as if the client sent one, so that the answer names the header of a key.
        facts = replace(facts, credential=Credential(Form.BEARER, "key"))
        decision = choose_route(facts, endpoint, caller, snapshot, health)
    limits = None
    if isinstance(decision, Route) and caller.limits is not None:
        decision, limits = _limited(
            decision,
            facts,
            endpoint=endpoint,
            limits=caller.limits,
            snapshot=snapshot,
            health=health,
            counted=counted,
        )
    choice = None if isinstance(decision, AskForBody) else decision.choice
    if isinstance(decision, AskForBody) or choice is None:
        raise ConfigError("lectr explain", ["no provider was chosen"])
    answer |= {
        "provider": choice.provider,
        "provider_source": choice.source,
        "provider_unknown": choice.unknown,
        "provider_detected": choice.detected,
        "model_requested": choice.model_requested,
        "model_sent": choice.model_sent,
        "rule": _rule(facts, choice, caller),
        **({"plan": _plan(choice.plan, decision)} if choice.plan else {}),
        "notes": list(choice.notes),
    }
    if every_rule:
        answer["rules"] = _rules(as_terms(facts, choose_provider(facts, endpoint, caller, snapshot)), choice, caller)
    if isinstance(decision, Refuse):
        refusal = decision.refusal
        return answer | {"refused": {"status": refusal.status, "code": refusal.code, "message": refusal.message}}
    if limits is not None:
        answer["limits"] = limits
    carrier = next((name for name in decision.sets if name in HEADERS), None)
    return answer | {
        "upstream": {"host": decision.authority, "path": decision.path, "cluster": decision.cluster},
        "auth_header": carrier,
        "credential": {
            "client": "the client's own",
            "gateway": f"held by the gateway ({'org' if choice.provider in caller.credentials else 'every org'})"
            if carrier
            else "Envoy's own AWS credentials, with which it signs",
            "none": None,
        }[decision.credential],
    }


def _limited(
    route: Route,
    facts: Facts,
    *,
    endpoint: Endpoint,
    limits: OrgLimits,
    snapshot: Snapshot,
    health: Health,
    counted: Read | None,
) -> tuple[Route, list[dict[str, Any]]]:
    """The call as limits leave it (edge/limits.py holds what this only looks at), and what each says of it."""
    everybodys = replace(limits, rows=tuple(row for row in limits.rows if row.key is None))
    while True:
        lines, full = verdicts(ask_for(route, facts, snapshot, everybodys), counted, facts.at_s * 10**9)
        if full is None or (less := less_one(facts, route, full)) is None:
            return route, lines
        if not is_chosen(again := choose_route(less, endpoint, route.org, snapshot, health)):
            return route, lines
        facts, route = less, again


def as_text(answer: Mapping[str, Any]) -> str:
    """The same for people: a line for each thing."""
    lines = []
    for name, value in answer.items():
        if name in {"rules", "plan", "limits"}:
            continue
        shown = "  ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, Mapping) else value
        shown = ", ".join(shown) if isinstance(shown, list) else shown
        lines.append(f"{name:<18} {'-' if shown in {None, ''} else shown}")
    lines += [f"{'rules':<18} {name}: {verdict}" for name, verdict in answer.get("rules", {}).items()]
    for one in answer.get("limits", []):
        verdict = one["verdict"] or "what is used nobody can say now"
        lines.append(f"{'limit':<18} {one['limit']} of {one['for']}: holds {one['holds']} of {one['most']}, {verdict}")
    return "\n".join(lines + (_plan_lines(answer["plan"]) if "plan" in answer else []))


def _plan(plan: Plan, decision: Route | Refuse) -> dict[str, Any]:
    """What a model was chosen from, and why the others were not in it."""
    return {
        "tier": plan.tier,
        "auto": {"score": plan.auto.score, "signals": dict(plan.auto.signals)} if plan.auto else None,
        "prefer": plan.prefer,
        "candidates": [_candidate(one) for one in plan.candidates],
        "attempts": len(decision.tries) or 1 if isinstance(decision, Route) and plan.candidates else 0,
        "health": None,
        "dropped": [dropped._asdict() for dropped in plan.dropped],
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    row, until_s = one.row, one.sick_until_s
    return {
        "model": row.model,
        "provider": row.provider,
        "estimated_usd": None if one.estimate is None else f"{usd(one.estimate):f}",
        "quality": row.quality,
        "coding": row.coding,
        "first_token_ms": one.first_token_ms,
        "is_measured": one.measured_ms is not None,
        "open_until": None if until_s is None else f"{datetime.fromtimestamp(until_s, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


def _plan_lines(plan: Mapping[str, Any]) -> list[str]:
    auto = plan["auto"]
    signals = f" (score {auto['score']}: {'  '.join(f'{k}={v}' for k, v in auto['signals'].items())})" if auto else ""
    lines = [f"{'tier':<18} {plan['tier'] or '-'}{signals}", f"{'prefer':<18} {plan['prefer'] or '-'}"]
    for place, one in enumerate(plan["candidates"], 1):
        cost = f"${one['estimated_usd']}" if one["estimated_usd"] is not None else "no price"
        figures = "  ".join(f"{k}={one[k]}" for k in ("quality", "coding", "first_token_ms") if one[k] is not None)
        if one["is_measured"]:
            figures += " (measured)"
        if one["open_until"]:
            figures += f"  open until {one['open_until']}"
        lines.append(f"{f'candidate {place}':<18} {one['provider']}/{one['model']}  {cost}  {figures}".rstrip())
    lines.append(f"{'attempts':<18} {plan['attempts']} at most")
    lines += [f"{'dropped':<18} {one['provider']}/{one['model']}: {one['reason']}" for one in plan["dropped"]]
    return [*lines, f"{'health':<18} {plan['health']}"] if plan["health"] else lines


def _rule(facts: Facts, choice: Choice, org: Org) -> dict[str, str | None] | None:
    """The rule for a call, and what becomes of the call."""
    found = next((rule for rule in org.rules.ordered if rule.name == choice.rule), None) if org.rules else None
    if found is None:
        return None
    told = {"name": found.name, "because": str(found.when), "arm": choice.rule_arm}
    if len(found.arms) > 1:
        told["of"] = ", ".join(f"{arm} ({arm.weight})" for arm in found.arms)
        told["by"] = found.sticky if found.sticky in facts.sticky else "chance"
    return told


def _rules(call: Terms, choice: Choice, org: Org) -> dict[str, str]:
    """Of every rule why it is the one, or not."""

    def verdict(rule: Rule) -> str:
        if rule.name == choice.rule:
            return "this is the one"
        return rule.when.differs(call) or "another one comes first" if rule.enabled else "it is not enabled"

    return {rule.name: verdict(rule) for rule in org.rules.ordered} if org.rules else {}
