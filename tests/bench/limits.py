"""Limits: what a call of an org that has some takes more, by how many are made at a time."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import read_facts
from lectr_extproc.core.limits import Ask
from lectr_extproc.core.outcome import Route
from lectr_extproc.core.spending import Settlement, ask_for
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store
from lectr_extproc.keys import digest
from lectr_extproc.settings import compile_settings
from tests.bench.decide import HEADERS, KEY
from tests.bench.timing import microseconds
from tests.edge.finished import call

LIMITS = {"daily_usd": 10**5, "monthly_usd": 10**5, "requests_per_minute": 10**9}
CALLS = 2_000


def measure() -> Iterator[tuple[str, str]]:
    """Of an org with three limits, which nothing exceeds, in a file of SQLite's."""
    org = {"name": "bench", "keys": [{"sha256": digest(KEY)}], "limits": LIMITS}
    tables = compile_settings({"orgs": [org]}).snapshot
    facts = read_facts(HEADERS, {"model": "gpt-4o"}, end_of_stream=False, at_s=int(time.time()))
    route = decide(facts, tables)
    assert isinstance(route, Route)
    limits = route.org.limits
    assert limits is not None
    yield "what to hold for a call", f"{microseconds(lambda: ask_for(route, facts, tables, limits)):6.1f} µs"
    holds = ask_for(route, facts, tables, limits).holds
    for size in (1, 10, 100):
        asks = [Ask(f"{n:032x}", holds) for n in range(CALLS)]
        with tempfile.TemporaryDirectory() as directory:
            store = Store(Sqlite(Path(directory) / "ledger.db"))
            store.migrate()
            wall, cpu = time.perf_counter(), time.process_time()
            for start in range(0, CALLS, size):
                store.counters.reserve(asks[start : start + size], time.time_ns())
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            yield (
                f"hold, {size} calls at a time",
                f"{wall / CALLS * size * 1e6:6.0f} µs each time, {cpu / CALLS * 1e6:6.1f} µs CPU a call",
            )
            records = [call(call_id=ask.call_id) for ask in asks]
            settled = [
                Settlement(ask.call_id, {"usd": 1, "tokens": 1, "requests": 1, "streams": 0}, ()) for ask in asks
            ]
            plain, with_limits = (
                _cpu_s(store, records[start::2], settled[start::2] if start else [], size) for start in (0, 1)
            )
            store.close()
        yield f"settle, {size} calls at a time", f"{(with_limits - plain) / CALLS * 2e6:6.1f} µs CPU a call"


def _cpu_s(store: Store, records: list, settled: list, size: int) -> float:  # type: ignore[type-arg]
    began = time.process_time()
    for start in range(0, len(records), size):
        store.write(records[start : start + size], [], settled[start : start + size])
    return time.process_time() - began
