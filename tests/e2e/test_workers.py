"""Several lectrs behind one Envoy are one: calls reach all of them, and one that dies takes no other's along."""

import os
import re
import signal
from pathlib import Path

import httpx

from tests.e2e.calls import traffic
from tests.e2e.conftest import LaunchApart, once
from tests.e2e.gateway import Apart, children_of, wait_until
from tests.e2e.scene import Providers, settings_for

WORKERS = 2


def decided(gateway: Apart) -> list[int]:
    """How many calls each has decided."""
    workers = gateway.healthz().json()["workers"]
    return [worker["counts"].get("decisions", 0) if worker else 0 for worker in workers.values()]


def metric(gateway: Apart, name: str) -> dict[str, float]:
    """By worker."""
    text = httpx.get(f"http://127.0.0.1:{gateway.admin_port}/metrics", trust_env=False).text
    return {each: float(value) for each, value in re.findall(rf'^{name}{{worker="(\d)"}} (\S+)$', text, re.MULTILINE)}


@once
def test_one_of_two_workers_dies_under_load_and_no_call_with_it(
    launch_apart: LaunchApart, providers: Providers, tmp_path: Path
) -> None:
    spool = {"file": str(tmp_path / "calls.jsonl")}
    gateway = launch_apart({**settings_for(providers), "grpc": {"workers": WORKERS}, "spool": spool})
    wait_until(lambda: gateway.stat("cluster.lectr.membership_healthy") == WORKERS, "an Envoy that knows both")
    with traffic(gateway) as outcomes:
        wait_until(lambda: all(decided(gateway)), "calls on both")
        first, second = children_of(gateway.process)
        os.kill(first, signal.SIGKILL)
        gateway.lines("a worker ended and is started again")
        wait_until(lambda: len(decided(gateway)) == WORKERS and all(decided(gateway)), "calls on the new one")
        assert second in children_of(gateway.process)
    assert len([status for status in outcomes.values() if status != 200]) <= 2, "those of each client that it had"
    wait_until(lambda: all(call_id in gateway.output for call_id in outcomes), "a record of each call")

    health, written = gateway.healthz().json(), metric(gateway, "lectr_events_written_total")
    assert (health["status"], sum(written.values())) == ("ok", health["ledger"]["written"])
    assert health["counts"]["decisions"] == sum(decided(gateway))
