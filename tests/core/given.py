"""What the core's tests start from: a snapshot of the real catalogue, and requests as Envoy would report them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lectr_extproc.catalog.answers import ANSWERS, REPORTED_COSTS
from lectr_extproc.catalog.auto_words import WORDS
from lectr_extproc.catalog.dialects import ENDPOINTS
from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.prices import price_table
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.catalog.ranking import ALIASES, RANKING
from lectr_extproc.core.auto import Scoring
from lectr_extproc.core.credential import Credential, Form
from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, read_facts
from lectr_extproc.core.outcome import Decision, Route
from lectr_extproc.core.record import CallRecord, LogEntry, record_from
from lectr_extproc.core.snapshot import Observation, Snapshot
from lectr_extproc.core.tables import Known, Limits, Org, Provider, Site
from lectr_extproc.core.upstream import Upstream

KEY = "lc_key_0123456789abcdefghij"
DISABLED_KEY = "lc_key_disabled-disabled-disabled"
CLIENT_KEY = "a-key-of-the-client"
AZURE = "https://acme.openai.azure.com"


def azure_site(version: str = "2024-02-01", endpoint: str = AZURE) -> Site:
    return Site(upstream=Upstream.parse("azure", endpoint), api_version=version)


def snapshot(
    azure: Site | None = None,
    *,
    limits: Limits | None = None,
    addresses: Mapping[str, str] | None = None,
    more: Iterable[Provider] = (),
    registered: Mapping[str, str] | None = None,
) -> Snapshot:
    """The catalogue's own addresses, and those given by provider; more providers, and models registered for them."""
    org = Org(name="acme", sites={"azure": azure} if azure else {}, aliases=ALIASES)
    rows = {**PROVIDERS, **{row.id: row for row in more}}
    bases = {row.id: (addresses or {}).get(row.id, row.base_url) for row in rows.values()}
    return Snapshot(
        orgs_by_key={digest(KEY): org, digest(DISABLED_KEY): Org(name="gone", enabled=False)},
        providers=rows,
        sites={id_: Site(upstream=Upstream.parse(id_, base)) for id_, base in bases.items() if base},
        models=replace(MODELS, registered=registered or {}),
        lineup={**LINEUP, **{(owner, name): Known(name, None) for name, owner in (registered or {}).items()}},
        ranking=RANKING,
        endpoints=ENDPOINTS,
        scoring=Scoring(words=WORDS),
        limits=limits or Limits(),
        observation=Observation(answers=ANSWERS, reported_costs=REPORTED_COSTS, envoy_reads_usage=True),
        prices=price_table(rows=rows),
    )


def recorded(entry: LogEntry) -> CallRecord:
    """The record of one entry, with the catalogue's own prices."""
    return record_from(entry, _CATALOGUE)


def held(**keys: str) -> dict[str, Credential]:
    """Keys that the gateway holds, by provider."""
    return {provider: Credential(Form.NONE, key) for provider, key in keys.items()}


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def request(
    model: str | None = None,
    *headers: tuple[str, str],
    path: str = "/v1/chat/completions",
    method: str = "POST",
    key: str | None = KEY,
    bearer: str | None = CLIENT_KEY,
    content_type: str = "application/json",
    metadata: Mapping[str, object] | None = None,
    has_body: bool = True,
) -> Facts:
    """A call as far as its headers and Envoy's reading of its body tell."""
    pairs = [(":method", method), (":path", path), ("content-type", content_type)]
    pairs += [("x-lectr-key", key)] if key is not None else []
    pairs += [("authorization", f"Bearer {bearer}")] if bearer is not None else []
    read = {**({"model": model} if model is not None else {}), **(metadata or {})}
    return read_facts([*pairs, *headers], read, end_of_stream=not has_body)


def routed(facts: Facts, tables: Snapshot | None = None) -> Route:
    """The route of a call that must have one."""
    decision: Decision = decide(facts, tables or snapshot())
    assert isinstance(decision, Route), decision
    return decision


_CATALOGUE = snapshot()
