"""PostgreSQL as the ledger's database, shared by the lectrs of a fleet."""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lectr_extproc.edge.store import Sql, Unavailable, Unusable

WRITERS_LOCK = 7_236_117_114
"""An advisory lock, its number ours by chance. `seq` is drawn before a transaction commits, so without the lock a lower
one could appear after a reader has passed it. Who writes holds it to the end of the transaction: some milliseconds."""

_PATIENCE = {
    "connect_timeout": "5",
    "application_name": "lectr",
    # A server that has gone without a word is noticed after seconds; the system's default is a quarter of an hour.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"Where the URL says nothing else."

_BEGIN_WRITING = (
    # Of two that wait for each other one gives up; a writer that froze is cut off, since it would stop all others.
    "SELECT set_config('lock_timeout', '10s', true), set_config('idle_in_transaction_session_timeout', '10s', true)",
    f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})",
)


class Postgres:
    """A database by its URL; what that lacks comes from PGPASSWORD, ~/.pgpass and the like, as libpq has it."""

    identity = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    now_ms = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

    def __init__(self, url: str, *, read_only: bool = False, in_order: bool = True) -> None:
        try:
            self._conninfo = make_conninfo("", **{**_PATIENCE, **conninfo_to_dict(url)})
        except psycopg.Error:  # it quotes what it cannot read, a password perhaps
            raise Unusable("its URL cannot be read") from None
        self._read_only = read_only
        self._in_order = in_order
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Sql] | None = None

    @contextlib.contextmanager
    def transaction(self, *, writes: bool) -> Iterator["_Transaction"]:
        """All or nothing. A connection that was lost is made anew with the next transaction."""
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(self._conninfo, autocommit=True)
                    self._connection.read_only = self._read_only
                with self._connection.transaction():
                    transaction = _Transaction(self._connection)
                    if writes:
                        for statement in _BEGIN_WRITING if self._in_order else _BEGIN_WRITING[:1]:
                            transaction.run(statement)
                    yield transaction
            except _ITS_OWN_FAULT:
                raise  # the row's fault, and not the server's
            except psycopg.Error as error:  # it may pass, even a missing right: what is granted can be granted later
                if self._connection:
                    self._connection.close()
                raise Unavailable(" ".join(str(error).split())) from None

    def beside(self) -> "Postgres":
        """The writer of the ledger waits for others' turns, with its connection locked. This one takes no turns."""
        return Postgres(self._conninfo, read_only=self._read_only, in_order=False)

    def has_table(self, name: str) -> str:
        return f"SELECT 1 WHERE to_regclass('{name}') IS NOT NULL"

    def close(self) -> None:
        with self._lock:
            if self._connection:
                self._connection.close()
            self._connection = None


_ITS_OWN_FAULT = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,  # psycopg counts it among the server's: a text too long for its index
)
"What a row does to itself. Tried again, it would keep out every row behind it."


class _Transaction:
    def __init__(self, connection: psycopg.Connection[Sql]) -> None:
        self._connection = connection

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[Sql]:
        cursor = self._connection.execute(_marked(statement), values)
        return cursor.fetchall() if cursor.description else []

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        with self._connection.cursor() as cursor:
            cursor.executemany(_marked(statement), rows)
            return cursor.rowcount


def _marked(statement: str) -> Any:
    """No statement of ours has a question mark or a per cent sign of another meaning."""
    return statement.replace("?", "%s")
