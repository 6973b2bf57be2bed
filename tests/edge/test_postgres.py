"""PostgreSQL as the ledger's database: servers that go and come back, and writers that stand in each other's way."""

import threading

import psycopg
import pytest

from lectr_extproc.edge import postgres as module
from lectr_extproc.edge.postgres import WRITERS_LOCK, Postgres
from lectr_extproc.edge.store import Store, Unavailable, Unusable, Written
from tests import postgres
from tests.core.finished import call
from tests.edge.ledgers import attempt, ids


def store(url: str) -> Store:
    store = Store(Postgres(url))
    store.migrate()
    return store


def test_a_server_that_was_gone_is_found_again(postgres_server: postgres.Postgres) -> None:
    made = store(postgres_server.new_database("outage"))
    made.write([call()], [])
    postgres_server.stop()
    try:
        for _ in range(2):
            with pytest.raises(Unavailable):
                made.write([call()], [])
    finally:
        postgres_server.start()
    assert made.write([call()], []) == Written(1)
    assert len(ids(made)) == 2
    made.close()


def test_a_connection_that_the_server_ended_is_made_anew(postgres_server: postgres.Postgres) -> None:
    made = store(postgres_server.new_database("ended"))
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'ended'")
    with pytest.raises(Unavailable):
        made.write([call()], [])
    assert made.write([call()], []) == Written(1)
    made.close()


def test_a_writer_waits_for_the_one_before_it_to_the_end_of_its_transaction(
    postgres_server: postgres.Postgres,
) -> None:
    url = postgres_server.new_database("turns")
    made = store(url)
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [WRITERS_LOCK])
        writing = threading.Thread(target=made.write, args=([call()], []))
        writing.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while other.execute(waiting).fetchone() == (0,):
            pass
        reader = Store(Postgres(url, read_only=True))
        assert ids(reader) == []  # and readers wait for nobody
        reader.close()
    writing.join(10)
    assert len(ids(made)) == 1
    made.close()


def test_a_writer_that_froze_gives_way(postgres_server: postgres.Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    hurried = tuple(statement.replace("10s", "100ms") for statement in module._BEGIN_WRITING)
    monkeypatch.setattr(module, "_BEGIN_WRITING", hurried)
    url = postgres_server.new_database("frozen")
    made = store(url)
    with psycopg.connect(url) as frozen:
        frozen.execute("SELECT pg_advisory_xact_lock(%s)", [WRITERS_LOCK])
        with pytest.raises(Unavailable, match="lock timeout"):
            made.write([call()], [])
    assert made.write([call()], []) == Written(1)
    made.close()


def test_who_only_reads_writes_nothing(postgres_server: postgres.Postgres) -> None:
    reader = Store(Postgres(postgres_server.new_database("read"), read_only=True))
    with pytest.raises(Unavailable, match="read-only transaction"):
        reader.migrate()
    reader.close()


def test_a_row_that_postgresql_refuses_is_the_rows_fault(postgres_server: postgres.Postgres) -> None:
    made = store(postgres_server.new_database("data"))
    with (
        pytest.raises(psycopg.DataError),
        made._database.transaction(writes=True) as transaction,
    ):
        transaction.run("SELECT ?::bigint", ["no number"])
    assert made.write([call()], []) == Written(1)
    made.close()


def test_a_text_too_long_for_its_index_keeps_out_no_other_row(postgres_server: postgres.Postgres) -> None:
    made = store(postgres_server.new_database("long"))
    # Each of its characters another one of four bytes: nothing that an index could compress.
    long = "".join(chr(0x10000 + n * 37) for n in range(1000))
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        made.write([call()], [attempt(request_id=long)])
    assert made.write([call()], [attempt()]) == Written(1)
    made.close()


def test_a_url_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(Unusable) as told:
        Postgres("postgresql://lectr:hush%zz@host/database")
    assert "hush" not in str(told.value)


def test_a_failure_to_connect_tells_no_password() -> None:
    with pytest.raises(Unavailable) as told:
        Store(Postgres("postgresql://lectr:hush@127.0.0.1:1/database")).migrate()
    assert "127.0.0.1" in str(told.value)
    assert "hush" not in str(told.value)


def test_the_url_has_the_last_word_on_patience() -> None:
    made = Postgres("postgresql://host/database?connect_timeout=1&application_name=mine")
    assert "connect_timeout=1" in made._conninfo
    assert "application_name=mine" in made._conninfo
    assert "tcp_user_timeout=15000" in made._conninfo
