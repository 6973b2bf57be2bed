import copy
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from genai_prices import types
from genai_prices.data import providers as bundled

from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.prices import THEIR_PROVIDERS, Override, price_table
from lectr_extproc.core.pricing import Row
from lectr_extproc.edge import prices
from lectr_extproc.edge.prices import UnreadablePricesError, read_prices

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
LIST = [as_json(provider) for provider in bundled if provider.id in OURS]


def same(one: Row | None, other: Row | None) -> bool:
    assert one is not None
    assert other is not None
    return (one.model, one.standard, one.tiers) == (other.model, other.standard, other.tiers)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prices") / "data.json"
    path.write_text(json.dumps(LIST))
    return path


async def test_a_price_list_as_they_publish_it_says_what_the_package_says(file: Path) -> None:
    read, ours = await read_prices(str(file)), price_table()
    for key in (*LINEUP, ("deepseek", "deepseek-v4-pro"), ("anthropic", "claude-opus-4-8"), ("azure", "gpt-5.4")):
        assert same(read.row(*key), ours.row(*key)), key
    assert read.version.startswith("genai-prices data ")
    assert read.version != ours.version


async def test_a_new_price_arrives_and_ones_own_still_wins(tmp_path: Path) -> None:
    changed = copy.deepcopy(LIST)
    openai = next(provider for provider in changed if provider["id"] == "openai")
    openai["models"].insert(
        0, {"id": "gpt-7", "match": {"or": [{"equals": "gpt-7"}]}, "prices": {"input_mtok": 4.1, "output_mtok": 9}}
    )
    file = tmp_path / "new.json"
    file.write_text(json.dumps(changed))
    own = [Override(provider="openai", model="gpt-7", prices={"output": Decimal(1)})]
    row = (await read_prices(str(file), own)).row("openai", "gpt-7")
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
    table = await read_prices("https://prices.test/data.json", transport=served(200, json.dumps(LIST).encode(), asked))
    assert same(table.row("openai", "gpt-4o"), price_table().row("openai", "gpt-4o"))
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
