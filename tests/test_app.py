"""The service as a whole: it listens while it runs, and it ends when it is told to."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from lectr_extproc.app import serve, service
from lectr_extproc.catalog.prices import price_table
from lectr_extproc.edge import spool
from lectr_extproc.edge.admin import http_server
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.server import GrpcServer
from lectr_extproc.settings import Settings, compile_settings, load
from tests.edge.test_prices import LIST
from tests.edge.test_spool import append
from tests.ports import free_port


def settings(directory: Path) -> Settings:
    addresses = f"grpc: {{listen: 'unix:{directory}/lectr.sock'}}\nadmin: {{listen: '127.0.0.1:{free_port()}'}}"
    return load(f"{addresses}\nenvoy: {{access_log_flush_s: 0.02}}")


async def health(given: Settings) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://{given.admin_listen}/healthz")


def test_the_service_listens_for_envoy_and_for_people_until_its_block_ends(tmp_path: Path) -> None:
    given = settings(tmp_path)

    async def live_and_let_go() -> Live:
        async with service(given, None, load) as live:
            assert (await health(given)).status_code == 200
            assert (tmp_path / "lectr.sock").is_socket()
        return live

    assert asyncio.run(live_and_let_go()).draining.is_set()


def test_probes_are_answered_until_the_last_call_is_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, stop, answers = settings(tmp_path), GrpcServer.stop, list[int]()

    async def ask(probe: str) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            answers.append((await client.get(f"http://{given.admin_listen}/{probe}")).status_code)

    async def stop_and_ask(server: GrpcServer) -> None:
        await stop(server)
        await ask("readyz")
        await ask("livez")

    async def come_and_go() -> None:
        async with service(given, None, load):
            await ask("readyz")

    monkeypatch.setattr(GrpcServer, "stop", stop_and_ask)
    asyncio.run(come_and_go())
    assert answers == [200, 503, 200]


def test_what_the_process_counts_can_be_scraped_without_any_collector(tmp_path: Path) -> None:
    given = settings(tmp_path)

    async def scrape() -> str:
        async with service(given, None, load) as live, httpx.AsyncClient(trust_env=False) as client:
            live.counts["decisions"] += 2
            live.settings_problem = "line 3: no"
            return (await client.get(f"http://{given.admin_listen}/metrics")).text

    lines = asyncio.run(scrape()).splitlines()
    assert 'lectr_process_events_total{event="decisions"} 2.0' in lines
    assert 'lectr_degraded{part="settings"} 1.0' in lines
    assert 'lectr_degraded{part="prices"} 0.0' in lines


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


def test_calls_are_served_while_newer_prices_are_still_awaited(tmp_path: Path) -> None:
    async def serve_meanwhile() -> None:
        asked, answering = asyncio.Event(), asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            asked.set()
            await answering.wait()
            await JSONResponse(LIST)(scope, receive, send)

        async with asyncio.timeout(20), http_server(slow, "127.0.0.1:0") as port:
            source = {"catalogue": {"source": f"http://127.0.0.1:{port}/"}}
            listen = {
                "grpc": {"listen": f"unix:{tmp_path}/lectr.sock"},
                "admin": {"listen": f"127.0.0.1:{free_port()}"},
            }
            async with service(compile_settings({**listen, **source}), None, load) as live:
                await asked.wait()
                installed = (await health(live.settings)).json()["prices"]
                assert installed == {"version": price_table().version, "problem": None}
                answering.set()
                while (await health(live.settings)).json()["prices"] == installed:
                    pass
                assert live.snapshot.prices.row("openai", "gpt-4o") is not None
            await asyncio.sleep(0)
            assert "refresh" not in {getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks()}

    asyncio.run(serve_meanwhile())


@pytest.mark.parametrize("chosen", [False, True], ids=["in place of a ledger that cannot be used", "chosen"])
def test_a_spooled_call_is_read_again_by_the_next_lectr_unless_it_was_kept_where_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, chosen: bool
) -> None:
    monkeypatch.setattr(spool, "LAST_WORDS_S", 0.1)
    monkeypatch.setattr(spool, "WRITTEN_WITHIN_S", 0.1)
    good, bad, file = f"sqlite://{tmp_path}/good.db", f"sqlite://{tmp_path}/bad.db", tmp_path / "calls.jsonl"
    (tmp_path / "bad.db").write_text("something else" * 100)

    async def kept_by_one_with(url: str) -> int:
        sources = {"ledger": {"url": url}, "spool": {"file": str(file)}}
        listen = {
            "grpc": {"listen": f"unix:{tmp_path}/lectr.sock"},
            "admin": {"listen": f"127.0.0.1:{free_port()}"},
        }
        async with asyncio.timeout(20), service(compile_settings({**listen, **sources}), None, load) as live:
            while not (await health(live.settings)).json()["ledger"]["written"]:
                pass
        return int(live.ledger()["written"])

    append(file, "a", "b")
    assert asyncio.run(kept_by_one_with("memory" if chosen else bad)) == 2
    append(file, "c")
    assert asyncio.run(kept_by_one_with(good)) == (1 if chosen else 3)


def test_a_port_that_is_taken_leaves_nothing_running(tmp_path: Path) -> None:
    taken = load(f"grpc: {{listen: 'unix:{tmp_path}/lectr.sock'}}\nadmin: {{listen: '192.0.2.1:9', token: env:TOKEN}}")

    async def fails() -> None:
        async with service(taken, None, load):
            pass

    with pytest.raises(OSError, match=r"192\.0\.2\.1:9"):
        asyncio.run(fails())


def test_doors_that_are_open_to_strangers_are_told_at_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = load(
        f"grpc: {{listen: 'unix:{tmp_path}/s'}}\nenvoy: {{admin: '0.0.0.0:9901'}}\nadmin: {{listen: '[::1]:0'}}"
    )

    async def come_and_go() -> None:
        async with service(given, None, load):
            pass

    asyncio.run(come_and_go())
    assert [record.levelname for record in caplog.records if "envoy.admin (0.0.0.0:9901)" in record.message] == [
        "WARNING"
    ]
