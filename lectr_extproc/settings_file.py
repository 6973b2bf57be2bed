"""lectr.yaml as its author sees it: a section is a class, a setting a field that says what it is for."""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.auto import STEPS, WEIGHTS, Steps
from lectr_extproc.core.credential import HEADERS
from lectr_extproc.core.facts import known_task, label
from lectr_extproc.core.pricing import UNITS
from lectr_extproc.core.rules import Arm
from lectr_extproc.core.upstream import Upstream
from lectr_extproc.core.words import KEY_HEADER, TASKS, WANTED, Wanted


def without_blanks(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A name with nothing after it, as a commented-out section leaves it, is not a setting."""
    return {name: value for name, value in raw.items() if value is not None}


PORT = re.compile("[0-9]{1,5}")


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not PORT.fullmatch(port) or int(port) >= 65536:
        raise ValueError("write it as host:port, for example 127.0.0.1:10000")
    return value


def is_loopback(address: str) -> bool:
    """Whether host:port, or a host alone, is this machine's own; IPv6 is in brackets."""
    host, _, port = address.rpartition(":")
    host = (host if port.isdigit() else address).strip("[]").lower()
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _socket(value: str) -> str:
    return value if value.startswith("unix:/") else _address(value)


def _url(value: str) -> str:
    Upstream.parse("url", value)
    return value


def _source(value: str) -> str:
    if "://" in value and not (value.startswith(("https://", "http://")) and urlsplit(value).hostname):
        raise ValueError("write the path of a file, or a URL such as https://prices.example/data.json")
    return value


def _ledger(value: str) -> str:
    kind, _, rest = value.partition(":")
    if value == "memory" or (kind == "env" and rest) or (kind == "file" and rest.startswith("/")):
        return value
    parts = urlsplit(value)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return value
    if parts.scheme in {"postgresql", "postgres"}:
        if parts.password is not None or "password" in parts.query:
            raise ValueError("no password in here: write env:NAME or file:/path, or use PGPASSWORD or ~/.pgpass")
        return value
    raise ValueError("write sqlite:///path/to/file, postgresql://host/database, memory, env:NAME or file:/path")


def _provider(value: str) -> str:
    if value not in PROVIDERS:
        raise ValueError(unknown(value, PROVIDERS))
    return value


def unknown(provider: str, known: Iterable[str]) -> str:
    return f"{provider!r} is not a provider; known are {', '.join(known)}"


def _with_an_id(value: object) -> object:
    return {"id": value} if isinstance(value, str) else value


def _unquoted(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value  # YAML reads a bare 2024-02-01 as a date


def _azure_version(value: str) -> str:
    if value != "v1" and not value[:4].isdigit():
        raise ValueError("write a dated version such as 2024-02-01, or v1 for Azure's /openai/v1/ API")
    return value


def _label(value: str) -> str:
    if (kept := label(value)) is None:
        raise ValueError("there is nothing printable in it")
    return kept


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


Address = Annotated[str, AfterValidator(_address)]
SocketAddress = Annotated[str, AfterValidator(_socket)]
Url = Annotated[str, AfterValidator(_url)]
AzureVersion = Annotated[str, AfterValidator(_azure_version), BeforeValidator(_unquoted)]


MOST_WORKERS = 64
LAST_PORT = 65_535
REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+")
Reference = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^({REFERENCE.pattern})$"})]
Credentials = dict[str, Reference]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_written_is_the_default(cls, raw: Any) -> Any:
        return without_blanks(raw) if isinstance(raw, dict) else raw


class KeySection(_Section):
    """One key of an org. The key itself is never stored; `lectr keys new` prints it once, with these lines."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the whole key, lower-case hex.")
    label: str = Field(default="", max_length=100, description="Which key this is, for people.")


class AzureSection(_Section):
    """Where an org keeps its Azure OpenAI resource."""

    endpoint: Url = Field(description="https://<resource>.openai.azure.com. Plain http is accepted, for tests.")
    api_version: AzureVersion = Field(
        default="2024-02-01",
        description="The api-version written where the client sends none, or v1 for the /openai/v1/ API.",
    )


class WhenSection(_Section):
    """Which calls a rule is for: those of which all holds that is said here."""

    feature: Annotated[str, AfterValidator(_label)] | None = Field(default=None, description="X-Lectr-Feature.")
    task: Annotated[str, AfterValidator(_task)] | None = Field(
        default=None, description=f"X-Lectr-Task: {', '.join(TASKS)}."
    )
    provider: str | None = Field(
        default=None, description="The one that the client names, or else the one found for the model."
    )
    model: str | None = Field(default=None, min_length=1, description="As clients write it; letter case counts.")


class ThenSection(_Section):
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


class RuleSection(_Section):
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


class NamesSection(_Section):
    """Providers and models."""

    providers: list[str] = Field(default_factory=list, description="Of lectr's, or of `providers:`.")
    models: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="As they are sent to their providers; letter case counts."
    )


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


Alias = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]],
    Field(min_length=1),
    BeforeValidator(_several, json_schema_input_type=str | list[str]),
]


class ForSection(_Section):
    """Whose calls a limit is for: one of the three."""

    key: str | None = Field(default=None, min_length=1, description="The label of one of this org's keys.")
    feature: Annotated[str, AfterValidator(_label)] | None = Field(default=None, description="X-Lectr-Feature.")
    model: str | None = Field(default=None, min_length=1, description="As clients write it, or as it is sent.")

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if sum(value is not None for value in (self.key, self.feature, self.model)) != 1:
            raise ValueError("name a key, a feature or a model, one of them")
        return self


Usd = Annotated[Decimal, Field(gt=0, le=10**5, allow_inf_nan=False)]
Most = Annotated[int, Field(gt=0, le=10**9)]


def _window(value: object) -> object:
    """Seconds, or a number and the unit of time it counts."""
    if isinstance(value, str) and (found := re.fullmatch(r"([0-9]{1,7})([smhd])", value)):
        return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
    return value


class RollingSection(_Section):
    """So much money in whatever stretch of time of this length."""

    usd: Usd = Field(description="USD.")
    window: Annotated[
        Annotated[int, Field(ge=60, le=31 * 86400)],
        BeforeValidator(_window, json_schema_input_type=int | str),
    ] = Field(description="Seconds, or 90s, 30m, 1h, 7d.")


class _Amounts(_Section):
    daily_usd: Usd | None = Field(default=None, description="USD per day, which begins at 00:00 UTC.")
    monthly_usd: Usd | None = Field(default=None, description="USD per calendar month (UTC).")
    rolling: list[RollingSection] = Field(default_factory=list, description="USD within a window that slides.")
    requests_per_minute: Most | None = Field(
        default=None, description="A bucket of so many that refills, full at first."
    )
    tokens_per_minute: Most | None = Field(default=None, description="The same for tokens, of prompts and answers.")
    parallel_streams: Most | None = Field(default=None, description="Streams that are open at a time.")
    over: Literal["refuse", "economy", "standard", "premium"] = Field(
        default="refuse", description="What becomes of calls beyond these: 429, or a model of this tier, and no bound."
    )
    warn_at: list[Annotated[Decimal, Field(gt=0, le=1)]] = Field(
        default_factory=lambda: [Decimal("0.8"), Decimal(1)],
        description="Parts of the money that are told to the webhook, each once in a day, a month or a window.",
    )


class LimitSection(_Amounts):
    """Limits for a part of an org's calls, beside those for all of them."""

    for_: ForSection | None = Field(default=None, alias="for", description="Default: every call of the org.")


class OrgLimitsSection(_Amounts):
    """What an org may use (docs/limits.md)."""

    narrower: list[LimitSection] = Field(default_factory=list, description="For one key, feature or model each.")
    when_store_is_away: Literal["open", "closed"] = Field(
        default="open",
        description="What becomes of calls while the ledger's database cannot be had: they go on, or get 503.",
    )
    assumed_output_tokens: Annotated[int, Field(gt=0, le=10**6)] = Field(
        default=4096, description="How long an answer is taken to be that its call does not bound, until it is over."
    )


class OrgSection(_Section):
    """A tenant: who may call, and with which keys."""

    name: str = Field(min_length=1, max_length=100, description="On every record of its calls.")
    enabled: bool = Field(default=True, description="false answers its calls with 401 org_disabled.")
    keys: list[KeySection] = Field(default_factory=list, description="Removing a key revokes it.")
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


Price = Annotated[Decimal | None, Field(ge=0, le=10**9, allow_inf_nan=False)]
Share = Annotated[Decimal | None, Field(ge=0, le=1, allow_inf_nan=False)]


class _Prices(_Section):
    input: Price = Field(default=None, description="Cached input follows in proportion, unless it is given too.")
    output: Price = Field(default=None, description="Reasoning and audio follow in proportion.")
    cache_read: Price = Field(default=None, description="Input that came out of a cache.")
    cache_write: Price = Field(default=None, description="Input put into a cache.")
    cache_write_1h: Price = Field(default=None, description="Input put into a cache for an hour.")
    audio_input: Price = Field(default=None, description="Audio in the input.")
    audio_output: Price = Field(default=None, description="Audio in the output.")
    web_search: Price = Field(default=None, description="USD per thousand searches.")

    def prices(self) -> dict[str, Decimal]:
        """What is given, by its unit."""
        return {unit: price for unit in UNITS if (price := getattr(self, unit, None)) is not None}


class ModelSection(_Prices):
    """A model that belongs to a provider. Prices are in USD per million tokens; 0 is free."""

    id: str = Field(
        min_length=1, max_length=256, description="As clients write it, and as it is sent; letter case counts."
    )
    context_window: int | None = Field(default=None, gt=0, le=10**12, description="Tokens it reads at most.")


Model = Annotated[ModelSection, BeforeValidator(_with_an_id, json_schema_input_type=ModelSection | str)]


class SigningSection(_Section):
    """Which AWS credentials Envoy signs calls with."""

    credentials_file: str | None = Field(
        default=None,
        pattern="^/",
        description="As Envoy sees it; read again when it is replaced. Default: what Envoy finds, as AWS's SDKs do: "
        "AWS_* variables, the shared file, a web identity, a container's or an instance's role.",
    )
    profile: str | None = Field(default=None, min_length=1, description="The section of credentials_file.")
    service: str | None = Field(
        default=None, min_length=1, description="What signatures name as the service. Default: bedrock."
    )

    @model_validator(mode="after")
    def _profiles_are_in_a_file(self) -> Self:
        if self.profile and not self.credentials_file:
            raise ValueError("name the credentials_file of the profile; Envoy's own search obeys AWS_PROFILE")
        return self


def _signing_section(value: object) -> object:
    return {} if value is True else None if value is False else value


Sign = Annotated[
    SigningSection | None, BeforeValidator(_signing_section, json_schema_input_type=bool | SigningSection | None)
]


class ProviderSection(_Section):
    """A provider of your own, or what is different here for one that lectr knows."""

    id: str = Field(
        pattern=r"^[a-z][a-z0-9_-]*$",
        max_length=64,
        description=f"One of {', '.join(PROVIDERS)}; or a new one, which X-Lectr-Provider and `id/model` then name.",
    )
    kind: Annotated[str, AfterValidator(_provider)] | None = Field(
        default=None,
        description="The known provider that a new one is like in everything not said here. Default: custom.",
    )
    name: str | None = Field(default=None, min_length=1, max_length=100, description="For people. Default: its id.")
    base_url: Url | None = Field(
        default=None,
        description="Its path, if it has one, replaces the provider's path prefix. Plain http is accepted.",
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[a-z]+(-[a-z]+)+-\d+$",
        description="The AWS region of bedrock, or of one of its kind. Default: us-east-1.",
    )
    sign: Sign = Field(
        default=None,
        description="true: Envoy signs calls to bedrock with AWS credentials of its own (SigV4), and no client's key "
        "is passed on. A mapping says with which.",
    )
    auth: Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "none"] | None = Field(
        default=None, description="How the client's key is passed on. Default: as its kind does."
    )
    include_usage: bool | None = Field(
        default=None,
        description="Whether streams may be asked for usage (stream_options.include_usage). Default: as its kind.",
    )
    observe: Literal["auto", "native", "stream"] = Field(
        default="auto",
        description="Who reads token usage: Envoy (native), lectr (stream), or Envoy where that costs nothing (auto).",
    )
    models: list[Model] = Field(
        default_factory=list,
        description="Names that are its own, whatever else they look like; a name alone, or with more.",
    )


class PriceSection(_Prices):
    """A price or a discount of your own. Prices are in USD per million tokens; 0 is free."""

    provider: str = Field(description="One of lectr's, or of `providers:`.")
    model: str | None = Field(
        default=None, min_length=1, max_length=256, description="Default: a discount on every model of the provider."
    )
    discount: Share = Field(default=None, description="0.2 takes 20 % off whatever the price is.")
    from_: date | None = Field(default=None, alias="from", description="First day (UTC) on which it holds.")
    reason: str | None = Field(default=None, max_length=200, description="For people.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.model is None and self.prices():
            raise ValueError("name the model whose price this is")
        if self.discount is None and not self.prices():
            raise ValueError("write a price or a discount")
        return self


class CatalogueSection(_Section):
    """Newer prices without a restart. Nothing is fetched unless a source is named."""

    source: Annotated[str, Field(min_length=1), AfterValidator(_source)] | None = Field(
        default=None,
        description="File or URL of a price list in the JSON that genai-prices publishes. Default: the prices that "
        "came with lectr.",
    )
    every_s: int = Field(
        default=3600, ge=60, description="How often it is read again; a file also as soon as it changes."
    )


class ServerTlsSection(_Section):
    """TLS on lectr's gRPC port; with client_ca, Envoy must show a certificate too."""

    cert: str = Field(description="PEM file of the certificate chain.")
    key: str = Field(description="PEM file of its key.")
    client_ca: str | None = Field(default=None, description="PEM file of the CA that signs Envoy's certificate.")


class GrpcSection(_Section):
    """Where lectr waits for Envoy."""

    listen: SocketAddress = Field(
        default="127.0.0.1:9191", description="host:port, or unix:/path/to/lectr.sock, open to its owner's group."
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=MOST_WORKERS,
        description="Processes of `lectr serve`, each at its own address: the next port, or the path with .1, .2 …",
    )
    tls: ServerTlsSection | None = Field(default=None, description="None: plain text, for loopback and sockets.")


class ClientTlsSection(_Section):
    """How Envoy calls a lectr that speaks TLS."""

    ca: str = Field(description="PEM file of the CA that signs lectr's certificate.")
    server_name: str = Field(description="The name in lectr's certificate.")
    cert: str | None = Field(default=None, description="PEM file of Envoy's own certificate, for mutual TLS.")
    key: str | None = Field(default=None, description="PEM file of its key.")


class EnvoySection(_Section):
    """What is rendered into Envoy's configuration."""

    listen: Address = Field(default="127.0.0.1:10000", description="Where clients call.")
    admin: Address = Field(default="127.0.0.1:9901", description="Envoy's own admin port. Keep it on loopback.")
    profile: Literal["native", "portable"] = Field(
        default="native", description="native needs Envoy 1.40; portable runs on 1.36 and later."
    )
    lectr: SocketAddress | None = Field(default=None, description="Where Envoy finds lectr. Default: grpc.listen.")
    lectr_tls: ClientTlsSection | None = Field(default=None, description="Set it where grpc.tls is set.")
    message_timeout_s: float = Field(
        default=2.0, gt=0, le=60, description="How long Envoy waits for lectr before the client gets a 503."
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, le=60, description="For connections to providers.")
    stream_idle_timeout_s: int = Field(
        default=900,
        gt=0,
        le=31_536_000,
        description="How long an answer may be silent; reasoning models think for minutes.",
    )
    access_log_flush_s: float = Field(
        default=0.5,
        gt=0,
        le=60,
        description="How often Envoy hands on the calls that are over; it loses what it holds.",
    )
    trusted_ca: str = Field(
        default="/etc/ssl/certs/ca-certificates.crt",
        description="PEM file of the CAs that sign providers' certificates.",
    )
    max_heap_bytes: int = Field(
        default=2 * 1024**3,
        ge=128 * 1024**2,
        le=2**40,
        description="Near this heap size Envoy refuses calls. Where its memory is limited, it has to be below that.",
    )
    directory: str | None = Field(
        default=None,
        description="Where lectr keeps Envoy's include files up to date when settings change. `lectr run` sets it.",
    )


class SpoolSection(_Section):
    """Finished calls by way of a file: none is lost while lectr is away (docs/nothing-lost.md)."""

    file: str | None = Field(
        default=None,
        pattern="^/",
        description="A file, one for each Envoy, in a folder that both can write to. Default: Envoy sends finished "
        "calls to lectr, and forgets those of the time when lectr is away.",
    )


class AdminSection(_Section):
    """lectr's own admin port."""

    listen: Address = Field(
        default="127.0.0.1:8088", description="/healthz, /livez, /readyz and /metrics. Off loopback it needs a token."
    )
    token: Reference | None = Field(
        default=None,
        description="Where the token is found that all but /livez and /readyz then ask for (Authorization: Bearer …): "
        "env:NAME or file:/path, never the token itself.",
    )


def _web(value: str) -> str:
    if not value.startswith(("https://", "http://")) or not urlsplit(value).hostname:
        raise ValueError("write a URL such as https://example.com/lectr")
    return value


class WebhookSection(_Section):
    """Who is told of limits that are used up to a threshold (docs/limits.md), and of anomalies."""

    url: Annotated[str, AfterValidator(_web)] = Field(description="Where it is posted to.")
    secret: Reference = Field(
        description="Where the secret is found that it is signed with: env:NAME or file:/path, never the secret itself."
    )


Percent = Annotated[int, Field(ge=0, le=100)]


class AutoWeightsSection(_Section):
    """What each signal weighs, in per cent; together they are 100."""

    code: Percent = Field(default=WEIGHTS["code"], description="Blocks, spans and lines of code.")
    terms: Percent = Field(default=WEIGHTS["terms"], description="Technical terms.")
    reasoning: Percent = Field(default=WEIGHTS["reasoning"], description="What asks for reasoning.")
    system: Percent = Field(default=WEIGHTS["system"], description="The length of the system text.")
    depth: Percent = Field(default=WEIGHTS["depth"], description="Turns.")
    tools: Percent = Field(default=WEIGHTS["tools"], description="Calls of tools and their results.")
    length: Percent = Field(default=WEIGHTS["length"], description="The length of the user's longest message.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (total := sum(self.model_dump().values())) != 100:
            raise ValueError(f"these are {total} together, with those left out; they must be 100")
        return self


def _rising(steps: Steps) -> Steps:
    if not steps or any(list(some) != sorted(some) for some in zip(*steps, strict=True)):
        raise ValueError("steps must rise: more of something is never worth less")
    return steps


Rising = Annotated[tuple[tuple[Annotated[int, Field(ge=0)], Percent], ...], AfterValidator(_rising)]


class AutoStepsSection(_Section):
    """What a count comes to: [from, value], rising."""

    blocks: Rising = Field(default=STEPS["blocks"], description="Blocks of code.")
    spans: Rising = Field(default=STEPS["spans"], description="Spans in backticks.")
    code_messages: Rising = Field(default=STEPS["code_messages"], description="Messages with a line of code.")
    advanced: Rising = Field(default=STEPS["advanced"], description="Advanced terms.")
    everyday: Rising = Field(default=STEPS["everyday"], description="Everyday technical terms.")
    reasoning: Rising = Field(default=STEPS["reasoning"], description="Phrases that ask for reasoning.")
    system: Rising = Field(default=STEPS["system"], description="Letters of the system text.")
    depth: Rising = Field(default=STEPS["depth"], description="Turns.")
    tools: Rising = Field(default=STEPS["tools"], description="Calls of tools and their results.")
    length: Rising = Field(default=STEPS["length"], description="Letters of the user's longest message.")


class AutoSection(_Section):
    """How `model: auto` scores conversations; docs/auto.md has what each signal counts."""

    economy_to: Percent = Field(default=20, description="The highest score of the economy tier.")
    premium_from: Percent = Field(default=56, description="The lowest score of the premium tier.")
    weights: AutoWeightsSection = AutoWeightsSection()
    steps: AutoStepsSection = AutoStepsSection()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.economy_to >= self.premium_from:
            raise ValueError("economy_to must be below premium_from")
        return self


class BreakerSection(_Section):
    """When a model that fails is no longer the first to be chosen (docs/routing.md)."""

    failures: int = Field(default=3, ge=1, le=1000, description="So many in a row open it,")
    within_s: float = Field(default=60, gt=0, le=86400, description="each of them so soon after the one before.")
    open_s: float = Field(default=30, gt=0, le=86400, description="How long it stays open; then one call tries it.")


class LatencySection(_Section):
    """When `prefer: fast` goes by the time to the first token that was measured here, not by what others published."""

    calls: int = Field(default=50, ge=1, le=10_000, description="After so many streams of a model that went well,")
    within_h: float = Field(default=24, gt=0, le=8760, description="in so many hours.")


class LimitsSection(_Section):
    """Sizes."""

    request_body_bytes: int = Field(
        default=32 * 1024 * 1024, ge=1024, le=1024 * 1024 * 1024, description="Larger requests get 413."
    )
    inspect_body_bytes: int = Field(
        default=1024 * 1024,
        ge=0,
        le=64 * 1024 * 1024,
        description="A body is read for its model up to this size where Envoy could not read it, as with curl -d.",
    )
    inspect_multipart_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=0,
        le=1024 * 1024 * 1024,
        description="The form of a recording or of pictures is read up to this size, to find its model. "
        "request_body_bytes bounds it too; 0 never reads one.",
    )


class FailoverSection(_Section):
    """What becomes of a call that has other candidates when one fails (docs/routing.md)."""

    attempts_max: int = Field(
        default=3, ge=1, le=8, description="How many candidates are asked at most; 1 asks the first alone."
    )
    stream_timeout_s: float = Field(
        default=60, gt=0, le=3600, description="How long one may take until its stream begins."
    )
    answer_timeout_s: float = Field(
        default=300,
        gt=0,
        le=3600,
        description="The same for an answer that is no stream, which begins when all of it is there.",
    )


class TelemetrySection(_Section):
    """What is told about calls. Where to is told by the standard OTEL_* environment variables."""

    usage_chunk: Literal["strip", "keep", "never"] = Field(
        default="strip",
        description="Streams that report usage only when asked are asked; what the client did not ask for is taken out "
        "again (strip), left in (keep), or never asked for, and then estimated (never).",
    )
    trust_traceparent: bool = Field(
        default=True, description="A client's traceparent becomes the parent of the call's span."
    )
    llm_spans: Literal["always", "follow_parent", "off"] = Field(
        default="always", description="Whether a caller that samples its trace out takes the call's span with it."
    )


class LedgerSection(_Section):
    """Where finished calls are kept: what was asked of whom, what it took and cost. Never prompts, answers or keys."""

    url: Annotated[str, AfterValidator(_ledger)] | None = Field(
        default=None,
        description="sqlite:///path/to/file, postgresql://user@host/database, memory, or env:NAME or file:/path for a "
        "URL with a password. Default: a file in $XDG_STATE_HOME/lectr, /var/lib/lectr or ~/.local/state/lectr.",
    )
    retention_days: int = Field(default=30, ge=1, le=36500, description="Older calls are deleted.")


class RecommendSection(_Section):
    """What `lectr recommend` suggests (docs/recommendations.md)."""

    days: int = Field(
        default=30, ge=1, le=3650, description="How far back it looks: a month, as long as calls are kept."
    )
    min_days: float = Field(default=7, ge=0.1, le=3650, description="Days seen at least: a week has its weekend.")
    min_calls: int = Field(
        default=100, ge=1, le=10**9, description="Calls seen at least: of 100 without an error 3 % may yet be errors."
    )
    min_saving_usd: float = Field(
        default=1, ge=0, le=10**9, description="A month: for less nobody tries another model out."
    )
    short_prompt_tokens: int = Field(
        default=1000, ge=0, le=10**9, description="Prompts are short where 90 % have no more: a page or two."
    )
    short_output_tokens: int = Field(
        default=200, ge=0, le=10**9, description="Answers are, where 90 % have no more: a label, fields, a paragraph."
    )
    max_error_rate: float = Field(
        default=0.05, ge=0, le=1, description="Of either model: what fails more often is to be mended first."
    )


class AnomaliesSection(_Section):
    """What `lectr anomalies` tells (docs/recommendations.md)."""

    days: int = Field(default=7, ge=1, le=3650, description="How far back it looks.")
    sigmas: float = Field(default=2, gt=0, le=100, description="How far from the mean of the week before an hour is.")
    after_hours: int = Field(
        default=48, ge=48, le=168, description="A feature is watched once so much of it is known: each hour twice."
    )
    min_calls: int = Field(
        default=50, ge=10, le=10**9, description="An hour: of fewer, chance alone makes a half more or less."
    )
    min_change: float = Field(
        default=0.75,
        gt=0,
        le=1000,
        description="Of cost, p95 and traffic, downwards as large a factor: smaller changes are daily life.",
    )
    min_points: float = Field(
        default=0.05, gt=0, le=1, description="Of errors and of answers by another model: the same, as a part of calls."
    )
    min_cost_usd: float = Field(default=1, gt=0, le=10**9, description="An hour more: for less nobody gets up.")


class LogSection(_Section):
    """What lectr writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What matters less than this is not written."
    )
    calls: bool = Field(default=True, description="One JSON line per finished call.")


class SettingsFile(_Section):
    """lectr.yaml: everything has a default; the smallest useful file is one org with one key."""

    orgs: list[OrgSection] = Field(default_factory=list, description="Who may call.")
    providers: list[ProviderSection] = Field(default_factory=list, description="Providers of your own, and addresses.")
    credentials: Credentials = Field(
        default_factory=dict,
        description="By provider, where the key is found that the gateway sends for clients that send none: "
        "env:NAME or file:/path, never the key itself.",
    )
    prices: list[PriceSection] = Field(default_factory=list, description="Prices and discounts of your own.")
    catalogue: CatalogueSection = CatalogueSection()
    envoy: EnvoySection = EnvoySection()
    grpc: GrpcSection = GrpcSection()
    spool: SpoolSection = SpoolSection()
    admin: AdminSection = AdminSection()
    limits: LimitsSection = LimitsSection()
    webhook: WebhookSection | None = Field(default=None, description="Default: only the log says it.")
    auto: AutoSection = AutoSection()
    breaker: BreakerSection = BreakerSection()
    latency: LatencySection = LatencySection()
    failover: FailoverSection = FailoverSection()
    telemetry: TelemetrySection = TelemetrySection()
    ledger: LedgerSection = LedgerSection()
    recommend: RecommendSection = RecommendSection()
    anomalies: AnomaliesSection = AnomaliesSection()
    log: LogSection = LogSection()


def json_schema() -> dict[str, Any]:
    """The schema editors complete and check lectr.yaml with."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **SettingsFile.model_json_schema()}
