"""The admin port."""

import asyncio
import contextlib
import socket
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.responses import PlainTextResponse

from lectr_extproc.edge.admin import HEADERS, admin_app, http_server
from lectr_extproc.edge.live import Live
from tests.edge.given import live

LOOPBACK = "127.0.0.1:0"
TOKEN = "admin0token0of0tests"


async def test_healthz_shows_the_health(tmp_path: Path) -> None:
    shared = live(tmp_path)
    shared.settings_problem = "line 3: no"
    app = admin_app(shared, CollectorRegistry(), LOOPBACK)
    async with http_server(app, "127.0.0.1:0") as port, httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/healthz")
        assert (await client.get(f"http://127.0.0.1:{port}/elsewhere")).status_code == 404
    assert (answer.status_code, answer.json()) == (200, shared.health())


async def test_a_process_is_ready_from_when_it_serves_until_it_drains_and_alive_all_along(tmp_path: Path) -> None:
    shared = live(tmp_path)

    async def answers(client: httpx.AsyncClient) -> tuple[int, int]:
        return (await client.get("/readyz")).status_code, (await client.get("/livez")).status_code

    app = admin_app(shared, CollectorRegistry(), LOOPBACK)
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
    async with (
        http_server(admin_app(live(tmp_path), registry, LOOPBACK), "127.0.0.1:0") as port,
        httpx.AsyncClient() as client,
    ):
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


# --- who may ask ------------------------------------------------------------------------------------------------------

EVERYTHING = ("/healthz", "/metrics", "/elsewhere", "/livez", "/readyz")


def asking(shared: Live, listen: str = LOOPBACK, host: str = "127.0.0.1:8088") -> httpx.AsyncClient:
    """A client of the admin port as if it listened there, and were asked by this name."""
    app = admin_app(shared, CollectorRegistry(), listen)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}")


async def statuses(client: httpx.AsyncClient, **headers: str) -> list[int]:
    return [(await client.get(path, headers=headers)).status_code for path in EVERYTHING]


@pytest.fixture(name="shared")
def _serving(tmp_path: Path) -> Live:
    shared = live(tmp_path)
    shared.serving.set()
    return shared


WITH_TOKEN = [200, 200, 404, 200, 200]
REFUSED = [401, 401, 401, 200, 200]
BAD_TOKENS = {
    "none": {},
    "another": {"authorization": f"Bearer {TOKEN}x"},
    "half of it": {"authorization": f"Bearer {TOKEN[:8]}"},
    "nothing behind Bearer": {"authorization": "Bearer"},
    "another scheme": {"authorization": f"Basic {TOKEN}"},
    "odd bytes": {"authorization": "Bearer \xff\xfe"},
    "in the query's place": {"x-token": TOKEN},
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS)
@pytest.mark.parametrize("listen", [LOOPBACK, "0.0.0.0:8088"])
async def test_where_a_token_is_set_all_but_the_probes_ask_for_it(
    shared: Live, listen: str, bad: dict[str, str]
) -> None:
    shared.settings = replace(shared.settings, admin_token=TOKEN)
    async with asking(shared, listen, host="10.1.2.3:8088") as client:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in bad.items()]
        assert [(await client.get(path, headers=raw)).status_code for path in EVERYTHING] == REFUSED
        for scheme in ("Bearer", "bearer"):
            assert await statuses(client, authorization=f"{scheme} {TOKEN}") == WITH_TOKEN


async def test_a_refusal_says_how_to_ask_and_nothing_else(shared: Live) -> None:
    shared.settings = replace(shared.settings, admin_token=TOKEN)
    async with asking(shared) as client:
        answer = await client.get("/healthz", headers={"authorization": "Bearer guess"})
    assert answer.headers["www-authenticate"] == 'Bearer realm="lectr"'
    assert answer.json() == {
        "error": {
            "code": "unauthorized",
            "message": "send the token that admin.token names as Authorization: Bearer",
        }
    }


async def test_a_token_that_changed_holds_from_the_next_question(shared: Live) -> None:
    async with asking(shared) as client:
        assert (await client.get("/healthz")).status_code == 200
        for token in (TOKEN, TOKEN[::-1]):
            shared.settings = replace(shared.settings, admin_token=token)
            assert await statuses(client) == REFUSED
            assert await statuses(client, authorization=f"Bearer {token}") == WITH_TOKEN


async def test_a_port_that_others_reach_stays_closed_when_its_token_is_taken_away(shared: Live) -> None:
    async with asking(shared, "0.0.0.0:8088") as client:
        assert await statuses(client, authorization=f"Bearer {TOKEN}") == REFUSED


@pytest.mark.parametrize("host", ["127.0.0.1:8088", "127.9.9.9", "localhost", "LocalHost:1", "[::1]:8088", "[::1]"])
async def test_without_a_token_this_machine_is_asked_by_its_own_names(shared: Live, host: str) -> None:
    async with asking(shared) as client:
        assert await statuses(client, host=host) == WITH_TOKEN


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example:8088",
        "rebound.example",
        "localhost.example",
        "127.0.0.1.example",
        "0.0.0.0:8088",
        "10.1.2.3",
        "",
    ],
)
async def test_a_page_whose_name_was_rebound_to_this_machine_reads_nothing(shared: Live, host: str) -> None:
    async with asking(shared) as client:
        assert await statuses(client, host=host) == [421, 421, 421, 200, 200]
        refused = await client.get("/healthz", headers={"host": host})
    assert refused.json()["error"]["code"] == "misdirected"


async def test_the_consoles_page_asks_for_no_token_and_for_a_loopback_name_where_there_is_none(shared: Live) -> None:
    async with asking(shared, host="rebound.example") as client:
        assert (await client.get("/console/")).status_code == 421
        shared.settings = replace(shared.settings, admin_token=TOKEN)
        pages = [await client.get(path) for path in ("/", "/console", "/console/", "/console/main.js")]
        assert [page.status_code for page in pages] == [307, 307, 200, 200]
        assert {**pages[2].headers, **HEADERS, **pages[2].headers} == dict(pages[2].headers), "what all answers carry"
        assert [(await client.get(f"/console/{path}")).status_code for path in ("api/overview", "x")] == [401] * 2


async def test_no_host_header_makes_one_path_pass_for_another(shared: Live) -> None:
    shared.settings = replace(shared.settings, admin_token=TOKEN)
    async with http_server(admin_app(shared, CollectorRegistry(), LOOPBACK), LOOPBACK) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1/console/?\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert b" 200 " not in answer.partition(b"\r\n")[0]


async def test_what_is_written_is_json_from_a_page_of_its_own(shared: Live) -> None:
    async with asking(shared) as client:
        assert (await client.post("/healthz")).status_code == 403
        assert (await client.post("/healthz", json={}, headers={"origin": "https://127.0.0.1"})).status_code == 403
        for own in ({}, {"origin": "http://127.0.0.1:8088"}, {"origin": "https://127.0.0.1:8088"}):
            assert (await client.post("/healthz", json={}, headers=own)).status_code == 405


async def test_every_answer_forbids_a_page_to_keep_embed_or_guess_it(shared: Live) -> None:
    def failing() -> None:
        raise ValueError("hush")

    shared.ledger = failing  # type: ignore[assignment]
    app = admin_app(shared, CollectorRegistry(), LOOPBACK)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answers = [await client.get(path) for path in EVERYTHING]
        answers += [await client.post("/livez"), await client.get("/metrics", headers={"host": "rebound.example"})]
    assert [answer.status_code for answer in answers] == [500, 200, 404, 200, 200, 405, 421]
    assert [{name: answer.headers.get(name) for name in HEADERS} for answer in answers] == [HEADERS] * len(answers)
    assert "hush" not in answers[0].text


async def test_answers_do_not_say_what_serves_them(shared: Live) -> None:
    app = admin_app(shared, CollectorRegistry(), LOOPBACK)
    async with http_server(app, LOOPBACK) as port, httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/livez")
    assert set(answer.headers) == {"content-length", "content-type", "date", *HEADERS}


async def test_a_websocket_is_no_way_around_the_door(shared: Live) -> None:
    shared.settings = replace(shared.settings, admin_token=TOKEN)
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x"}
    app = admin_app(shared, CollectorRegistry(), LOOPBACK)
    async with http_server(app, LOOPBACK) as port, httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/healthz", headers=upgrade)
    assert answer.status_code == 401
