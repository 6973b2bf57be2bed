"""What the lectr that runs says of itself."""

import asyncio
import time
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from lectr_extproc.core.health import Target
from lectr_extproc.edge.admin import http_server
from lectr_extproc.edge.live import Live
from lectr_extproc.settings import Settings, load
from lectr_extproc.status import StatusError, as_text, ask, health_of
from tests.edge.test_vitals import finished
from tests.ports import free_port

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T", TOKEN)


def settings(listen: str, *, token: bool = True) -> Settings:
    held = ", token: env:T" if token else ""
    return load(f"admin: {{listen: '{listen}'{held}}}")


async def asked(app: ASGIApp, *, host: str = "127.0.0.1") -> Any:
    async with http_server(app, "127.0.0.1:0") as port:
        return await asyncio.to_thread(ask, settings(f"{host}:{port}"))


def answering(answer: Response) -> ASGIApp:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope)
        assert (request.url.path, request.headers["authorization"]) == ("/healthz", f"Bearer {TOKEN}")
        await answer(scope, receive, send)

    return app


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_lectr_of_the_settings_is_asked_with_its_token(host: str) -> None:
    assert asyncio.run(asked(answering(JSONResponse({"status": "ok"})), host=host)) == {"status": "ok"}


OTHERS: dict[str, tuple[Response, str]] = {
    "another token": (JSONResponse({}, 401), r"answers 401 \(admin.token\)$"),
    "an error": (JSONResponse({}, 500), "answers 500$"),
    "a list": (JSONResponse([]), "answers 200$"),
    "no JSON": (PlainTextResponse("hello"), "no lectr answers at"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_whoever_else_answers_is_told_apart(case: str) -> None:
    answer, message = OTHERS[case]
    with pytest.raises(StatusError, match=message):
        asyncio.run(asked(answering(answer)))


def test_that_nobody_answers_is_said_with_the_address() -> None:
    port = free_port()
    with pytest.raises(StatusError, match=rf"no lectr answers at 127.0.0.1:{port} \(admin.listen\)"):
        ask(settings(f"127.0.0.1:{port}", token=False))


def test_a_token_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("T")
    with pytest.raises(StatusError, match=r"^admin.token: the environment has no T$"):
        ask(settings("127.0.0.1:1"))


def said(live: Live) -> dict[str, str]:
    lines = [line.split(None, 1) for line in as_text(live.health()).splitlines()]
    return dict(lines)


def live() -> Live:
    """As a service that runs shows itself."""
    shown = Live(load("orgs: []"))
    shown.ledger = lambda: {"url": "sqlite:///l.db", "written": 5, "waiting": 1, "dropped": 0, "problem": None}
    shown.export = lambda: {"exported": 4, "lag": 1, "set_aside": 0, "problem": None}
    shown.telemetry = lambda: {"spans": "on", "metrics": "off", "problem": None}
    return shown


def test_everything_is_on_a_line_of_its_own() -> None:
    shown = said(live())
    assert shown["lectr"].endswith(", ok")
    assert shown["settings"].startswith("in force, 0 orgs, ")
    assert shown["ledger"] == "sqlite:///l.db: written 5, waiting 1, dropped 0"
    assert shown["outbox"] == "exported 4, lag 1, set aside 0"
    assert shown["telemetry"] == "spans on, metrics off"
    assert shown["breakers"] == "all closed"
    assert not {"spool", "records"} & shown.keys()


def test_what_is_wrong_is_said_where_it_is() -> None:
    shown = live()
    shown.settings_problem, shown.prices_problem, shown.spool_problem = "line 3: no", "answered 404", "disk full"
    shown.ledger = lambda: {"problem": "locked"}
    shown.export = lambda: {"problem": "HTTP 503"}
    shown.telemetry = lambda: {"spans": "on", "metrics": "on", "problem": "late"}
    shown.spool = lambda: {"file": "/s", "reads": True, "read_bytes": 9, "unread_bytes": 3}
    shown.lose("batches_failed")
    lines = said(shown)
    parts = "settings, prices, spool, ledger, export, telemetry, records"
    assert lines.pop("lectr").endswith(f", degraded: {parts}; calls go on")
    assert lines.pop("records").endswith("batches_failed")
    assert list(lines.values()) == [
        "line 3: no", "answered 404", "locked", "HTTP 503", "disk full", "late", "all closed", "measured of 0 models",
    ]  # fmt: skip


def test_where_there_is_no_outbox_and_a_spool_that_says_how_far_it_is() -> None:
    shown = live()
    shown.telemetry = lambda: {"spans": "off", "metrics": "off", "problem": None}
    shown.export = lambda: {"problem": None}
    shown.spool = lambda: {"file": "/s", "reads": True, "read_bytes": 9, "unread_bytes": 3}
    assert said(shown)["spool"] == "/s: read bytes 9, unread bytes 3"
    assert "outbox" not in said(shown)
    shown.spool = lambda: {"file": "/s", "reads": False}
    assert said(shown)["spool"] == "/s: another lectr reads it"


def test_a_model_that_fails_is_shown_and_known_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = live()
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    shown.vitals.heed([finished(1000)] * 3, shown.snapshot)
    assert said(shown)["breaker"] == (
        "openai/gpt-4.1-mini at api.openai.com: open until 1970-01-01T00:17:10+00:00, 3 failures"
    )
    shown.vitals.measured({Target("openai", "gpt-4.1-mini", "api.openai.com"): 412})
    assert said(shown)["latency"] == "measured of 1 models"
    assert health_of(shown.health()).first_token_ms == {Target("openai", "gpt-4.1-mini", "api.openai.com"): 412}
    assert health_of(shown.health()).sick == {Target("openai", "gpt-4.1-mini", "api.openai.com"): 1030}
    monkeypatch.setattr(time, "time", lambda: 2000.0)
    assert said(shown)["breaker"].endswith("half-open: one call tries, 3 failures")
    alone, health = as_text(shown.health()), shown.health()
    another = [{**health["breakers"][0], "failures": 3}, {**health["breakers"][0], "failures": 3}]
    assert as_text({**health, "breakers": another}) == alone, "of several workers each says so"
