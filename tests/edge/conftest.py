"""Lets a test of this band be a coroutine: each has an event loop of its own. One PostgreSQL serves all who ask."""

import asyncio
import inspect
import os
from collections.abc import Coroutine, Iterator
from typing import Any
from unittest import mock

import grpc.aio
import pytest

from tests.postgres import Postgres


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
def postgres_server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


Environment = pytest.MonkeyPatch


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    """None of the caller's OTEL_* variables."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    return monkeypatch
