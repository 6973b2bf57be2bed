"""The orgs of lectr.yaml: what may be written, and the values that it becomes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from lectr_extproc.catalog.ranking import ALIASES
from lectr_extproc.core.credential import HEADERS, Credential
from lectr_extproc.core.facts import known_task
from lectr_extproc.core.rules import Arm, Rule, Rules, Terms
from lectr_extproc.core.tables import Bounds, Org, Site
from lectr_extproc.core.upstream import Upstream
from lectr_extproc.core.words import KEY_HEADER, TASKS, WANTED, Wanted
from lectr_extproc.settings_limits import OrgLimitsSection, org_limits
from lectr_extproc.settings_types import Credentials, Label, Section, Url


class NamesSection(Section):
    """Providers and models."""

    providers: list[str] = Field(default_factory=list, description="Of lectr's, or of `providers:`.")
    models: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="As they are sent to their providers; letter case counts."
    )


class KeySection(Section):
    """One key of an org. The key itself is never stored; `lectr keys new` prints it once, with these lines."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the whole key, lower-case hex.")
    label: str = Field(default="", max_length=100, description="Which key this is, for people.")
    blocked: NamesSection = Field(default=NamesSection(), description="For calls with this key, beside the org's.")
    allowed: NamesSection = Field(default=NamesSection(), description="What this key may use of what its org may.")


def _unquoted(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value  # YAML reads a bare 2024-02-01 as a date


def _azure_version(value: str) -> str:
    if value != "v1" and not value[:4].isdigit():
        raise ValueError("write a dated version such as 2024-02-01, or v1 for Azure's /openai/v1/ API")
    return value


AzureVersion = Annotated[str, AfterValidator(_azure_version), BeforeValidator(_unquoted)]


class AzureSection(Section):
    """Where an org keeps its Azure OpenAI resource."""

    endpoint: Url = Field(description="https://<resource>.openai.azure.com. Plain http is accepted, for tests.")
    api_version: AzureVersion = Field(
        default="2024-02-01",
        description="The api-version written where the client sends none, or v1 for the /openai/v1/ API.",
    )


def _task(value: str) -> str:
    if (known := known_task(value)) is None:
        raise ValueError(f"write one of {', '.join(TASKS)}; other words are known by no rule")
    return known


HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

_SECRETS = frozenset({*HEADERS, "cookie", "proxy-authorization", KEY_HEADER})


def _sticky(value: str) -> str:
    name = value.lower()
    if not HEADER.fullmatch(value) or name in _SECRETS:
        raise ValueError("write the name of a header that is not a key's, such as x-user-id")
    return name


class WhenSection(Section):
    """Which calls a rule is for: those of which all holds that is said here."""

    feature: Label | None = Field(default=None, description="X-Lectr-Feature.")
    task: Annotated[str, AfterValidator(_task)] | None = Field(
        default=None, description=f"X-Lectr-Task: {', '.join(TASKS)}."
    )
    provider: str | None = Field(
        default=None, description="The one that the client names, or else the one found for the model."
    )
    model: str | None = Field(default=None, min_length=1, description="As clients write it; letter case counts.")


class ThenSection(Section):
    """What becomes of a call; what is not said stays as the client has it."""

    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Its provider is found as for clients; where it is nobody's name, the provider stays.",
    )
    provider: str | None = Field(default=None, description="One of lectr's, or of `providers:`.")
    tier: Wanted | None = Field(
        default=None, description="A model of this tier is chosen; with `provider`, one of that provider's."
    )

    @model_validator(mode="after")
    def _names_a_model_or_a_tier(self) -> Self:
        if self.model and self.tier:
            raise ValueError("say a model or a tier, not both")
        return self


class ArmSection(ThenSection):
    """One outcome of several. Without a model and a provider: the call stays as it is."""

    weight: int = Field(ge=0, le=10**6, description="Its part of the calls; 0 for none.")

    def arm(self) -> Arm:
        """Its own value, which its name follows from."""
        return Arm(self.model, self.provider, self.weight, self.tier)


class RuleSection(Section):
    """Which model answers calls of one kind, whatever model they pin (docs/routing.md)."""

    name: str = Field(pattern=r"^[!-~]([ -~]*[!-~])?$", max_length=100, description="On the record of its calls.")
    when: WhenSection = Field(default=WhenSection(), description="Default: every call.")
    then: ThenSection | None = Field(default=None, description="What becomes of all of its calls.")
    split: list[ArmSection] | None = Field(
        default=None, min_length=2, description="Instead of `then`: what becomes of which part of them."
    )
    sticky: Annotated[str, AfterValidator(_sticky)] | None = Field(
        default=None,
        description="With `split`: the header whose value says which part a call belongs to, always the same. "
        "Without it, or in a call that lacks it, chance does.",
    )
    priority: int = Field(default=0, description="Rules of a higher one come first; of the same, those above.")
    enabled: bool = Field(default=True, description="false leaves the rule out.")

    @model_validator(mode="after")
    def _says_what_becomes_of_a_call(self) -> Self:
        arms = [arm.arm() for arm in self.split or ()]
        if (self.then is None) == (self.split is None):
            raise ValueError("write `then` or `split`, one of them")
        if self.then and not (self.then.model or self.then.provider or self.then.tier):
            raise ValueError("say a model, a tier or a provider under `then`")
        if self.sticky and not self.split:
            raise ValueError("`sticky` goes with `split`")
        if self.split and not any(arm.weight for arm in arms):
            raise ValueError("all weights are 0: `enabled: false` turns the rule off")
        if same := next((arm for i, arm in enumerate(arms) if str(arm) in map(str, arms[:i])), None):
            raise ValueError(f"two parts of `split` are the same, {str(same)!r}: add up their weights")
        return self


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


Alias = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]],
    Field(min_length=1),
    BeforeValidator(_several, json_schema_input_type=str | list[str]),
]


def _workload(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/*\s]+(/[^*\s]*)?", value.removesuffix("/*"), re.IGNORECASE):
        raise ValueError("write a URI such as spiffe://cluster.local/ns/shop/sa/web, or with /* for all below it")
    return value


Workload = Annotated[str, AfterValidator(_workload)]


class OrgSection(Section):
    """A tenant: who may call, and with which keys."""

    name: str = Field(min_length=1, max_length=100, description="On every record of its calls.")
    enabled: bool = Field(default=True, description="false answers its calls with 401 org_disabled.")
    keys: list[KeySection] = Field(default_factory=list, description="Removing a key revokes it.")
    workloads: list[Workload] = Field(
        default_factory=list,
        description="URIs of client certificates (SPIFFE ids) whose calls need no key, whole or with /* at the end. "
        "They count where `identity` says who tells them.",
    )
    azure: AzureSection | None = Field(default=None, description="Without it, Azure calls get azure_config_missing.")
    credentials: Credentials = Field(
        default_factory=dict, description="Like the global ones, for this org alone, whose own come first."
    )
    rules: list[RuleSection] = Field(default_factory=list, description="Which model answers which calls.")
    aliases: dict[Annotated[str, Field(min_length=1, max_length=256)], Alias] = Field(
        default_factory=dict,
        description="Names that clients may write as the model: for a tier, for auto, for a model, or for several, of "
        "which the first one that fits is chosen.",
    )
    blocked: NamesSection = Field(
        default=NamesSection(), description="Never chosen for its calls; those that pin one get 403 model_not_allowed."
    )
    allowed: NamesSection = Field(
        default=NamesSection(), description="No others, where there are any: of providers, of models, or of both."
    )
    limits: OrgLimitsSection | None = Field(default=None, description="Default: none.")

    @model_validator(mode="after")
    def _aliases_lead_to_models(self) -> Self:
        for name, models in self.aliases.items():
            if name in WANTED:
                raise ValueError(f"aliases: {name!r} is a word of its own")
            if found := next((model for model in models if model in self.aliases and model != name), None):
                raise ValueError(f"aliases: {found!r} is an alias, too; name what it stands for")
            if len(models) > 1 and set(models) & set(WANTED):
                raise ValueError(f"aliases: {name!r}: a tier stands alone")
        return self


def _org(section: OrgSection, keys: Mapping[str, Credential]) -> Org:
    azure, bounds = section.azure, _bounds(section)
    sites = {"azure": azure_site("azure", azure.endpoint, azure.api_version)} if azure else {}
    return Org(
        name=section.name,
        enabled=section.enabled,
        sites=sites,
        credentials=credentials_of(section.credentials, keys),
        rules=_rules(section.rules),
        aliases={**ALIASES, **{name: tuple(of) for name, of in section.aliases.items()}},
        blocked=bounds.blocked,
        allowed_providers=bounds.allowed_providers,
        allowed_models=bounds.allowed_models,
    )


def by_key(section: OrgSection, keys: Mapping[str, Credential]) -> Iterator[tuple[str, Org]]:
    """The org as each of its keys has it, by the key's digest."""
    org = _org(section, keys)
    limits = org_limits(org.name, [key.label for key in section.keys], section.limits) if section.limits else {}
    for key in section.keys:
        of_key = bounds if (bounds := _bounds(key)) != Bounds() else None
        yield key.sha256, replace(org, limits=limits.get(key.label), of_key=of_key) if limits or of_key else org


def _bounds(section: KeySection | OrgSection) -> Bounds:
    return Bounds(
        blocked=frozenset((*section.blocked.providers, *section.blocked.models)),
        allowed_providers=frozenset(section.allowed.providers),
        allowed_models=frozenset(section.allowed.models),
    )


def by_workload(section: OrgSection, keys: Mapping[str, Credential]) -> Iterator[tuple[str, Org]]:
    """The org as its workloads have it, of which no key's limits are true."""
    org = _org(section, keys)
    limits = org_limits(org.name, [""], section.limits)[""] if section.limits else None
    for workload in section.workloads:
        yield workload, replace(org, limits=limits)


def azure_site(id_: str, endpoint: str, version: str) -> Site:
    """Both `https://x.openai.azure.com` and the base URL of the v1 API, as its SDK takes it, are understood."""
    resource = endpoint.rstrip("/").removesuffix("/openai/v1")
    is_v1 = resource != endpoint.rstrip("/")
    return Site(upstream=Upstream.parse(id_, resource), api_version="v1" if is_v1 else version)


def credentials_of(references: Mapping[str, str], keys: Mapping[str, Credential]) -> dict[str, Credential]:
    return {id_: keys[reference] for id_, reference in references.items() if reference in keys}


def _rules(sections: Sequence[RuleSection]) -> Rules | None:
    """The higher priority first; rules of the same one as they are written."""
    ordered = sorted(sections, key=lambda section: -section.priority)
    return Rules(tuple(map(_rule, ordered))) if ordered else None


def _rule(section: RuleSection) -> Rule:
    then = section.then
    return Rule(
        name=section.name,
        when=Terms(**section.when.model_dump()),
        arms=(Arm(then.model, then.provider, tier=then.tier),)
        if then
        else tuple(arm.arm() for arm in section.split or ()),
        sticky=section.sticky,
        enabled=section.enabled,
    )
