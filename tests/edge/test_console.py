"""The console's API, on a ledger in a file and on one in memory, asked through the door of the admin port."""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from lectr_extproc.core.breaker import State
from lectr_extproc.core.health import Breaking, Target
from lectr_extproc.edge import console as module
from lectr_extproc.edge.admin import admin_app
from lectr_extproc.edge.console import Console
from lectr_extproc.edge.ledger import in_memory
from lectr_extproc.edge.live import VERSION, Live
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store, Unavailable
from lectr_extproc.settings import load
from tests.core.finished import DAY_S, STARTED_S, call
from tests.edge.given import live

HOUR_S = 3600
TOKEN = "admin0token0of0tests"
TEXT = """
orgs:
- name: acme
  keys: [{sha256: %s, label: web}]
  limits: {daily_usd: 50, requests_per_minute: 60}
- name: dal
  keys: [{sha256: %s}]
  limits: {parallel_streams: 3}
"""
JSON = {"content-type": "application/json"}


@pytest.fixture(params=["a file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = in_memory() if request.param == "memory" else Store(Sqlite(tmp_path / "ledger.db"))
    made.migrate()
    yield made
    made.close()


class Asked:
    """A client of one lectr's console."""

    def __init__(self, live: Live, console: Console, client: httpx.AsyncClient) -> None:
        self.live, self.console, self._client = live, console, client

    async def get(self, path: str, status: int = 200, **headers: str) -> Any:
        answer = await self._client.get(f"/console/api/{path}", headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        return answer.json()

    async def post(self, path: str, **headers: str) -> httpx.Response:
        return await self._client.post(f"/console/api/{path}", headers=headers, content=b"{}")


@contextlib.asynccontextmanager
async def asking(tmp_path: Path, store: Store | None) -> AsyncIterator[Asked]:
    shared: Live = live(tmp_path)
    shared.settings = load(TEXT % ("a" * 64, "b" * 64))
    console = Console(shared, lambda: Store(Sqlite(tmp_path / "ledger.db", read_only=True)))
    if store is not None:
        console.begin(lambda: store)
    app = admin_app(shared, CollectorRegistry(), "127.0.0.1:0", console.routes())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8088") as client:
        yield Asked(shared, console, client)
    await console.close()


@pytest.fixture
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour after the calls of the tests."""
    now = SimpleNamespace(time=lambda: STARTED_S + HOUR_S, time_ns=lambda: (STARTED_S + HOUR_S) * 10**9)
    monkeypatch.setattr(module, "time", now)


RANGE = {"since": STARTED_S + HOUR_S - DAY_S, "until": STARTED_S + HOUR_S}


@pytest.mark.usefixtures("_noon")
async def test_every_view_of_calls_is_about_the_last_day_and_the_calls_that_are_asked_for(
    tmp_path: Path, store: Store
) -> None:
    store.write([call(), call(feature=None), call(org="dal", started_ns=STARTED_S * 10**9 - 2 * DAY_S * 10**9)], [])
    async with asking(tmp_path, store) as asked:
        for path in ("overview", "models", "features", "tasks", "orgs", "providers"):
            shown = await asked.get(path)
            assert shown["range"] == RANGE | {"covers_since": RANGE["since"], "complete": True}
            assert shown["total"]["requests"] == 2, path
            assert (await asked.get(f"{path}?feature=&org=acme"))["total"]["requests"] == 1, path
            assert (await asked.get(f"{path}?since=0"))["total"]["requests"] == 3, path
        choices = await asked.get("choices?feature=search")
        assert (choices["orgs"], choices["features"]) == (["acme"], ["search", None])


@pytest.mark.usefixtures("_noon")
async def test_calls_come_newest_first_from_all_of_the_ledger_unless_a_range_is_asked_for(
    tmp_path: Path, store: Store
) -> None:
    old = call(started_ns=(STARTED_S - 9 * DAY_S) * 10**9)
    store.write([old, call(feature=None), call()], [])
    async with asking(tmp_path, store) as asked:
        shown = await asked.get("calls?limit=2")
        assert ([one["seq"] for one in shown["calls"]], shown["newest"], shown["oldest"]) == ([3, 2], 3, 2)
        last = await asked.get("calls?before=2")
        assert ([one["call_id"] for one in last["calls"]], last["oldest"]) == ([old.call_id], None)
        for query, seqs in {
            "after=2": [3],
            "feature=": [2],
            f"since={STARTED_S}": [3, 2],
            f"until={STARTED_S}": [1],
            "org=nobody": [],
        }.items():
            assert [one["seq"] for one in (await asked.get(f"calls?{query}"))["calls"]] == seqs, query


MISASKED = ("overview?since=yesterday", "models?calls=0", "calls?limit=201", "calls?before=x", "choices?until=-1")


async def test_a_parameter_that_is_not_understood_is_named(tmp_path: Path, store: Store) -> None:
    async with asking(tmp_path, store) as asked:
        for path in MISASKED:
            error = (await asked.get(path, status=400))["error"]
            assert error["code"] == "bad_request"
            assert error["message"].startswith(path.partition("?")[2].partition("=")[0])


async def test_a_view_that_there_is_not_is_said_as_any_other_mistake(tmp_path: Path, store: Store) -> None:
    async with asking(tmp_path, store) as asked:
        error = (await asked.get("elsewhere", status=404))["error"]
    assert error == {"code": "not_found", "message": "there is no such view"}


async def test_what_clients_named_comes_as_json_and_without_a_key_in_it(tmp_path: Path, store: Store) -> None:
    names = ("<img src=x onerror=alert(1)>", '"}\n', "sk-proj-0123456789abcdefghij")
    store.write([call(feature=name, error_code=names[2], path=f"/{names[2]}") for name in names], [])
    async with asking(tmp_path, store) as asked:
        calls = (await asked.get("calls"))["calls"]
        assert [one["feature"] for one in calls[:0:-1]] == [*names[:2]]
        assert {one["error_code"] for one in calls} == {"sk-…"}
        for name in names[:2]:
            query = httpx.QueryParams({"feature": name, "since": 0})
            assert [row["feature"] for row in (await asked.get(f"features?{query}"))["rows"]] == [name]


async def test_recommendations_come_with_what_they_save_together(tmp_path: Path, store: Store) -> None:
    begin, cheap = int(time.time()) - 10 * DAY_S, {"task": "classification", "task_known": "classification"}
    usage = replace(call().usage or pytest.fail("it has none"), input_tokens=100_000, output_tokens=9)
    for feature in ("search", "chat"):
        store.write(
            [
                call(started_ns=(begin + n) * 10**9, usage=usage, token_source="provider", feature=feature, **cheap)
                for n in range(110)
            ],
            [],
        )
    async with asking(tmp_path, store) as asked:
        assert asked.live.settings.recommend.days == 30
        shown = await asked.get("recommendations")
        one, other = shown["recommendations"]
        assert shown["saving_usd"] == str(Decimal(one["saving_usd"]) + Decimal(other["saving_usd"]))
        assert {one["model"], one["provider"], one["evidence"]["calls"]} == {"gpt-4o", "openai", 110}
        assert one["evidence"]["since"] == begin
        assert shown["as_of"] >= begin + 10 * DAY_S
        few = await asked.get("recommendations?feature=chat")
        assert [one["feature"] for one in few["recommendations"]] == ["chat"]
        none = await asked.get("recommendations?org=dal")
        assert (none["recommendations"], none["saving_usd"]) == ([], None)


@pytest.mark.usefixtures("_noon")
async def test_an_anomaly_that_is_dismissed_stays_so(tmp_path: Path, store: Store) -> None:
    failed = {"error_category": "overloaded", "error_source": "provider"}
    begin = STARTED_S // HOUR_S * HOUR_S
    hours = [*range(-100, 1)]
    store.write(
        [
            call(started_ns=(begin + hour * HOUR_S) * 10**9, **(failed if hour == 0 else {}))
            for hour in hours
            for _ in range(60)
        ],
        [],
    )
    store.write([call(feature="new", started_ns=begin * 10**9) for _ in range(60)], [])
    async with asking(tmp_path, store) as asked:
        shown = await asked.get("anomalies")
        (one,) = shown["anomalies"]
        assert (one["kind"], one["began"], one["ended"], one["dismissed"]) == ("errors", begin, None, False)
        assert one["text"] == "errors, 100.0% of calls, usually 0.0% of calls"
        assert (shown["as_of"] is not None, shown["days"]) == (True, 7)
        assert shown["learning"] == [{"org": "acme", "feature": "new", "hours_left": 47}]
        assert (await asked.get("anomalies?feature=new"))["anomalies"] == []
        assert (await asked.post("anomalies/0123/dismiss", **JSON)).status_code == 404
        answer = await asked.post(f"anomalies/{one['id']}/dismiss", **JSON)
        assert (answer.status_code, answer.json()) == (200, {"id": one["id"], "dismissed": True})
        assert (await asked.get("anomalies"))["anomalies"][0]["dismissed"] is True
    assert [dismissal.id for dismissal in store.dismissals()] == [one["id"]]


CROSS = {
    "a form": {"content-type": "text/plain"},
    "a form without a type": {},
    "another page": {**JSON, "origin": "http://evil.example"},
    "another port of this machine": {**JSON, "origin": "http://127.0.0.1:1"},
    "a page without an origin": {**JSON, "origin": "null"},
}


async def test_another_page_in_the_same_browser_dismisses_nothing(tmp_path: Path, store: Store) -> None:
    async with asking(tmp_path, store) as asked:
        for headers in CROSS.values():
            answer = await asked.post("anomalies/0123/dismiss", **headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_origin"), headers
        own = {"content-type": "application/json; charset=utf-8", "origin": "http://127.0.0.1:8088"}
        assert (await asked.post("anomalies/0123/dismiss", **own)).status_code == 404


async def test_whoever_has_no_token_reads_and_writes_nothing(tmp_path: Path, store: Store) -> None:
    async with asking(tmp_path, store) as asked:
        paths = [route.path.format(id="0123") for route in asked.console.routes()[:-1]]
        asked.live.settings = replace(asked.live.settings, admin_token=TOKEN)
        for path in paths[1:]:
            await asked.get(path.removeprefix("/console/api/"), status=401)
            await asked.get(path.removeprefix("/console/api/"), authorization=f"Bearer {TOKEN}")
        assert (await asked.post(paths[0].removeprefix("/console/api/"), **JSON)).status_code == 401
        asked.live.settings = replace(asked.live.settings, admin_token=None)
        await asked.get("overview", status=421, host="rebound.example")


async def test_limits_say_how_far_they_are_used_and_where_nobody_knows_that_nobody_does(
    tmp_path: Path, store: Store
) -> None:
    async with asking(tmp_path, store) as asked:
        shown = await asked.get("limits")
        assert [(one["org"], one["limit"], one["used"], one["most"]) for one in shown["limits"]] == [
            ("acme", "daily USD", "0", "50"),
            ("acme", "requests per minute", 0, 60),
            ("dal", "parallel streams", 0, 3),
        ]
        assert (shown["more"], shown["problem"]) == (0, None)
        assert len((await asked.get("limits?org=dal"))["limits"]) == 1
    async with asking(tmp_path, None) as early:
        shown = await early.get("limits?org=acme")
        assert (shown["problem"], shown["limits"][0]["used"], shown["limits"][0]["share"]) == (
            "lectr starts",
            None,
            None,
        )


async def test_the_health_of_providers_has_the_breakers_that_are_open(tmp_path: Path, store: Store) -> None:
    target, until_s = Target("openai", "gpt-4o", "api.openai.com"), int(time.time()) + 60
    async with asking(tmp_path, store) as asked:
        asked.live.vitals.adopt({target: State(failures=3, failed_s=0, until_s=until_s)}, (), Breaking())
        asked.live.vitals.measured({target: 320})
        shown = await asked.get("providers")
    assert shown["breakers"] == [
        {**target._asdict(), "state": "open", "failures": 3, "until": until_s},
    ]
    assert shown["first_tokens"] == [{**target._asdict(), "first_token_ms": 320}]


async def test_settings_are_shown_as_they_are_in_force_with_what_is_wrong_with_newer_ones(
    tmp_path: Path, store: Store
) -> None:
    async with asking(tmp_path, store) as asked:
        asked.live.settings_problem = "line 3: no"
        shown = await asked.get("settings")
        asked.live.settings = load("")
        assert (await asked.get("settings"))["settings"]["orgs"] == []
    assert (shown["version"], shown["problem"], shown["warnings"]) == (VERSION, "line 3: no", [])
    assert shown["prices"] == {"version": asked.live.snapshot.prices.version, "problem": None}
    assert [org["name"] for org in shown["settings"]["orgs"]] == ["acme", "dal"]


async def test_a_ledger_that_cannot_be_had_is_said_and_is_no_empty_view(tmp_path: Path) -> None:
    def away() -> Store:
        raise Unavailable("it is locked")

    async with asking(tmp_path, None) as asked:
        for path in ("overview", "models", "choices", "calls", "recommendations", "anomalies"):
            error = (await asked.get(path, status=503))["error"]
            assert error == {"code": "ledger_unavailable", "message": "lectr starts"}, path
        asked.console.begin(away)
        assert (await asked.get("overview", status=503))["error"]["message"] == "it is locked"


def test_what_has_no_place_in_json_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="object"):
        module._plain(object())
