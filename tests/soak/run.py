"""A steady load, with a fault now and then: memory, files and latency meanwhile, and the counts at the end."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self, get_args

import httpx

from tests.e2e.answers import Flavour, answer_as
from tests.e2e.calls import NO_ANSWER, asking, call, new_id
from tests.e2e.faults import FAULTS, Stage, staged
from tests.e2e.gateway import BUILDS, memory_kib, open_files
from tests.e2e.provider import Loop, Provider

CLIENTS = 8
MAY_GROW_KIB = 32 << 10
MORE_FILES = 32
"Beyond its first ones, a process has connections to clients, providers and the collector, and the ledger's files."
SAMPLES = 30
Size = tuple[int, int]
"KiB of memory, and open files."
BODIES = [asking(), asking(stream=True), asking("claude-sonnet-4-6"), asking("llama-3.3-70b-versatile", stream=True)]


class Load:
    """Calls at a steady rate: when each is due does not depend on the ones before it."""

    def __init__(self, stage: Stage, per_s: float) -> None:
        self._stage, self._pause = stage, CLIENTS / per_s
        self._over = threading.Event()
        self.took_s: list[float] = []
        "Of the calls since somebody looked."
        self._clients = [threading.Thread(target=self._call, args=[number]) for number in range(CLIENTS)]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for client in self._clients:
            client.join()

    def _call(self, number: int) -> None:
        due = time.monotonic() + number / CLIENTS * self._pause
        for body in itertools.cycle(BODIES):
            due = max(due + self._pause, time.monotonic() - 1)  # what a fault held up is not made up for
            if self._over.wait(max(0.0, due - time.monotonic())):
                return
            call_id, began = new_id(), time.monotonic()
            try:
                status = call(self._stage.gateway, body=body, call_id=call_id).status_code
            except httpx.TransportError:
                status = NO_ANSWER
            self._stage.outcomes[call_id] = status
            self.took_s.append(time.monotonic() - began)


def soak(directory: Path, minutes: float, per_s: float, fault_every_s: float) -> bool:
    """Whether each answered call has one row that says what its client saw, each served one a span, each fault did no
    more than it may, and no process grew."""
    with Loop() as loop, ExitStack() as stack:
        flavours: tuple[Flavour, ...] = get_args(Flavour)
        providers = {name: stack.enter_context(Provider(loop, answer_as(name))) for name in flavours}
        stage = stack.enter_context(staged(BUILDS[0], providers, directory, f"sqlite://{directory}/ledger.db"))
        end = time.monotonic() + minutes * 60
        print("     s   calls  refused  broken  p50 ms  p99 ms  lectr MiB  files  Envoy MiB  files  fault", flush=True)
        happened, sizes = Counter[str](), dict[int, list[Size]]()
        with Load(stage, per_s) as load:
            for name in itertools.cycle(FAULTS):
                quiet_until = min(time.monotonic() + fault_every_s, end)
                while (left := quiet_until - time.monotonic()) > 0:
                    time.sleep(min(left, minutes * 60 / SAMPLES))
                    tell(stage, load, end - minutes * 60, "", sizes)
                if time.monotonic() >= end:
                    break
                with stage.reading() as store:
                    stage.after = store.seq_before_last(0)
                FAULTS[name].happens(stage)
                happened[name] += 1
                tell(stage, load, end - minutes * 60, name, sizes)
                stage.collector.taken.clear()
                for provider in providers.values():
                    provider.reset()  # what it received is kept for tests
        stage.after = 0
        counts, statuses = stage.settle(), Counter(stage.outcomes.values())
        print(f"{happened.total()} faults: {dict(happened)}")
        print(f"{counts}; statuses: {dict(statuses)}")
        return (
            (counts.is_complete and not counts.twice)
            and set(statuses) <= {200, 503, NO_ANSWER}
            and all(is_flat(of_one) for of_one in sizes.values())
        )


def is_flat(sizes: Sequence[Size]) -> bool:
    """What a process took, from the first look at it to the last."""
    memory, files = zip(*sizes, strict=True)
    return bool(max(memory) - memory[0] < MAY_GROW_KIB and max(files) - files[0] < MORE_FILES)


def tell(stage: Stage, load: Load, began: float, fault: str, sizes: dict[int, list[Size]]) -> None:
    took, load.took_s = sorted(load.took_s), []
    if not took:
        return
    statuses = Counter(stage.outcomes.values())
    p50, p99 = took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000
    lectr, envoy = stage.gateway.process, stage.gateway.envoy
    now = [(memory_kib(process), open_files(process)) for process in (lectr, envoy)]
    for process, size in zip((lectr, envoy), now, strict=True):
        sizes.setdefault(process.pid, []).append(size)
    (lectr_kib, lectr_files), (envoy_kib, envoy_files) = now
    print(
        f"{time.monotonic() - began:6.0f}  {len(stage.outcomes):6}  {statuses[503]:7}  {statuses[NO_ANSWER]:6}",
        f"{p50:6.1f}  {p99:6.1f}  {lectr_kib / 1024:9.1f}  {lectr_files:5}",
        f"{envoy_kib / 1024:9.1f}  {envoy_files:5}  {fault}",
        sep="  ",
        flush=True,
    )
