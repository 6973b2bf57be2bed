"""Lets a test of this band be a coroutine: each has an event loop of its own. One PostgreSQL serves all who ask."""

import asyncio
import inspect
import itertools
import os
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import grpc.aio
import pytest

from lectr_extproc.edge.postgres import Postgres
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store
from tests import postgres
from tests.edge.ledgers import Open

_names = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(_run(pyfuncitem.obj(**wanted)))
    return True


async def _run(test: Coroutine[object, object, None]) -> None:
    """To its end, and no gRPC server beyond it: collected while it runs, one hangs another test (grpcio 1.85)."""
    servers: list[Any] = []
    make = grpc.aio.server

    def kept(**options: Any) -> grpc.aio.Server:
        servers.append(make(**options))
        return servers[-1]  # type: ignore[no-any-return]

    with mock.patch.object(grpc.aio, "server", kept):
        try:
            await asyncio.wait_for(test, 20)
        finally:
            running = [server for server in servers if server._server.is_running()]
            for server in running:
                await server.stop(None)
    assert not running, "the test left a gRPC server running"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    with postgres.Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def unmade(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """A ledger without its tables, on a SQLite file and on a real PostgreSQL."""
    opened: list[Store] = []
    url = ""
    if request.param == "postgresql":
        server: postgres.Postgres = request.getfixturevalue("postgres_server")
        url = server.new_database(f"ledger{next(_names)}")

    def open_() -> Store:
        opened.append(Store(Postgres(url) if url else Sqlite(tmp_path / "ledger.db")))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def another(unmade: Open) -> Open:
    """The same, with its tables."""

    def open_() -> Store:
        store = unmade()
        store.migrate()
        return store

    return open_


Environment = pytest.MonkeyPatch


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    """None of the caller's OTEL_* variables."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    return monkeypatch
