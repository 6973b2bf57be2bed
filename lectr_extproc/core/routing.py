"""The way to a provider that was chosen: address, path, headers, key, body, and who reads the answer."""

import dataclasses
from urllib.parse import parse_qsl

from lectr_extproc.core import credential as credentials
from lectr_extproc.core import words
from lectr_extproc.core.facts import Facts, Traits
from lectr_extproc.core.inject import asks_for_usage, inject_include_usage
from lectr_extproc.core.json_members import without
from lectr_extproc.core.outcome import Choice, Observe, Refuse, Route
from lectr_extproc.core.reach import choose_credential, site_of
from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.core.rewrite import rename_in_query, rename_model, verbatim
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Endpoint, Org, Provider
from lectr_extproc.core.upstream import UPGRADE_SUFFIX

_OURS = (words.OWN_PREFIX, "x-forwarded-")

# A client's AWS signature holds for the client's own address alone: neither it nor its parts are of use to anyone else.
_AWS_SIGNATURE = ("x-amz-date", "x-amz-security-token", "x-amz-content-sha256")

CREDENTIALS = frozenset({*(form.value for form in credentials.HEADERS), "proxy-authorization", *_AWS_SIGNATURE})

ENVOY_READS = frozenset({"openai.chat", "openai.responses", "anthropic.messages", "gemini.generate"})
"The dialects of Envoy's ai_protocol_manager (1.40)."


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
