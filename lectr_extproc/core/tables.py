"""The three tables, as types: a dialect is an API shape, a provider an address that speaks dialects, a model a name.

The rows are in `catalog/`; decisions read them through a Snapshot.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from types import MappingProxyType

from lectr_extproc.core.credential import Credential, Form
from lectr_extproc.core.facts import Traits
from lectr_extproc.core.inject import Asking
from lectr_extproc.core.limits import OrgLimits
from lectr_extproc.core.rules import Rules
from lectr_extproc.core.upstream import Upstream
from lectr_extproc.core.words import Shape


class Streams(Enum):
    """When an API answers with a stream."""

    ASKED = "the body says `stream: true`"
    UNLESS_REFUSED = "the body does not say `stream: false`"
    ALWAYS = "whatever the body says"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A path clients call, and what it says about the call. Patterns match the whole path without its query."""

    pattern: re.Pattern[str]
    "A group named `model` is the model, where the path carries it."
    dialect: str
    native_to: str | None = None
    "The one provider that has this path. It decides the provider, and the path goes there as it is."
    native_where_sited: bool = False
    "The path is `native_to`'s only for an org that has an address there, or that writes its api-version."
    home: str | None = None
    "Whose API this path is when nothing else names a provider."
    key_form: Form | None = None
    "Where this API wants its key, if not where the provider's others do."
    shape: Shape = "openai"
    answered_here: bool = False
    "A GET of it is answered by lectr itself, unless the client names a provider."
    takes_form: bool = False
    "Its body may be a form in parts, with the model in a field."
    streams: Streams = Streams.ASKED

    @property
    def has_model(self) -> bool:
        """The path names the model."""
        return bool(self.pattern.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where one org's calls to a provider go."""

    upstream: Upstream
    api_version: str | None = None


PathRewrite = Callable[[Traits, "Provider", Site, str | None], str]
"(facts, provider, site, model sent) -> the provider's path, with its query."


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One vendor endpoint. What differs between providers is a column here, not a branch somewhere else."""

    id: str
    name: str
    base_url: str | None
    "None: it has no address until settings give one."
    key_form: Form
    path: PathRewrite
    source: str
    checked: date
    kind: str = ""
    "The catalogue's provider whose answers, corrections, native paths and prices are its own, too. Default: itself."
    synonyms: tuple[str, ...] = ()
    "Other names accepted in X-Lectr-Provider and before the slash of `provider/model`."
    model_prefixes: tuple[str, ...] = ()
    "Further words accepted before the slash of `provider/model` only."
    key_shapes: tuple[str, ...] = ()
    "How its keys begin, where anybody's would not."
    shared_key_shapes: frozenset[str] = frozenset()
    "Those of them that other vendors' keys have too: enough to guess by, not to call a key another's."
    key_form_of: Mapping[Shape, Form] = field(default_factory=dict)
    "The APIs that want its key in another form, by the shape of their errors."
    elsewhere: tuple[tuple[str, str], ...] = ()
    "Clients' paths, and all below them, that it has elsewhere than under its prefix."
    stays_bearer: tuple[str, ...] = ()
    "How tokens begin that must stay in the Authorization header."
    adds: tuple[tuple[str, str], ...] = ()
    "Headers it requires, written only where the client has none."
    refuses: tuple[str, ...] = ()
    "Client headers it would answer with an error."
    asking: Asking = Asking.NEVER
    "Whether it may be asked for usage on a stream whose client did not."
    apis: frozenset[str] = frozenset()
    "Dialects of no provider's own that it speaks below `/v1`: calls in these can be moved to it from others."
    native: frozenset[str] = frozenset()
    "Dialects in which nothing that Envoy's own reading leaves out changes this provider's price."
    sited_per_org: str | None = None
    "Each org has an address of its own; this is the error code when an org has none."
    region: str | None = None
    "The AWS region in its address, in the place of which settings can put another."
    aws_service: str | None = None
    "What AWS signatures for it name as the service. None: it takes no such signatures."
    quota_statuses: frozenset[int] = frozenset()
    "By which it says that a quota is used up, where others would mean a mistake of the caller's."
    key_env: str | None = None
    "The environment variable its own SDK reads the key from."
    prefix: str = field(init=False, default="")
    "The path prefix of its public address, which its own SDK's paths begin with."

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", self.id):
            raise CatalogError(f"provider {self.id!r}: an id is lower-case letters, digits, - and _")
        object.__setattr__(self, "kind", self.kind or self.id)
        if self.base_url is not None:
            try:
                object.__setattr__(self, "prefix", Upstream.parse(self.id, self.base_url).prefix)
            except ValueError as error:
                raise CatalogError(f"provider {self.id!r}: {error}") from None


class CatalogError(Exception):
    """A row that cannot be right; the message names it."""


@dataclass(frozen=True, slots=True)
class Family:
    """Model names that belong to a provider, by pattern on the lower-cased name."""

    provider: str
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Everything that turns a model name into a provider."""

    registered: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    "The names that settings give to a provider. Case-sensitive; asked first."
    exact: Mapping[str, str]
    "Case-sensitive; asked before every pattern."
    families: tuple[Family, ...]
    "In order: the first match wins. No pattern has groups of its own."
    any_family: re.Pattern[str] = field(init=False)
    "All families at once, a group each: a third of the time of asking one after the other."

    def __post_init__(self) -> None:
        groups = "|".join(f"({family.pattern.pattern})" for family in self.families)
        object.__setattr__(self, "any_family", re.compile(groups, re.ASCII))


@dataclass(frozen=True, slots=True)
class Known:
    """One model of one provider."""

    model: str
    window: int | None
    max_output: int | None = None
    retires: date | None = field(default=None, kw_only=True)
    gone: bool = field(default=False, kw_only=True)
    "Lists that drop what is retired have dropped it, or never had it; the day is not known."
    to: tuple[str, ...] = field(default=(), kw_only=True)
    "Models of the same provider to suggest instead, the more cautious first."
    lacks: frozenset[str] = field(default=frozenset(), kw_only=True)
    "What it cannot do, where the lineup has both models that can and those that cannot."
    note: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.model in self.to or 0 in {self.window, self.max_output}:
            raise CatalogError(f"model {self.model!r}: a window or downgrade that cannot be")

    def is_retired(self, day: date) -> bool:
        """No longer to be suggested. Calls to it are still priced."""
        return self.gone or (self.retires is not None and self.retires <= day)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Which providers and models may be used."""

    blocked: frozenset[str] = frozenset()
    "Providers and models that may not."
    allowed_providers: frozenset[str] = frozenset()
    allowed_models: frozenset[str] = frozenset()
    "Where there are any of these, no others may."

    def may_use(self, provider: str, model: str | None) -> bool:
        """Whether calls may go there. Without a model (a list of files, say) the provider alone decides."""
        if provider in self.blocked or model in self.blocked:
            return False
        if self.allowed_providers and provider not in self.allowed_providers:
            return False
        return model is None or not self.allowed_models or model in self.allowed_models


@dataclass(frozen=True, slots=True, kw_only=True)
class Org(Bounds):
    """A tenant, where it keeps the providers that every org sites for itself, and the keys held for it alone."""

    name: str
    enabled: bool = True
    sites: Mapping[str, Site] = field(default_factory=dict)
    credentials: Mapping[str, Credential] = field(default_factory=dict)
    "By provider."
    rules: Rules | None = None
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    "Names for a tier, or for models in order."
    limits: OrgLimits | None = None
    of_key: Bounds | None = None
    "What the key of a call leaves of that."

    def may_use(self, provider: str, model: str | None) -> bool:
        """Whether a call with this key may go there."""
        if self.of_key is not None and not self.of_key.may_use(provider, model):
            return False
        return Bounds.may_use(self, provider, model)  # super() knows no class with slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """How a call goes on to its next candidate."""

    attempts_max: int = 3
    "How many candidates are asked at most."
    stream_timeout_s: float = 60
    answer_timeout_s: float = 300
    "How long a candidate may take until its answer begins: a stream's, and one that begins when all of it is there."


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes the operator set."""

    max_body_bytes: int = 32 * 1024 * 1024
    inspect_body_bytes: int = 1024 * 1024
    "How large a body may be that is read only to find its model, because its content type hid it from Envoy."
    inspect_multipart_bytes: int = 32 * 1024 * 1024
    "The same for forms in parts, which carry recordings and pictures."

    def passed_by(self, size: int) -> int:
        """How many of the sizes that decide a body exceeds; whether there is one at all is the first of them."""
        return sum((
            size > 0,
            size > self.max_body_bytes,
            size > self.inspect_body_bytes,
            size > self.inspect_multipart_bytes,
        ))  # fmt: skip
