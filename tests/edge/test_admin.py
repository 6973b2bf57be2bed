"""The admin port."""

import contextlib
import socket
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.responses import PlainTextResponse

from lectr_extproc.edge.admin import admin_app, http_server
from tests.edge.given import live


async def test_healthz_shows_the_health(tmp_path: Path) -> None:
    shared = live(tmp_path)
    shared.settings_problem = "line 3: no"
    app = admin_app(shared, CollectorRegistry())
    async with http_server(app, "127.0.0.1:0") as port, httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/healthz")
        assert (await client.get(f"http://127.0.0.1:{port}/elsewhere")).status_code == 404
    assert (answer.status_code, answer.json()) == (200, shared.health())


async def test_a_process_is_ready_from_when_it_serves_until_it_drains_and_alive_all_along(tmp_path: Path) -> None:
    shared = live(tmp_path)

    async def answers(client: httpx.AsyncClient) -> tuple[int, int]:
        return (await client.get("/readyz")).status_code, (await client.get("/livez")).status_code

    app = admin_app(shared, CollectorRegistry())
    async with (
        http_server(app, "127.0.0.1:0") as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        assert await answers(client) == (503, 200)
        shared.serving.set()
        shared.settings_problem = "line 3: no"
        assert await answers(client) == (200, 200)
        shared.draining.set()
        assert await answers(client) == (503, 200)


@pytest.mark.parametrize(
    ("accept", "content_type", "text"),
    [
        ("text/plain", "text/plain", "calls_total 3.0\n"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# EOF\n"),
    ],
)
async def test_prometheus_reads_the_metrics_in_the_form_it_asks_for(
    tmp_path: Path, accept: str, content_type: str, text: str
) -> None:
    registry = CollectorRegistry()
    Counter("calls", "How many.", registry=registry).inc(3)
    async with http_server(admin_app(live(tmp_path), registry), "127.0.0.1:0") as port, httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith(content_type)
    assert text in answer.text


async def test_ipv6_is_an_address_too() -> None:
    async with http_server(PlainTextResponse("here"), "[::1]:0") as port, httpx.AsyncClient() as client:
        assert (await client.get(f"http://[::1]:{port}/")).text == "here"


async def test_the_port_is_free_again_when_the_server_has_stopped() -> None:
    async with http_server(PlainTextResponse("one"), "127.0.0.1:0") as port:
        pass
    async with http_server(PlainTextResponse("two"), f"127.0.0.1:{port}") as again, httpx.AsyncClient() as client:
        assert (again, (await client.get(f"http://127.0.0.1:{port}/")).text) == (port, "two")


async def test_a_process_that_replaces_another_listens_before_the_first_one_stops() -> None:
    async with contextlib.AsyncExitStack() as first:
        port = await first.enter_async_context(http_server(PlainTextResponse("one"), "127.0.0.1:0"))
        async with http_server(PlainTextResponse("two"), f"127.0.0.1:{port}"), httpx.AsyncClient() as client:
            await first.aclose()
            assert (await client.get(f"http://127.0.0.1:{port}/")).text == "two"


async def test_the_server_stops_when_what_it_serves_beside_fails() -> None:
    with pytest.raises(ValueError, match="beside"):
        async with http_server(PlainTextResponse("here"), "127.0.0.1:0") as port:
            raise ValueError("beside")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_a_busy_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {address}: Address already in use"):
            async with http_server(PlainTextResponse("here"), address):
                pass
