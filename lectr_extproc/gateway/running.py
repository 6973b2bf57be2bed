"""What is wrong with an Envoy that runs: its configuration, who it reaches, and what its counters tell."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lectr_extproc.core.upstream import Upstream
from lectr_extproc.gateway.check import check
from lectr_extproc.gateway.check_filters import is_shared
from lectr_extproc.gateway.filters import CLUSTER
from lectr_extproc.gateway.finding import Finding, Severity, error, some, warning
from lectr_extproc.gateway.found import Config, at, found_in_dump, plain
from lectr_extproc.gateway.options import NEEDS, GatewayOptions

_SEE = "docs/doctor.md#an-envoy-that-runs"
_COUNTED = "docs/doctor.md#counters"
_HOST_TOO_SOON = re.compile(r"http\..*\.ext_proc\.rejected_header_mutations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What an Envoy says of itself on its admin port."""

    version: tuple[int, ...]
    "(1, 40, 0)"
    server: Config
    "/server_info"
    dump: Config
    "/config_dump"
    clusters: Config
    "/clusters, as JSON"
    counters: Mapping[str, int]
    "/stats: counters and gauges that ever were anything"


def check_running(running: Running, options: GatewayOptions, upstreams: Iterable[Upstream]) -> list[Finding]:
    """All that can be seen from its admin port."""
    upstreams, found, counters = tuple(upstreams), found_in_dump(running.dump), running.counters
    if any(map(is_shared, found.managers)):
        # There the provider's cluster writes the host; that lectr may not do so before is counted at each call.
        counters = {name: count for name, count in counters.items() if not _HOST_TOO_SOON.fullmatch(name)}
    return [
        *_server(running, options),
        *check(found, options, upstreams),
        *_hosts(running.clusters, {upstream.cluster for upstream in upstreams}),
        *_certificates(counters),
        *_counters(counters),
    ]


def _server(running: Running, options: GatewayOptions) -> Iterator[Finding]:
    needed = NEEDS[options.profile]
    if running.version < needed:
        named = ".".join(map(str, running.version))
        why = "it does not know what lectr renders, or knows it otherwise"
        do = f"run Envoy {'.'.join(map(str, needed))} or later" + ", or set `envoy: {profile: portable}`" * (
            options.profile == "native"
        )
        yield error(f"this is Envoy {named}, and the profile is {options.profile}", why, do, _SEE)
    if (state := running.server.get("state", "LIVE")) != "LIVE":
        why, do = "no call is answered", "wait; `/init_dump` of its admin port says what it waits for"
        yield error(f"Envoy is {state}", why, do, _SEE)
    flush = plain(at(running.server, "command_line_options.file_flush_interval"))
    if options.spool and isinstance(flush, float) and flush > 1:
        why = "a call has its record only after that time, and a killed Envoy loses what waits"
        do = "start Envoy with --file-flush-interval-msec 500"
        yield warning(f"Envoy writes the spool every {flush:.0f} s", why, do, "docs/nothing-lost.md")


def _hosts(told: Config, providers: set[str]) -> Iterator[Finding]:
    nameless, unreached = [], []
    for status in told.get("cluster_statuses", ()):
        name, hosts = str(status.get("name")), status.get("host_statuses") or ()
        if name == CLUSTER:
            yield from _lectrs(hosts)
        elif name in providers and not hosts:
            nameless.append(name)
        elif name in providers and all(_never_reached(host) for host in hosts):
            unreached.append(name)
    if nameless:
        why = "Envoy's resolver knows no address of their hosts: calls to them get 503"
        do = "ask for them where Envoy runs (`getent hosts …`), and look at its resolver"
        yield warning(f"without an address: {some(sorted(nameless))}", why, do, _SEE)
    if unreached:
        why = "every connection to them has failed: calls to them get 503"
        do = "connect from where Envoy runs (`openssl s_client -connect …`): a firewall, a proxy, a wrong base_url"
        yield warning(f"never reached: {some(sorted(unreached))}", why, do, _SEE)


def _lectrs(hosts: Iterable[Config]) -> Iterator[Finding]:
    sick = [bool(at(host, "health_status.failed_active_health_check")) for host in hosts]
    do = "start lectr, and compare grpc.listen and envoy.lectr of its settings with the cluster's address"
    if all(sick):
        yield error("no lectr answers Envoy's health checks", "nobody decides on calls: each gets 503", do, _SEE)
    elif any(sick):
        what = f"{sum(sick)} of {len(sick)} lectrs do not answer Envoy's health checks"
        yield warning(what, "the others have all calls", do, _SEE)


def _never_reached(host: Config) -> bool:
    counted = {each.get("name"): int(each.get("value", 0)) for each in host.get("stats", ())}
    return 0 < counted.get("cx_total", 0) == counted.get("cx_connect_fail", 0)


def _certificates(counters: Mapping[str, int]) -> Iterator[Finding]:
    failed = [
        match[1]
        for name, count in counters.items()
        if count and (match := re.fullmatch(r"cluster\.(.+)\.ssl\.fail_verify_(?:san|error|no_cert)", name))
    ]
    if failed:
        why = "nobody may be a provider without its certificate: such calls got 503"
        do = "set envoy.trusted_ca to the CAs that sign it, and base_url to a name that is in it"
        yield error(f"certificates were not accepted: {some(sorted(set(failed)))}", why, do, _SEE)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Counters that show trouble once they are anything."""

    severity: Severity
    name: str
    what: str
    why: str
    do: str


_TROUBLES = (
    _Trouble(
        "warning",
        r".*\.ext_proc\.(attempt\.)?message_timeouts",
        "lectr did not answer in time",
        "these calls got 503",
        "look at lectr's CPU: one process uses one core (grpc.workers); or raise envoy.message_timeout_s",
    ),
    _Trouble(
        "warning",
        r".*\.ext_proc\.(attempt\.)?streams_failed",
        "Envoy's question to lectr failed",
        "these calls got 503, unless only their answer was being read",
        "see lectr's log and `lectr status`; a lectr that is replaced should start before the old one stops",
    ),
    _Trouble(
        "error",
        r".*\.ext_proc\.(attempt\.)?spurious_msgs_received",
        "lectr said what Envoy had not asked for",
        "such calls end in an error",
        "run Envoy and lectr of versions that fit, and render Envoy's files again",
    ),
    _Trouble(
        "error",
        r".*\.ext_proc\.(attempt\.)?rejected_header_mutations",
        "Envoy dropped headers that lectr wrote",
        "calls went out for the wrong host, or without a key",
        "take mutation_rules from include/ecds-lectr.yaml",
    ),
    _Trouble(
        "error",
        r"access_logs\.grpc_access_log\.logs_dropped",
        "finished calls were not recorded",
        "Envoy had no room for them while lectr was away",
        "keep calls in a file: `spool: {file: …}`",
    ),
    _Trouble(
        "warning",
        r".*\.(update_rejected|config_fail)",
        "Envoy refused a newer configuration",
        "what it had before is in force still",
        "see why, in Envoy's log, and have `lectr check` validate what is rendered",
    ),
    _Trouble(
        "warning",
        r".*ai_protocol_manager\.(.*\.)?unsupported_content_encoding",
        "Envoy could not read compressed answers",
        "their tokens are estimated",
        "set `observe: stream` for the provider that compresses what it was asked not to",
    ),
    _Trouble(
        "warning",
        r"overload\..*\.active",
        "Envoy refuses calls, or is about to, to save memory",
        "calls get 503",
        "give it more: max_heap_size_bytes, and less to hold: limits.request_body_bytes",
    ),
)


def _counters(counters: Mapping[str, int]) -> Iterator[Finding]:
    for trouble in _TROUBLES:
        named = re.compile(trouble.name)
        if count := sum(count for name, count in counters.items() if named.fullmatch(name)):
            what = f"{trouble.what} ({count} times since Envoy started)"
            yield Finding(severity=trouble.severity, what=what, why=trouble.why, do=trouble.do, see=_COUNTED)
    read, others = (
        sum(count for name, count in counters.items() if name.endswith(f"json_to_metadata.rq.{kind}"))
        for kind in ("success", "mismatched_content_type")
    )
    if others > max(read, 10):
        what = f"{others} bodies had a content type that is not JSON's, {read} had it"
        why = "lectr has to ask for such bodies, which costs three times as much"
        do = "have clients send `content-type: application/json`"
        yield warning(what, why, do, _COUNTED)
