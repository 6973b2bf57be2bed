import asyncio
import contextlib
import copy
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from genai_prices import types
from genai_prices.data import providers as bundled
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.prices import THEIR_PROVIDERS, Override, price_table
from lectr_extproc.core.pricing import Row
from lectr_extproc.edge import prices
from lectr_extproc.edge.admin import http_server
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.prices import UnreadablePricesError, read_prices, refresh
from tests.edge.given import settings
from tests.edge.looks import Look, paced

NOW = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp())


def as_json(value: Any) -> Any:
    """Their data as they publish it: what is None left out, and `or` spelt without the underscore."""
    if isinstance(value, types.ModelPrice):
        return as_json(value.__dict__)
    if is_dataclass(value):
        return as_json(
            {f.name.rstrip("_"): getattr(value, f.name) for f in fields(value) if not f.name.startswith("_")}
        )
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [as_json(inner) for inner in value]
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date | time) else value


OURS = set(THEIR_PROVIDERS.values()) - {"openrouter"}
WHOLE = [as_json(provider) for provider in bundled if provider.id in OURS]
LIST = [
    provider
    | {"models": [m for n, m in enumerate(provider["models"]) if n < 3 or m["id"] in {"gpt-4o", "gpt-4o-mini"}]}
    for provider in WHOLE
]
"A shop window of it, of which reading takes a tenth."


def same(one: Row | None, other: Row | None) -> bool:
    assert one is not None
    assert other is not None
    return (one.model, one.standard, one.tiers) == (other.model, other.standard, other.tiers)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prices") / "data.json"
    path.write_text(json.dumps(WHOLE))
    return path


async def test_a_price_list_as_they_publish_it_says_what_the_package_says(file: Path) -> None:
    read, ours = price_table((), *await read_prices(str(file))), price_table()
    for key in (*LINEUP, ("deepseek", "deepseek-v4-pro"), ("anthropic", "claude-opus-4-8"), ("azure", "gpt-5.4")):
        assert same(read.row(*key), ours.row(*key)), key
    assert read.version.startswith("genai-prices data ")
    assert read.version != ours.version


def list_with_gpt_7(price: float) -> bytes:
    changed = copy.deepcopy(LIST)
    openai = next(provider for provider in changed if provider["id"] == "openai")
    openai["models"].insert(
        0, {"id": "gpt-7", "match": {"or": [{"equals": "gpt-7"}]}, "prices": {"input_mtok": price, "output_mtok": 9}}
    )
    return json.dumps(changed).encode()


async def test_a_new_price_arrives_and_ones_own_still_wins(tmp_path: Path) -> None:
    file = tmp_path / "new.json"
    file.write_bytes(list_with_gpt_7(4.1))
    own = [Override(provider="openai", model="gpt-7", prices={"output": Decimal(1)})]
    row = price_table(own, *await read_prices(str(file))).row("openai", "gpt-7")
    assert row is not None
    assert row.rates(NOW)[0].base[:2] == (4_100_000, 1_000_000)
    assert price_table(own).row("openai", "gpt-7") is not None


def served(status: int, content: bytes, asked: list[str]) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(status, content=content)

    return httpx.MockTransport(answer)


async def test_a_url_that_was_named_is_asked_once() -> None:
    asked: list[str] = []
    read = await read_prices("https://prices.test/data.json", transport=served(200, json.dumps(LIST).encode(), asked))
    assert same(price_table((), *read).row("openai", "gpt-4o"), price_table().row("openai", "gpt-4o"))
    assert asked == ["https://prices.test/data.json"]


def changed_list(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The list with something done to a model of the first provider that it has."""
    made = copy.deepcopy(LIST)
    change(made[0]["models"][0])
    return json.dumps(made).encode()


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "JSONDecodeError"),
    "not JSON": (b"<html>", "JSONDecodeError"),
    "not text": (b"\xff\xfe\x00", "UnicodeDecodeError"),
    "another JSON": (b'{"error": "gone"}', "not a list of providers"),
    "an empty list": (b"[]", "no prices of openai, anthropic, google, aws"),
    "half of the list": (json.dumps(LIST[:1]).encode(), "no prices of"),
    "a list of other things": (b"[1, 2]", "ValidationError"),
    "a list in lists without end": (b"[" * 100_000 + b"]" * 100_000, "RecursionError"),
    "a price below zero": (changed_list(lambda m: m.update(prices={"input_mtok": -1})), "a price below zero"),
    "a price that is none": (changed_list(lambda m: m.update(prices={"input_mtok": "a lot"})), "ValidationError"),
    "a price without end": (changed_list(lambda m: m.update(prices={"input_mtok": float("inf")})), "ValidationError"),
    "a rule that is none": (changed_list(lambda m: m.update(match={"like": "gpt"})), "ValidationError"),
    "a pattern that is none": (changed_list(lambda m: m.update(match={"regex": "("})), "error"),
}


@pytest.mark.parametrize(("data", "told"), BAD.values(), ids=BAD)
async def test_what_is_no_price_list_is_refused_whole(data: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(data)
    with pytest.raises(UnreadablePricesError, match=told) as refused:
        await read_prices(str(file))
    assert len(str(refused.value)) < 300


async def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePricesError, match="FileNotFoundError"):
        await read_prices(str(tmp_path / "none.json"))


async def test_a_server_that_does_not_answer_well_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadablePricesError, match="answered 404"):
        await read_prices("http://prices.test/", transport=served(404, b"", []))
    with pytest.raises(UnreadablePricesError, match="InvalidURL"):
        await read_prices("http://:x/", transport=served(200, b"", []))
    monkeypatch.setattr(prices, "MAX_BYTES", 10)
    with pytest.raises(UnreadablePricesError, match="too large"):
        await read_prices("http://prices.test/", transport=served(200, b"[" * 100, []))


# --- while lectr runs -------------------------------------------------------------------------------------------------

HOUR = 2 * 3600
"In looks."


@contextlib.asynccontextmanager
async def refreshing(source: object, **sections: Any) -> AsyncIterator[tuple[Live, Look]]:
    """Time passes only as `look` says: so many looks at the source, each until it has had its effect."""
    live = Live(settings(**naming(source), **sections))
    with pytest.MonkeyPatch.context() as patch:
        look = paced(prices, patch)
        task = asyncio.create_task(refresh(live))
        await look(0)
        await look(1)
        yield live, look
        task.cancel()


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def naming(source: object) -> dict[str, Any]:
    return {"catalogue": {"source": source and str(source)}}


def input_price(live: Live, model: str = "gpt-7") -> int | None:
    row = live.snapshot.prices.row("openai", model)
    return row.rates(NOW)[0].base[0] if row else None


class Shop:
    """A server of price lists."""

    def __init__(self) -> None:
        self.content, self.status, self.asked = list_with_gpt_7(4.1), 200, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert Request(scope).url.path == "/data.json"
        self.asked += 1
        await Response(self.content, self.status)(scope, receive, send)


@contextlib.asynccontextmanager
async def refreshing_from(shop: Shop) -> AsyncIterator[tuple[Live, Look]]:
    async with http_server(shop, "127.0.0.1:0") as port, refreshing(f"http://127.0.0.1:{port}/data.json") as both:
        yield both


@pytest.fixture(name="changing")
def _changing(tmp_path: Path) -> Path:
    file = tmp_path / "prices.json"
    write(file, list_with_gpt_7(4.1))
    return file


async def test_without_a_source_nothing_is_read_and_the_prices_are_the_installations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []
    monkeypatch.setattr(prices, "read_prices", read.append)
    async with refreshing(None) as (live, look):
        await look(HOUR)
        assert live.snapshot is live.settings.snapshot
        assert live.health()["prices"] == {"version": price_table().version, "problem": None}
    assert read == []


async def test_a_url_is_read_at_start_and_then_as_often_as_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lectr")
    shop = Shop()
    async with refreshing_from(shop) as (live, look):
        assert (input_price(live), shop.asked) == (4_100_000, 1)
        shop.content = list_with_gpt_7(5)
        await look(HOUR - 2)
        assert (input_price(live), shop.asked) == (4_100_000, 1)
        await look(1)
        assert (input_price(live), shop.asked) == (5_000_000, 2)
        version, before = live.snapshot.prices.version, live.snapshot
        assert live.health()["prices"] == {"version": version, "problem": None}
        await look(HOUR)
        assert (live.snapshot is before, shop.asked) == (True, 3)
    assert [r.getMessage() for r in caplog.records if r.name == "lectr.prices"] == ["prices adopted"] * 2
    assert caplog.records[-1].__dict__["fields"] == {"version": version}


async def test_a_server_that_fails_keeps_the_prices_is_told_once_and_asked_again_after_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop = Shop()
    async with refreshing_from(shop) as (live, look):
        shop.status = 503
        await look(HOUR)
        health = live.health()
        assert (health["status"], health["prices"]["problem"]) == ("degraded", "ValueError: answered 503")
        assert (input_price(live), shop.asked) == (4_100_000, 2)
        await look(120)
        assert shop.asked == 3
        assert caplog.messages == ["prices refused, the old ones stay in force"]
        shop.status, shop.content = 200, list_with_gpt_7(5)
        await look(120)
        assert (input_price(live), live.health()["status"]) == (5_000_000, "ok")


async def test_a_file_is_read_at_start_and_when_it_changes(changing: Path) -> None:
    async with refreshing(changing) as (live, look):
        assert input_price(live) == 4_100_000
        write(changing, list_with_gpt_7(5.25))
        await look(2)
        assert input_price(live) == 5_250_000


async def test_a_file_that_is_still_being_written_is_not_read(changing: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = list_with_gpt_7(5.25)
    async with refreshing(changing) as (live, look):
        for written in (whole[:1000], whole[:2000], whole):
            write(changing, written)
            await look(1)
            assert input_price(live) == 4_100_000
        await look(1)
        assert input_price(live) == 5_250_000
    assert caplog.messages == []


async def test_a_bad_file_changes_nothing_until_it_is_mended(changing: Path) -> None:
    async with refreshing(changing) as (live, look):
        write(changing, b"{}")
        await look(2)
        assert (live.health()["status"], live.prices_problem) == ("degraded", "ValueError: not a list of providers")
        assert input_price(live) == 4_100_000
        write(changing, list_with_gpt_7(5.25))
        await look(2)
        assert (live.health()["status"], input_price(live)) == ("ok", 5_250_000)


async def test_a_file_that_comes_later_is_found(tmp_path: Path) -> None:
    file = tmp_path / "later.json"
    async with refreshing(file) as (live, look):
        assert "FileNotFoundError" in str(live.prices_problem)
        assert input_price(live, "gpt-4o") == 2_500_000
        write(file, list_with_gpt_7(4.1))
        await look(2)
        assert (input_price(live), live.prices_problem) == (4_100_000, None)


async def test_new_settings_keep_the_refreshed_prices_and_their_own_prices_are_over_them(changing: Path) -> None:
    async with refreshing(changing) as (live, look):
        live.settings = settings(
            **naming(changing), prices=[{"provider": "openai", "model": "gpt-7", "output": 1}], orgs=[]
        )
        row = live.snapshot.prices.row("openai", "gpt-7")
        assert row is not None
        assert row.rates(NOW)[0].base[:2] == (4_100_000, 1_000_000)
        assert live.snapshot.orgs_by_key == {}
        write(changing, list_with_gpt_7(5.25))
        await look(2)
        row = live.snapshot.prices.row("openai", "gpt-7")
        assert row is not None
        assert row.rates(NOW)[0].base[:2] == (5_250_000, 1_000_000)


async def test_a_source_that_new_settings_name_is_read_and_one_they_take_back_is_forgotten(changing: Path) -> None:
    async with refreshing(None) as (live, look):
        for _ in range(2):
            live.settings = settings(**naming(changing))
            await look(2)
            assert input_price(live) == 4_100_000
            live.settings = settings()
            await look(1)
            assert live.snapshot is live.settings.snapshot


async def test_whatever_goes_wrong_with_a_list_the_refresh_goes_on(
    changing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: bytes) -> None:
        raise KeyError("what nobody thought of")

    async with refreshing(changing) as (live, look):
        with monkeypatch.context() as patch:
            patch.setattr(prices, "_parse", fails)
            write(changing, list_with_gpt_7(5.25))
            await look(2)
        assert (live.prices_problem, input_price(live)) == ("KeyError", 4_100_000)
        await look(120)
        assert (live.prices_problem, input_price(live)) == (None, 5_250_000)
