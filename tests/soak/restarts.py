"""Restarts and kills under traffic: how many of the calls that were answered have no row, sent and spooled."""

import contextlib
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tests.e2e.answers import Flavour, answer_as
from tests.e2e.calls import NO_ANSWER
from tests.e2e.faults import Stage, envoy_restarted, lectr_killed, lectr_replaced, staged
from tests.e2e.gateway import BUILDS, STOP_WITHIN_S, wait_until
from tests.e2e.provider import Loop, Provider
from tests.e2e.scene import Providers

FLUSH_S = 0.5
"The default, for both ways."
AWAY_S = 5.0


def lectr_stopped(stage: Stage) -> None:
    stage.gateway.process.send_signal(signal.SIGTERM)
    assert stage.gateway.process.wait(STOP_WITHIN_S) == 0
    stage.gateway.process = stage.gateway.serve()
    stage.sees(200)


def lectr_away(stage: Stage) -> None:
    stage.gateway.process.kill()
    stage.gateway.process.wait()
    time.sleep(AWAY_S)
    stage.gateway.process = stage.gateway.serve()
    stage.sees(200)


def envoy_killed(stage: Stage) -> None:
    stage.gateway.envoy.kill()
    stage.gateway.envoy.wait()
    stage.sees(NO_ANSWER)
    stage.gateway.start_envoy()
    stage.sees(200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """What happens, and in which ways it may cost a record."""

    happens: Callable[[Stage], None]
    costs: frozenset[str]
    over: str = "unix"


NOTHING, SENT, BOTH = frozenset[str](), frozenset({"sent"}), frozenset({"sent", "spooled"})

RESTARTS = {
    "planned, Unix socket": Restart(happens=lectr_replaced, costs=NOTHING),
    "planned, TCP": Restart(happens=lectr_replaced, costs=NOTHING, over="tcp"),
    "SIGTERM, then a new lectr": Restart(happens=lectr_stopped, costs=SENT),
    "kill -9, a new lectr at once": Restart(happens=lectr_killed, costs=SENT),
    f"kill -9, a new lectr after {AWAY_S:.0f} s": Restart(happens=lectr_away, costs=SENT),
    "SIGTERM to Envoy": Restart(happens=envoy_restarted, costs=SENT),
    "kill -9 of Envoy": Restart(happens=envoy_killed, costs=BOTH),
}


def answered_and_lost(stage: Stage, happens: Callable[[Stage], None], times: int) -> tuple[int, int]:
    """Calls while it happens that often, and those of them without a row."""
    with stage.under_traffic():
        for _ in range(times):
            happens(stage)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: (counts := stage.count()).recorded == counts.answered, "a row of each call")
    counts = stage.count()
    return counts.answered, counts.answered - counts.recorded


def restarts(names: list[str], times: int) -> bool:
    """Print a line for each; whether none cost more than it may."""
    holds = True
    with Loop() as loop, ExitStack() as stack:
        flavours: tuple[Flavour, ...] = get_args(Flavour)
        providers: Providers = {name: stack.enter_context(Provider(loop, answer_as(name))) for name in flavours}
        print(f"{times} times each; Envoy {' / '.join(map(str, BUILDS))}")
        print(f"{'':32}  {'sent: answered':>16}  {'lost':>11}  {'spooled: answered':>17}  {'lost':>11}", flush=True)
        for name in names:
            restart, cells = RESTARTS[name], list[str]()
            for way in ("sent", "spooled"):
                seen = list[tuple[int, int]]()
                for build in BUILDS:
                    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
                        place, ledger = Path(directory), f"sqlite://{directory}/ledger.db"
                        is_spooled = way == "spooled"
                        with staged(
                            build, providers, place, ledger, over=restart.over, is_spooled=is_spooled, flush_s=FLUSH_S
                        ) as stage:
                            seen.append(answered_and_lost(stage, restart.happens, times))
                    for provider in providers.values():
                        provider.reset()
                cells += [" / ".join(f"{count:,}" for count in counts) for counts in zip(*seen, strict=True)]
                holds = holds and (way in restart.costs or not any(lost for _, lost in seen))
            print(f"{name:32}  {cells[0]:>16}  {cells[1]:>11}  {cells[2]:>17}  {cells[3]:>11}", flush=True)
    return holds
