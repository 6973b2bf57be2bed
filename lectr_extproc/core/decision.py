"""decide(): what happens to a request."""

import dataclasses
import hashlib
import hmac
import re
from datetime import UTC, datetime
from urllib.parse import unquote

from lectr_extproc.core.auto import TIERS
from lectr_extproc.core.candidates import Ranked
from lectr_extproc.core.choosing import apply_rules, choose_model, choose_provider, model_of_alias, what_is_wanted
from lectr_extproc.core.facts import OURS, Facts, Traits
from lectr_extproc.core.health import UNKNOWN, Health
from lectr_extproc.core.identity import org_of
from lectr_extproc.core.offer import every, one
from lectr_extproc.core.outcome import ASK_FOR_BODY, AskForBody, Decision, Refuse, Route, Serve
from lectr_extproc.core.reach import find_endpoint, has_key, is_reachable, named_provider, site_of
from lectr_extproc.core.refusal import REFUSALS, Refusal
from lectr_extproc.core.routing import rewritten, route_to
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Endpoint, Org
from lectr_extproc.core.words import Shape

_MAY_BE_JSON = re.compile(r"|text/plain|application/(?:json|x-www-form-urlencoded)|.*\+json")
"The content types whose body is looked into where Envoy could not, or did not try."

WELL_FORMED_KEY = re.compile(r"lc_key_[A-Za-z0-9_-]{16,128}", re.ASCII)


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
    """The org of the key, or of the workload where there is no key; where both name one it must be the same.

    A key's digest is looked up and then compared in constant time; keys are never scanned.
    """
    workloads = None if facts.workload is None else org_of(facts.workload, snapshot.orgs_by_workload)
    if not any(facts.lectr_keys):
        return workloads or REFUSALS["missing_lectr_key" if facts.workload is None else "unknown_workload"]
    key = facts.lectr_keys[0]
    if len(facts.lectr_keys) > 1 or not WELL_FORMED_KEY.fullmatch(key):
        return REFUSALS["invalid_lectr_key"]
    digest = hashlib.sha256(key.encode()).hexdigest()
    stored = digest if digest in snapshot.orgs_by_key else ""
    if not hmac.compare_digest(stored, digest):
        return REFUSALS["invalid_lectr_key"]
    org = snapshot.orgs_by_key[stored]
    return org if workloads is None or workloads.name == org.name else REFUSALS["identity_mismatch"]


def is_answered_here(facts: Traits, endpoint: Endpoint, org: Org, snapshot: Snapshot) -> bool:
    """Whether it is no provider's to answer: a question for models that names none."""
    is_asked = endpoint.answered_here and facts.method in ("GET", "HEAD")  # Envoy sends a HEAD no body
    return is_asked and not is_reachable(named_provider(facts, snapshot), org, snapshot)


def list_models(facts: Facts, org: Org, snapshot: Snapshot) -> Serve | Refuse:
    """The models this org can call, or one of them, in the shape of whose SDK asks."""
    shape: Shape = "anthropic" if "anthropic-version" in facts.header_names else "openai"
    reached = snapshot.sites.keys() | org.sites.keys()
    listing = snapshot.offer.listing(reached, facts.at_s, words_for_models(facts, org, snapshot)).only(org.may_use)
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
        return not (is_over or is_away) and has_key(facts, choice, provider, org, snapshot)

    def is_usable(wanted: tuple[str, ...]) -> bool:
        if wanted[0] == "auto":
            return bool(tiers)
        rows = snapshot.tiers.get(wanted[0]) or [model_of_alias(name, choice, org, snapshot) for name in wanted]
        return any(map(is_there, rows))

    tiers = [tier for tier in TIERS if is_usable((tier,))]
    aliases = [name for name, wanted in org.aliases.items() if is_usable(wanted)]
    chosen = [word for word in (*(["auto"] if tiers else []), *tiers) if word not in snapshot.models.registered]
    return (*chosen, *aliases)


def choose_route(
    facts: Facts, endpoint: Endpoint, org: Org, snapshot: Snapshot, health: Health = UNKNOWN
) -> Route | Refuse | AskForBody:
    """Provider, address, credential and path of a call that is let through."""
    drops = ours_in(facts)
    choice = choose_provider(facts, endpoint, org, snapshot)
    if org.rules is not None:
        facts, choice = apply_rules(facts, choice, endpoint, org, snapshot, rules=org.rules)
    wanted = what_is_wanted(facts, endpoint, org, snapshot)
    may_fall_back = facts.fallback is not None or (facts.names_fallback and facts.body is None)
    if wanted is None and not (may_fall_back and choice.model_sent is not None):
        return route_to(facts, choice, endpoint, org, snapshot, drops=drops)
    if facts.body_may_be_read and (facts.is_read_by_envoy or facts.content_length):
        return ASK_FOR_BODY
    return choose_model(facts, choice, endpoint, org, snapshot, wanted=wanted, drops=drops, health=health)


def ours_in(facts: Facts) -> tuple[str, ...]:
    """The members of the body that are for the gateway."""
    if not (facts.tier or facts.prefer or facts.fallback is not None):
        return ()
    return tuple([name for name in OURS if getattr(facts, name) is not None])


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
