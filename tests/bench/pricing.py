"""Pricing: one call, once its model was seen."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

from lectr_extproc.catalog.prices import price_table
from lectr_extproc.core.pricing import Cost, price
from lectr_extproc.core.usage import Usage
from tests.bench.timing import microseconds

USUAL = Usage(input_tokens=1000, output_tokens=500)
FULL = Usage(
    input_tokens=300_000,
    output_tokens=500,
    cache_read_tokens=200_000,
    cache_write_tokens=1000,
    cache_write_1h_tokens=500,
    reasoning_tokens=100,
)

SEARCHED = replace(FULL, web_search_requests=2)


def measure() -> Iterator[tuple[str, str]]:
    """What a row and a price cost together."""
    table, now, numbers = price_table(), int(time.time()), count()

    def call(provider: str, model: str, usage: Usage, tier: str | None = None) -> Callable[[], Cost]:
        return lambda: price(usage, table.row(provider, model), now, tier)

    for name, work in {
        "price: a usual call (promised: 3 µs)": call("openai", "gpt-4o-2024-08-06", USUAL, "default"),
        "price: a cache, above the threshold": call("anthropic", "claude-sonnet-4-5-20250929", FULL, "standard"),
        "price: the same with web searches": call("anthropic", "claude-sonnet-4-5-20250929", SEARCHED, "standard"),
        "price: prices by the hour of the day": call("deepseek", "deepseek-v4-pro", USUAL),
        "price: a model without one": call("openai", "unknown", USUAL),
        "price: a name never seen before": lambda: price(USUAL, table.row("openai", f"unknown-{next(numbers)}"), now),
    }.items():
        yield name, f"{microseconds(work):6.1f} µs"
