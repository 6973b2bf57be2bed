"""SQLite as the ledger's database: what may pass, what will not, and what a file keeps."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lectr_extproc.edge import sqlite
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store, Unavailable, Unusable, Written
from tests.core.finished import call
from tests.edge.ledgers import ids


def store(path: Path) -> Store:
    store = Store(Sqlite(path))
    store.migrate()
    return store


def test_its_folder_is_made_and_is_nobody_elses(tmp_path: Path) -> None:
    made = store(tmp_path / "state" / "lectr" / "ledger.db")
    made.close()
    assert (tmp_path / "state/lectr").stat().st_mode & 0o777 == 0o700


def test_a_writer_that_is_killed_loses_nothing_of_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    writes = (
        "import os, signal, sys; from pathlib import Path; from tests.edge.test_sqlite import store, call\n"
        "made = store(Path(sys.argv[1])); made.write([call(), call()], []); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", writes, str(path)], cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -signal.SIGKILL
    again = store(path)
    assert len(ids(again)) == 2
    again.close()


def test_a_file_that_another_process_holds_may_be_had_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.0)
    made = store(tmp_path / "ledger.db")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        made.write([call()], [])
    assert ids(made) == []  # readers do not wait for a writer
    other.execute("ROLLBACK")
    assert made.write([call()], []) == Written(1)
    made.close()
    other.close()


def test_a_full_disk_may_have_room_later(tmp_path: Path) -> None:
    made = store(tmp_path / "ledger.db")
    connection = made._database._connection  # type: ignore[attr-defined]
    connection.execute("PRAGMA max_page_count = 1")
    many = [call(path="/" * 900) for _ in range(200)]
    with pytest.raises(Unavailable, match="full"):
        made.write(many, [])
    assert made.write(many, []) == Written(200)  # on a connection of its own, without that limit
    made.close()


def test_a_file_of_something_else_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("these are my notes" * 100)
    with pytest.raises(Unusable, match="not a database"):
        store(tmp_path / "ledger.db")
    assert "my notes" in (tmp_path / "ledger.db").read_text()


def test_a_place_that_cannot_be_written_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unusable, match=r"Not a directory|File exists"):
        store(tmp_path / "file" / "lectr" / "ledger.db")
    with pytest.raises(Unusable, match="unable to open"):
        store(tmp_path)


def test_who_only_reads_makes_no_file_and_changes_none(tmp_path: Path) -> None:
    reader = Store(Sqlite(tmp_path / "ledger.db", read_only=True))
    with pytest.raises(Unusable):
        reader.check()
    assert list(tmp_path.iterdir()) == []
    made = store(tmp_path / "ledger.db")
    made.write([call()], [])
    reader.check()
    assert len(ids(reader)) == 1
    with pytest.raises(Unusable, match="readonly"):
        reader.write([call()], [])
    reader.close()
    made.close()


def replaced(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    other = store(path.with_name("other.db"))
    other.write([call()], [])
    other.close()
    path.with_name("other.db").rename(path)


@pytest.mark.parametrize("happens", [Path.unlink, replaced], ids=["deleted", "replaced"])
def test_a_file_that_is_no_longer_there_is_not_written(
    tmp_path: Path, happens: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.db"
    made = store(path)
    made.write([call()], [])
    happens(path)
    with pytest.raises(Unavailable, match="was deleted or replaced"):
        made.write([call()], [])
    assert [record.getMessage() for record in caplog.records] == [f"{path} was deleted or replaced; it is opened anew"]
    made.migrate()
    made.write([last := call()], [])
    reader = Store(Sqlite(path, read_only=True))
    assert ids(reader)[-1:] == [last.call_id]
    reader.close()
    made.close()


def test_two_that_notice_one_after_the_other_take_nothing_from_each_other(tmp_path: Path) -> None:
    """SQLite's log has a name beside the file's: who closes the old file must not remove the new one's."""
    path = tmp_path / "ledger.db"
    first, second = store(path), store(path)
    path.unlink()
    calls = [call() for _ in range(4)]
    for index, one in enumerate((first, second)):
        with pytest.raises(Unavailable):
            one.check()
        one.migrate()
        one.write(calls[2 * index : 2 * index + 1], [])
    first.write(calls[1:2], [])
    second.write(calls[3:], [])
    first.close()
    second.close()
    again = store(path)
    assert sorted(ids(again)) == sorted(one.call_id for one in calls)
    again.close()


def test_a_name_with_odd_characters_is_a_name(tmp_path: Path) -> None:
    made = store(tmp_path / "a?b#c%20.db")
    made.close()
    assert (tmp_path / "a?b#c%20.db").exists()


def test_a_mistake_of_ours_is_not_taken_for_the_databases(tmp_path: Path) -> None:
    made = store(tmp_path / "ledger.db")
    with (
        pytest.raises(sqlite3.ProgrammingError),
        made._database.transaction(writes=True) as transaction,
    ):
        transaction.run("SELECT ?", [])
    made.close()
