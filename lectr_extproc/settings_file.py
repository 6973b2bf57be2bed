"""lectr.yaml as its author sees it: a section is a class, a setting a field that says what it is for."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from lectr_extproc.core.auto import STEPS, WEIGHTS, Steps
from lectr_extproc.core.identity import XFCC
from lectr_extproc.settings_org import OrgSection
from lectr_extproc.settings_providers import PriceSection, ProviderSection
from lectr_extproc.settings_types import Address, Credentials, Reference, Section, SocketAddress


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


MOST_WORKERS = 64


class CatalogueSection(Section):
    """Newer prices without a restart. Nothing is fetched unless a source is named."""

    source: Annotated[str, Field(min_length=1), AfterValidator(_source)] | None = Field(
        default=None,
        description="File or URL of a price list in the JSON that genai-prices publishes. Default: the prices that "
        "came with lectr.",
    )
    every_s: int = Field(
        default=3600, ge=60, description="How often it is read again; a file also as soon as it changes."
    )


class ServerTlsSection(Section):
    """TLS on lectr's gRPC port; with client_ca, Envoy must show a certificate too."""

    cert: str = Field(description="PEM file of the certificate chain.")
    key: str = Field(description="PEM file of its key.")
    client_ca: str | None = Field(default=None, description="PEM file of the CA that signs Envoy's certificate.")


class GrpcSection(Section):
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


class ClientTlsSection(Section):
    """How Envoy calls a lectr that speaks TLS."""

    ca: str = Field(description="PEM file of the CA that signs lectr's certificate.")
    server_name: str = Field(description="The name in lectr's certificate.")
    cert: str | None = Field(default=None, description="PEM file of Envoy's own certificate, for mutual TLS.")
    key: str | None = Field(default=None, description="PEM file of its key.")


class EnvoySection(Section):
    """What is rendered into Envoy's configuration."""

    listen: Address = Field(default="127.0.0.1:10000", description="Where clients call.")
    tls: ServerTlsSection | None = Field(
        default=None, description="None: clients call in plain text. With client_ca they may show a certificate."
    )
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


class SpoolSection(Section):
    """Finished calls by way of a file: none is lost while lectr is away (docs/nothing-lost.md)."""

    file: str | None = Field(
        default=None,
        pattern="^/",
        description="A file, one for each Envoy, in a folder that both can write to. Default: Envoy sends finished "
        "calls to lectr, and forgets those of the time when lectr is away.",
    )


class AdminSection(Section):
    """lectr's own admin port."""

    listen: Address = Field(
        default="127.0.0.1:8088",
        description="The console, /healthz and /metrics, probes. Off loopback it needs a token.",
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


class WebhookSection(Section):
    """Who is told of limits that are used up to a threshold (docs/limits.md), and of anomalies."""

    url: Annotated[str, AfterValidator(_web)] = Field(description="Where it is posted to.")
    secret: Reference = Field(
        description="Where the secret is found that it is signed with: env:NAME or file:/path, never the secret itself."
    )


Percent = Annotated[int, Field(ge=0, le=100)]


class AutoWeightsSection(Section):
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


class AutoStepsSection(Section):
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


class AutoSection(Section):
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


class BreakerSection(Section):
    """When a model that fails is no longer the first to be chosen (docs/routing.md)."""

    failures: int = Field(default=3, ge=1, le=1000, description="So many in a row open it,")
    within_s: float = Field(default=60, gt=0, le=86400, description="each of them so soon after the one before.")
    open_s: float = Field(default=30, gt=0, le=86400, description="How long it stays open; then one call tries it.")


class LatencySection(Section):
    """When `prefer: fast` goes by the time to the first token that was measured here, not by what others published."""

    calls: int = Field(default=50, ge=1, le=10_000, description="After so many streams of a model that went well,")
    within_h: float = Field(default=24, gt=0, le=8760, description="in so many hours.")


class LimitsSection(Section):
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


class FailoverSection(Section):
    """What becomes of a call that has other candidates when one fails (docs/routing.md)."""

    attempts_max: int | None = Field(
        default=None,
        ge=1,
        le=8,
        description="How many candidates are asked at most; 1 asks the first alone. Without it 3, and 1 in the "
        "portable profile, where more need a listener inside Envoy.",
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


class TelemetrySection(Section):
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


class LedgerSection(Section):
    """Where finished calls are kept: what was asked of whom, what it took and cost. Never prompts, answers or keys."""

    url: Annotated[str, AfterValidator(_ledger)] | None = Field(
        default=None,
        description="sqlite:///path/to/file, postgresql://user@host/database, memory, or env:NAME or file:/path for a "
        "URL with a password. Default: a file in $XDG_STATE_HOME/lectr, /var/lib/lectr or ~/.local/state/lectr.",
    )
    retention_days: int = Field(default=30, ge=1, le=36500, description="Older calls are deleted.")


class RecommendSection(Section):
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


class AnomaliesSection(Section):
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


class LogSection(Section):
    """What lectr writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What matters less than this is not written."
    )
    calls: bool = Field(default=True, description="One JSON line per finished call.")


class IdentitySection(Section):
    """Who tells whose client certificate a call came with (docs/mesh.md)."""

    attribute: Literal["connection.uri_san_peer_certificate"] | None = Field(
        default=None, description="Envoy's own word of the certificate on its connection, which no client can write."
    )
    xfcc: bool = Field(
        default=False,
        description="The header X-Forwarded-Client-Cert, of which the last certificate counts. Only where Envoy writes "
        "it: forward_client_cert_details SANITIZE_SET or APPEND_FORWARD.",
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.attribute and self.xfcc:
            raise ValueError("say `attribute` or `xfcc`, one of them")
        return self

    @property
    def told_by(self) -> str | None:
        """The attribute, or `xfcc`; None where nobody is asked."""
        return XFCC if self.xfcc else self.attribute


class SettingsFile(Section):
    """lectr.yaml: everything has a default; the smallest useful file is one org with one key."""

    orgs: list[OrgSection] = Field(default_factory=list, description="Who may call.")
    identity: IdentitySection = IdentitySection()
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
