"""lectr.yaml to frozen settings: read once, whole, with every mistake reported at once.

The only module that knows pydantic and YAML files. What leaves it is a Settings value that nothing can change.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from itertools import chain
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from lectr_extproc.catalog.answers import ANSWERS, REPORTED_COSTS
from lectr_extproc.catalog.dialects import ENDPOINTS
from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.prices import Override, price_table
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.credential import Credential, Form
from lectr_extproc.core.detect import prefixes
from lectr_extproc.core.inject import Asking
from lectr_extproc.core.pricing import UNITS
from lectr_extproc.core.snapshot import Observation, Snapshot
from lectr_extproc.core.tables import Known, Limits, Org, Provider, Site
from lectr_extproc.core.upstream import Signing, Upstream
from lectr_extproc.gateway import GatewayOptions, LectrTls

EXIT_BAD_SETTINGS = 64
"EX_USAGE of sysexits.h, as linkerd2-proxy exits on bad configuration."


Path = tuple[str | int, ...]
"Where a setting is, such as orgs, 0, name."
Problem = tuple[Path, str]


class ConfigError(Exception):
    """Everything that is wrong with the settings, one line each."""

    def __init__(self, source: str, problems: list[str], secret_files: frozenset[str] = frozenset()) -> None:
        super().__init__(f"{source}: {len(problems)} problem{'s'[: len(problems) != 1]}\n" + "\n".join(problems))
        self.problems = problems
        self.secret_files = secret_files
        "What the settings refer to: a change there may mend them."


# --- the file, as its author sees it ----------------------------------------------------------------------------------


def _without_blanks(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A name with nothing after it, as a commented-out section leaves it, is not a setting."""
    return {name: value for name, value in raw.items() if value is not None}


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise ValueError("write it as host:port, for example 127.0.0.1:10000")
    return value


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
        raise ValueError(_unknown(value, PROVIDERS))
    return value


def _unknown(provider: str, known: Iterable[str]) -> str:
    return f"{provider!r} is not a provider; known are {', '.join(known)}"


def _with_an_id(value: object) -> object:
    return {"id": value} if isinstance(value, str) else value


def _unquoted(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value  # YAML reads a bare 2024-02-01 as a date


def _azure_version(value: str) -> str:
    if value != "v1" and not value[:4].isdigit():
        raise ValueError("write a dated version such as 2024-02-01, or v1 for Azure's /openai/v1/ API")
    return value


Address = Annotated[str, AfterValidator(_address)]
SocketAddress = Annotated[str, AfterValidator(_socket)]
Url = Annotated[str, AfterValidator(_url)]
AzureVersion = Annotated[str, AfterValidator(_azure_version), BeforeValidator(_unquoted)]


_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+")
Reference = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^({_REFERENCE.pattern})$"})]
Credentials = dict[str, Reference]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_written_is_the_default(cls, raw: Any) -> Any:
        return _without_blanks(raw) if isinstance(raw, dict) else raw


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


class OrgSection(_Section):
    """A tenant: who may call, and with which keys."""

    name: str = Field(min_length=1, max_length=100, description="On every record of its calls.")
    enabled: bool = Field(default=True, description="false answers its calls with 401 org_disabled.")
    keys: list[KeySection] = Field(default_factory=list, description="Removing a key revokes it.")
    azure: AzureSection | None = Field(default=None, description="Without it, Azure calls get azure_config_missing.")
    credentials: Credentials = Field(
        default_factory=dict, description="Like the global ones, for this org alone, whose own come first."
    )


Price = Annotated[Decimal | None, Field(ge=0, allow_inf_nan=False)]


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
    context_window: int | None = Field(default=None, gt=0, description="Tokens it reads at most.")


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
    discount: Price = Field(default=None, le=1, description="0.2 takes 20 % off whatever the price is.")
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
        default=900, gt=0, description="How long an answer may be silent; reasoning models think for minutes."
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
        default="127.0.0.1:8088", description="/healthz, /livez, /readyz and /metrics. Keep it on loopback."
    )


class LimitsSection(_Section):
    """Sizes."""

    request_body_bytes: int = Field(
        default=32 * 1024 * 1024, ge=1024, le=1024 * 1024 * 1024, description="Larger requests get 413."
    )
    inspect_body_bytes: int = Field(
        default=1024 * 1024,
        ge=0,
        le=64 * 1024 * 1024,
        description="A body whose content type hides its model from Envoy (curl -d) is read up to this size.",
    )
    inspect_multipart_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=0,
        le=1024 * 1024 * 1024,
        description="The form of a recording or of pictures is read up to this size, to find its model. "
        "request_body_bytes bounds it too; 0 never reads one.",
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
    telemetry: TelemetrySection = TelemetrySection()
    ledger: LedgerSection = LedgerSection()
    log: LogSection = LogSection()


# --- the settings, as the program sees them ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """Files of the gRPC port's certificate."""

    cert: str
    key: str
    client_ca: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Where newer prices come from."""

    source: str | None
    every_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """Where calls are kept, and for how long."""

    url: str | None
    retention_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One reading of lectr.yaml."""

    snapshot: Snapshot
    secret_files: frozenset[str] = frozenset()
    "Where keys are held; new ones are read when a file changes."
    prices: tuple[Override, ...]
    catalogue: Catalogue
    gateway: GatewayOptions
    orgs: tuple[str, ...]
    grpc_listen: str
    grpc_tls: ServerTls | None
    admin_listen: str
    envoy_directory: str | None
    llm_spans: Literal["always", "follow_parent", "off"]
    ledger: LedgerSettings
    log_level: str
    log_calls: bool


MOST_VALUES = 1_000_000
"A thousand orgs have some twenty thousand; a few lines of aliases can stand for more than there is time."


def load(
    text: str,
    source: str = "lectr.yaml",
    defaults: Mapping[str, Any] | None = None,
    read_reference: Callable[[str], str] = str,
) -> Settings:
    """Read settings from YAML; ConfigError lists every mistake with its line. The file wins over `defaults`.

    Who calls no provider needs no key: there a reference stands for itself.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if _size(root, {}) > MOST_VALUES:
            raise ValueError(f"its aliases repeat more than {MOST_VALUES:,} values")
        raw = yaml.safe_load(text)
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # the last two: 2024-13-45, and lists in lists in lists
        raise ConfigError(source, [f"not YAML: {_unread(error)}"]) from None
    if raw is not None and not isinstance(raw, dict):
        raise ConfigError(source, ["line 1: the file must be a mapping such as `orgs: […]`"])
    merged = _merged(defaults or {}, raw or {})
    lines, problems = _read_lines(root)
    problems += _contradictions(merged)
    keys, unheld = _held(merged, read_reference)
    problems += unheld
    files = frozenset(value.removeprefix("file:") for _, value in _references(merged) if value.startswith("file:"))
    try:
        file = SettingsFile.model_validate(merged)
    except ValidationError as error:
        problems += [(tuple(problem["loc"]), _explain(problem)) for problem in error.errors()]
    if problems:
        found = sorted((_line(path, lines), _name(path), problem) for path, problem in problems)
        raise ConfigError(source, [f"line {line}: {name}: {problem}" for line, name, problem in found], files)
    return replace(_settings(file, keys), secret_files=files)


def is_blank(text: str) -> bool:
    """Whether a file that is YAML says nothing, as one does that was emptied to be written anew."""
    return yaml.safe_load(text) is None


def _unread(error: Exception) -> str:
    """What YAML stumbled over and where, without the piece of the file that it quotes: a key may be in it."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def compile_settings(raw: Mapping[str, Any]) -> Settings:
    """The same from parsed YAML, for settings that another part of the program makes; it holds no keys."""
    return _settings(SettingsFile.model_validate(raw), {})


def _settings(file: SettingsFile, keys: Mapping[str, Credential]) -> Settings:
    envoy = file.envoy
    return Settings(
        snapshot=_snapshot(file, keys),
        prices=_overrides(file),
        catalogue=Catalogue(**file.catalogue.model_dump()),
        gateway=_gateway(file),
        orgs=tuple(org.name for org in file.orgs),
        grpc_listen=file.grpc.listen,
        grpc_tls=ServerTls(**file.grpc.tls.model_dump()) if file.grpc.tls else None,
        admin_listen=file.admin.listen,
        envoy_directory=envoy.directory,
        llm_spans=file.telemetry.llm_spans,
        ledger=LedgerSettings(**file.ledger.model_dump()),
        log_level=file.log.level,
        log_calls=file.log.calls,
    )


def _merged(defaults: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    raw = _without_blanks(raw)
    merged = {**defaults, **raw}
    for section in defaults.keys() & raw.keys():
        if isinstance(raw[section], dict):
            merged[section] = {**defaults[section], **_without_blanks(raw[section])}
    return merged


def json_schema() -> dict[str, Any]:
    """The schema editors complete and check lectr.yaml with."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **SettingsFile.model_json_schema()}


def _references(raw: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Where the settings say a key is found. Other mistakes may be in the file too."""
    for above, section in (((), raw), *((("orgs", i), org) for i, org in enumerate(_list(raw, "orgs")))):
        held = section.get("credentials") if isinstance(section, dict) else None
        for id_, reference in held.items() if isinstance(held, dict) else ():
            if isinstance(id_, str) and isinstance(reference, str):
                yield (*above, "credentials", id_), reference


def _held(raw: Mapping[str, Any], read: Callable[[str], str]) -> tuple[dict[str, Credential], list[Problem]]:
    """The keys behind the references, and what is wrong with those. One may be a key itself: it is never repeated."""
    keys: dict[str, Credential] = {}
    problems: list[Problem] = []
    sections = {id_: section for _, section, id_ in _items(raw, "providers", "id")}
    for path, reference in _references(raw):
        above = raw["orgs"][path[1]] if path[0] == "orgs" else None
        if problem := _cannot_go(str(path[-1]), above, sections):
            problems.append((path, problem))
        elif not _REFERENCE.fullmatch(reference):
            problems.append((path, "write where the key is found, env:NAME or file:/path, and never the key itself"))
        else:
            try:
                keys[reference] = Credential(Form.NONE, read(reference))
            except ValueError as error:
                problems.append((path, str(error)))
    return keys, problems


def _cannot_go(id_: str, org: Mapping[str, Any] | None, sections: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why a key that is held for a provider, for one org or for all, would never be sent."""
    section = sections.get(id_, {})
    row = PROVIDERS.get(id_) or PROVIDERS.get(str(section.get("kind")), PROVIDERS["custom"])
    if id_ not in {*PROVIDERS, *sections}:
        return _unknown(id_, {**PROVIDERS, **sections})
    if section.get("sign"):
        return f"Envoy signs calls to {id_!r}: take away this key, or its `sign`"
    if (section.get("auth") or row.key_form) in ("none", Form.NONE):
        return f"{id_!r} takes no key: take this one away"
    if section.get("base_url") or row.base_url:
        return None
    if row.id != id_ or not row.sited_per_org:
        return f"{id_!r} has no address: give it one in `providers:`"
    if org is None:
        return "each org has its own address: write it in the orgs that this key is for"
    return None if org.get(id_) else f"this org has no address there: write its `{id_}: {{endpoint: …}}` too"


def _snapshot(file: SettingsFile, keys: Mapping[str, Credential]) -> Snapshot:
    providers = MappingProxyType({**PROVIDERS, **{section.id: _provider_row(section) for section in file.providers}})
    registered = {model.id: section.id for section in file.providers for model in section.models}
    addresses = {section.id: section.base_url for section in file.providers}
    signings = {section.id: signing for section in file.providers if (signing := _signing(section, providers))}
    sites = {
        row.id: _site(row, url, signings.get(row.id))
        for row in providers.values()
        if (url := addresses.get(row.id) or row.base_url) is not None
    }
    return Snapshot(
        orgs_by_key={
            key.sha256: org for section in file.orgs for org in (_org(section, keys),) for key in section.keys
        },
        providers=providers,
        sites=sites,
        models=replace(MODELS, registered=MappingProxyType(registered)),
        lineup=_lineup(file),
        endpoints=ENDPOINTS,
        observation=Observation(
            answers=ANSWERS,
            reported_costs=REPORTED_COSTS,
            envoy_reads_usage=file.envoy.profile == "native",
            wanted={section.id: section.observe for section in file.providers},
            usage_chunk=file.telemetry.usage_chunk,
        ),
        credentials=_credentials(file.credentials, keys),
        prices=price_table(_overrides(file), rows=providers),
        trust_traceparent=file.telemetry.trust_traceparent,
        limits=Limits(
            max_body_bytes=file.limits.request_body_bytes,
            inspect_body_bytes=min(file.limits.inspect_body_bytes, file.limits.request_body_bytes),
            inspect_multipart_bytes=min(file.limits.inspect_multipart_bytes, file.limits.request_body_bytes),
        ),
    )


def _gateway(file: SettingsFile) -> GatewayOptions:
    envoy = file.envoy
    options = GatewayOptions(
        profile=envoy.profile,
        listen=envoy.listen,
        admin=envoy.admin,
        lectr=envoy.lectr or file.grpc.listen,
        lectr_tls=LectrTls(**envoy.lectr_tls.model_dump()) if envoy.lectr_tls else None,
        max_body_bytes=file.limits.request_body_bytes,
        message_timeout_s=envoy.message_timeout_s,
        connect_timeout_s=envoy.connect_timeout_s,
        stream_idle_timeout_s=envoy.stream_idle_timeout_s,
        access_log_flush_s=envoy.access_log_flush_s,
        trusted_ca=envoy.trusted_ca,
        spool=file.spool.file,
    )
    return replace(options, include_directory=envoy.directory) if envoy.directory else options


def _provider_row(section: ProviderSection) -> Provider:
    row = PROVIDERS.get(section.id) or replace(
        PROVIDERS[section.kind or "custom"],
        id=section.id,
        name=section.id,
        synonyms=(),
        model_prefixes=(),
        key_shapes=(),
        shared_key_shapes=frozenset(),
        key_env=None,
    )
    asking = row.asking
    if section.include_usage is not None:
        asking = Asking.NEVER if not section.include_usage else Asking.YES if asking is Asking.NEVER else asking
    form = row.key_form if section.auth is None else _FORMS[section.auth]
    if section.region and row.region and row.base_url:
        row = replace(row, region=section.region, base_url=row.base_url.replace(row.region, section.region))
    return replace(row, name=section.name or row.name, key_form=form, asking=asking)


def _signing(section: ProviderSection, rows: Mapping[str, Provider]) -> Signing | None:
    row, sign = rows[section.id], section.sign
    if sign is None or row.aws_service is None or row.region is None:
        return None
    return Signing(
        service=sign.service or row.aws_service,
        region=row.region,
        credentials_file=sign.credentials_file,
        profile=sign.profile,
    )


_FORMS = {
    "bearer": Form.BEARER,
    "x-api-key": Form.X_API_KEY,
    "api-key": Form.API_KEY,
    "x-goog-api-key": Form.X_GOOG_API_KEY,
    "none": Form.NONE,
}


def _lineup(file: SettingsFile) -> dict[tuple[str, str], Known]:
    """The catalogue's models and those of the settings, which are there whatever the catalogue says of their end."""
    own = {(section.id, model.id): model.context_window for section in file.providers for model in section.models}
    known = {key: LINEUP.get(key) or Known(key[1], None) for key in own}
    return {
        **LINEUP,
        **{key: replace(row, window=own[key] or row.window, retires=None, gone=False) for key, row in known.items()},
    }


def _overrides(file: SettingsFile) -> tuple[Override, ...]:
    """The later wins: `prices:` has the last word over what a model was registered with."""
    registered = {
        (section.id, model.id.lower()): prices
        for section in file.providers
        for model in section.models
        if (prices := model.prices())
    }
    return *(Override(provider=id_, model=model, prices=prices) for (id_, model), prices in registered.items()), *(
        Override(
            provider=section.provider,
            model=section.model,
            prices={**registered.get((section.provider, (section.model or "").lower()), {}), **section.prices()},
            discount=section.discount,
            since=section.from_,
            reason=section.reason,
        )
        for section in file.prices
    )


def _site(row: Provider, url: str, signing: Signing | None) -> Site:
    """An address without a path keeps the path prefix that the provider, or else everyone, has: `/v1`."""
    if row.sited_per_org:
        return _azure_site(row.id, url, AzureSection.model_fields["api_version"].default)
    upstream = replace(Upstream.parse(row.id, url), signing=signing)
    if not upstream.prefix and url != row.base_url:
        upstream = replace(upstream, prefix=row.prefix if row.base_url else "/v1")
    return Site(upstream=upstream)


def _azure_site(id_: str, endpoint: str, version: str) -> Site:
    """Both `https://x.openai.azure.com` and the base URL of the v1 API, as its SDK takes it, are understood."""
    resource = endpoint.rstrip("/").removesuffix("/openai/v1")
    is_v1 = resource != endpoint.rstrip("/")
    return Site(upstream=Upstream.parse(id_, resource), api_version="v1" if is_v1 else version)


def _credentials(references: Mapping[str, str], keys: Mapping[str, Credential]) -> dict[str, Credential]:
    return {id_: keys[reference] for id_, reference in references.items() if reference in keys}


def _org(section: OrgSection, keys: Mapping[str, Credential]) -> Org:
    azure = section.azure
    sites = {"azure": _azure_site("azure", azure.endpoint, azure.api_version)} if azure else {}
    return Org(
        name=section.name,
        enabled=section.enabled,
        sites=sites,
        credentials=_credentials(section.credentials, keys),
    )


def _contradictions(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """What no single field can see. Other mistakes may be in the file too, so nothing is taken for granted."""
    names: set[str] = set()
    digests: dict[str, str] = {}
    for i, org, name in _items(raw, "orgs", "name"):
        if name in names:
            yield ("orgs", i, "name"), f"another org is called {name!r} too"
        names.add(name)
        for j, _, digest in _items(org, "keys", "sha256"):
            if digest in digests:
                yield ("orgs", i, "keys", j), f"this key already belongs to {digests[digest]!r}"
            digests[digest] = name
    ids = dict.fromkeys(PROVIDERS, False)
    words = {word: row.id for row in PROVIDERS.values() for word in prefixes(row)}
    owners: dict[str, str] = {}
    for i, provider, id_ in _items(raw, "providers", "id"):
        if ids.get(id_):
            yield ("providers", i, "id"), f"{id_!r} is above already"
        ids[id_] = True
        kind = provider.get("kind")
        if id_ in PROVIDERS:
            if kind not in (None, id_):
                yield ("providers", i, "kind"), f"lectr knows {id_!r}: give another provider an id of its own"
        elif id_ in words:
            yield ("providers", i, "id"), f"{id_!r} is another name for {words[id_]!r}"
        elif provider.get("base_url") is None and not (provider.get("region") and kind in _WITH_REGIONS):
            wanted = "base_url or a region" if kind in _WITH_REGIONS else "base_url"
            yield ("providers", i, "id"), f"{_unknown(id_, PROVIDERS)}; a new one needs a {wanted}"
        for name, problem in _regional(provider, kind or id_):
            yield ("providers", i, name), problem
        for j, model in _models(provider):
            if model in owners:
                yield ("providers", i, "models", j), f"{model!r} belongs to {owners[model]!r} already"
            owners[model] = id_
    for i, _, id_ in _items(raw, "prices", "provider"):
        if id_ not in ids:
            yield ("prices", i, "provider"), _unknown(id_, ids)
    yield from _shared_ports(raw)


def _shared_ports(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """The second would fail, or share the port by SO_REUSEPORT and take half of the connections."""
    taken: dict[str, tuple[str, str]] = {}
    for section, name in (("envoy", "listen"), ("envoy", "admin"), ("grpc", "listen"), ("admin", "listen")):
        written = raw.get(section)
        default = getattr(SettingsFile.model_fields[section].default, name)
        address = str(written.get(name, default) if isinstance(written, dict) else default)
        host, _, port = address.rpartition(":")
        if not port.isdigit() or not int(port):  # a Unix socket, or any free port
            continue
        other, setting = taken.setdefault(port, (host, f"{section}.{name}"))
        if setting != f"{section}.{name}" and (host == other or {host, other} & {"0.0.0.0", "[::]"}):
            yield (section, name), f"{setting} has port {port} already"


_WITH_REGIONS = frozenset(row.id for row in PROVIDERS.values() if row.region)


def _regional(provider: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    if kind not in _WITH_REGIONS:
        yield from ((name, f"only for {', '.join(_WITH_REGIONS)}") for name in ("region", "sign") if provider.get(name))
    elif provider.get("sign") and provider.get("auth") not in (None, "none"):
        yield "auth", "where Envoy signs, no key is passed on: take away `auth` or `sign`"
    elif provider.get("sign") and provider.get("base_url") and not provider.get("region"):
        yield "sign", "say the region that is signed for: it cannot be told from a base_url"


def _models(provider: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    for i, model in enumerate(_list(provider, "models")):
        name = model.get("id") if isinstance(model, dict) else model
        if isinstance(name, str):
            yield i, name


def _items(section: Mapping[str, Any], name: str, key: str) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """The entries of a list that have a text under `key`, each with it."""
    for i, item in enumerate(_list(section, name)):
        if isinstance(item, dict) and isinstance(item.get(key), str):
            yield i, item, item[key]


def _list(section: Mapping[str, Any], name: str) -> list[Any]:
    items = section.get(name)
    return items if isinstance(items, list) else []


def _explain(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "there is no such setting"
    if problem["type"] == "model_type":
        return "write settings under it, such as `name: value`"
    text: str = problem["msg"]
    return text.removeprefix("Value error, ")


def _name(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _line(path: Path, lines: Mapping[Path, int]) -> int:
    return next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), 1)


def _size(node: yaml.Node | None, known: dict[yaml.Node, int]) -> int:
    """How many values a document has, each as often as aliases repeat it; of one that holds itself, too many."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if node not in known:
        known[node] = MOST_VALUES
        below = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[node] = 1 + sum(_size(each, known) for each in below)
    return known[node]


def _read_lines(root: yaml.Node | None) -> tuple[dict[Path, int], list[Problem]]:
    """Where each value of a YAML document begins; and the names written twice, of which YAML forgets the first."""
    found: dict[Path, int] = {}
    twice: list[Problem] = []

    def walk(node: yaml.Node | None, path: Path) -> None:
        if node is None:
            return
        found.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = (*path, key.value)
                if below in found:
                    twice.append((below, f"written twice, on line {found[below]} too"))
                found[below] = key.start_mark.line + 1
                walk(value, below)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                walk(value, (*path, i))

    walk(root, ())
    return found, twice
