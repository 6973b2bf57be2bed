"""`python -m tests.bench.console`: how long each of the console's views is read, in a ledger of 100,000 calls.

Of both databases. A machine that does other things at the same time makes wall times longer than the work is, so the
CPU is told beside them: lectr's, and the database server's. --calls N for another number of them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lectr_extproc.core.anomalies import Watching, find
from lectr_extproc.core.recommend import Advising
from lectr_extproc.core.report import Filters
from lectr_extproc.core.views import COLUMNS, MOST_CALLS, question
from lectr_extproc.edge.postgres import Postgres as PostgresDatabase
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import EVERY_CALL, Store
from tests import postgres
from tests.edge.finished import STARTED_NS
from tests.traffic import calls, fill

DAYS = 7
ROUNDS = 7
END_S = STARTED_NS // 10**9


def views(store: Store) -> dict[str, Callable[[], object]]:
    """What is asked: everything the console shows of calls, of all of them."""
    asked = question({"since": str(END_S - DAYS * 86_400), "until": str(END_S), "calls": str(MOST_CALLS)}, END_S)
    found: dict[str, Callable[[], object]] = {"overview": lambda: store.views.overview(asked)}
    for by in COLUMNS:
        found[by] = lambda by=by: store.views.groups(by, asked)  # type: ignore[misc]
    return {
        **found,
        "choices": lambda: store.views.choices(asked),
        "the last 50 calls": lambda: store.views.calls(EVERY_CALL, 50),
        "calls of a feature that has none": lambda: store.views.calls(Filters(feature="nobody's"), 50),
        "recommendations (kept for a minute)": lambda: store.traffic(EVERY_CALL, Advising()),
        "anomalies (kept for a minute)": lambda: find(store.hours(EVERY_CALL), [], END_S, Watching()),
    }


def measure(store: Store, server_s: Callable[[], float] = lambda: 0.0) -> Iterator[tuple[str, str]]:
    """Each view's wall time and CPU, the least of several rounds."""
    for name, ask in views(store).items():
        ask()
        rounds = []
        for _ in range(ROUNDS):
            wall, cpu = time.perf_counter(), time.thread_time() + server_s()
            ask()
            rounds.append((time.perf_counter() - wall, time.thread_time() + server_s() - cpu))
        wall, cpu = (min(column) * 1000 for column in zip(*rounds, strict=True))
        yield name, f"{wall:.0f} ms, CPU {cpu:.0f} ms"


def _server_s(store: Store) -> Callable[[], float]:
    """The CPU that PostgreSQL's process for this connection took: both are on this machine."""
    ((pid,),) = store._read("SELECT pg_backend_pid()", [])

    def read() -> float:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / 100

    return read


def main() -> None:
    """Both databases."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.console", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    count = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as directory, postgres.Postgres() as server:
        stores = {
            "SQLite": Store(Sqlite(Path(directory) / "ledger.db")),
            "PostgreSQL": Store(PostgresDatabase(server.new_database("console"))),
        }
        for name, store in stores.items():
            store.migrate()
            fill(store, calls(count, END_S, DAYS))
            print(f"{name}, {count:,} calls of {DAYS} days")
            for view, figures in measure(store, _server_s(store) if name == "PostgreSQL" else lambda: 0.0):
                print(f"  {view:<36} {figures}")
            store.close()


if __name__ == "__main__":
    main()
