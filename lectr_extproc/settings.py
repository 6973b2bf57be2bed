"""lectr.yaml to frozen settings: read once, whole, with every mistake reported at once.

settings_yaml.py reads its text, settings_file.py says what it may hold, settings_checks.py what only several settings
together show. What leaves here is a Settings value that nothing can change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from pydantic import (
    ValidationError,
)

from lectr_extproc.catalog.answers import ANSWERS, REPORTED_COSTS
from lectr_extproc.catalog.auto_words import WORDS
from lectr_extproc.catalog.declared import DECLARED
from lectr_extproc.catalog.dialects import ENDPOINTS
from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.prices import Override, price_table
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.catalog.ranking import RANKING
from lectr_extproc.core.anomalies import Watching
from lectr_extproc.core.auto import Scoring
from lectr_extproc.core.credential import Credential
from lectr_extproc.core.health import Breaking, Measuring
from lectr_extproc.core.native import TELLS
from lectr_extproc.core.recommend import Advising
from lectr_extproc.core.snapshot import Observation, ObserveSetting, Snapshot
from lectr_extproc.core.tables import Failover, Limits
from lectr_extproc.gateway import GatewayOptions, LectrTls, ServerTls
from lectr_extproc.settings_checks import Path, contradictions, held_keys, references
from lectr_extproc.settings_file import AutoSection, SettingsFile
from lectr_extproc.settings_org import by_key, by_workload, credentials_of
from lectr_extproc.settings_providers import lineup_of, overrides, provider_row, signing_of, site_of
from lectr_extproc.settings_types import is_loopback, without_blanks
from lectr_extproc.settings_yaml import YamlError, read

EXIT_BAD_SETTINGS = 64
"EX_USAGE of sysexits.h, as linkerd2-proxy exits on bad configuration."


class ConfigError(Exception):
    """Everything that is wrong with the settings, one line each."""

    def __init__(self, source: str, problems: list[str], secret_files: frozenset[str] = frozenset()) -> None:
        super().__init__(f"{source}: {len(problems)} problem{'s'[: len(problems) != 1]}\n" + "\n".join(problems))
        self.problems = problems
        self.secret_files = secret_files
        "What the settings refer to: a change there may mend them."


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Where newer prices come from."""

    source: str | None
    every_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Who is told of limits that are used up."""

    url: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """Where calls are kept, and for how long."""

    url: str | None
    retention_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One reading of lectr.yaml."""

    snapshot: Snapshot
    text: str = field(default="", repr=False, compare=False)
    "What was read: a file that still says so after the start need not be read again."
    defaults: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    "What was in force where it says nothing."
    secret_files: frozenset[str] = frozenset()
    "Where keys are held; new ones are read when a file changes."
    prices: tuple[Override, ...]
    catalogue: Catalogue
    gateway: GatewayOptions
    orgs: tuple[str, ...]
    grpc_listen: str
    workers: int
    "How many processes `lectr serve` is."
    grpc_tls: ServerTls | None
    admin_listen: str
    admin_token: str | None = field(repr=False)
    webhook: Webhook | None
    envoy_directory: str | None
    llm_spans: Literal["always", "follow_parent", "off"]
    ledger: LedgerSettings
    recommend: Advising
    anomalies: Watching
    log_level: str
    log_calls: bool

    @property
    def warnings(self) -> list[str]:
        """What is allowed and can hardly be meant."""
        return [*self.open_doors, *self.idle_rules]

    @property
    def idle_rules(self) -> list[str]:
        """The rules that no call ever reaches."""
        orgs = {org.name: org.rules for org in self.snapshot.callers if org.rules}
        return [
            f"orgs: {name}: rule {rule.name!r} never matches: {by.name!r} comes first, and takes all of its calls"
            for name, rules in orgs.items()
            for rule, by in rules.hidden()
        ]

    @property
    def open_doors(self) -> list[str]:
        """What others than this machine can reach without saying who they are, and should not."""
        found = []
        listen = self.grpc_listen
        if not (listen.startswith("unix:") or is_loopback(listen) or (self.grpc_tls and self.grpc_tls.client_ca)):
            found.append(
                f"grpc.listen ({listen}) is open to whoever reaches it: to write records, and with a client's key to "
                "be told the provider's key that is held. Set grpc.tls.client_ca, or listen on a Unix socket"
            )
        if not is_loopback(self.gateway.admin):
            found.append(f"envoy.admin ({self.gateway.admin}) lets whoever reaches it stop Envoy. Keep it on loopback")
        return found


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
        raw, lines, problems = read(text)
    except YamlError as error:
        raise ConfigError(source, [f"not YAML: {error}"]) from None
    if raw is not None and not isinstance(raw, dict):
        raise ConfigError(source, ["line 1: the file must be a mapping such as `orgs: […]`"])
    merged = _merged(defaults or {}, raw or {})
    problems += contradictions(merged)
    keys, unheld = held_keys(merged, read_reference)
    problems += unheld
    files = frozenset(value.removeprefix("file:") for _, value in references(merged) if value.startswith("file:"))
    try:
        file = SettingsFile.model_validate(merged)
    except ValidationError as error:
        problems += [(tuple(problem["loc"]), _explain(problem)) for problem in error.errors()]
    if problems:
        found = sorted((_line(path, lines), _name(path), problem) for path, problem in problems)
        raise ConfigError(source, [f"line {line}: {name}: {problem}" for line, name, problem in found], files)
    return replace(_settings(file, keys), text=text, defaults=defaults or {}, secret_files=files)


def file_of(settings: Settings) -> SettingsFile:
    """What settings were made of. It is read once more: of ten thousand orgs it would take much memory to keep."""
    raw, *_ = read(settings.text)
    return SettingsFile.model_validate(_merged(settings.defaults, raw or {}))


def compile_settings(raw: Mapping[str, Any]) -> Settings:
    """The same from parsed YAML, for tools and tests that make settings of their own; it holds no keys."""
    return _settings(SettingsFile.model_validate(raw), {})


def _settings(file: SettingsFile, keys: Mapping[str, Credential]) -> Settings:
    envoy = file.envoy
    return Settings(
        snapshot=_snapshot(file, keys),
        prices=overrides(file.providers, file.prices),
        catalogue=Catalogue(**file.catalogue.model_dump()),
        gateway=_gateway(file),
        orgs=tuple(org.name for org in file.orgs),
        grpc_listen=file.grpc.listen,
        workers=file.grpc.workers,
        grpc_tls=ServerTls(**file.grpc.tls.model_dump()) if file.grpc.tls else None,
        admin_listen=file.admin.listen,
        admin_token=held.secret if (held := keys.get(file.admin.token or "")) else None,
        webhook=_webhook(file, keys),
        envoy_directory=envoy.directory,
        llm_spans=file.telemetry.llm_spans,
        ledger=LedgerSettings(**file.ledger.model_dump()),
        recommend=Advising(**file.recommend.model_dump()),
        anomalies=Watching(**file.anomalies.model_dump()),
        log_level=file.log.level,
        log_calls=file.log.calls,
    )


def _webhook(file: SettingsFile, keys: Mapping[str, Credential]) -> Webhook | None:
    held = keys.get(file.webhook.secret) if file.webhook else None
    return Webhook(url=file.webhook.url, secret=held.secret) if file.webhook and held else None


def _merged(defaults: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    raw = without_blanks(raw)
    merged = {**defaults, **raw}
    for section in defaults.keys() & raw.keys():
        if isinstance(raw[section], dict):
            merged[section] = {**defaults[section], **without_blanks(raw[section])}
    return merged


def _snapshot(file: SettingsFile, keys: Mapping[str, Credential]) -> Snapshot:
    providers = MappingProxyType({**PROVIDERS, **{section.id: provider_row(section) for section in file.providers}})
    registered = {model.id: section.id for section in file.providers for model in section.models}
    addresses = {section.id: section.base_url for section in file.providers}
    signings = {section.id: signing for section in file.providers if (signing := signing_of(section, providers))}
    sites = {
        row.id: site_of(row, url, signings.get(row.id))
        for row in providers.values()
        if (url := addresses.get(row.id) or row.base_url) is not None
    }
    return Snapshot(
        orgs_by_key={digest: org for section in file.orgs for digest, org in by_key(section, keys)},
        orgs_by_workload={name: org for section in file.orgs for name, org in by_workload(section, keys)},
        identity=file.identity.told_by,
        providers=providers,
        sites=sites,
        models=replace(MODELS, registered=MappingProxyType(registered)),
        lineup=lineup_of(file.providers),
        endpoints=ENDPOINTS,
        observation=Observation(
            answers=ANSWERS,
            reported_costs=REPORTED_COSTS,
            envoy_reads_usage=file.envoy.profile == "native",
            wanted=_wanted(file),
            usage_chunk=file.telemetry.usage_chunk,
        ),
        credentials=credentials_of(file.credentials, keys),
        prices=price_table(overrides(file.providers, file.prices), rows=providers),
        trust_traceparent=file.telemetry.trust_traceparent,
        declared=DECLARED,
        failover=Failover(**(file.failover.model_dump() | {"attempts_max": _attempts_max(file)})),
        ranking=RANKING,
        scoring=_scoring(file.auto),
        breaking=Breaking(**file.breaker.model_dump()),
        measuring=Measuring(**file.latency.model_dump()),
        limits=Limits(
            max_body_bytes=file.limits.request_body_bytes,
            inspect_body_bytes=min(file.limits.inspect_body_bytes, file.limits.request_body_bytes),
            inspect_multipart_bytes=min(file.limits.inspect_multipart_bytes, file.limits.request_body_bytes),
        ),
    )


def _wanted(file: SettingsFile) -> dict[str, ObserveSetting]:
    """Who reads a provider's answers: lectr, where the operator gave a price to what Envoy does not count."""
    by_price: dict[str, ObserveSetting] = {
        o.provider: "stream" for o in overrides(file.providers, file.prices) if o.prices.keys() - TELLS
    }
    return by_price | {section.id: section.observe for section in file.providers if section.observe != "auto"}


def _attempts_max(file: SettingsFile) -> int:
    """Envoy 1.40 is the first to take the order of the candidates from a call's metadata; others need to be made to."""
    return file.failover.attempts_max or (3 if file.envoy.profile == "native" else 1)


def _scoring(section: AutoSection) -> Scoring:
    return Scoring(
        words=WORDS,
        weights=MappingProxyType(section.weights.model_dump()),
        steps=MappingProxyType(section.steps.model_dump()),
        economy_to=section.economy_to,
        premium_from=section.premium_from,
    )


def _gateway(file: SettingsFile) -> GatewayOptions:
    envoy = file.envoy
    options = GatewayOptions(
        profile=envoy.profile,
        relays=envoy.profile == "portable" and _attempts_max(file) > 1,
        listen=envoy.listen,
        tls=ServerTls(**envoy.tls.model_dump()) if envoy.tls else None,
        admin=envoy.admin,
        lectr=envoy.lectr or file.grpc.listen,
        workers=file.grpc.workers,
        identity=file.identity.told_by,
        lectr_tls=LectrTls(**envoy.lectr_tls.model_dump()) if envoy.lectr_tls else None,
        max_body_bytes=file.limits.request_body_bytes,
        message_timeout_s=envoy.message_timeout_s,
        connect_timeout_s=envoy.connect_timeout_s,
        stream_idle_timeout_s=envoy.stream_idle_timeout_s,
        access_log_flush_s=envoy.access_log_flush_s,
        trusted_ca=envoy.trusted_ca,
        max_heap_bytes=envoy.max_heap_bytes,
        spool=file.spool.file,
    )
    return replace(options, include_directory=envoy.directory) if envoy.directory else options


def _explain(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "there is no such setting"
    if problem["type"] == "model_type":
        example = "url: memory" if problem["loc"] == ("ledger",) else "name: value"
        return f"write settings under it, such as `{example}`"
    text: str = problem["msg"]
    return text.removeprefix("Value error, ")


def _name(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _line(path: Path, lines: Mapping[Path, int]) -> int:
    return next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), 1)
