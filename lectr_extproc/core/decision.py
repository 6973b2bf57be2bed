"""decide(): what happens to a request. And the decision as metadata, written here and read back here.

Envoy carries the decision until the call is over and hands it back in the access-log entry; lectr remembers nothing.
"""

import dataclasses
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeGuard, assert_never
from urllib.parse import parse_qsl, unquote

from lectr_extproc.core import credential as credentials
from lectr_extproc.core import words
from lectr_extproc.core.auto import TIERS, Tier, score
from lectr_extproc.core.candidates import Plan, Ranked, make_plan
from lectr_extproc.core.conversation import Conversation, read_conversation
from lectr_extproc.core.credential import Credential, Form
from lectr_extproc.core.detect import Detected, detect, own_name
from lectr_extproc.core.facts import OURS, Facts, Traits, known_task, label, read_json
from lectr_extproc.core.health import UNKNOWN, Health, Target
from lectr_extproc.core.inject import asks_for_usage, inject_include_usage
from lectr_extproc.core.json_members import without
from lectr_extproc.core.offer import every, one
from lectr_extproc.core.quick import quick_dataclass
from lectr_extproc.core.refusal import REFUSALS, Refusal
from lectr_extproc.core.rewrite import V1, rename_in_query, rename_model, segment, verbatim
from lectr_extproc.core.rules import Arm, Rules, Terms
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Endpoint, Org, Provider, Site, Streams
from lectr_extproc.core.upstream import UPGRADE_SUFFIX
from lectr_extproc.core.words import CredentialSource, ProviderSource, Shape

_OURS = (words.OWN_PREFIX, "x-forwarded-")
# A client's AWS signature holds for the client's own address alone: neither it nor its parts are of use to anyone else.
_AWS_SIGNATURE = ("x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
CREDENTIALS = frozenset({*(form.value for form in credentials.HEADERS), "proxy-authorization", *_AWS_SIGNATURE})

_MAY_BE_JSON = re.compile(r"|text/plain|application/(?:json|x-www-form-urlencoded)|.*\+json")
"The content types whose body is looked into where Envoy could not, or did not try."

_ANOTHERS_KEY = "credential_of_another_provider"

WELL_FORMED_KEY = re.compile(r"lc_key_[A-Za-z0-9_-]{16,128}", re.ASCII)


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who answers a call, and why: the part of a decision that the record keeps."""

    provider: str
    source: ProviderSource
    unknown: bool = False
    "The model was not recognised, or its provider has no address here."
    detected: str | None = None
    "The provider the model belongs to, where the call could not go there."
    dialect: str
    shape: Shape = "openai"
    model_requested: str | None = None
    model_sent: str | None = None
    streaming: bool = False
    notes: tuple[str, ...] = ()
    "Codes for what the operator should know about this call."
    rule: str | None = None
    "The org's rule that the call is one for."
    rule_arm: str | None = None
    "What that rule says is to become of it."
    plan: Plan | None = None
    "What it was chosen from; None where the client pinned a model."

    @property
    def is_guarded(self) -> bool:
        """Whether the answer is a stream that never ends as if it were whole when it is not (core/guard.py)."""
        return self.streaming and self.plan is not None and bool(self.plan.candidates)


Observe = Literal["native", "stream", "none"]
"Who reads the answer: Envoy, lectr, or nobody because it holds nothing to read."

ENVOY_READS = frozenset({"openai.chat", "openai.responses", "anthropic.messages", "gemini.generate"})
"The dialects of Envoy's ai_protocol_manager (1.40)."


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Send it: where to, under which headers, with which body."""

    choice: Choice
    org: Org
    cluster: str
    authority: str
    path: str
    sets: Mapping[str, str] = dataclasses.field(repr=False)
    removes: tuple[str, ...]
    credential: CredentialSource
    model_is_renamed: bool
    observe: Observe
    drops: tuple[str, ...]
    "The members of the body that are for the gateway."
    asks_for_usage: bool
    "The provider is asked for a usage chunk that the client did not ask for."
    body: bytes | None = dataclasses.field(default=None, repr=False)
    "Only when the provider must get another body than the client sent."
    tries: tuple["Route", ...] = ()
    "Of a call with several candidates the route to each, in order, of which this is the first."


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Answer it ourselves; the provider never hears of it."""

    refusal: Refusal
    shape: Shape
    org: Org | None = None
    choice: Choice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """Answer it ourselves with what was asked for: no provider is needed for it."""

    body: bytes
    shape: Shape
    org: Org
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AskForBody:
    """Come back with the body: nothing else is said or changed until then."""


Decision = Route | Refuse | Serve | AskForBody

ASK_FOR_BODY: Final = AskForBody()


def decide(facts: Facts, snapshot: Snapshot, health: Health = UNKNOWN) -> Decision:
    """The one decision per call. Only authentication, an explicit limit or a missing Azure address refuses."""
    endpoint = find_endpoint(facts.path, snapshot)
    org = authenticate(facts, snapshot)
    if isinstance(org, Refusal):
        return Refuse(refusal=org, shape=endpoint.shape)
    if not org.enabled:
        return Refuse(refusal=REFUSALS["org_disabled"], shape=endpoint.shape, org=org)
    if (facts.content_length or 0) > snapshot.limits.max_body_bytes:
        return Refuse(refusal=REFUSALS["request_too_large"], shape=endpoint.shape, org=org)
    if is_answered_here(facts, endpoint, org, snapshot):
        return list_models(facts, org, snapshot)
    if facts.model is None and facts.body_may_be_read and _body_may_name_a_model(facts, endpoint, snapshot):
        return ASK_FOR_BODY
    route = choose_route(facts, endpoint, org, snapshot, health)
    if isinstance(route, Route) and route.tries:
        return route  # each attempt has its body written when it is made (core/attempt.py)
    if isinstance(route, Route) and (route.model_is_renamed or route.asks_for_usage or route.drops):
        if facts.body is None:
            # Asked for a body that turns out larger than its limit, Envoy answers nothing at all (1.36, 1.40).
            unchanged = dataclasses.replace(route, model_is_renamed=False, asks_for_usage=False)
            return ASK_FOR_BODY if facts.is_read_by_envoy else unchanged
        return dataclasses.replace(route, body=rewritten(facts.body, facts.boundary, route))
    return route


def authenticate(facts: Traits, snapshot: Snapshot) -> Org | Refusal:
    """The org of the key. The digest is looked up and then compared in constant time; keys are never scanned."""
    if not any(facts.lectr_keys):
        return REFUSALS["missing_lectr_key"]
    key = facts.lectr_keys[0]
    if len(facts.lectr_keys) > 1 or not WELL_FORMED_KEY.fullmatch(key):
        return REFUSALS["invalid_lectr_key"]
    digest = hashlib.sha256(key.encode()).hexdigest()
    stored = digest if digest in snapshot.orgs_by_key else ""
    if not hmac.compare_digest(stored, digest):
        return REFUSALS["invalid_lectr_key"]
    return snapshot.orgs_by_key[stored]


def find_endpoint(path: str, snapshot: Snapshot) -> Endpoint:
    """The API a path belongs to; the last row of the table matches every path."""
    usual = snapshot.usual_endpoints.get(path)
    return usual or next(endpoint for endpoint in snapshot.endpoints if endpoint.pattern.fullmatch(path))


def is_answered_here(facts: Traits, endpoint: Endpoint, org: Org, snapshot: Snapshot) -> bool:
    """Whether it is no provider's to answer: a question for models that names none."""
    is_asked = endpoint.answered_here and facts.method in ("GET", "HEAD")  # Envoy sends a HEAD no body
    return is_asked and not _is_reachable(_named(facts, snapshot), org, snapshot)


def list_models(facts: Facts, org: Org, snapshot: Snapshot) -> Serve | Refuse:
    """The models this org can call, or one of them, in the shape of whose SDK asks."""
    shape: Shape = "anthropic" if "anthropic-version" in facts.header_names else "openai"
    reached = snapshot.sites.keys() | org.sites.keys()
    listing = snapshot.offer.listing(reached, facts.at_s, words_for_models(facts, org, snapshot))
    model = unquote(facts.path.removeprefix("/v1/models").removeprefix("/"))
    body = one(listing, model, shape) if model else every(listing, facts.query, shape)
    if body is None:
        return Refuse(refusal=REFUSALS["model_not_found"], shape=shape, org=org)
    invalid = ("provider_header_invalid",) if facts.providers_named else ()
    return Serve(body=body, shape=shape, org=org, notes=("answered_by_gateway", *invalid))


def words_for_models(facts: Facts, org: Org, snapshot: Snapshot) -> tuple[str, ...]:
    """The tiers, `auto` and the aliases for which this org has a model with a key, whatever API it is asked in."""
    endpoint = find_endpoint(facts.path, snapshot)
    choice = choose_provider(facts, endpoint, org, snapshot)
    today = datetime.fromtimestamp(facts.at_s, UTC).date()

    def is_there(row: Ranked) -> bool:
        provider, known = snapshot.providers[row.provider], snapshot.lineup.get((row.provider, row.model))
        is_over = bool(row.tier and known and known.is_retired(today))
        is_away = site_of(provider, org, snapshot) is None or not org.may_use(row.provider, row.model)
        return not (is_over or is_away) and _has_key(facts, choice, provider, org, snapshot)

    def is_usable(wanted: tuple[str, ...]) -> bool:
        if wanted[0] == "auto":
            return bool(tiers)
        rows = snapshot.tiers.get(wanted[0]) or [_model_of_alias(name, choice, org, snapshot) for name in wanted]
        return any(map(is_there, rows))

    tiers = [tier for tier in TIERS if is_usable((tier,))]
    aliases = [name for name, wanted in org.aliases.items() if is_usable(wanted)]
    return (*(["auto"] if tiers else []), *tiers, *aliases)


def choose_route(
    facts: Facts, endpoint: Endpoint, org: Org, snapshot: Snapshot, health: Health = UNKNOWN
) -> Route | Refuse | AskForBody:
    """Provider, address, credential and path of a call that is let through."""
    drops = ours_in(facts)
    choice = choose_provider(facts, endpoint, org, snapshot)
    if org.rules is not None:
        facts, choice = apply_rules(facts, choice, endpoint, org, snapshot, rules=org.rules)
    wanted = what_is_wanted(facts, endpoint, org, snapshot)
    # Envoy reads no list: whether there is one named `fallback` is known only of a body that was asked for.
    looks = snapshot.failover is not None and snapshot.failover.looks_in_bodies and facts.is_read_by_envoy
    is_seen = facts.body is not None or not looks
    if wanted is None and is_seen and (facts.fallback is None or choice.model_sent is None):
        return route_to(facts, choice, endpoint, org, snapshot, drops=drops)
    if facts.body_may_be_read and (facts.is_read_by_envoy or facts.content_length):
        return ASK_FOR_BODY
    return choose_model(facts, choice, endpoint, org, snapshot, wanted=wanted, drops=drops, health=health)


def ours_in(facts: Facts) -> tuple[str, ...]:
    """The members of the body that are for the gateway."""
    if not (facts.tier or facts.prefer or facts.fallback is not None):
        return ()
    return tuple([name for name in OURS if getattr(facts, name) is not None])


def route_to(
    facts: Facts, choice: Choice, endpoint: Endpoint, org: Org, snapshot: Snapshot, *, drops: tuple[str, ...]
) -> Route | Refuse:
    """The way to the provider of a choice. `facts` are those of a client that had asked for what was chosen."""
    # A body that hides its model is asked of a model all the same.
    asks_a_model = facts.has_body and endpoint.dialect in snapshot.observation.answers
    if not org.may_use(choice.provider, choice.model_sent or ("" if asks_a_model else None)):
        return Refuse(refusal=REFUSALS["model_not_allowed"], shape=endpoint.shape, org=org, choice=choice)
    provider = snapshot.providers[choice.provider]
    site = site_of(provider, org, snapshot)
    renamed = choice.model_sent if choice.model_sent != choice.model_requested else None
    if renamed is not None and facts.is_upgrade:
        facts = dataclasses.replace(facts, query=rename_in_query(facts.query, renamed))
    if site is None:  # only a provider that orgs site for themselves is ever chosen without an address
        refusal = REFUSALS[provider.sited_per_org or "provider_unreachable"]
        return Refuse(refusal=refusal, shape=endpoint.shape, org=org, choice=choice)

    is_native = endpoint.native_to == provider.kind
    form = provider.key_form_of.get(endpoint.shape, provider.key_form)
    if is_native and endpoint.key_form is not None:
        form = endpoint.key_form
    is_signed = site.upstream.signing is not None
    source, credential = ("gateway", None) if is_signed else choose_credential(facts, provider, org, snapshot)
    sent = credentials.present(credential, form, provider.stays_bearer)
    if sent is None and not is_signed and "x-amz-date" in facts.header_names:
        choice = dataclasses.replace(choice, notes=(*choice.notes, "aws_signature_removed"))
    if is_native and not provider.sited_per_org:
        path = verbatim(facts, provider, site)
    else:
        path = provider.path(facts, provider, site, choice.model_sent)
    sets = {name: value for name, value in provider.adds if name not in facts.header_names}
    if sent is not None:
        sets[sent[0]] = sent[1]
    asks = _asks_for_usage(facts, endpoint, provider, path, snapshot)
    changes = asks or choice.is_guarded
    observe = _observe(facts, endpoint, provider, snapshot, changes=changes)
    return Route(
        choice=choice,
        org=org,
        cluster=site.upstream.cluster + (UPGRADE_SUFFIX if facts.is_upgrade else ""),
        authority=site.upstream.authority,
        path=path,
        sets=sets,
        removes=_removed(facts, provider, kept=sent[0] if sent else None, plain=changes or observe == "native"),
        credential=source if sent or is_signed else "none",
        model_is_renamed=renamed is not None and facts.has_body and not facts.is_upgrade,
        observe=observe,
        drops=drops,
        asks_for_usage=asks,
    )


def choose_provider(facts: Traits, endpoint: Endpoint, org: Org, snapshot: Snapshot) -> Choice:
    """Header, path, model, then what the path or the key's shape suggests, then the default. Never a refusal."""
    providers = snapshot.providers
    model = model_in_path(facts, endpoint) or facts.model
    notes: list[str] = []

    def is_reachable(name: str | None) -> TypeGuard[str]:
        return _is_reachable(name, org, snapshot)

    def choice(
        provider: str,
        source: ProviderSource,
        sent: str | None = model,
        *,
        unknown: bool = False,
        detected: str | None = None,
    ) -> Choice:
        if _key_is_anothers(facts, providers[provider], snapshot):
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

    named = _named(facts, snapshot)
    if is_reachable(named):
        return choice(named, "header", known_to(named))
    if facts.providers_named:
        notes.append("provider_header_invalid")

    found: Detected | None = None
    if model and not endpoint.has_model:
        found = detect(model, snapshot.models, providers, ollama=is_reachable("ollama"))
    if endpoint.native_to and not (found and _is_at_its_own_path(facts, endpoint, providers[found.provider])):
        native = providers[endpoint.native_to]
        is_sited = site_of(native, org, snapshot) is not None or "api-version=" in facts.query
        if is_sited or not endpoint.native_where_sited:
            found = Detected(native.id, "path", known_to(native.id))
    if found and is_reachable(found.provider):
        return choice(found.provider, found.source, found.model_sent)
    if found:
        return choice(snapshot.default_provider, "default", unknown=True, detected=found.provider)
    home = endpoint.home or next((id_ for prefix, id_ in snapshot.homes if facts.path.startswith(prefix)), None)
    if is_reachable(home):
        return choice(home, "path", unknown=True)
    _, shaped = _shape_of_key(facts, snapshot) or (None, None)
    if is_reachable(shaped):
        return choice(shaped, "credential", unknown=True)
    return choice(snapshot.default_provider, "default", unknown=True)


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
    notes = dict.fromkeys((*choice.notes, *wanted.notes))
    if wanted.provider != choice.provider:
        if lack := _lack(facts, choice, endpoint, org, snapshot, to=wanted.provider):
            return facts, dataclasses.replace(choice, notes=(*choice.notes, f"rule_without_{lack}"))
        notes.pop(_ANOTHERS_KEY, None)
        if not _is_key_of(facts, snapshot.providers[wanted.provider], snapshot):
            changed = dataclasses.replace(changed, credential=None)  # it is for the provider that the client chose
    return changed, dataclasses.replace(
        wanted,
        source="rule",
        model_requested=choice.model_requested,
        notes=tuple(notes),
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
    asked = [(facts, choice)] if wanted is None else [as_candidate(facts, choice, rows[0], endpoint, snapshot)]
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
        notes = tuple(note for note in notes if note != _ANOTHERS_KEY)
        if not _is_key_of(facts, snapshot.providers[row.provider], snapshot):
            changed = dataclasses.replace(changed, credential=None)
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
    named = _named(facts, snapshot)

    def refusal(row: Ranked) -> str | None:
        if not org.may_use(row.provider, row.model):
            return "blocked"
        if _is_reachable(named, org, snapshot) and named != row.provider:
            return "another_provider"
        if row.apis is not None and endpoint.dialect not in row.apis:
            return "api"
        return _lack(facts, choice, endpoint, org, snapshot, to=row.provider)

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
        return [_model_of_alias(word, choice, org, snapshot) for word in words]

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
        first = plan([Ranked(provider=choice.provider, model=choice.model_sent or "")], lambda _: None)
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


def _model_of_alias(name: str, choice: Choice, org: Org, snapshot: Snapshot) -> Ranked:
    """A model as the client would get it by its name; one of nobody's is where the call was going."""
    ollama = _is_reachable("ollama", org, snapshot)
    found = detect(name, snapshot.models, snapshot.providers, ollama=ollama)
    provider, model = (found.provider, found.model_sent or name) if found else (choice.provider, name)
    known = snapshot.figures.get((provider, model))
    return dataclasses.replace(known, tier=None) if known else Ranked(provider=provider, model=model)


def _lack(
    facts: Traits, choice: Choice, endpoint: Endpoint, org: Org, snapshot: Snapshot, *, to: str
) -> Literal["address", "api", "credential"] | None:
    """What is not there for this call at a provider. No call is refused for it."""
    row = snapshot.providers[to]
    site = site_of(row, org, snapshot)
    if site is None:
        return "address"
    is_everyones = endpoint.native_to is None and facts.path.startswith(V1 + "/") and endpoint.dialect in row.apis
    if not is_everyones and row.kind != snapshot.kind_of(choice.provider):
        return "api"
    return None if _has_key(facts, choice, row, org, snapshot) else "credential"


def _has_key(facts: Traits, choice: Choice, row: Provider, org: Org, snapshot: Snapshot) -> bool:
    """Whether a call has a key for a provider: none is needed, one is held, or the client's own is for it."""
    site = site_of(row, org, snapshot)
    is_signed = site is not None and site.upstream.signing is not None
    if is_signed or row.key_form is Form.NONE or snapshot.providers[row.kind].key_env is None:
        return True
    is_own = row.id == choice.provider and facts.credential is not None and not _key_is_anothers(facts, row, snapshot)
    return is_own or _held_key(row, org, snapshot) is not None or _is_key_of(facts, row, snapshot)


def choose_credential(
    facts: Traits, provider: Provider, org: Org, snapshot: Snapshot
) -> tuple[CredentialSource, Credential | None]:
    """The client's own key; where it has none, or evidently another provider's, the one held for the chosen provider.

    A key held for every org never goes to an address that is one org's own: that org may not be who holds the key.
    """
    held = _held_key(provider, org, snapshot)
    if held is not None and (facts.credential is None or _key_is_anothers(facts, provider, snapshot)):
        return "gateway", held
    return "client", facts.credential


def _held_key(provider: Provider, org: Org, snapshot: Snapshot) -> Credential | None:
    everyones = {} if provider.id in org.sites else snapshot.credentials
    return org.credentials.get(provider.id) or everyones.get(provider.id)


def is_streaming(facts: Traits, endpoint: Endpoint) -> bool:
    """Whether the answer will be a stream: most APIs are asked for one, some send one anyway."""
    match endpoint.streams:
        case Streams.ASKED:
            return facts.streaming
        case Streams.UNLESS_REFUSED:
            return facts.has_body and facts.options.get("stream") is not False
        case Streams.ALWAYS:
            return True
        case _:
            assert_never(endpoint.streams)


def site_of(provider: Provider, org: Org, snapshot: Snapshot) -> Site | None:
    """Where this org's calls to a provider go."""
    return org.sites.get(provider.id) or snapshot.sites.get(provider.id)


def _is_reachable(name: str | None, org: Org, snapshot: Snapshot) -> TypeGuard[str]:
    row = snapshot.providers.get(name) if name else None
    return row is not None and (row.sited_per_org is not None or site_of(row, org, snapshot) is not None)


def _named(facts: Traits, snapshot: Snapshot) -> str | None:
    """The provider X-Lectr-Provider names; two differing values name none."""
    if len(facts.providers_named) != 1:
        return None
    name = facts.providers_named[0].lower()
    return next((row.id for row in snapshot.providers.values() if name == row.id or name in row.synonyms), None)


def _is_at_its_own_path(facts: Traits, endpoint: Endpoint, provider: Provider) -> bool:
    """Where several have a path, the model tells them apart.

    Groq's public address ends in `/openai/v1`, where Azure's newer API is, too; and there may be a second Ollama.
    """
    if provider.id != endpoint.native_to == provider.kind:
        return True
    return provider.prefix not in {"", "/v1"} and facts.path.startswith(provider.prefix + "/")


def model_in_path(facts: Traits, endpoint: Endpoint) -> str | None:
    in_path = endpoint.pattern.fullmatch(facts.path) if endpoint.has_model else None
    return unquote(in_path["model"]) if in_path else None


def _shape_of_key(facts: Traits, snapshot: Snapshot) -> tuple[str, str] | None:
    """How the client's key begins, and the provider whose keys begin so."""
    if facts.credential is None:
        return None
    secret = facts.credential.secret
    return next((known for known in snapshot.key_shapes if secret.startswith(known[0])), None)


def _key_is_anothers(facts: Traits, chosen: Provider, snapshot: Snapshot) -> bool:
    """Worth a note, never a refusal: where none is held, the client's own key goes where the client sends it."""
    known = _shape_of_key(facts, snapshot)
    if known is None or known[1] == chosen.kind:
        return False
    shape, owner = known
    return bool(chosen.key_shapes) or shape not in snapshot.providers[owner].shared_key_shapes


def _is_key_of(facts: Traits, provider: Provider, snapshot: Snapshot) -> bool:
    """Whether the client's key is certainly this provider's: it begins as nobody else's does."""
    known = _shape_of_key(facts, snapshot)
    kind = snapshot.providers[provider.kind]
    return known is not None and known[1] == kind.id and known[0] not in kind.shared_key_shapes


def _body_may_name_a_model(facts: Facts, endpoint: Endpoint, snapshot: Snapshot) -> bool:
    """A form in parts, JSON that `curl -d` calls a form, or JSON that is more than Envoy takes for it.

    Only a known size is asked for.
    """
    if facts.boundary is not None and endpoint.takes_form:
        limit = snapshot.limits.inspect_multipart_bytes
    elif not facts.is_read_by_envoy and _MAY_BE_JSON.fullmatch(facts.content_type):
        limit = snapshot.limits.inspect_body_bytes
    else:
        limit = 0
    return not endpoint.has_model and 0 < (facts.content_length or 0) <= limit


def _asks_for_usage(facts: Traits, endpoint: Endpoint, provider: Provider, path: str, snapshot: Snapshot) -> bool:
    """Whether the stream's usage must be asked for. Decided before the body is seen, and again with it."""
    if not facts.streaming or not facts.has_body or snapshot.observation.usage_chunk == "never":
        return False
    version = dict(parse_qsl(path.partition("?")[2])).get("api-version")
    return asks_for_usage(provider.asking, endpoint.dialect, path=path, api_version=version, fields=facts.options)


def _observe(facts: Traits, endpoint: Endpoint, provider: Provider, snapshot: Snapshot, *, changes: bool) -> Observe:
    """Envoy reads where its reading is complete, or the operator says so; what lectr may change it reads itself."""
    observation = snapshot.observation
    if facts.is_upgrade or endpoint.dialect not in observation.answers:
        return "none"
    wanted = observation.wanted.get(provider.id, "auto")
    is_complete = endpoint.dialect in provider.native or (wanted == "native" and endpoint.dialect in ENVOY_READS)
    if changes or wanted == "stream" or not is_complete or not observation.envoy_reads_usage:
        return "stream"
    return "native"


def rewritten(body: bytes, boundary: bytes | None, route: Route) -> bytes:
    """The client's body as the provider of this route is to get it."""
    if route.drops:
        body = without(body, route.drops)
    if route.asks_for_usage:
        body = inject_include_usage(body)
    if route.model_is_renamed and route.choice.model_sent is not None:
        body = rename_model(body, route.choice.model_sent, boundary, insert=route.choice.model_requested is None)
    return body


def _removed(facts: Traits, provider: Provider, *, kept: str | None, plain: bool) -> tuple[str, ...]:
    """Everything of ours, of proxies, and every credential but the one that was written.

    Envoy does not read a compressed answer, and out of one no chunk can be taken: such calls ask for a plain one.
    """
    names = facts.header_names
    gone = nobodys(facts) | names.intersection(provider.refuses)
    if plain and "accept-encoding" in names:
        gone.add("accept-encoding")
    return tuple(sorted(gone - {kept}))


def nobodys(facts: Traits) -> set[str]:
    """The headers that are for no provider as they came: ours, proxies', and every credential."""
    names = facts.header_names
    gone = {name for name in names if name.startswith(_OURS)} | (names & CREDENTIALS) | facts.headers_with_our_keys
    # Envoy finds no route for a request without x-forwarded-proto, so that one is left to the route to remove.
    return gone - {"x-forwarded-proto"}


# --- the decision as metadata -----------------------------------------------------------------------------------------
# Namespace `lectr`. Envoy turns numbers into doubles, so there are none. Nothing secret, no prompt, few short keys:
#   routed   "1"     the call may reach a provider; only a Route writes it, and the provider route matches on it
#   call_id          48 bits of time, 80 random ones, hex
#   org provider source unknown detected dialect shape requested sent feature task notes
#   rule rule_arm    the org's rule for this call, and which of its outcomes
#   tier candidates  of what the model was to be chosen, and how many there were
#   auto_tier auto_score  what `auto` made of the conversation
#   chosen   "1"     a model was chosen: the answer says which
#   attempts         how many candidates are asked at most, where there are several: Envoy goes from one to the next.
#                    Each attempt writes provider, sent, host, credential and asked anew, and `tries` (core/tries.py)
#   path             the client's path without its query
#   stream   "1"     the answer is a stream
#   host             the provider's address
#   observe          who reads the answer
#   credential       whose key went out: client, gateway or none
#   asked    "1"     the provider was asked for a usage chunk that the client did not ask for
#   parent           the traceparent of the span this call belongs under
#   refused          the code of our own answer
# Readers tolerate missing and unknown keys: one version of lectr may read what another wrote.


def to_metadata(
    decision: Route | Refuse | Serve, facts: Facts, call_id: str, parent: str | None = None
) -> dict[str, str]:
    """What Envoy is asked to remember about this call."""
    choice = None if isinstance(decision, Serve) else decision.choice
    fields = {
        "shape": decision.choice.shape if isinstance(decision, Route) else decision.shape,
        "path": label(facts.path, words.PATH_LIMIT),  # raw bytes would make the reply unwritable
        "feature": facts.feature,
        "task": facts.task,
        "org": decision.org.name if decision.org else None,
    }
    if choice is not None:
        fields |= {
            "provider": choice.provider,
            "source": choice.source,
            "unknown": "1" if choice.unknown else None,
            "detected": choice.detected,
            "dialect": choice.dialect,
            "requested": label(choice.model_requested, words.MODEL_LIMIT),
            "sent": label(choice.model_sent, words.MODEL_LIMIT),
            "stream": "1" if choice.streaming else None,
            "notes": ",".join(choice.notes) or None,
            "rule": choice.rule,
            "rule_arm": choice.rule_arm,
        }
        if (plan := choice.plan) is not None:
            fields |= {
                "tier": plan.tier,
                "candidates": str(len(plan.candidates)),
                "auto_tier": plan.auto.tier if plan.auto else None,
                "auto_score": str(plan.auto.score) if plan.auto else None,
                "chosen": "1" if plan.candidates else None,
            }
            if isinstance(decision, Route) and decision.tries:
                fields["attempts"] = str(len(decision.tries))
    match decision:
        case Route():
            fields |= {
                "routed": "1",
                "host": decision.authority,
                "observe": decision.observe,
                "credential": decision.credential,
                "asked": "1" if decision.asks_for_usage else None,
            }
        case Refuse():
            fields["refused"] = decision.refusal.code
        case Serve():
            fields |= {"dialect": "models", "notes": ",".join(decision.notes)}
        case _:
            assert_never(decision)
    fields |= {"call_id": call_id, "parent": parent}  # last: with what is this call's own its reply ends (core/memo.py)
    return {key: value for key, value in fields.items() if value}
