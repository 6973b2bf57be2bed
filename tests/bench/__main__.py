"""`make bench`: what lectr costs, and compared with what, measured in one run on this machine.

Nothing here fails on a number: machines differ, ratios within one run are what counts. A whole run writes
docs/benchmarks.md; one of some arms or parts, or a quick one, writes the same below build/bench.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.bench import envoy_parts, micro, report
from tests.bench.arms import ARMS, Arm, Bench, Missing, lectr_arm
from tests.bench.choosing import choosing
from tests.bench.host import CORES, OURS, machine, on
from tests.bench.load import REPOSITORY
from tests.bench.measures import Meter, Sample
from tests.e2e.gateway import LECTR
from tests.ports import free_port
from tests.soak.inflight import crowd

PARTS = ("calls", "streams", "sizes", "growth", "choosing", "envoy", "inflight", "startup", "micro")
RUN_S = 0.5
"Of the generator: with three rounds the whole is done in less than ten minutes."
PARTS_ROUNDS = 2
"Of Envoy's parts, which are told by their CPU: it varies less than latency."
_ELSEWHERE = "http://127.0.0.1:9/v1"
"Of providers that nobody calls."


def _when(number: int) -> dict[str, str]:
    """Twelve combinations of what rules ask about, each a table of its own; no call that is made here matches."""
    names = (("feature",), ("model",), ("feature", "model"))[number % 3]
    other = {"provider": "groq"} if number % 2 else {}
    return {name: f"{name}-{number}" for name in names} | other | ({"task": "reasoning"} if number % 4 > 1 else {})


MORE: dict[str, Callable[[Bench], Arm]] = {
    "as above": lectr_arm("as above"),
    "10,000 orgs": lectr_arm(
        "10,000 orgs", orgs=[{"name": f"org-{n}", "keys": [{"sha256": f"{n:064x}"}]} for n in range(10_000)]
    ),
    "1,000 rules": lectr_arm(
        "1,000 rules",
        org={"rules": [{"name": f"rule-{n}", "when": _when(n), "then": {"model": "gpt-4.1"}} for n in range(1_000)]},
    ),
    "300 providers": lectr_arm(
        "300 providers", providers=[{"id": f"own-{n}", "base_url": f"{_ELSEWHERE}/{n}"} for n in range(300)]
    ),
    "10,000 models": lectr_arm(
        "10,000 models",
        providers=[{"id": "own", "base_url": _ELSEWHERE, "models": [f"own-model-{n}" for n in range(10_000)]}],
    ),
}
"What may be many in somebody's settings. A setting of another kind is one entry more."


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS='…'", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look in a minute or two: one short round")
    parser.add_argument("--arms", default=",".join(ARMS), help="some of them, by commas (default: %(default)s)")
    parser.add_argument("--only", default=",".join(PARTS), help="some parts (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    arms, parts = chosen.arms.split(","), chosen.only.split(",")
    parser.error("no such arm or part") if set(arms) - set(ARMS) or set(parts) - set(PARTS) else None
    arms = list(dict.fromkeys(["direct", *arms]))  # latencies are told over its own
    is_whole = not chosen.quick and (arms, parts) == (list(ARMS), list(PARTS))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    began = time.monotonic()
    with on(OURS), tempfile.TemporaryDirectory(prefix="bench-") as directory:
        results = run(
            Path(directory), arms, parts, 1 if chosen.quick else chosen.rounds, 0.3 if chosen.quick else RUN_S
        )
    results["took_s"] = time.monotonic() - began
    raw = REPOSITORY / "build/bench/results.json"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text(json.dumps(results, indent=1))
    say(f"{results['took_s']:.0f} s; {report.write(results, REPOSITORY / 'docs' if is_whole else raw.parent)}")


def say(text: str) -> None:
    print(text, flush=True)


def run(directory: Path, names: Sequence[str], parts: Sequence[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Everything that was seen, as it goes into a file."""
    results: dict[str, Any] = {
        "machine": machine(),
        "at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "load_before": os.getloadavg()[0],
        "rounds": rounds,
        "samples": [],
    }
    with contextlib.ExitStack() as stack:
        provider = subprocess.Popen([sys.executable, "-m", "tests.bench.provider"], stdout=subprocess.PIPE, text=True)
        stack.callback(provider.wait)
        stack.callback(provider.kill)
        assert provider.stdout
        port, meter = int(provider.stdout.readline()), Meter(provider.pid, seconds)
        if {"calls", "streams", "sizes"} & set(parts):
            with contextlib.ExitStack() as these:
                bench = Bench(directory=directory, provider=port, stack=these)
                arms, results["missing"] = start(bench, {name: ARMS[name] for name in names})
                results["arms"] = told(arms)
                for arm in arms:  # Node compiles what it has seen often, connections are made
                    meter.warm(arm)
                plain = [arm for arm in arms if not arm.exports]
                whole = [arm for arm in arms if arm.name != "passing"]  # no chunks: the same as the empty one
                for round_ in range(rounds):
                    if "calls" in parts:
                        keep(results, meter.calls(whole, round_))
                    if "streams" in parts:
                        keep(results, meter.streams(plain, round_))
                    if "sizes" in parts:
                        keep(results, meter.sizes([arm for arm in plain if arm in whole], round_))
        if "growth" in parts:
            with contextlib.ExitStack() as these:
                arms, _ = start(Bench(directory=directory, provider=port, stack=these), MORE)
                results["more"] = told(arms)
                for arm in arms:
                    meter.warm(arm)
                for round_ in range(rounds):
                    keep(results, meter.growth(arms, round_))
        if "choosing" in parts:
            with contextlib.ExitStack() as these:
                arm = choosing(Bench(directory=directory, provider=port, stack=these))
                meter.warm(arm)
                for round_ in range(rounds):
                    keep(results, meter.choosing(arm, round_))
        if "envoy" in parts:
            apart = directory / "envoy-parts"
            apart.mkdir()
            with contextlib.ExitStack() as these:
                arms, _ = start(Bench(directory=apart, provider=port, stack=these), envoy_parts.PARTS)
                for arm in arms:
                    meter.warm(arm)
                for round_ in range(min(rounds, PARTS_ROUNDS)):
                    keep(results, meter.parts_of_envoy(arms, round_))
    if "startup" in parts:
        results["serving_s"] = [serving_s(directory) for _ in range(rounds)]
    if "micro" in parts:
        results["micro"] = list(micro.measure())
    if "inflight" in parts:
        results["crowds"] = []
        for size in (1_000,) if rounds == 1 else (1_000, 10_000):
            with on(set(CORES)), tempfile.TemporaryDirectory(prefix="crowd-") as folder:
                results["crowds"].append(asdict(crowd(Path(folder), size)))
    results["load_after"] = os.getloadavg()[0]
    return results


def start(bench: Bench, which: Mapping[str, Callable[[Bench], Arm]]) -> tuple[list[Arm], dict[str, str]]:
    """Those that can be had, and why the others cannot."""
    arms, missing = [], {}
    for name, made in which.items():
        try:
            arms.append(made(bench))
        except Missing as why:
            missing[name] = str(why)
        say(f"{name}: {missing.get(name) or f'{arms[-1].ready_s:.1f} s'}")
    return arms, missing


def told(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    return [
        {"name": arm.name, "version": arm.version, "ready_s": arm.ready_s, "resident_mib": arm.resident_mib()}
        for arm in arms
    ]


def keep(results: dict[str, Any], samples: Any) -> None:
    sample: Sample
    for sample in samples:
        results["samples"].append(asdict(sample))
        cpu = ", ".join(f"{name} {cost:.0f}" for name, cost in sample.cpu.items())
        say(
            f"{sample.round} {sample.part:8} {sample.arm:14} {sample.case:8} {sample.per_s:9.1f}/s"
            f"  p50 {sample.p50:9.3f} ms  CPU µs {cpu}"
        )


def serving_s(directory: Path) -> float:
    """From the start of `lectr serve` to the moment it is ready, with nothing but one org."""
    config, admin = directory / "serve.yaml", f"127.0.0.1:{free_port()}"
    config.write_text(
        f"grpc: {{listen: 'unix:{directory}/serve.sock'}}\nadmin: {{listen: '{admin}'}}\nledger: {{url: memory}}\n"
    )
    with contextlib.ExitStack() as stack:
        bench = Bench(directory=directory, provider=0, stack=stack)
        began = time.monotonic()
        bench.start("serve", [*LECTR, "serve", "--config", config])
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://{admin}/readyz", trust_env=False).status_code == 200:
                    return time.monotonic() - began
            time.sleep(0.01)


if __name__ == "__main__":
    main()
