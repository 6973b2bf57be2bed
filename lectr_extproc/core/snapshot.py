"""Settings and catalogue as one immutable value: what a decision and a record are made with. Swapped whole."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from lectr_extproc.core.answer import AnswerRow
from lectr_extproc.core.auto import Scoring
from lectr_extproc.core.candidates import Ranked
from lectr_extproc.core.credential import Credential
from lectr_extproc.core.declared import Declared
from lectr_extproc.core.health import Breaking, Measuring
from lectr_extproc.core.limits import OrgLimits
from lectr_extproc.core.offer import Offer
from lectr_extproc.core.pricing import PriceTable
from lectr_extproc.core.rewrite import V1
from lectr_extproc.core.tables import Endpoint, Failover, Known, Limits, Models, Org, Provider, Site
from lectr_extproc.core.upstream import Upstream
from lectr_extproc.core.usage import CostReading
from lectr_extproc.core.words import WANTED

USUAL_PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/completions")
"Where nearly every call goes: their endpoints are looked up and not searched for, which takes 3 µs."

ObserveSetting = Literal["auto", "native", "stream"]
UsageChunk = Literal["strip", "keep", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """How answers are read."""

    answers: Mapping[str, AnswerRow]
    "By dialect."
    reported_costs: Mapping[str, CostReading]
    "By provider, where one says what a call cost."
    envoy_reads_usage: bool
    "The native profile: Envoy's own reading arrives in the access log."
    wanted: Mapping[str, ObserveSetting] = field(default_factory=dict)
    "By provider; anything else is `auto`."
    usage_chunk: UsageChunk = "strip"
    "What becomes of the usage chunk of a stream that lectr asked for and the client did not."


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One reading of settings and catalogue."""

    orgs_by_key: Mapping[str, Org]
    "By the lower-case hex SHA-256 of the whole key."
    orgs_by_workload: Mapping[str, Org] = field(default_factory=dict)
    "By the URI of a client's certificate, or the beginning of several with `/*` behind it."
    identity: str | None = None
    "Who tells whose certificate a call came with: an attribute of Envoy's, or `xfcc`. None: nobody is asked."
    providers: Mapping[str, Provider]
    sites: Mapping[str, Site]
    "The providers that have an address of their own."
    models: Models
    lineup: Mapping[tuple[str, str], Known]
    "The models there are to choose from, by provider and name."
    ranking: tuple[Ranked, ...]
    "Those of the tiers, and what is known of them."
    endpoints: tuple[Endpoint, ...]
    observation: Observation
    credentials: Mapping[str, Credential] = field(default_factory=dict)
    "The keys held for every org, by provider."
    prices: PriceTable
    limits: Limits = field(default_factory=Limits)
    declared: tuple[Declared, ...] = ()
    "The refusals after which another candidate is asked."
    failover: Failover | None = None
    "None: Envoy sends each call to one provider."
    scoring: Scoring
    "How `model: auto` scores conversations."
    breaking: Breaking = field(default_factory=Breaking)
    measuring: Measuring = field(default_factory=Measuring)
    default_provider: str = "openai"
    trust_traceparent: bool = True
    "Whether a client's traceparent makes its span the parent of ours."
    key_shapes: tuple[tuple[str, str], ...] = field(init=False)
    "How keys begin and whose they are, the longest first: `sk-ant-` is asked before `sk-`."
    homes: tuple[tuple[str, str], ...] = field(init=False)
    "What only one vendor's own SDK writes before its paths, and whose it is: `/v1beta/openai/`, `/api/v1/`."
    usual_endpoints: Mapping[str, Endpoint] = field(init=False)
    "By path: what the search of `endpoints` finds for the usual ones."
    tiers: Mapping[str, tuple[Ranked, ...]] = field(init=False)
    figures: Mapping[tuple[str, str], Ranked] = field(init=False)
    "What is known of models to choose, by provider and name."
    sticky_headers: frozenset[str] = field(init=False)
    "Those whose values rules ask for."
    limits_of: Mapping[str, OrgLimits] = field(init=False)
    "By org, as its records are settled: the limits of single keys may be left out."
    orgs: Mapping[str, Org] = field(init=False, repr=False, compare=False)
    "By name, as none of its keys bounds it."
    some_providers_headers: frozenset[str] = field(init=False)
    "Those that some providers must have and others must not."
    offer: Offer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "offer", Offer(self.lineup, self.models, self.providers))
        orgs = {org.name: replace(org, of_key=None) if org.of_key else org for org in self.callers}
        object.__setattr__(self, "orgs", orgs)
        rows = self.providers.values()
        shifting = {*(name for row in rows for name, _ in row.adds), *(name for row in rows for name in row.refuses)}
        object.__setattr__(self, "some_providers_headers", frozenset(shifting))
        shapes = [(shape, row.id) for row in self.providers.values() for shape in row.key_shapes]
        object.__setattr__(self, "key_shapes", tuple(sorted(shapes, key=lambda pair: -len(pair[0]))))
        prefixes = [(f"{row.prefix}/", row.id) for row in self.providers.values() if row.id == row.kind and row.prefix]
        several = Counter([V1 + "/", *(prefix for prefix, _ in prefixes)])
        object.__setattr__(self, "homes", tuple(pair for pair in prefixes if several[pair[0]] == 1))
        usual = {path: next(row for row in self.endpoints if row.pattern.fullmatch(path)) for path in USUAL_PATHS}
        object.__setattr__(self, "usual_endpoints", usual)
        tiers = {tier: tuple(row for row in self.ranking if row.tier == tier) for tier in WANTED}
        object.__setattr__(self, "tiers", tiers)
        object.__setattr__(self, "figures", {(row.provider, row.model): row for row in self.ranking})
        limited = {org.name: org.limits for org in self.callers if org.limits is not None}
        object.__setattr__(self, "limits_of", limited)
        ruled = [rule for org in self.callers if org.rules for rule in org.rules.ordered]
        object.__setattr__(self, "sticky_headers", frozenset(rule.sticky for rule in ruled if rule.sticky))

    def kind_of(self, provider: str) -> str:
        """The catalogue's provider whose answers and costs are this one's, too; itself, where nobody knows it."""
        return self.providers[provider].kind if provider in self.providers else provider

    @property
    def callers(self) -> tuple[Org, ...]:
        """Every org, as each of its keys and workloads has it."""
        return (*self.orgs_by_key.values(), *self.orgs_by_workload.values())

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Every address a call can be sent to, each once, in a stable order."""
        sites = [*self.sites.values(), *(s for org in self.callers for s in org.sites.values())]
        return tuple({site.upstream.cluster: site.upstream for site in sites}.values())
