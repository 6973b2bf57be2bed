"""Several lectrs as one: started, started again, asked and stopped by their parent."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from lectr_extproc.edge import workers
from tests.edge.given import settings
from tests.ports import free_port

TOKEN = "Bearer a-token"
PLAYED = """
import http.server, json, os, socket, sys, threading

number, admin = map(int, sys.argv[-2:])
HEALTH = {"degraded": ["prices"][number:], "counts": {"decisions": number + 1}, "pid": os.getpid()}
METRICS = "# HELP calls_total How many.\\n# TYPE calls_total counter\\ncalls_total{to=\\"b\\"} %d.0\\n" % (number + 1)
ANSWERS = {"/healthz": (200, json.dumps(HEALTH)), "/metrics": (200, METRICS), "/readyz": (503 - 303 * number, "ready")}

class Admin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        code, text = ANSWERS[self.path]
        if self.path == "/healthz" and self.headers["authorization"] != "Bearer a-token":
            code, text = 401, "{}"
        self.send_response(code)
        self.send_header("www-authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self):
        said = {name: self.headers[name] for name in ("authorization", "content-type", "origin", "host")}
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path, "body": body, **said}).encode())

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Admin, bind_and_activate=False)
server.socket = socket.socket(fileno=admin)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""
"A worker as its parent knows it: it answers on the socket that it is given until its standard input ends."


@dataclass
class Parent:
    """One that runs, and what it is asked."""

    port: int
    client: httpx.AsyncClient
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    code: int | None = None

    async def get(self, path: str, token: str = TOKEN) -> httpx.Response:
        return await self.client.get(f"http://127.0.0.1:{self.port}{path}", headers={"authorization": token})

    async def pids(self) -> list[int | None]:
        each = (await self.get("/healthz")).json()["workers"].values()
        return [one["pid"] if one else None for one in each]


@contextlib.asynccontextmanager
async def parent_of(played: str) -> AsyncIterator[Parent]:
    given = settings(grpc={"workers": 2})
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        parent = Parent(free_port(), client)
        given = replace(given, admin_listen=f"127.0.0.1:{parent.port}")
        served = asyncio.create_task(workers.serve(given, [sys.executable, "-c", played], lambda: parent.stop))
        try:
            yield parent
        finally:
            parent.stop.set()
            parent.code = await served


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ASKED_S", 20.0)  # a worker that is on its way answers when it is there


async def test_one_answers_for_all_and_all_stop_with_it() -> None:
    async with parent_of(PLAYED) as parent:
        one, other = await parent.pids()
        assert one != other
        health = (await parent.get("/healthz")).json()
        assert (health["status"], health["degraded"], health["counts"]) == ("degraded", ["prices"], {"decisions": 3})
        assert [(await parent.get(path)).status_code for path in ("/livez", "/readyz", "/elsewhere")] == [200, 200, 404]
    assert parent.code == 0
    for pid in filter(None, (one, other)):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_metrics_of_all_say_whose_they_are_and_each_kind_is_one_group() -> None:
    async with parent_of(PLAYED) as parent:
        answer = await parent.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.text.splitlines() == [
        "# HELP calls_total How many.",
        "# TYPE calls_total counter",
        'calls_total{to="b",worker="0"} 1.0',
        'calls_total{to="b",worker="1"} 2.0',
    ]


async def test_who_may_not_ask_a_worker_may_not_ask_all() -> None:
    async with parent_of(PLAYED) as parent:
        answer = await parent.get("/healthz", token="Bearer another")
    assert (answer.status_code, answer.json(), answer.headers["www-authenticate"]) == (401, {}, "Bearer")


async def test_the_consoles_page_is_the_parents_own() -> None:
    async with parent_of(PLAYED) as parent:
        answer = await parent.get("/console/", token="Bearer another")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_consoles_questions_are_passed_on_as_they_came_to_one_that_answers() -> None:
    async with parent_of(PLAYED) as parent:
        origin = f"http://127.0.0.1:{parent.port}"
        answer = await parent.client.post(
            f"{origin}/console/api/anomalies/0123/dismiss?a=b%20c",
            content="{}",
            headers={"authorization": TOKEN, "content-type": "application/json", "origin": origin},
        )
        pids = [pid for pid in await parent.pids() if pid]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workers, "CONSOLE_S", 0.1)
            nobody = await parent.get("/console/api/overview")
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert answer.json() == {
        "path": "/console/api/anomalies/0123/dismiss?a=b%20c",
        "body": "{}",
        "authorization": TOKEN,
        "content-type": "application/json",
        "origin": origin,
        "host": origin.removeprefix("http://"),
    }
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (503, "no_worker")


async def test_one_that_dies_is_started_again_with_a_line_and_the_other_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with parent_of(PLAYED) as parent:
        one, other = await parent.pids()
        assert one
        os.kill(one, signal.SIGKILL)
        again, same = await parent.pids()
        assert (again != one, same) == (True, other)
    (line,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert line.message == "a worker ended and is started again"
    assert vars(line)["fields"] == {"worker": 0, "code": -signal.SIGKILL}


async def test_one_that_cannot_start_ends_all_with_its_code() -> None:
    async with parent_of("import sys; sys.exit(64) if sys.argv[-2] == '1' else None\n" + PLAYED) as parent:
        await parent.stop.wait()
    assert parent.code == 64


async def test_told_to_stop_it_starts_none_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PAUSE_S", 60.0)
    async with parent_of(PLAYED) as parent:
        one, _ = await parent.pids()
        assert one
        os.kill(one, signal.SIGKILL)
        monkeypatch.setattr(workers, "ASKED_S", 0.2)
        health = (await parent.get("/healthz")).json()
        assert (health["degraded"], health["workers"]["0"], health["counts"]) == (["workers"], None, {"decisions": 2})
    assert parent.code == 0


async def test_none_that_is_ready_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ASKED_S", 0.01)
    async with parent_of("import sys; sys.stdin.read()") as parent:
        answer = await parent.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "not ready\n")


async def test_a_worker_is_told_when_its_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    gone = asyncio.Event()
    with os.fdopen(ours) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        workers.when_input_ends(gone.set)
        await asyncio.sleep(0)
        assert not gone.is_set()
        os.close(theirs)
        await asyncio.wait_for(gone.wait(), 10)


def health(**more: Any) -> dict[str, Any]:
    return {"degraded": [], **more}


TOGETHER: dict[str, tuple[list[Any], Any]] = {
    "counts": ([3, 4], 7),
    "counts by name": ([{"a": 1}, {"a": 1, "b": 1}], {"a": 2, "b": 1}),
    "what is so anywhere": ([False, True], True),
    "a problem": ([None, "disk full", "no"], "disk full"),
    "no problem": ([None, None], None),
    "lists": ([["a", "b"], ["b", "c"]], ["a", "b", "c"]),
}


@pytest.mark.parametrize(("each", "whole"), TOGETHER.values(), ids=TOGETHER)
def test_what_workers_say_becomes_one_answer(each: list[Any], whole: Any) -> None:
    made = workers.together({str(n): health(figure=figure) for n, figure in enumerate(each)})
    assert (made["figure"], made["status"], len(made["workers"])) == (whole, "ok", len(each))


def test_what_workers_share_is_not_added_up() -> None:
    assert workers.together({"0": health(export={"lag": 5}), "1": health(export={"lag": 4})})["export"] == {"lag": 5}
