"""The ledger: what it takes to keep a finished call, in the writer's thread; calls never wait for it."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lectr_extproc.core.ledger import row_of
from lectr_extproc.edge.logs import without_keys
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store
from tests.bench.timing import microseconds
from tests.edge.finished import call

ROWS = 2_000


def measure() -> Iterator[tuple[str, str]]:
    """Of calls of which everything is known, by the size of the batch they come in."""
    records = [call(call_id=f"{n:032x}", request_id=f"{n:08x}", response_id=f"chatcmpl-{n}") for n in range(ROWS)]
    every = iter(records * 20)
    cost = microseconds(lambda: row_of(next(every), without_keys), rounds=3, calls=ROWS)
    yield "a record as a row", f"{cost:6.1f} µs"
    for size in (1, 10, 100):
        with tempfile.TemporaryDirectory() as directory:
            store = Store(Sqlite(Path(directory) / "ledger.db"))
            store.migrate()
            wall, cpu = time.perf_counter(), time.process_time()
            for start in range(0, ROWS, size):
                store.write(records[start : start + size], [])
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            store.close()
        yield f"SQLite, batches of {size}", f"{ROWS / wall:8,.0f} rows/s, {cpu / ROWS * 1e6:6.1f} µs CPU a row"
