"""Ledgers for tests: what is in one, and databases that cannot be had."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lectr_extproc.core.record import Attempt
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store, Transaction
from tests.core.finished import STARTED_S

Open = Callable[[], Store]
"Opens one and the same ledger, each time with connections of its own, as another process does."


def attempt(request_id: str = "r", **changes: Any) -> Attempt:
    """An attempt that a provider answered with 503."""
    known = {
        "started_ns": STARTED_S * 10**9,
        "duration_ms": 12.5,
        "cluster": "openai-1",
        "address": "192.0.2.1:443",
        "status": 503,
        "flags": ("upstream_remote_reset",),
        "details": "via_upstream",
    }
    return Attempt(request_id=request_id, **{**known, **changes})


def ids(store: Store, after: int = 0) -> list[str]:
    return [record.call_id for _, record in store.read_after(after, 1000)]


class Moody:
    """SQLite in memory that raises what a test wants, before each transaction or for a row that has `bad` in it."""

    identity, now_ms = Sqlite.identity, Sqlite.now_ms

    def __init__(self) -> None:
        self._inner = Sqlite(None)
        self.has_table, self.close = self._inner.has_table, self._inner.close
        self.mood: Exception | None = None
        self.asked = 0

    def beside(self) -> "Moody":
        return self

    @contextlib.contextmanager
    def transaction(self, *, writes: bool) -> Iterator[Transaction]:
        self.asked += 1
        if self.mood:
            raise self.mood
        with self._inner.transaction(writes=writes) as transaction:
            yield Picky(transaction)


class Picky:
    def __init__(self, inner: Transaction) -> None:
        self.run, self._inner = inner.run, inner

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        rows = list(rows)
        if any("bad" in row for row in rows):
            raise ValueError("a row that no database takes: sk-hush")
        return self._inner.many(statement, rows)
