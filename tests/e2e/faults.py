"""What can go wrong around a lectr that serves: each fault harms, waits until the harm is felt, and mends.

A fault is a function of a stage, so that the suite can try each alone and the soak all of them in turn.
"""

import contextlib
import json
import os
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge.ledger import open_store
from lectr_extproc.edge.store import Store
from tests.collector import Collector
from tests.e2e.calls import NO_ANSWER, new_id, traffic
from tests.e2e.gateway import ENVOY_FLAGS, STOP_WITHIN_S, Apart, Build, wait_until
from tests.e2e.scene import Providers, settings_for

SETTLES_WITHIN_S = 40.0  # a lectr that was killed has the outbox for another 15 s
SMALLEST_FILE = 64
"Bytes: the place reached in the spool can be kept, and no page of a ledger be written."


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of some calls."""

    sent: int
    answered: int
    recorded: int
    "Those answered of which one row says what the client saw."
    served: int
    "Those that a provider answered."
    exported: int
    "Those served whose span a collector has."
    twice: int
    "Those that have more rows than one."

    @property
    def is_complete(self) -> bool:
        return (self.recorded, self.exported) == (self.answered, self.served)


@dataclass(slots=True, kw_only=True)
class Stage:
    """A gateway whose parts can die apart, with a ledger, a collector and, unless calls are sent, a spool."""

    gateway: Apart
    ledger: str
    spool: Path
    collector: Collector
    outcomes: dict[str, int] = field(default_factory=dict)
    "Of the calls under way while a fault happens."
    after: int = 0
    "Which rows are older than those calls."

    @contextmanager
    def under_traffic(self) -> Iterator[None]:
        """Calls meanwhile."""
        with self.reading() as store:
            self.after = store.seq_before_last(0)
        with traffic(self.gateway) as self.outcomes:
            yield

    def settle(self) -> Counts:
        """The counts, once each call has its row and its span; or as they are when it is clear that some never will."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.count().is_complete, "a row and a span of each call", SETTLES_WITHIN_S)
        return self.count()

    def count(self) -> Counts:
        answered = {call_id: status for call_id, status in self.outcomes.items() if status != NO_ANSWER}
        statuses, exported = self.statuses(), self.collector.calls()
        served = [call_id for call_id, status in answered.items() if status == 200]
        return Counts(
            sent=len(self.outcomes),
            answered=len(answered),
            recorded=sum(statuses.get(call_id) == [status] for call_id, status in answered.items()),
            served=len(served),
            exported=sum(call_id in exported for call_id in served),
            twice=sum(len(statuses.get(call_id, [])) > 1 for call_id in self.outcomes),
        )

    def statuses(self) -> dict[str | None, list[int | None]]:
        """What the rows of each call say."""
        found: dict[str | None, list[int | None]] = {}
        for row in self.rows():
            found.setdefault(row.request_id, []).append(row.status)
        return found

    def rows(self) -> Iterator[CallRecord]:
        """Those that were written since the traffic began."""
        with self.reading() as store:
            after = self.after
            while found := store.read_after(after, 5000):
                after = found[-1][0]
                yield from (record for _, record in found)

    @contextmanager
    def reading(self) -> Iterator[Store]:
        store, _ = open_store(self.ledger, {}, read_only=True)
        try:
            yield store
        finally:
            store.close()

    def sees(self, status: int, count: int = 10) -> None:
        """Wait until so many more calls have ended so."""
        so_far = len(self.outcomes)
        wait_until(
            lambda: list(self.outcomes.values())[so_far:].count(status) >= count,
            f"{count} answers {status}",
            SETTLES_WITHIN_S,
        )

    def ledger_says(self, name: str) -> Any:
        return self.gateway.healthz().json()["ledger"][name]

    def outbox_says(self, name: str) -> Any:
        return self.gateway.healthz().json()["export"][name]


@contextmanager
def staged(
    build: Build,
    providers: Providers,
    directory: Path,
    ledger: str,
    *,
    over: str = "unix",
    is_spooled: bool = True,
    flush_s: float | None = None,
) -> Iterator[Stage]:
    """A stage, for as long as the block lasts. `flush_s` is how often Envoy hands on what is over."""
    spool = directory / "calls.jsonl"
    envoy = {"message_timeout_s": 0.5, "stream_idle_timeout_s": 1.0}
    settings: dict[str, Any] = {
        **settings_for(providers),
        "ledger": {"url": ledger},
        **({"spool": {"file": str(spool)}} if is_spooled else {}),
        "envoy": envoy | ({"access_log_flush_s": flush_s} if flush_s else {}),
    }
    gateway = Apart(build, settings, directory, over=over)
    if flush_s:
        gateway.envoy_flags = [*ENVOY_FLAGS[:-1], str(round(flush_s * 1000))]
    with Collector() as collector:
        gateway.processes.environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = collector.url
        with gateway:
            yield Stage(gateway=gateway, ledger=ledger, spool=spool, collector=collector)


# --- who dies ---------------------------------------------------------------------------------------------------------


def lectr_killed(stage: Stage) -> None:
    stage.gateway.process.kill()
    stage.gateway.process.wait()
    stage.sees(503)
    stage.gateway.process = stage.gateway.serve()
    stage.sees(200)


def lectr_hangs(stage: Stage) -> None:
    stage.gateway.process.send_signal(signal.SIGSTOP)
    stage.sees(503, 2)
    stage.gateway.process.send_signal(signal.SIGCONT)
    stage.sees(200)


def lectr_replaced(stage: Stage) -> None:
    old, stage.gateway.process = stage.gateway.process, stage.gateway.serve()
    old.send_signal(signal.SIGTERM)
    assert old.wait(STOP_WITHIN_S) == 0
    stage.sees(200)


def envoy_restarted(stage: Stage) -> None:
    stage.gateway.envoy.send_signal(signal.SIGTERM)
    assert stage.gateway.envoy.wait(STOP_WITHIN_S) == 0
    stage.sees(NO_ANSWER)
    stage.gateway.start_envoy()
    stage.sees(200)


# --- what cannot be written -------------------------------------------------------------------------------------------


def ledger_locked(stage: Stage) -> None:
    """For longer than SQLite itself waits."""
    with contextlib.closing(sqlite3.connect(urlsplit(stage.ledger).path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_until(lambda: "locked" in (stage.ledger_says("problem") or ""), "a writer that gave up", SETTLES_WITHIN_S)
    wait_until(lambda: stage.ledger_says("problem") is None, "a ledger that is written", SETTLES_WITHIN_S)


def disk_full(stage: Stage) -> None:
    """As far as SQLite can tell: no file may grow, and a write beyond that fails."""
    pid = stage.gateway.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (SMALLEST_FILE, hard))
    try:
        wait_until(lambda: stage.ledger_says("problem") and stage.ledger_says("waiting") > 20, "rows that wait")
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    wait_until(lambda: stage.ledger_says("problem") is None, "a ledger that is written", SETTLES_WITHIN_S)


# --- who takes no spans -----------------------------------------------------------------------------------------------


def collector_fails(stage: Stage, status: int = 200) -> None:
    """It answers so, or not at all."""
    collector, asked = stage.collector, stage.collector.asked
    collector.status = status
    (collector.goes.clear if status == 200 else collector.goes.set)()
    wait_until(lambda: collector.asked >= asked + 2, "an outbox that tries again", SETTLES_WITHIN_S)
    stage.sees(200)
    collector.status, taken = 200, len(collector.taken)
    collector.goes.set()
    wait_until(lambda: len(collector.taken) > taken, "spans", SETTLES_WITHIN_S)


def collector_refuses(stage: Stage) -> None:
    """Spans, which are set aside, and sent when somebody asks for that."""
    collector = stage.collector
    for status in (400, 401, 200):
        aside = stage.outbox_says("set_aside")
        collector.status, collector.rejects = status, status == 200
        wait_until(lambda: stage.outbox_says("set_aside") > aside, f"calls set aside after {status}")  # noqa: B023
    assert "export" in stage.gateway.healthz().json()["degraded"]
    collector.rejects, taken = False, len(collector.taken)
    wait_until(lambda: len(collector.taken) > taken, "the word on what came before", SETTLES_WITHIN_S)
    stage.gateway.ask("outbox", "retry")


# --- what is not as it was --------------------------------------------------------------------------------------------


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


GARBAGE: dict[str, bytes | Callable[[Path], None]] = {
    "no text": b"\xff\xfe\x00orgs",
    "control characters": b"orgs:\x00\x07",
    "lists in lists": b"[" * 20_000,
    "aliases of aliases": b"a0: &a0 [x]\n"
    + b"".join(b"a%d: &a%d [%b]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12)),
    "half of itself": b"",
    "300 MiB of nothing": lambda file: os.truncate(file, 300 * 1024**2),
    "a pipe that nobody writes": _pipe,
}


def settings_garbled(stage: Stage) -> None:
    """Each replaces the file in place, as an editor that is no good does."""
    file = stage.gateway.served
    good = file.read_bytes()

    def problem() -> str | None:
        said: str | None = stage.gateway.healthz().json()["settings_problem"]
        return said

    told: set[str | None] = {None}
    try:
        for name, garbage in GARBAGE.items():
            if isinstance(garbage, bytes):
                file.write_bytes(garbage or good[: len(good) // 2] + b": [")
            else:
                garbage(file)
            wait_until(lambda: problem() not in told, f"a word on {name}", SETTLES_WITHIN_S)
            told.add(problem())
            stage.sees(200)
    finally:
        file.unlink()
        file.write_bytes(good)
    wait_until(lambda: problem() is None, "good settings", SETTLES_WITHIN_S)


def clock_set_back(stage: Stage) -> None:
    """Envoy writes a call that began an hour before those that are written already."""
    wait_until(lambda: stage.spool.read_bytes().count(b"\n") > 1, "a line")
    line = json.loads(stage.spool.read_bytes().splitlines()[-2])
    earlier, _, decimals = line["start_ns"].partition(".")
    late = line | {"start_ns": f"{int(earlier) - 3600}.{decimals}", "request_id": new_id()}
    late["decision"] = {**line["decision"], "call_id": new_id()}
    with stage.spool.open("ab", buffering=0) as spool:
        # Fields in the order in which Envoy sorts them, and one write, for it writes too.
        spool.write(json.dumps(late, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    wait_until(lambda: late["request_id"] in {row.request_id for row in stage.rows()}, "its row")


# --- all of them ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens, and what clients may see of it beside answers."""

    happens: Callable[[Stage], None]
    statuses: frozenset[int] = frozenset({200})
    is_envoys: bool = False
    "Whether it may go otherwise with another Envoy."


REFUSED, BROKEN = frozenset({200, 503}), frozenset({200, 503, NO_ANSWER})

FAULTS = {
    "lectr is killed": Fault(happens=lectr_killed, statuses=REFUSED, is_envoys=True),
    "lectr hangs": Fault(happens=lectr_hangs, statuses=REFUSED, is_envoys=True),
    "lectr is replaced": Fault(happens=lectr_replaced, is_envoys=True),
    "Envoy is restarted": Fault(happens=envoy_restarted, statuses=BROKEN, is_envoys=True),
    "the ledger is locked": Fault(happens=ledger_locked),
    "the disk is full": Fault(happens=disk_full),
    "the collector is down": Fault(happens=partial(collector_fails, status=503)),
    "the collector is busy": Fault(happens=partial(collector_fails, status=429)),
    "the collector hangs": Fault(happens=collector_fails),
    "the collector refuses": Fault(happens=collector_refuses),
    "the settings are garbage": Fault(happens=settings_garbled),
    "the clock is set back": Fault(happens=clock_set_back),
}
