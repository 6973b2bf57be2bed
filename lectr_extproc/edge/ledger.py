"""Every finished call is kept: batches wait in a bounded queue until a thread of their own has written them.

Nothing here can slow or break a call. While the database cannot be had batches wait, and what no longer fits is dropped
and counted. One that will not do (no permission, a newer schema) is replaced by memory until it will.
"""

import importlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote, urlsplit

from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.core.spending import Settlement
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store, Unavailable, Unusable

log = logging.getLogger("lectr.ledger")

T = TypeVar("T")

Settle = Callable[[Sequence[CallRecord]], Sequence[Settlement]]
"How calls are settled whose orgs have limits."

QUEUE_ROWS = 20_000
"About 40 MB, and a minute of a busy gateway."
ATTEMPT_ROWS = 20_000
"Of their own: with a spool calls wait in its file, where attempts that wait must not crowd them out."
MEMORY_ROWS = 20_000
TRANSACTION_ROWS = 1_000
"After an outage waiting batches are written together, up to this many rows."
BACKOFF_S = (0.1, 5.0)
LONGEST_WAIT_S = 10.0
"A transaction takes milliseconds; a database that hangs raises nothing, and is known by this alone."
QUIET_S = 60.0
"Dropping is over when nothing has been dropped for so long."
LOOK_EVERY_S = 10.0
"How often it is looked whether the database is there though nobody writes, or will do by now where memory stands in."
FORGET_EVERY_S = 3600.0
CLOCK_OFF_S = 60.0
"By how much more or less than that the clock may have gone on meanwhile: what is deleted does not come back."
FORGET_ROWS = 1_000
"In one transaction, so that no batch waits long for it."
UNREAD_DAYS = 7
"What a cursor is not done with stays this long at least, whatever `retention_days` says."

_DAY_NS = 86_400 * 10**9
_SYSTEM = Path("/var/lib/lectr")


class _Batch(NamedTuple):
    """Rows that wait, and since when."""

    calls: Sequence[CallRecord]
    attempts: Sequence[Attempt]
    since: float


class Ledger:
    """One per process: `put` takes batches as they come, `store` is for readers, the rest for stopping and /healthz."""

    def __init__(
        self,
        store: Store,
        *,
        shown: str,
        retention_days: int,
        readers: Sequence[str] = (),
        problem: str | None = None,
        find: Callable[[], tuple[Store, str]] | None = None,
        settle: Settle = lambda _: (),
    ) -> None:
        self.store = store
        "What readers read. It raises Unavailable while the database cannot be had."
        self._shown = shown
        self.on_written: Callable[[], None] = lambda: None
        "Called after each batch, in the writer's thread."
        self._retention_days = retention_days
        self._readers = readers
        self._counts = dict.fromkeys((*_SETTLED, "received", "pushed_out", "unexported_lost", "attempts_dropped"), 0)
        self._problem = problem
        self._stands_in = problem is not None
        "Memory does, for a ledger that cannot be used, which is to be found by this."
        self._find = find
        self._settle = settle
        self._memory: Store | None = None
        self._dropped_at = float("-inf")
        self._queue: deque[_Batch] = deque()
        self._calls = self._attempts = 0
        "In the queue, and in the hands of the writer."
        self._busy_since: float | None = time.monotonic()
        "Since when that waits which the writer is at; None while it has nothing to do."
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._clock = time.monotonic(), time.time_ns()
        self._forget_at = self._clock[0] + FORGET_EVERY_S
        self._look_at = self._clock[0] + LOOK_EVERY_S
        self._writer = threading.Thread(target=self._write_on, name="ledger", daemon=True)
        self._writer.start()

    @classmethod
    def start(
        cls,
        url: str | None,
        retention_days: int,
        environment: Mapping[str, str],
        readers: Sequence[str] = (),
        settle: Settle = lambda _: (),
    ) -> "Ledger":
        """The ledger that the settings name; where it will not do, one in memory that says why.

        `readers` have cursors, which begin before the first call of this process is written.
        """
        problem, find = None, partial(open_store, url, environment)
        try:
            store, shown = find()
        except Unusable as error:
            log.error("the ledger is in memory: %s", error)
            store, shown, problem = in_memory(), "memory", str(error)
        return cls(
            store,
            shown=shown,
            retention_days=retention_days,
            readers=readers,
            problem=problem,
            find=find,
            settle=settle,
        )

    @property
    def stands_in(self) -> bool:
        """Memory does, for a ledger that cannot be used."""
        return self._stands_in

    def put(self, calls: Sequence[CallRecord], attempts: Sequence[Attempt]) -> None:
        """Take a batch. Never waits for the database."""
        if not calls and not attempts:
            return
        with self._changed:
            self._counts["received"] += len(calls)
            if self._calls + len(calls) > QUEUE_ROWS:
                self._drop("dropped", calls)
                calls = ()
            if self._attempts + len(attempts) > ATTEMPT_ROWS:
                self._drop("attempts_dropped", attempts)
                attempts = ()
            if not calls and not attempts:
                return
            self._calls += len(calls)
            self._attempts += len(attempts)
            self._queue.append(_Batch(calls, attempts, time.monotonic()))
            self._changed.notify()

    def _drop(self, count: str, rows: Sequence[Any]) -> None:
        if not self._drops():
            log.error("finished calls or attempts are dropped: too many wait to be written")
        self._counts[count] += len(rows)
        self._dropped_at = time.monotonic()

    def health(self) -> dict[str, Any]:
        """What `/healthz` shows: received = written + kept_already + dropped + unwritable + waiting."""
        problem = "; ".join(self._problems()) or None
        shown = {"url": self._shown, "holds_at_most": self.store.bound}
        return {**shown, **self._counts, "waiting": self.waiting(), "problem": problem}

    def _problems(self) -> Iterator[str]:
        """What is wrong now. What raises nothing is known by its time, whenever somebody asks."""
        now = time.monotonic()
        with self._changed:
            waited_s = now - min(self._busy_since or now, self._queue[0].since if self._queue else now)
        if self._problem is not None:
            yield self._problem
        elif waited_s > LONGEST_WAIT_S:
            yield f"the database takes nothing, for {waited_s:.0f} s by now"
        if self._drops():
            yield "calls or attempts are dropped: too many wait to be written"

    def _drops(self) -> bool:
        return time.monotonic() < self._dropped_at + QUIET_S

    def waiting(self) -> int:
        """How many calls were taken and are not written yet."""
        return self._counts["received"] - sum(self._counts[name] for name in _SETTLED)

    def unkept(self) -> int:
        """How many of the calls taken would end with this process: of memory that stands in for a ledger, all."""
        return self._counts["received"] if self._stands_in else self.waiting()

    def finish(self, within_s: float = 5.0) -> None:
        """Write what waits, for this long at most: a database that is gone must not hold the process."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        self._writer.join(within_s)
        if lost := self.unkept():
            log.error("%d calls could not be written before the end", lost)

    def stop(self) -> None:
        """Finish, and let go of the database: nobody reads any more."""
        self.finish()
        if not self._writer.is_alive():
            self.store.close()
            if self._memory:
                self._memory.close()

    # --- the writer's thread ------------------------------------------------------------------------------------------

    def _write_on(self) -> None:
        if self._persist(self._open):
            while (batch := self._next()) is not None:
                calls = [call for one in batch for call in one.calls]
                attempts = [attempt for one in batch for attempt in one.attempts]
                if batch and not self._persist(partial(self._write, calls, attempts)):
                    break
                with self._changed:
                    self._calls -= len(calls)
                    self._attempts -= len(attempts)
                self.on_written()
                self._forget()
                if time.monotonic() >= self._look_at and not self._look():
                    break

    def _open(self) -> None:
        try:
            self._prepare()
        except Unusable as error:
            self._problem = f"{self._shown}: {error}"
            log.error("the ledger is in memory: %s", self._problem)
            self.store.close()
            self.store, self._shown, self._stands_in = in_memory(), "memory", True
            self._prepare()

    def _prepare(self) -> None:
        self.store.migrate()
        for name in self._readers:
            self.store.begin(name)

    def _look(self) -> bool:
        """False if lectr stops while the database cannot be had."""
        self._look_at = time.monotonic() + LOOK_EVERY_S
        return self._leave_memory() if self._stands_in else self._persist(self._check)

    def _check(self) -> None:
        if self._problem is None:
            self.store.check()
        else:  # it may be another database by now
            self._prepare()

    def _leave_memory(self) -> bool:
        """Use the ledger that memory stands in for, if it will do by now, and write there what memory holds."""
        if self._find is None:
            return True
        try:
            store, shown = self._find()
        except Unusable as error:
            self._problem = str(error)
            return True
        try:
            store.migrate()
        except (Unavailable, Unusable) as error:
            self._problem = f"{shown}: {error}"
            store.close()
            return True
        # Closed at the end, for a reader may be at it. It holds 20,000 calls, some 40 MB, at most.
        memory = self._memory = self.store
        cursors = [cursor.seq for name in self._readers if (cursor := memory.cursor(name))]
        held = memory.read_after(0, MEMORY_ROWS)
        read = [call for seq, call in held if seq <= min(cursors, default=0)]
        log.warning("the ledger is at %s from now on; %d calls move there from memory", shown, len(held))
        self._counts["written"] -= len(held)
        self.store, self._shown, self._problem, self._stands_in = store, shown, None, False
        steps: list[Callable[[], None]] = [
            *(partial(self._write, [], part) for part in _parts(memory.attempts())),
            *(partial(self._write, part, []) for part in _parts(read)),
            self._prepare,  # a cursor that begins here is done with these, and not with the others
            *(partial(self._write, part, []) for part in _parts([call for _, call in held][len(read) :])),
        ]
        return all(map(self._persist, steps))

    def _next(self) -> list[_Batch] | None:
        """The batches that wait, as many as fit one transaction; none when it is time for more; None at the end."""
        with self._changed:
            self._busy_since = None
            self._changed.wait_for(
                lambda: self._queue or self._stopping.is_set(),
                max(0.0, min(self._forget_at, self._look_at) - time.monotonic()),
            )
            if not self._queue and self._stopping.is_set():
                return None
            self._busy_since = self._queue[0].since if self._queue else time.monotonic()
            batches, rows = [], 0
            while self._queue and rows < TRANSACTION_ROWS:
                batches.append(self._queue.popleft())
                rows += len(batches[-1].calls) + len(batches[-1].attempts)
            return batches

    def _persist(self, action: Callable[[], None]) -> bool:
        """Until it is done; False if lectr stops while it cannot be."""
        pause, longest = BACKOFF_S
        was_fine = self._problem is None
        while True:
            try:
                action()
            except Exception as error:
                is_ours = isinstance(
                    error, (Unavailable, Unusable)
                )  # a message of another's may quote what a client sent
                problem = str(error) if is_ours else type(error).__name__
                if self._problem is None:
                    log.error("the ledger cannot be written, calls wait in memory: %s", problem, exc_info=not is_ours)
                self._problem = problem
                if self._stopping.wait(pause):
                    return False
                pause = min(2 * pause, longest)
            else:
                if was_fine and self._problem is not None and self._shown != "memory":
                    log.warning("the ledger is written again")
                    self._problem = None
                return True

    def _write(self, calls: Sequence[CallRecord], attempts: Sequence[Attempt]) -> None:
        if self._problem is not None:
            self._prepare()
        try:
            self._write_together(calls, attempts)
        except (Unavailable, Unusable):
            raise
        except Exception:  # of whatever kind: one row that no database takes must not cost the others
            log.exception("a batch cannot be written as it is; its rows are written one by one")
            for call in calls:
                self._persist(partial(self._write_alone, [call], []))
            for attempt in attempts:
                self._persist(partial(self._write_alone, [], [attempt]))

    def _write_together(self, calls: Sequence[CallRecord], attempts: Sequence[Attempt]) -> None:
        written = self.store.write(calls, attempts, self._settle(calls))
        self._counts["written"] += written.new
        self._counts["kept_already"] += len(calls) - written.new
        self._counts["pushed_out"] += written.pushed_out
        self._counts["unexported_lost"] += written.unread
        self._counts["attempts_dropped"] += written.attempts_pushed_out

    def _write_alone(self, calls: Sequence[CallRecord], attempts: Sequence[Attempt]) -> None:
        try:
            self._write_together(calls, attempts)
        except (Unavailable, Unusable):
            raise
        except Exception:
            self._counts["unwritable"] += len(calls)
            self._counts["attempts_dropped"] += len(attempts)
            log.exception("a row cannot be written")

    def _forget(self) -> None:
        """What is too old goes, a little in each turn, by a clock that nobody has set since the hour before."""
        if time.monotonic() < self._forget_at:
            return
        (before, before_ns), self._clock = self._clock, (time.monotonic(), time.time_ns())
        now, now_ns = self._clock
        if abs((now_ns - before_ns) / 1e9 - (now - before)) > CLOCK_OFF_S:
            log.warning("the clock was set: nothing is deleted until it has gone on for an hour")
            self._forget_at = now + FORGET_EVERY_S
            return
        kept = self._retention_days * _DAY_NS
        unread = max(kept, UNREAD_DAYS * _DAY_NS)
        gone = 0
        try:
            gone, unread = self.store.forget(now_ns - kept, now_ns - unread, FORGET_ROWS)
            self._counts["unexported_lost"] += unread
        except (Unavailable, Unusable) as error:
            log.warning("calls past their retention could not be deleted: %s", error)
        except Exception:  # the thread goes on
            log.exception("calls past their retention could not be deleted")
        if gone < FORGET_ROWS:
            self._forget_at = time.monotonic() + FORGET_EVERY_S


def _parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[start : start + TRANSACTION_ROWS] for start in range(0, len(rows), TRANSACTION_ROWS))


_SETTLED = ("written", "kept_already", "dropped", "unwritable")


def open_store(url: str | None, environment: Mapping[str, str], *, read_only: bool = False) -> tuple[Store, str]:
    """The store that a setting names, and how it may be shown: without a user, a password or options."""
    found = _resolved(url, environment)
    parts = urlsplit(found)
    if found == "memory":
        if read_only:
            raise Unusable("it is in the memory of the lectr that runs, where no other process reads it")
        return in_memory(), "memory"
    if parts.scheme == "sqlite" and not parts.netloc and parts.path:
        path = Path("/", unquote(parts.path).lstrip("/"))  # others write `sqlite:////path` for the same
        if read_only and not path.exists():
            raise Unusable(f"there is no ledger at {path} yet")
        return Store(Sqlite(path, read_only=read_only)), f"sqlite://{path}"
    if parts.scheme in {"postgresql", "postgres"}:
        # Importing psycopg takes 0.1 s: only for whom it is.
        database = importlib.import_module("lectr_extproc.edge.postgres").Postgres(found, read_only=read_only)
        return Store(database), f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"
    raise Unusable("ledger.url names neither sqlite:///…, postgresql://… nor memory")


def in_memory() -> Store:
    """A ledger that ends with the process, and forgets before that what is beyond its bound."""
    return Store(Sqlite(None), bound=MEMORY_ROWS)


def _resolved(url: str | None, environment: Mapping[str, str]) -> str:
    if url is None:
        return f"sqlite://{quote(str(default_directory(environment) / 'ledger.db'))}"
    kind, _, name = url.partition(":")
    if kind == "env":
        if not environment.get(name):
            raise Unusable(f"the environment has no {name}, which ledger.url refers to")
        return environment[name].strip()
    if kind == "file":
        try:
            return Path(name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unusable(f"{name}, which ledger.url refers to, cannot be read: {type(error).__name__}") from None
    return url


def default_directory(environment: Mapping[str, str], system: Path = _SYSTEM) -> Path:
    """Where state is kept: $XDG_STATE_HOME if that is set, else the system's place where it exists, else at home."""
    if home := environment.get("XDG_STATE_HOME"):
        return Path(home) / "lectr"
    return system if system.is_dir() else Path(environment.get("HOME", "/")) / ".local/state/lectr"
