from typing import Any

import pytest

from lectr_extproc.gateway import Finding, GatewayOptions
from lectr_extproc.gateway.running import Running, check_running
from tests.gateway.examples import NATIVE, ONE, PORTABLE, bootstrap, dump_of

TO = ONE[0].cluster
HEALTHY = {"host_statuses": [{"health_status": {"eds_health_status": "HEALTHY"}}]}
SICK = {"health_status": {"failed_active_health_check": True}}


def status(name: str, *hosts: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "host_statuses": list(hosts)}


def host(total: int, failed: int) -> dict[str, Any]:
    return {"stats": [{"name": "cx_total", "value": str(total)}, {"name": "cx_connect_fail", "value": str(failed)}]}


def found(
    *clusters: dict[str, Any],
    options: GatewayOptions = NATIVE,
    version: str = "1.40.0",
    counters: dict[str, int] | None = None,
    **server: Any,
) -> list[Finding]:
    """What is wrong with an Envoy that says so of itself, and whose configuration is ours."""
    running = Running(
        version=tuple(map(int, version.split("."))),
        server={"state": "LIVE", **server},
        dump=dump_of(bootstrap(options, ONE)),
        clusters={"cluster_statuses": list(clusters)},
        counters=counters or {},
    )
    return check_running(running, options, ONE)


def test_an_envoy_in_good_health_has_no_findings() -> None:
    others = status("other"), status(f"{TO}.h1")
    assert found(status("lectr", {}), status(TO, host(3, 1)), *others, counters={"cluster.x.ssl.handshake": 1}) == []
    assert found(options=PORTABLE, version="1.36.4") == []


@pytest.mark.parametrize(
    ("options", "version", "do"),
    [
        (NATIVE, "1.39.3", "run Envoy 1.40 or later, or set `envoy: {profile: portable}`"),
        (PORTABLE, "1.35.9", "run Envoy 1.36 or later"),
    ],
    ids=["native", "portable"],
)
def test_an_envoy_too_old_for_its_profile_is_named(options: GatewayOptions, version: str, do: str) -> None:
    (finding,) = found(options=options, version=version)
    assert finding.what == f"this is Envoy {version}, and the profile is {options.profile}"
    assert (finding.severity, finding.do) == ("error", do)


def test_an_envoy_that_does_not_serve_yet_is_named() -> None:
    (finding,) = found(state="PRE_INITIALIZING")
    assert finding.what == "Envoy is PRE_INITIALIZING"


def test_a_spool_that_envoy_writes_too_seldom_is_named() -> None:
    spooling = GatewayOptions(spool="/var/spool/lectr")
    (finding,) = found(options=spooling, command_line_options={"file_flush_interval": "10s"})
    assert finding.what == "Envoy writes the spool every 10 s"
    assert found(options=spooling, command_line_options={"file_flush_interval": "0.500s"}) == []
    assert found(command_line_options={"file_flush_interval": "10s"}) == []


HOSTS: dict[str, tuple[str, dict[str, Any]]] = {
    "no lectr answers Envoy's health checks": ("error", status("lectr", SICK)),
    "1 of 2 lectrs do not answer": ("warning", status("lectr", SICK, {})),
    f"without an address: {TO}": ("warning", {"name": TO}),
    f"never reached: {TO}": ("warning", status(TO, host(2, 2))),
}


@pytest.mark.parametrize(("words", "severity", "told"), [(k, *v) for k, v in HOSTS.items()], ids=HOSTS)
def test_whom_envoy_does_not_reach_is_named(words: str, severity: str, told: dict[str, Any]) -> None:
    (finding,) = found(told)
    assert words in finding.what
    assert finding.severity == severity


COUNTED: dict[str, tuple[str, dict[str, int]]] = {
    "lectr did not answer in time (3 times": (
        "warning",
        {"http.lectr.ext_proc.message_timeouts": 2, f"cluster.{TO}.ext_proc.attempt.message_timeouts": 1},
    ),
    "Envoy's question to lectr failed": ("warning", {"http.lectr.ext_proc.streams_failed": 1}),
    "lectr said what Envoy had not asked for": ("error", {"http.lectr.ext_proc.spurious_msgs_received": 1}),
    "Envoy dropped headers": ("error", {"http.lectr.ext_proc.rejected_header_mutations": 1}),
    "finished calls were not recorded": ("error", {"access_logs.grpc_access_log.logs_dropped": 1}),
    "Envoy refused a newer configuration": ("warning", {"http.lectr.rds.lectr.update_rejected": 1}),
    "compressed answers": ("warning", {"http.lectr.ai_protocol_manager.unsupported_content_encoding": 1}),
    "to save memory": ("warning", {"overload.envoy.overload_actions.shrink_heap.active": 1}),
    f"certificates were not accepted: {TO}": ("error", {f"cluster.{TO}.ssl.fail_verify_san": 1}),
    "12 bodies had a content type": (
        "warning",
        {
            "json_to_metadata.rq.success": 11,
            "json_to_metadata.rq.mismatched_content_type": 12,
        },
    ),
}


@pytest.mark.parametrize(("words", "severity", "counters"), [(k, *v) for k, v in COUNTED.items()], ids=COUNTED)
def test_counters_that_show_trouble_are_told_once(words: str, severity: str, counters: dict[str, int]) -> None:
    (finding,) = found(counters=counters)
    assert words in finding.what
    assert finding.severity == severity
