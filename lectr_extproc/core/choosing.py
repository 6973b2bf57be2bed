"""Who answers a call: the provider of its model, what a rule says, or the pick of a tier, `auto` or an alias."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

from lectr_extproc.core import words
from lectr_extproc.core.auto import TIERS, Tier, score
from lectr_extproc.core.candidates import Plan, Ranked, make_plan
from lectr_extproc.core.conversation import Conversation, read_conversation
from lectr_extproc.core.detect import Detected, detect, own_name
from lectr_extproc.core.facts import Facts, Traits, known_task, read_json
from lectr_extproc.core.health import Health, Target
from lectr_extproc.core.outcome import Choice, Observe, Refuse, Route
from lectr_extproc.core.reach import (
    is_key_of,
    is_reachable,
    is_streaming,
    key_is_anothers,
    lack_of,
    model_in_path,
    named_provider,
    shape_of_key,
    site_of,
)
from lectr_extproc.core.rewrite import segment
from lectr_extproc.core.routing import route_to
from lectr_extproc.core.rules import Arm, Rules, Terms
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Endpoint, Org, Provider
from lectr_extproc.core.words import ProviderSource

_ANOTHERS_KEY = "credential_of_another_provider"


def choose_provider(facts: Traits, endpoint: Endpoint, org: Org, snapshot: Snapshot) -> Choice:
    """Header, path, model, then what the path or the key's shape suggests, then the default. Never a refusal."""
    providers = snapshot.providers
    model = model_in_path(facts, endpoint) or facts.model
    notes: list[str] = []

    def is_there(name: str | None) -> TypeGuard[str]:
        return is_reachable(name, org, snapshot)

    def choice(
        provider: str,
        source: ProviderSource,
        sent: str | None = model,
        *,
        unknown: bool = False,
        detected: str | None = None,
    ) -> Choice:
        if key_is_anothers(facts, providers[provider], snapshot):
            notes.append(_ANOTHERS_KEY)
        return Choice(
            provider=provider,
            source=source,
            unknown=unknown,
            detected=detected,
            dialect=endpoint.dialect,
            shape=endpoint.shape,
            model_requested=model,
            streaming=is_streaming(facts, endpoint),
            model_sent=sent,
            notes=tuple(notes),
        )

    def known_to(provider: str) -> str | None:
        """A path that names the model has it as it is to be."""
        return own_name(model, providers[provider], snapshot.models) if model and not endpoint.has_model else model

    named = named_provider(facts, snapshot)
    if is_there(named):
        return choice(named, "header", known_to(named))
    if facts.providers_named:
        notes.append("provider_header_invalid")

    found: Detected | None = None
    if model and not endpoint.has_model:
        found = detect(model, snapshot.models, providers, ollama=is_there("ollama"))
    if endpoint.native_to and not (found and _is_at_its_own_path(facts, endpoint, providers[found.provider])):
        native = providers[endpoint.native_to]
        is_sited = site_of(native, org, snapshot) is not None or "api-version=" in facts.query
        if is_sited or not endpoint.native_where_sited:
            found = Detected(native.id, "path", known_to(native.id))
    if found and is_there(found.provider):
        return choice(found.provider, found.source, found.model_sent)
    if found:
        return choice(snapshot.default_provider, "default", unknown=True, detected=found.provider)
    home = endpoint.home or next((id_ for prefix, id_ in snapshot.homes if facts.path.startswith(prefix)), None)
    if is_there(home):
        return choice(home, "path", unknown=True)
    _, shaped = shape_of_key(facts, snapshot) or (None, None)
    if is_there(shaped):
        return choice(shaped, "credential", unknown=True)
    return choice(snapshot.default_provider, "default", unknown=True)


def _is_at_its_own_path(facts: Traits, endpoint: Endpoint, provider: Provider) -> bool:
    """Where several have a path, the model tells them apart.

    Groq's public address ends in `/openai/v1`, where Azure's newer API is, too; and there may be a second Ollama.
    """
    if provider.id != endpoint.native_to == provider.kind:
        return True
    return provider.prefix not in {"", "/v1"} and facts.path.startswith(provider.prefix + "/")


def apply_rules(
    facts: Facts, choice: Choice, endpoint: Endpoint, org: Org, snapshot: Snapshot, *, rules: Rules
) -> tuple[Facts, Choice]:
    """The call as its rule wants it; as it was, where there is none or what it wants cannot be."""
    rule = rules.match(as_terms(facts, choice)) if choice.model_requested else None
    if rule is None:
        return facts, choice
    arm = rule.arm(org.name, facts.sticky.get(rule.sticky or "") or facts.call_id)
    choice = dataclasses.replace(choice, rule=rule.name, rule_arm=str(arm))
    if not arm.changes:
        return facts, choice
    changed = _as_if_asked(facts, endpoint, arm)
    if arm.provider is None and what_is_wanted(changed, endpoint, org, snapshot) is not None:
        return changed, choice
    wanted = choose_provider(changed, endpoint, org, snapshot)
    if wanted.detected is not None:
        return facts, dataclasses.replace(choice, notes=(*choice.notes, "rule_without_address"))
    if wanted.unknown:  # a model of nobody's stays with the provider that the call was for
        changed = dataclasses.replace(changed, providers_named=(choice.provider,))
        wanted = choose_provider(changed, endpoint, org, snapshot)
        wanted = dataclasses.replace(wanted, unknown=choice.unknown, detected=choice.detected)
    if not org.may_use(wanted.provider, wanted.model_sent):
        return facts, dataclasses.replace(choice, notes=(*choice.notes, "rule_without_permission"))
    notes = tuple(dict.fromkeys((*choice.notes, *wanted.notes)))
    if wanted.provider != choice.provider:
        if lack := lack_of(facts, choice, endpoint, org, snapshot, to=wanted.provider):
            return facts, dataclasses.replace(choice, notes=(*choice.notes, f"rule_without_{lack}"))
        changed, notes = _moved(changed, notes, wanted.provider, snapshot)
    return changed, dataclasses.replace(
        wanted,
        source="rule",
        model_requested=choice.model_requested,
        notes=notes,
        rule=choice.rule,
        rule_arm=choice.rule_arm,
    )


def as_terms(facts: Traits, choice: Choice) -> Terms:
    """A call as rules see it."""
    found = choice.detected or choice.provider
    return Terms(facts.feature, known_task(facts.task), found, choice.model_requested)


def _as_if_asked(facts: Facts, endpoint: Endpoint, arm: Arm) -> Facts:
    """The call as its client would have made it to get what the arm says."""
    named = (arm.provider,) if arm.provider else facts.providers_named
    if arm.model is None:
        return dataclasses.replace(facts, providers_named=named, tier=arm.tier or facts.tier)
    path = facts.path
    if endpoint.has_model and (found := endpoint.pattern.fullmatch(path)):
        path = path[: found.start("model")] + segment(arm.model) + path[found.end("model") :]
    return dataclasses.replace(facts, providers_named=named, model=arm.model, tier=None, path=path)


def _moved(facts: Facts, notes: Iterable[str], to: str, snapshot: Snapshot) -> tuple[Facts, tuple[str, ...]]:
    """A call that leaves its client's provider for another: the client's key is for the one that the client chose."""
    if not is_key_of(facts, snapshot.providers[to], snapshot):
        facts = dataclasses.replace(facts, credential=None)
    return facts, tuple(note for note in notes if note != _ANOTHERS_KEY)


def what_is_wanted(facts: Traits, endpoint: Endpoint, org: Org, snapshot: Snapshot) -> tuple[str, ...] | None:
    """What a model is to be chosen from: a tier, or an alias's models; None for a call that pins one."""
    if tier := facts.at_most or facts.tier:
        return (tier,)
    model = model_in_path(facts, endpoint) or facts.model
    if model is None:
        return None
    if model in org.aliases:
        return org.aliases[model]
    return (model,) if model in words.WANTED and model not in snapshot.models.registered else None


def choose_model(
    facts: Facts,
    choice: Choice,
    endpoint: Endpoint,
    org: Org,
    snapshot: Snapshot,
    *,
    wanted: tuple[str, ...] | None,
    drops: tuple[str, ...],
    health: Health,
) -> Route | Refuse:
    """The routes to the candidates; the call's own as it came, with a note, where there is none."""
    plan = plan_for(facts, choice, endpoint, org, snapshot, wanted=wanted, health=health)
    if not plan.candidates:
        choice = dataclasses.replace(choice, plan=plan, notes=(*choice.notes, "no_candidate"))
        return route_to(facts, choice, endpoint, org, snapshot, drops=drops)
    rows = [row for row, *_ in plan.candidates[: snapshot.failover.attempts_max if snapshot.failover else 1]]
    choice = dataclasses.replace(choice, plan=plan)
    # The client's own choice is the first candidate, and stays what it is.
    is_own = wanted is None and choice.model_sent not in facts.used_up
    asked = [(facts, choice)] if is_own else [as_candidate(facts, choice, rows[0], endpoint, snapshot)]
    asked += [as_candidate(facts, choice, row, endpoint, snapshot) for row in rows[1:]]
    routes = [route_to(*each, endpoint, org, snapshot, drops=drops) for each in asked]
    first, tries = routes[0], tuple(route for route in routes if isinstance(route, Route))
    has_room = facts.body is not None and len(facts.body) + ENCLOSED_BYTES <= snapshot.limits.max_body_bytes
    if isinstance(first, Refuse) or len(tries) == 1 or facts.is_upgrade or not has_room:
        return first
    observe: Observe = first.observe if len({each.observe for each in tries}) == 1 else "stream"
    return dataclasses.replace(first, tries=tries, observe=observe)


ENCLOSED_BYTES = 128 * 1024
"More than core/attempt.py writes before the body of such a call: Envoy takes 60 KiB of headers."


def as_candidate(
    facts: Facts, choice: Choice, row: Ranked, endpoint: Endpoint, snapshot: Snapshot
) -> tuple[Facts, Choice]:
    """The call as if its client had asked for this candidate."""
    changed = _as_if_asked(facts, endpoint, Arm(row.model, row.provider))
    notes = choice.notes
    if row.provider != choice.provider:
        changed, notes = _moved(changed, notes, row.provider, snapshot)
    return changed, dataclasses.replace(
        choice, provider=row.provider, source="chosen", unknown=False, detected=None, model_sent=row.model, notes=notes
    )


def plan_for(
    facts: Facts,
    choice: Choice,
    endpoint: Endpoint,
    org: Org,
    snapshot: Snapshot,
    *,
    wanted: tuple[str, ...] | None,
    health: Health,
) -> Plan:
    """The models that may answer a call, in order, and why the others may not.

    What the client wrote into `fallback` comes after the first, in the place of the others.
    """
    conversation = Conversation()
    if facts.body is not None:
        conversation = read_conversation(read_json(facts.body), _COUNTS_FOR.get(endpoint.dialect, endpoint.dialect))
    # A limit that leaves a cheaper tier leaves no way around it.
    wished = facts.fallback if facts.at_most is None else None
    fallback = [word for name in wished or () for word in org.aliases.get(name, (name,))]
    wants_auto = wanted is not None and wanted[0] == "auto"
    auto = score(conversation, snapshot.scoring) if wants_auto or "auto" in fallback else None
    named = named_provider(facts, snapshot)

    def has_no_room(row: Ranked) -> str | None:
        return "limit" if row.model in facts.used_up else None

    def refusal(row: Ranked) -> str | None:
        if reason := has_no_room(row):
            return reason
        if not org.may_use(row.provider, row.model):
            return "blocked"
        if is_reachable(named, org, snapshot) and named != row.provider:
            return "another_provider"
        if row.apis is not None and endpoint.dialect not in row.apis:
            return "api"
        return lack_of(facts, choice, endpoint, org, snapshot, to=row.provider)

    def of_row(figures: Mapping[Target, int]) -> Callable[[Ranked], int | None]:
        def figure(row: Ranked) -> int | None:
            site = site_of(snapshot.providers[row.provider], org, snapshot)
            return figures.get(Target(row.provider, row.model, site.upstream.authority)) if site else None

        return figure

    def tier_of(word: str) -> Tier | None:
        if auto is not None and word == "auto":
            return auto.tier
        return next((tier for tier in TIERS if tier == word), None)

    def rows_of(words: Iterable[str]) -> list[Ranked]:
        return [model_of_alias(word, choice, org, snapshot) for word in words]

    def plan(rows: Iterable[Ranked], refusal: Callable[[Ranked], str | None], **how: Any) -> Plan:
        known: dict[str, Any] = {
            "lineup": snapshot.lineup,
            "prices": snapshot.prices,
            "at_s": facts.at_s,
            "sick_until_s": of_row(health.sick),
            "measured_ms": of_row(health.first_token_ms),
        }
        return make_plan(rows, conversation, refusal, **known, **how)

    if wanted is None:  # whatever the client pins is asked first
        first = plan([Ranked(provider=choice.provider, model=choice.model_sent or "")], has_no_room)
    else:
        tier = tier_of(wanted[0])
        first = plan(
            snapshot.tiers[tier] if tier else rows_of(wanted),
            refusal,
            prefer=facts.prefer or ("balanced" if tier else None),
            tier=tier,
            auto=auto if wants_auto else None,
        )
    if not wished:
        return first
    rows: list[Ranked] = []
    for word in fallback:
        tier = None if word in snapshot.models.registered else tier_of(word)
        ordered = plan(snapshot.tiers[tier], refusal, prefer="balanced").candidates if tier else ()
        rows += [row for row, *_ in ordered] if tier else rows_of([word])
    rest = plan(rows, refusal)
    candidates = {(one.row.provider, one.row.model): one for one in (*first.candidates[:1], *rest.candidates)}
    order = list(candidates.values())
    if wanted is not None:
        order.sort(key=lambda one: one.sick_until_s is not None)
    return dataclasses.replace(first, candidates=tuple(order), dropped=(*first.dropped, *rest.dropped))


_COUNTS_FOR = {"anthropic.count_tokens": "anthropic.messages", "openai.input_tokens": "openai.responses"}
"Of calls that only count: the API whose bodies theirs are."


def model_of_alias(name: str, choice: Choice, org: Org, snapshot: Snapshot) -> Ranked:
    """A model as the client would get it by its name; one of nobody's is where the call was going."""
    ollama = is_reachable("ollama", org, snapshot)
    found = detect(name, snapshot.models, snapshot.providers, ollama=ollama)
    provider, model = (found.provider, found.model_sent or name) if found else (choice.provider, name)
    known = snapshot.figures.get((provider, model))
    return dataclasses.replace(known, tier=None) if known else Ranked(provider=provider, model=model)
