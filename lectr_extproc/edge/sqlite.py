"""SQLite as the ledger's database: one file, written ahead (WAL), shared by the processes of one machine."""

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lectr_extproc.edge.store import Sql, Unavailable, Unusable

log = logging.getLogger("lectr.ledger")

BUSY_S = 5.0
"How long a writer waits for another process' transaction; each takes milliseconds."

_WILL_NOT_DO = {
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
"Everything else an OperationalError says (locked, busy, full, I/O) may pass."


class Sqlite:
    """A database in a file, or without one in memory, where it ends with its connection."""

    identity = "INTEGER PRIMARY KEY AUTOINCREMENT"
    now_ms = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        "Which file the connection is to, by its device and inode."

    @contextlib.contextmanager
    def transaction(self, *, writes: bool) -> Iterator["_Transaction"]:
        """All or nothing. IMMEDIATE takes the one write lock at the start, so that none fails for it half way."""
        with self._lock, self._told_apart():
            if self._connection and self._opened != self._found():  # what is written there nobody would find again
                # SQLite sees that it was moved, and leaves alone what has its name now.
                self._connection.close()
                self._connection = None
                log.warning("%s was deleted or replaced; it is opened anew", self._path)
                raise Unavailable(f"{self._path} was deleted or replaced")
            if self._connection is None:
                self._connection, self._opened = self._connect(), self._found()
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                yield _Transaction(connection)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                    connection.execute("ROLLBACK")
                raise

    def beside(self) -> "Sqlite":
        """A second connection would wait for the first with pauses; behind this one's lock it goes on at once."""
        return self

    def has_table(self, name: str) -> str:
        return f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{name}'"  # noqa: S608 - our own name

    def close(self) -> None:
        with self._lock:
            if self._connection:
                self._connection.close()
            self._connection = None

    def _found(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat() if self._path else None
        except OSError:
            return None
        return found and (found.st_dev, found.st_ino)

    def _connect(self) -> sqlite3.Connection:
        if self._path is None:
            return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if not self._read_only:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise Unusable(f"{self._path.parent}: {error.strerror}") from None
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode={'ro' if self._read_only else 'rwc'}",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        if not self._read_only:
            try:
                _write_ahead(connection)
                # A commit is in the file's log, and survives kill -9; the disk itself is waited for at checkpoints
                # only, so a power cut may cost the last seconds, and nothing else.
                connection.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                connection.close()
                raise
        return connection

    @contextlib.contextmanager
    def _told_apart(self) -> Iterator[None]:
        """What may pass, what will not, and what is a mistake of ours and goes through as it is."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # above it is the extended code
            if code not in _WILL_NOT_DO and not isinstance(error, sqlite3.OperationalError):
                raise
            if self._connection and self._path:  # the file may be another one by now
                self._connection.close()
                self._connection = None
            raise (Unusable if code in _WILL_NOT_DO else Unavailable)(str(error)) from None


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Of several that make one file at a time SQLite lets one do this, and refuses the others without waiting."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


class _Transaction:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[Sql]:
        return self._connection.execute(statement, values).fetchall()

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        return self._connection.executemany(statement, rows).rowcount
