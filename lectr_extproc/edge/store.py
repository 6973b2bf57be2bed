"""The ledger's tables, in whichever database: what is written, what readers ask, and who may read for others.

Every statement is one that SQLite and PostgreSQL both understand; what differs between them is in sqlite.py and
postgres.py. Nothing here retries or counts: that is ledger.py's.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Protocol

from lectr_extproc.core import ledger as rows
from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.core.report import GROUPS, Filters, Line, lines_of, statement
from lectr_extproc.edge.logs import without_keys

Sql = tuple[Any, ...]

EVERY_CALL = Filters()

_clean = lru_cache(4096)(without_keys)
"Most texts of a call are those of others, too: looking for keys in each anew would be most of what a row costs."


class Unavailable(Exception):  # noqa: N818 - what it says, in the words of those who catch it
    """The database cannot be had now: it is locked, full or gone. It may come back."""


class Unusable(Exception):  # noqa: N818
    """The database will not do as it is: another program's file, no permission, a newer schema."""


class Transaction(Protocol):
    """Statements that take effect together."""

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[Sql]:
        """One statement; the rows it answers with."""

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        """One statement for each row; how many rows of the table that made or changed."""


class Database(Protocol):
    """A connection that may be used from any thread, and comes back by itself after it was lost."""

    identity: str
    "The type of a column that numbers rows as they are written."
    now_ms: str
    "An expression: milliseconds since 1970, by a clock that everyone who shares the database shares."

    def transaction(self, *, writes: bool) -> AbstractContextManager[Transaction]:
        """Those that write come one after the other, through all processes: so `seq` only ever grows for readers."""

    def has_table(self, name: str) -> str:
        """A statement that answers with a row where there is such a table."""

    def close(self) -> None:
        """Let go of the connection."""


class Store:
    """One ledger."""

    def __init__(self, database: Database, bound: int | None = None) -> None:
        self._database = database
        self._bound = bound
        "How many calls are kept at most; only what is kept in memory has a bound."
        self._migrations = rows.migrations(database.identity)
        self.close = database.close

    def migrate(self) -> None:
        """Bring the schema up to date. One transaction, and one process at a time."""
        with self._database.transaction(writes=True) as transaction:
            version = self._version(transaction)
            if version == len(self._migrations):
                return
            if version > len(self._migrations):
                raise Unusable(self._mismatch(version))
            if version == 0:
                transaction.run("CREATE TABLE schema_version (version BIGINT NOT NULL)")
                transaction.run("INSERT INTO schema_version (version) VALUES (0)")
            for statements in self._migrations[version:]:
                for sql in statements:
                    transaction.run(sql)
            transaction.run("UPDATE schema_version SET version = ?", [len(self._migrations)])

    def check(self) -> None:
        """For those who only read: whether this is a ledger of the version they know."""
        with self._database.transaction(writes=False) as transaction:
            version = self._version(transaction)
        if version != len(self._migrations):
            raise Unusable(self._mismatch(version) if version else "there is no ledger in it yet")

    def _version(self, transaction: Transaction) -> int:
        if not transaction.run(self._database.has_table("schema_version")):
            return 0
        ((version,),) = transaction.run("SELECT version FROM schema_version")
        return int(version)

    def _mismatch(self, version: int) -> str:
        return f"its schema has version {version}, and this lectr knows {len(self._migrations)}"

    def write(self, calls: Sequence[CallRecord], attempts: Sequence[Attempt]) -> tuple[int, int]:
        """Keep what is not kept yet, all or nothing: how many calls were new, and how many the bound pushed out."""
        call_rows = [rows.row_of(call, _clean) for call in calls]
        attempt_rows = [rows.attempt_row_of(attempt, _clean) for attempt in attempts]
        pushed_out = 0
        with self._database.transaction(writes=True) as transaction:
            new = transaction.many(rows.INSERT_CALL, call_rows) if call_rows else 0
            if attempt_rows:
                transaction.many(rows.INSERT_ATTEMPT, attempt_rows)
            if self._bound is not None:
                oldest = "(SELECT max(seq) FROM calls) - ?"
                pushed_out = transaction.many(f"DELETE FROM calls WHERE seq <= {oldest}", [[self._bound]])  # noqa: S608
                transaction.many(
                    "DELETE FROM attempts WHERE started_ns < (SELECT min(started_ns) FROM calls) - ?", [[_EARLIER_NS]]
                )
        return new, pushed_out

    # --- readers ------------------------------------------------------------------------------------------------------

    def read_after(self, seq: int, limit: int, filters: Filters = EVERY_CALL) -> list[tuple[int, CallRecord]]:
        """The next calls in the order in which they were written, each with its number."""
        where, values = filters.where()
        found = self._read(
            f"SELECT seq, {rows.CALL_NAMES} FROM calls WHERE seq > ? AND {where} ORDER BY seq LIMIT ?",  # noqa: S608
            [seq, *values, limit],
        )
        return [(row[0], rows.record_of(row[1:])) for row in found]

    def seq_before_last(self, count: int, filters: Filters = EVERY_CALL) -> int:
        """The number after which the last so many calls stand; 0 is before all of them."""
        where, values = filters.where()
        found = self._read(
            f"SELECT seq FROM calls WHERE {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608
            [*values, count + 1],
        )
        return int(found[count][0]) if len(found) > count else 0

    def attempts_of(self, request_ids: Sequence[str]) -> list[Attempt]:
        """What failed on the way to these calls, in order of time. An attempt may arrive later than its call."""
        marks = ", ".join("?" for _ in request_ids) or "NULL"
        found = self._read(
            f"SELECT {rows.ATTEMPT_NAMES} FROM attempts WHERE request_id IN ({marks}) ORDER BY started_ns",  # noqa: S608
            request_ids,
        )
        return [rows.attempt_of(row) for row in found]

    def report(self, filters: Filters) -> dict[str, list[Line]]:
        """What the calls add up to, in every way they are grouped."""
        with self._database.transaction(writes=False) as transaction:
            return {by: lines_of(by, transaction.run(*statement(by, filters))) for by in GROUPS}

    def _read(self, sql: str, values: Sequence[Any]) -> list[Sql]:
        with self._database.transaction(writes=False) as transaction:
            return transaction.run(sql, values)

    # --- cursors ------------------------------------------------------------------------------------------------------

    def lease(self, name: str, holder: str, for_s: float) -> int | None:
        """Be the one who reads with this cursor, for so long: the number of the last call it is done with.

        None while somebody else is. Asking again prolongs a lease; `for_s=0` gives it back.
        """
        now = self._database.now_ms
        take = (
            f"INSERT INTO cursors (name, seq, holder, until_ms) VALUES (?, 0, ?, {now} + ?)"  # noqa: S608 - our own
            " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms"
            f" WHERE cursors.holder = excluded.holder OR cursors.until_ms <= {now}"
        )
        with self._database.transaction(writes=True) as transaction:
            transaction.run(take, [name, holder, round(for_s * 1000)])
            found = transaction.run("SELECT seq FROM cursors WHERE name = ? AND holder = ?", [name, holder])
        return int(found[0][0]) if found else None

    def advance(self, name: str, holder: str, seq: int) -> bool:
        """Calls up to this number are done with. False if the lease has gone to somebody else meanwhile."""
        with self._database.transaction(writes=True) as transaction:
            sql = "UPDATE cursors SET seq = ? WHERE name = ? AND holder = ? AND seq <= ?"
            return transaction.many(sql, [[seq, name, holder, seq]]) == 1

    def oldest_unexported(self, name: str) -> int | None:
        """When the first call began (ns since 1970) that the cursor is not done with; None if it is done with all."""
        done = "coalesce((SELECT seq FROM cursors WHERE name = ?), 0)"
        found = self._read(f"SELECT started_ns FROM calls WHERE seq > {done} ORDER BY seq LIMIT 1", [name])  # noqa: S608
        return int(found[0][0]) if found else None

    # --- retention ----------------------------------------------------------------------------------------------------

    def forget(self, before_ns: int, even_if_unread_ns: int, limit: int) -> int:
        """Delete calls that began before then, so many at most, and how many it were.

        One that a cursor is not done with stays until it is older than `even_if_unread_ns`.
        """
        with self._database.transaction(writes=True) as transaction:
            gone = transaction.many(
                "DELETE FROM calls WHERE seq IN (SELECT seq FROM calls WHERE started_ns < ? AND (started_ns < ?"
                " OR seq <= coalesce((SELECT min(seq) FROM cursors), seq)) ORDER BY started_ns LIMIT ?)",
                [[before_ns, even_if_unread_ns, limit]],
            )
            transaction.many("DELETE FROM attempts WHERE started_ns < ?", [[min(before_ns, even_if_unread_ns)]])
        return gone


_EARLIER_NS = 3600 * 10**9
"An attempt begins after its call, but clocks are set; what is an hour older than every call belongs to none."
