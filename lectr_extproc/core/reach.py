"""The API that a call is for, the providers it can reach, and whose key it would have there."""

from typing import Literal, TypeGuard, assert_never
from urllib.parse import unquote

from lectr_extproc.core.credential import Credential, Form
from lectr_extproc.core.facts import Traits
from lectr_extproc.core.outcome import Choice
from lectr_extproc.core.rewrite import V1
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Endpoint, Org, Provider, Site, Streams
from lectr_extproc.core.words import CredentialSource


def find_endpoint(path: str, snapshot: Snapshot) -> Endpoint:
    """The API a path belongs to; the last row of the table matches every path."""
    usual = snapshot.usual_endpoints.get(path)
    return usual or next(endpoint for endpoint in snapshot.endpoints if endpoint.pattern.fullmatch(path))


def model_in_path(facts: Traits, endpoint: Endpoint) -> str | None:
    in_path = endpoint.pattern.fullmatch(facts.path) if endpoint.has_model else None
    return unquote(in_path["model"]) if in_path else None


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


def is_reachable(name: str | None, org: Org, snapshot: Snapshot) -> TypeGuard[str]:
    """Whether this org's calls can go to the provider of that name, if it is one."""
    row = snapshot.providers.get(name) if name else None
    return row is not None and (row.sited_per_org is not None or site_of(row, org, snapshot) is not None)


def named_provider(facts: Traits, snapshot: Snapshot) -> str | None:
    """The provider X-Lectr-Provider names; two differing values name none."""
    if len(facts.providers_named) != 1:
        return None
    name = facts.providers_named[0].lower()
    return next((row.id for row in snapshot.providers.values() if name == row.id or name in row.synonyms), None)


def lack_of(
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
    return None if has_key(facts, choice, row, org, snapshot) else "credential"


def has_key(facts: Traits, choice: Choice, row: Provider, org: Org, snapshot: Snapshot) -> bool:
    """Whether a call has a key for a provider: none is needed, one is held, or the client's own is for it."""
    site = site_of(row, org, snapshot)
    is_signed = site is not None and site.upstream.signing is not None
    if is_signed or row.key_form is Form.NONE or snapshot.providers[row.kind].key_env is None:
        return True
    is_own = row.id == choice.provider and facts.credential is not None and not key_is_anothers(facts, row, snapshot)
    return is_own or _held_key(row, org, snapshot) is not None or is_key_of(facts, row, snapshot)


def choose_credential(
    facts: Traits, provider: Provider, org: Org, snapshot: Snapshot
) -> tuple[CredentialSource, Credential | None]:
    """The client's own key; where it has none, or evidently another provider's, the one held for the chosen provider.

    A key held for every org never goes to an address that is one org's own: that org may not be who holds the key.
    """
    held = _held_key(provider, org, snapshot)
    if held is not None and (facts.credential is None or key_is_anothers(facts, provider, snapshot)):
        return "gateway", held
    return "client", facts.credential


def _held_key(provider: Provider, org: Org, snapshot: Snapshot) -> Credential | None:
    everyones = {} if provider.id in org.sites else snapshot.credentials
    return org.credentials.get(provider.id) or everyones.get(provider.id)


def shape_of_key(facts: Traits, snapshot: Snapshot) -> tuple[str, str] | None:
    """How the client's key begins, and the provider whose keys begin so."""
    if facts.credential is None:
        return None
    secret = facts.credential.secret
    return next((known for known in snapshot.key_shapes if secret.startswith(known[0])), None)


def key_is_anothers(facts: Traits, chosen: Provider, snapshot: Snapshot) -> bool:
    """Worth a note, never a refusal: where none is held, the client's own key goes where the client sends it."""
    known = shape_of_key(facts, snapshot)
    if known is None or known[1] == chosen.kind:
        return False
    shape, owner = known
    return bool(chosen.key_shapes) or shape not in snapshot.providers[owner].shared_key_shapes


def is_key_of(facts: Traits, provider: Provider, snapshot: Snapshot) -> bool:
    """Whether the client's key is certainly this provider's: it begins as nobody else's does."""
    known = shape_of_key(facts, snapshot)
    kind = snapshot.providers[provider.kind]
    return known is not None and known[1] == kind.id and known[0] not in kind.shared_key_shapes
