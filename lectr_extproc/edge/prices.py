"""Newer prices without a restart: a price list from a file, or from a URL that the operator named.

Nothing is ever fetched by default. A source that cannot be read, or holds anything odd, is refused whole, and the
prices there are stay in force. The JSON is the providers' list that genai-prices publishes for its version 0.2.
"""

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from genai_prices import types
from pydantic import ConfigDict, TypeAdapter

from lectr_extproc.catalog.prices import THEIR_PROVIDERS, PriceList, sheet_of
from lectr_extproc.edge.live import Live

log = logging.getLogger("lectr.prices")

POLL_S = 0.5
RETRY_S = 60
"After a source could not be read; `catalogue.every_s` is never shorter."

TIMEOUT_S = 120
"For the whole list: a server that sends a byte now and then must not keep it from being asked again."

MAX_BYTES = 64 * 1024 * 1024
"Their whole list is 3 MB of JSON in 2026."

_PRICES: TypeAdapter[dict[str, Decimal | types.TieredPrices | None]] = TypeAdapter(
    dict[str, Decimal | types.TieredPrices | None]
)
_PROVIDERS = TypeAdapter(list[types.Provider], config=ConfigDict(arbitrary_types_allowed=True, defer_build=True))


class UnreadablePricesError(Exception):
    """The source is no price list; the message says why, without its content."""


async def refresh(live: Live) -> None:
    """Keep the prices in force those of `catalogue.source`, for ever."""
    done: tuple[Any, ...] | None = None
    seen: tuple[Any, ...] | None = None
    left_s = 0.0
    while True:
        wanted = live.settings.catalogue
        before, seen = seen, _state(wanted.source)
        if wanted.source is None:
            live.price_list, live.prices_problem, left_s = None, None, 0
        elif left_s <= 0 or (seen == before and seen != done):  # a file that is still being written is not read yet
            done = seen
            await _adopt(live, wanted.source)
            left_s = RETRY_S if live.prices_problem else wanted.every_s
        await asyncio.sleep(POLL_S)
        left_s = min(left_s, wanted.every_s) - POLL_S


async def _adopt(live: Live, source: str) -> None:
    try:
        prices = await read_prices(source)
    except Exception as error:  # whatever the list holds, it is read again
        problem = str(error) if isinstance(error, UnreadablePricesError) else type(error).__name__
        if problem != live.prices_problem:
            live.prices_problem = problem
            log.exception("prices refused, the old ones stay in force", extra={"fields": {"problem": problem}})
        return
    live.prices_problem = None
    if live.price_list is None or prices.version != live.price_list.version:
        live.price_list = prices
        log.info("prices adopted", extra={"fields": {"version": live.snapshot.prices.version}})


def is_url(source: str) -> bool:
    """Whether reading this source sends anything anywhere."""
    return source.startswith(("https://", "http://"))


def _state(source: str | None) -> tuple[Any, ...]:
    """Differs when the source is another one, or a file that was written or replaced."""
    try:
        found = None if source is None or is_url(source) else Path(source).stat()
    except (OSError, ValueError):
        found = None
    return (source, found and (found.st_mtime_ns, found.st_size, found.st_ino))


async def read_prices(source: str, transport: httpx.AsyncBaseTransport | None = None) -> PriceList:
    """The price list of a file or URL, complete and checked, or UnreadablePricesError."""
    try:
        if is_url(source):
            data = await _fetch(source, transport)
        else:
            data = await asyncio.to_thread(Path(source).read_bytes)
        # Parsing takes longer than calls may wait.
        return await asyncio.to_thread(_parse, data)
    except (OSError, httpx.HTTPError, httpx.InvalidURL, re.error, ValueError, RecursionError) as error:
        raise UnreadablePricesError(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}") from None


async def _fetch(url: str, transport: httpx.AsyncBaseTransport | None) -> bytes:
    async with (
        asyncio.timeout(TIMEOUT_S),
        httpx.AsyncClient(timeout=TIMEOUT_S, transport=transport) as http,
        http.stream("GET", url) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"answered {answer.status_code}")
        data = bytearray()
        async for chunk in answer.aiter_bytes():
            data += chunk
            if len(data) > MAX_BYTES:
                raise ValueError("too large to be a price list")
        return bytes(data)


def _parse(data: bytes) -> PriceList:
    raw = json.loads(data, parse_float=Decimal)
    if not isinstance(raw, list):
        raise ValueError("not a list of providers")
    providers = _PROVIDERS.validate_python([_readable(provider) for provider in raw])
    _check(providers)
    return PriceList(providers, f"data {hashlib.sha256(data).hexdigest()[:12]}")


def _readable(value: Any) -> Any:
    """Their price type takes any name, so pydantic cannot build it; their rules for usage are not ours to read."""
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("regex"), str):
        re.compile(value["regex"])  # else it would be found wrong by the first call that asks
    return {
        key: types.ModelPrice(**_PRICES.validate_python(inner))
        if key == "prices" and isinstance(inner, Mapping)
        else _readable(inner)
        for key, inner in value.items()
        if key != "extractors"
    }


def _check(providers: Sequence[types.Provider]) -> None:
    """What parses may still be another list, or one half written."""
    known = {provider.id for provider in providers}
    missing = [theirs for theirs in ("openai", "anthropic", "google", "aws") if theirs not in known]
    if missing:
        raise ValueError(f"no prices of {', '.join(missing)}")
    now = datetime.now(UTC)
    for provider in providers:
        for model in provider.models if provider.id in THEIR_PROVIDERS.values() else ():
            sheet = sheet_of(provider, model)
            moments = [now, *(datetime.combine(day, now.timetz()) for day in sheet.dates)]
            steps = [step for at in moments for tier in (None, *sheet.tiers) for step in sheet.prices(at, tier)]
            if any(price < 0 for _, prices in steps for price in prices.values()):
                raise ValueError(f"a price below zero: {provider.id}/{model.id}")
