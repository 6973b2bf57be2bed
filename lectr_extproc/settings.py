"""lectr.yaml to frozen settings: read once, whole, with every mistake reported at once.

What the file may hold is in settings_file.py, what only several settings together show in settings_checks.py. What
leaves here is a Settings value that nothing can change.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import Any, Literal

import yaml
from pydantic import (
    ValidationError,
)

from lectr_extproc.catalog.answers import ANSWERS, REPORTED_COSTS
from lectr_extproc.catalog.auto_words import WORDS
from lectr_extproc.catalog.declared import DECLARED
from lectr_extproc.catalog.dialects import ENDPOINTS
from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.prices import Override, price_table
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.catalog.ranking import ALIASES, RANKING
from lectr_extproc.core.anomalies import Watching
from lectr_extproc.core.auto import Scoring
from lectr_extproc.core.credential import Credential, Form
from lectr_extproc.core.health import Breaking, Measuring
from lectr_extproc.core.inject import Asking
from lectr_extproc.core.native import TELLS
from lectr_extproc.core.recommend import Advising
from lectr_extproc.core.rules import Arm, Rule, Rules, Terms
from lectr_extproc.core.snapshot import Observation, ObserveSetting, Snapshot
from lectr_extproc.core.tables import Failover, Known, Limits, Org, Provider, Site
from lectr_extproc.core.upstream import Signing, Upstream
from lectr_extproc.gateway import GatewayOptions, LectrTls
from lectr_extproc.settings_checks import Path, Problem, contradictions, held_keys, references
from lectr_extproc.settings_file import (
    AutoSection,
    AzureSection,
    OrgSection,
    ProviderSection,
    RuleSection,
    SettingsFile,
    is_loopback,
    without_blanks,
)
from lectr_extproc.settings_limits import org_limits

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
    says_failover: bool
    "The file has something under `failover`."
    recommend: Advising
    anomalies: Watching
    log_level: str
    log_calls: bool

    @property
    def warnings(self) -> list[str]:
        """What is allowed and can hardly be meant."""
        return [*self.open_doors, *self.idle_rules, *self.no_failover]

    @property
    def idle_rules(self) -> list[str]:
        """The rules that no call ever reaches."""
        orgs = {org.name: org.rules for org in self.snapshot.orgs_by_key.values() if org.rules}
        return [
            f"orgs: {name}: rule {rule.name!r} never matches: {by.name!r} comes first, and takes all of its calls"
            for name, rules in orgs.items()
            for rule, by in rules.hidden()
        ]

    @property
    def no_failover(self) -> list[str]:
        """What the file says of failing over where nothing can."""
        if self.snapshot.failover is not None or not self.says_failover:
            return []
        return ["failover: in the portable profile each call goes to its first candidate alone (docs/routing.md)"]

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


MOST_VALUES = 1_000_000
"A thousand orgs have some twenty thousand; a few lines of aliases can stand for more than there is time."

DEEPEST = 100
"libyaml composes by recursion in C, where a list in a list in a list would end the process. Settings have some seven."


class _Composer(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Text to nodes, with libyaml where PyYAML has it, which takes a quarter of the time.

    Both composers call these two methods around each node, whatever is in it.
    """

    _depth = _values = 0

    def descend_resolver(self, parent: yaml.Node | None, _: object) -> None:
        self._depth += 1
        self._values += 1
        if self._depth > DEEPEST or self._values > MOST_VALUES:
            much = f"{DEEPEST} values in each other" if self._depth > DEEPEST else f"{MOST_VALUES:,} values"
            raise yaml.MarkedYAMLError(problem=f"more than {much}", problem_mark=parent.start_mark if parent else None)

    def ascend_resolver(self) -> None:
        self._depth -= 1


class _Constructor(yaml.constructor.SafeConstructor):
    """Tells with its line what YAML's own constructors stumble over: `2024-13-45`, `!!bool x`, half a character."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            if isinstance(node, yaml.ScalarNode):
                node.value.encode()
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(problem=f"this is no {kind}", problem_mark=node.start_mark) from None


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
        root = yaml.compose(text, Loader=_Composer)
        if _size(root, {}) > MOST_VALUES:
            raise ValueError(f"its aliases repeat more than {MOST_VALUES:,} values")
        raw = _Constructor().construct_document(root) if root else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the last: aliases of aliases of aliases
        raise ConfigError(source, [f"not YAML: {_unread(error)}"]) from None
    if raw is not None and not isinstance(raw, dict):
        raise ConfigError(source, ["line 1: the file must be a mapping such as `orgs: […]`"])
    merged = _merged(defaults or {}, raw or {})
    lines, problems = _read_lines(root)
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
    return replace(_settings(file, keys), text=text, secret_files=files)


def is_blank(text: str) -> bool:
    """Whether a file that is YAML says nothing, as one does that was emptied to be written anew."""
    return yaml.safe_load(text) is None


def _unread(error: Exception) -> str:
    """What YAML stumbled over and where, without the piece of the file that it quotes: a key may be in it."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def compile_settings(raw: Mapping[str, Any]) -> Settings:
    """The same from parsed YAML, for tools and tests that make settings of their own; it holds no keys."""
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
        workers=file.grpc.workers,
        grpc_tls=ServerTls(**file.grpc.tls.model_dump()) if file.grpc.tls else None,
        admin_listen=file.admin.listen,
        admin_token=held.secret if (held := keys.get(file.admin.token or "")) else None,
        webhook=_webhook(file, keys),
        envoy_directory=envoy.directory,
        llm_spans=file.telemetry.llm_spans,
        ledger=LedgerSettings(**file.ledger.model_dump()),
        says_failover="failover" in file.model_fields_set,
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
            key.sha256: replace(org, limits=limits[key.label]) if limits else org
            for section in file.orgs
            for org, limits in ((_org(section, keys), org_limits(section)),)
            for key in section.keys
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
            wanted=_wanted(file),
            usage_chunk=file.telemetry.usage_chunk,
        ),
        credentials=_credentials(file.credentials, keys),
        prices=price_table(_overrides(file), rows=providers),
        trust_traceparent=file.telemetry.trust_traceparent,
        declared=DECLARED,
        # Envoy 1.40 is the first to take the order of the candidates from a call's metadata.
        failover=Failover(**file.failover.model_dump()) if file.envoy.profile == "native" else None,
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
    by_price: dict[str, ObserveSetting] = {o.provider: "stream" for o in _overrides(file) if o.prices.keys() - TELLS}
    return by_price | {section.id: section.observe for section in file.providers if section.observe != "auto"}


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
        listen=envoy.listen,
        admin=envoy.admin,
        lectr=envoy.lectr or file.grpc.listen,
        workers=file.grpc.workers,
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
        rules=_rules(section.rules),
        aliases={**ALIASES, **{name: tuple(of) for name, of in section.aliases.items()}},
        blocked=frozenset((*section.blocked.providers, *section.blocked.models)),
        allowed_providers=frozenset(section.allowed.providers),
        allowed_models=frozenset(section.allowed.models),
    )


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
