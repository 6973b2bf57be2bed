"""The service as a whole: it listens while it runs, and it ends when it is told to."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from lectr_extproc.app import serve, service
from lectr_extproc.edge.live import Live
from lectr_extproc.settings import Settings, load
from tests.edge.given import free_port


def settings(directory: Path) -> Settings:
    return load(f"grpc: {{listen: 'unix:{directory}/lectr.sock'}}\nadmin: {{listen: '127.0.0.1:{free_port()}'}}")


async def health(given: Settings) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://{given.admin_listen}/healthz")).status_code


def test_the_service_listens_for_envoy_and_for_people_until_its_block_ends(tmp_path: Path) -> None:
    given = settings(tmp_path)

    async def live_and_let_go() -> Live:
        async with service(given, None, load) as live:
            assert await health(given) == 200
            assert (tmp_path / "lectr.sock").is_socket()
        return live

    assert asyncio.run(live_and_let_go()).draining.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service(tmp_path: Path, number: signal.Signals) -> None:
    given = settings(tmp_path)

    async def told_to_stop() -> None:
        serving = asyncio.create_task(serve(given, None, load))
        async with asyncio.timeout(20):
            while not serving.done():
                try:
                    await health(given)
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0)
            os.kill(os.getpid(), number)
            await serving

    asyncio.run(told_to_stop())


def test_a_port_that_is_taken_leaves_nothing_running(tmp_path: Path) -> None:
    taken = load(f"grpc: {{listen: 'unix:{tmp_path}/lectr.sock'}}\nadmin: {{listen: '192.0.2.1:9'}}")

    async def fails() -> None:
        async with service(taken, None, load):
            pass

    with pytest.raises(OSError, match=r"192\.0\.2\.1:9"):
        asyncio.run(fails())
