"""The ledger's tables, in whichever database: what is written, what readers ask, and who may read for others.

Every statement is one that SQLite and PostgreSQL both understand; what differs between them is in sqlite.py and
postgres.py. Nothing here retries or counts: that is ledger.py's.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from lectr_extproc.core import hours as by_hour
from lectr_extproc.core import ledger as rows
from lectr_extproc.core import recommend
from lectr_extproc.core.anomalies import Dismissal
from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.core.report import GROUPS, Filters, Line, lines_of, statement
from lectr_extproc.core.spending import Settlement
from lectr_extproc.edge.breakers import SharedBreakers
from lectr_extproc.edge.counters import Counters, settle
from lectr_extproc.edge.logs import without_keys
from lectr_extproc.edge.views import Views

Sql = tuple[Any, ...]

EVERY_CALL = Filters()

FRESH = 1_024
"So many calls at most go from who writes to who reads without being read back: two batches of the reader's."


class Unavailable(Exception):  # noqa: N818 - what it says, in the words of those who catch it
    """The database cannot be had now: it is locked, full or gone. It may come back."""


class Unusable(Exception):  # noqa: N818
    """The database will not do as it is: another program's file, no permission, a newer schema."""


class SetAside(NamedTuple):
    """Calls in a row that a reader could not hand on, because whoever it reads for refused them."""

    first: int
    last: int
    "Both are numbers of calls; between them there may be calls that nobody was to get."
    calls: int
    reason: str
    again: int = 0
    "1 where somebody asked for another attempt."


class Totals(NamedTuple):
    """What is set aside."""

    ranges: int
    calls: int
    again: int
    "So many of the ranges are to be tried again."


class Written(NamedTuple):
    """What became of a batch, and of what made room for it."""

    new: int
    "Calls that were not kept already."
    pushed_out: int = 0
    unread: int = 0
    "So many of these a cursor was not done with."
    attempts_pushed_out: int = 0


class Cursor(NamedTuple):
    """How far a reader is, and until when (ms since 1970) who reads for all."""

    seq: int
    holder: str | None
    until_ms: int


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

    def beside(self) -> "Database":
        """A connection for who writes no calls and must not wait for those who do; the same, if one waits anyway."""

    def has_table(self, name: str) -> str:
        """A statement that answers with a row where there is such a table."""

    def close(self) -> None:
        """Let go of the connection."""


class Store:
    """One ledger."""

    def __init__(self, database: Database, bound: int | None = None) -> None:
        self._database = database
        self.bound = bound
        "How many calls are kept at most, and how many attempts; only what is kept in memory has a bound."
        self._migrations = rows.migrations(database.identity)
        self._beside = database.beside()
        self.breakers = SharedBreakers(self._beside)
        self.counters = Counters(self._beside)
        "Of limits, in the same database."
        self.views = Views(database)
        "For the console."
        self._is_ours = False
        "Whether it was found to be of the version this lectr knows. A newer lectr may raise that: it only ever adds."
        self._fresh: list[tuple[int, CallRecord]] | None = None
        "What was written here last, in order; None where nobody reads it."

    def close(self) -> None:
        """Let go of the database."""
        for database in (self._beside, self._database):
            database.close()

    def migrate(self) -> None:
        """Bring the schema up to date. One transaction, and one process at a time."""
        with self._database.transaction(writes=True) as transaction:
            version = self._version(transaction)
            self._is_ours |= version <= len(self._migrations)
            if not self._is_ours:
                raise Unusable(self._mismatch(version))
            if version >= len(self._migrations):
                return
            if version == 0:
                transaction.run("CREATE TABLE schema_version (version BIGINT NOT NULL)")
                transaction.run("INSERT INTO schema_version (version) VALUES (0)")
            for statements in self._migrations[version:]:
                for sql in statements:
                    transaction.run(sql)
            transaction.run("UPDATE schema_version SET version = ?", [len(self._migrations)])

    def check(self) -> None:
        """Whether this is a ledger of the version they know, for those who only read; or has been, since they came."""
        with self._database.transaction(writes=False) as transaction:
            version = self._version(transaction)
        self._is_ours |= version == len(self._migrations)
        if version < len(self._migrations) or not self._is_ours:
            raise Unusable(self._mismatch(version) if version else "there is no ledger in it yet")

    def _version(self, transaction: Transaction) -> int:
        if not transaction.run(self._database.has_table("schema_version")):
            return 0
        ((version,),) = transaction.run("SELECT version FROM schema_version")
        return int(version)

    def _mismatch(self, version: int) -> str:
        return f"its schema has version {version}, and this lectr knows {len(self._migrations)}"

    def write(
        self, calls: Sequence[CallRecord], attempts: Sequence[Attempt], settlements: Sequence[Settlement] = ()
    ) -> Written:
        """Keep what is not kept yet, and settle what is limited, all or nothing."""
        call_rows = [rows.row_of(call, without_keys) for call in calls]
        attempt_rows = [rows.attempt_row_of(attempt, without_keys) for attempt in attempts]
        pushed_out = unread = attempts_pushed_out = 0
        with self._database.transaction(writes=True) as transaction:
            kept = self._kept(transaction, settlements)
            new = transaction.many(rows.INSERT_CALL, call_rows) if call_rows else 0
            numbers = transaction.run(_NUMBERS, [new]) if self._fresh is not None and new == len(calls) else []
            if attempt_rows:
                transaction.many(rows.INSERT_ATTEMPT, attempt_rows)
            if self.bound is not None:
                beyond = "DELETE FROM calls WHERE seq <= (SELECT max(seq) FROM calls) - ?"
                pushed_out = unread = transaction.many(f"{beyond} AND seq > {_READ}", [[self.bound]])
                pushed_out += transaction.many(beyond, [[self.bound]])
                transaction.many(
                    "DELETE FROM attempts WHERE started_ns < (SELECT min(started_ns) FROM calls) - ?", [[_EARLIER_NS]]
                )
                attempts_pushed_out = transaction.many(
                    "DELETE FROM attempts WHERE started_ns <="
                    " (SELECT started_ns FROM attempts ORDER BY started_ns DESC LIMIT 1 OFFSET ?)",
                    [[self.bound]] if attempt_rows else [],
                )
            if settlements:  # last, since others wait for it to end
                settle(transaction, settlements, kept)
        if numbers:
            # A record whose ids were cleaned is not the one that is kept: that is read back.
            made = {(call.call_id, call.request_id): call for call in calls}
            fresh = [(seq, made[ids]) for seq, *kept in reversed(numbers) if (ids := tuple(kept)) in made]
            self._fresh = [*(self._fresh or ()), *fresh][-min(FRESH, self.bound or FRESH) :]
        return Written(new, pushed_out, unread, attempts_pushed_out)

    def _kept(self, transaction: Transaction, settlements: Sequence[Settlement]) -> list[str]:
        if not settlements:
            return []
        marks = ", ".join("?" for _ in settlements)
        sql = f"SELECT call_id FROM calls WHERE call_id IN ({marks})"  # noqa: S608
        return [call_id for (call_id,) in transaction.run(sql, [one.call_id for one in settlements])]

    # --- readers ------------------------------------------------------------------------------------------------------

    def read_after(self, seq: int, limit: int, filters: Filters = EVERY_CALL) -> list[tuple[int, CallRecord]]:
        """The next calls in the order in which they were written, each with its number; not all there are, perhaps."""
        if filters is EVERY_CALL and (fresh := self._fresh_after(seq, limit)):
            return fresh
        where, values = filters.where()
        found = self._read(
            f"SELECT seq, {rows.CALL_NAMES} FROM calls WHERE seq > ? AND {where} ORDER BY seq LIMIT ?",  # noqa: S608
            [seq, *values, limit],
        )
        return [(row[0], rows.record_of(row[1:])) for row in found]

    def _fresh_after(self, seq: int, limit: int) -> list[tuple[int, CallRecord]]:
        """The next calls, if they were written here and nobody else's are among them; else none."""
        fresh = self._fresh or []
        first = bisect_right(fresh, seq, key=itemgetter(0))
        found = fresh[first : first + limit]
        return found if found and found[0][0] == seq + 1 and found[-1][0] == seq + len(found) else []

    def seq_before_last(self, count: int, filters: Filters = EVERY_CALL) -> int:
        """The number after which the last so many calls stand; 0 is before all of them."""
        where, values = filters.where()
        found = self._read(
            f"SELECT seq FROM calls WHERE {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608
            [*values, count + 1],
        )
        return int(found[count][0]) if len(found) > count else 0

    def attempts_of(self, request_ids: Sequence[str], since_ns: int = 0, until_ns: int = 2**63 - 1) -> list[Attempt]:
        """What failed on the way to these calls, in order of time. An attempt may arrive later than its call.

        Clients can choose a request id, so that attempts of other calls may have it too, at other times.
        """
        marks = ", ".join("?" for _ in request_ids) or "NULL"
        found = self._read(
            f"SELECT {rows.ATTEMPT_NAMES} FROM attempts WHERE request_id IN ({marks})"  # noqa: S608
            " AND started_ns BETWEEN ? AND ? ORDER BY started_ns",
            [*request_ids, since_ns, until_ns],
        )
        return [rows.attempt_of(row) for row in found]

    def attempts(self) -> list[Attempt]:
        """All of them."""
        sql = f"SELECT {rows.ATTEMPT_NAMES} FROM attempts ORDER BY started_ns"  # noqa: S608
        return [rows.attempt_of(row) for row in self._read(sql, [])]

    def report(self, filters: Filters) -> dict[str, list[Line]]:
        """What the calls add up to, in every way they are grouped."""
        with self._database.transaction(writes=False) as transaction:
            return {by: lines_of(by, transaction.run(*statement(by, filters))) for by in GROUPS}

    def first_bytes(self, since_ns: int, newest: int) -> list[Sql]:
        """Of the newest calls those that streamed well at once: provider, model, host, and µs to the first byte."""
        sql = (
            "SELECT provider, model_sent, host, provider_first_byte_us FROM calls"
            " WHERE seq > (SELECT max(seq) FROM calls) - ? AND started_ns >= ? AND streaming = 1"
            " AND error_category IS NULL AND coalesce(attempts, 1) = 1"
            " AND provider IS NOT NULL AND model_sent IS NOT NULL AND host IS NOT NULL"
            " AND provider_first_byte_us IS NOT NULL"
        )
        return self._read(sql, [newest, since_ns])

    def traffic(self, filters: Filters, rule: recommend.Advising) -> dict[recommend.Key, recommend.Traffic]:
        """What recommendations are made from."""
        return recommend.traffic_of(self._read(*recommend.statement(filters, rule)))

    def hours(self, filters: Filters) -> dict[by_hour.Group, dict[int, by_hour.Hour]]:
        """What anomalies are looked for in."""
        with self._database.transaction(writes=False) as transaction:
            pairs = by_hour.drifted(transaction.run(*by_hour.pairs_statement(filters)))
            return by_hour.hours_of(transaction.run(*by_hour.statement(filters, pairs)))

    def dismissals(self) -> list[Dismissal]:
        """The anomalies that somebody dismissed."""
        return [Dismissal(*row) for row in self._read(f"SELECT {_DISMISSAL} FROM dismissed", [])]  # noqa: S608

    def dismiss(self, one: Dismissal) -> None:
        """Have an anomaly heard of no more; once more, and it is as if it had been once."""
        sql = f"INSERT INTO dismissed ({_DISMISSAL}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608
        with self._database.transaction(writes=True) as transaction:
            transaction.run(sql, one)

    def claim(self, name: str, hour: int) -> bool:
        """Whether nobody has done so before: who gets True tells it. What was told a month ago is forgotten."""
        with self._database.transaction(writes=True) as transaction:
            transaction.run("DELETE FROM told WHERE hour < ?", [hour - _TOLD_HOURS])
            return (
                transaction.many("INSERT INTO told (id, hour) VALUES (?, ?) ON CONFLICT DO NOTHING", [[name, hour]]) > 0
            )

    def disclaim(self, name: str) -> None:
        """It was not told after all."""
        with self._database.transaction(writes=True) as transaction:
            transaction.run("DELETE FROM told WHERE id = ?", [name])

    def _read(self, sql: str, values: Sequence[Any]) -> list[Sql]:
        with self._database.transaction(writes=False) as transaction:
            return transaction.run(sql, values)

    # --- cursors ------------------------------------------------------------------------------------------------------

    def begin(self, name: str) -> None:
        """Have a cursor, which reads what is written from now on. One that there is goes on where it stands."""
        with self._database.transaction(writes=True) as transaction:
            transaction.run(
                "INSERT INTO cursors (name, seq, until_ms) SELECT ?, coalesce(max(seq), 0), 0 FROM calls WHERE true"
                " ON CONFLICT DO NOTHING",
                [name],
            )
        self._fresh = []  # it may be another database by now

    def lease(self, name: str, holder: str, for_s: float) -> int | None:
        """Be the one who reads with this cursor, for so long: the number of the last call it is done with.

        None while somebody else is, and before it begins. Asking again prolongs a lease; `for_s=0` gives it back.
        One that ends further away than two of ours was taken before the clock was set back. Or by somebody whose leases
        are longer: that costs a batch sent twice, as the same spans.
        """
        now = self._database.now_ms
        for_ms = round(for_s * 1000)
        take = (
            f"UPDATE cursors SET holder = ?, until_ms = {now} + ? WHERE name = ?"  # noqa: S608 - our own
            f" AND (holder = ? OR until_ms <= {now} OR (? > 0 AND until_ms > {now} + 2 * ?))"
        )
        with self._database.transaction(writes=True) as transaction:
            transaction.run(take, [holder, for_ms, name, holder, for_ms, for_ms])
            found = transaction.run("SELECT seq FROM cursors WHERE name = ? AND holder = ?", [name, holder])
        return int(found[0][0]) if found else None

    def advance(self, name: str, holder: str, seq: int, refused: SetAside | None = None) -> bool:
        """Calls up to this number are done with. False if the lease has gone to somebody else meanwhile."""
        with self._database.transaction(writes=True) as transaction:
            sql = "UPDATE cursors SET seq = ? WHERE name = ? AND holder = ? AND seq <= ?"
            is_mine = transaction.many(sql, [[seq, name, holder, seq]]) == 1
            if is_mine and refused:
                _set_aside(transaction, name, refused)
            return is_mine

    def cursor(self, name: str) -> Cursor | None:
        """Where a cursor stands, if there is one."""
        found = self._read("SELECT seq, holder, until_ms FROM cursors WHERE name = ?", [name])
        return Cursor(*found[0]) if found else None

    def lag(self, name: str) -> tuple[int, int | None]:
        """How many calls at most the cursor is not done with, and when the first of them began (ns since 1970)."""
        done = "coalesce((SELECT seq FROM cursors WHERE name = ?), 0)"
        ((newest,),) = self._read("SELECT max(seq) FROM calls", [])
        first = self._read(f"SELECT seq, started_ns FROM calls WHERE seq > {done} ORDER BY seq LIMIT 1", [name])  # noqa: S608
        return (newest - first[0][0] + 1, first[0][1]) if first else (0, None)

    def set_aside(self, name: str, limit: int) -> list[SetAside]:
        """What the reader with this cursor could not hand on: the last so many ranges, in order."""
        sql = f"SELECT {_RANGE} FROM set_aside WHERE name = ? ORDER BY first_seq DESC LIMIT ?"  # noqa: S608
        return [SetAside(*row) for row in self._read(sql, [name, limit])][::-1]

    def set_aside_totals(self, name: str) -> Totals:
        """How much that is."""
        sql = "SELECT count(*), coalesce(sum(calls), 0), coalesce(sum(again), 0) FROM set_aside WHERE name = ?"
        return Totals(*map(int, self._read(sql, [name])[0]))

    def next_again(self, name: str) -> SetAside | None:
        """The first range that is to be tried again."""
        sql = f"SELECT {_RANGE} FROM set_aside WHERE name = ? AND again = 1 ORDER BY first_seq LIMIT 1"  # noqa: S608
        found = self._read(sql, [name])
        return SetAside(*found[0]) if found else None

    def trim(self, name: str, ranges: int) -> int:
        """Forget the oldest ranges beyond so many: how many calls these were."""
        oldest = (
            "name = ? AND first_seq <="
            " (SELECT first_seq FROM set_aside WHERE name = ? ORDER BY first_seq DESC LIMIT 1 OFFSET ?)"
        )
        with self._database.transaction(writes=True) as transaction:
            sql = f"SELECT coalesce(sum(calls), 0) FROM set_aside WHERE {oldest}"  # noqa: S608
            ((lost,),) = transaction.run(sql, [name, name, ranges])
            transaction.many(f"DELETE FROM set_aside WHERE {oldest}", [[name, name, ranges]])  # noqa: S608
        return int(lost)

    def ask_again(self, name: str) -> int:
        """Have all of that tried again: how many ranges it is."""
        with self._database.transaction(writes=True) as transaction:
            return transaction.many("UPDATE set_aside SET again = 1 WHERE name = ?", [[name]])

    def tried_again(self, name: str, holder: str, was: SetAside, *now: SetAside | None) -> bool:
        """What has become of a range that was tried again. False if the lease has gone to somebody else."""
        with self._database.transaction(writes=True) as transaction:
            if not transaction.run("SELECT 1 FROM cursors WHERE name = ? AND holder = ?", [name, holder]):
                return False
            transaction.many("DELETE FROM set_aside WHERE name = ? AND first_seq = ?", [[name, was.first]])
            for calls in filter(None, now):
                _set_aside(transaction, name, calls)
            return True

    # --- retention ----------------------------------------------------------------------------------------------------

    def forget(self, before_ns: int, even_if_unread_ns: int, limit: int) -> tuple[int, int]:
        """Delete what began before then, so many calls and so many attempts at most.

        How many rows it was, and how many calls a cursor was not done with: they stay until `even_if_unread_ns`.
        """
        found = "SELECT seq FROM calls WHERE started_ns < ? AND seq {} ORDER BY started_ns LIMIT ?"
        delete = f"DELETE FROM calls WHERE seq IN ({found})"  # noqa: S608
        with self._database.transaction(writes=True) as transaction:
            read = transaction.many(delete.format(f"<= {_READ}"), [[before_ns, limit]])
            unread = transaction.many(delete.format(f"> {_READ}"), [[even_if_unread_ns, limit - read]])
            attempts = transaction.many(
                "DELETE FROM attempts WHERE (request_id, started_ns) IN"
                " (SELECT request_id, started_ns FROM attempts WHERE started_ns < ? ORDER BY started_ns LIMIT ?)",
                [[min(before_ns, even_if_unread_ns), limit]],
            )
            transaction.run("DELETE FROM set_aside WHERE last_seq < (SELECT min(seq) FROM calls)")
        if read or unread:
            self._fresh = self._fresh and []
        return read + unread + attempts, unread


def _set_aside(transaction: Transaction, name: str, calls: SetAside) -> None:
    """Calls that follow those of a range, for the same reason, make it longer."""
    follows = "name = ? AND last_seq = ? AND reason = ? AND again = ?"
    longer = f"UPDATE set_aside SET last_seq = ?, calls = calls + ? WHERE {follows}"  # noqa: S608
    values = [name, calls.first - 1, calls.reason, calls.again]
    if not transaction.many(longer, [[calls.last, calls.calls, *values]]):
        new = "INSERT INTO set_aside (name, first_seq, last_seq, calls, reason, again) VALUES (?, ?, ?, ?, ?, ?)"
        transaction.run(new, [name, *calls])


_NUMBERS = "SELECT seq, call_id, request_id FROM calls ORDER BY seq DESC LIMIT ?"
_TOLD_HOURS = 24 * 30

_DISMISSAL = ", ".join(Dismissal._fields)

_RANGE = "first_seq, last_seq, calls, reason, again"

_READ = "coalesce((SELECT min(seq) FROM cursors), 9223372036854775807)"
"What every cursor is done with: without one, all there is."


_EARLIER_NS = 3600 * 10**9
"An attempt begins after its call, but clocks are set; what is an hour older than every call belongs to none."
