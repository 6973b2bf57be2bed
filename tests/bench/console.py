"""`python -m tests.bench.console`: how long each of the console's views is read, in a ledger of 100,000 calls.

Of both databases. A machine that does other things at the same time makes wall times longer than the work is, so the
CPU is told beside them: lectr's, and the database server's. --calls N for another number of them.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lectr_extproc.core.anomalies import Watching, find
from lectr_extproc.core.pricing import Cost
from lectr_extproc.core.recommend import Advising
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.report import Filters
from lectr_extproc.core.usage import Usage
from lectr_extproc.core.views import COLUMNS, MOST_CALLS, question
from lectr_extproc.edge.postgres import Postgres as PostgresDatabase
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import EVERY_CALL, Store
from tests import postgres
from tests.edge.finished import COST, STARTED_NS, call

DAYS = 7
ROUNDS = 7
END_S = STARTED_NS // 10**9
MODELS = {
    ("openai", "gpt-4o"): 5,
    ("openai", "gpt-4o-mini"): 4,
    ("anthropic", "claude-sonnet-4-6"): 3,
    ("groq", "llama-3.3-70b-versatile"): 2,
    ("gemini", "gemini-2.5-flash"): 1,
    ("openai", "a-model-of-their-own"): 1,
}
FEATURES = {"search": 5, "chat": 4, "summaries": 3, "agents": 2, "ingest": 1, None: 3}
TASKS = (("summarise", "summarisation"), ("classification", "classification"), ("their-word", None), (None, None))


def calls(count: int) -> Iterator[CallRecord]:
    """Of a week, each with what is its own; the same ones each time."""
    chance = random.Random(1)
    for n in range(count):
        ((provider, model),) = chance.choices(list(MODELS), list(MODELS.values()))
        task, known = chance.choice(TASKS)
        failed = chance.random() < 0.02
        yield call(
            call_id=f"{n:032x}",
            request_id=f"{n:08x}",
            started_ns=(END_S - DAYS * 86_400) * 10**9 + n * DAYS * 86_400 * 10**9 // count,
            org=chance.choice(("acme", "globex", "initech")),
            feature=chance.choices(list(FEATURES), list(FEATURES.values()))[0],
            task=task,
            task_known=known,
            provider=provider,
            model_requested=model,
            model_sent=model,
            model_answered=model,
            duration_ms=round(chance.lognormvariate(6.5, 1), 3),
            error_category="overloaded" if failed else None,
            error_source="provider" if failed else None,
            usage=None if failed else Usage(input_tokens=chance.randrange(4000), output_tokens=chance.randrange(900)),
            cost=Cost("unavailable") if model.startswith("a-") else COST._replace(total=chance.randrange(10**10)),
        )


def fill(store: Store, count: int) -> None:
    """Have so many calls in it."""
    store.migrate()
    batch = []
    for one in calls(count):
        batch.append(one)
        if len(batch) == 1_000:
            store.write(batch, [])
            batch = []
    store.write(batch, [])


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
            fill(store, count)
            print(f"{name}, {count:,} calls of {DAYS} days")
            for view, figures in measure(store, _server_s(store) if name == "PostgreSQL" else lambda: 0.0):
                print(f"  {view:<36} {figures}")
            store.close()


if __name__ == "__main__":
    main()
