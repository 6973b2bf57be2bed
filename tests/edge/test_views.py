"""What the console reads of the ledger, the same on SQLite files and on a real PostgreSQL."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from lectr_extproc.core.report import Filters
from lectr_extproc.core.views import Question, question
from lectr_extproc.edge import views
from lectr_extproc.edge.postgres import Postgres
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import EVERY_CALL, Store
from tests import postgres
from tests.core.finished import STARTED_S, call
from tests.edge.ledgers import attempt

_names = itertools.count(1)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "postgresql":
        server: postgres.Postgres = request.getfixturevalue("postgres_server")
        store = Store(Postgres(server.new_database(f"views{next(_names)}")))
    else:
        store = Store(Sqlite(tmp_path / "ledger.db"))
    store.migrate()
    yield store
    store.close()


def asked(**parameters: str) -> Question:
    return question(parameters, STARTED_S + 3600)


def seqs(shown: dict[str, list[dict[str, int]]]) -> list[int]:
    return [one["seq"] for one in shown["calls"]]


def test_calls_are_added_up_alike_in_every_database(store: Store) -> None:
    store.write([call(), call(feature=None, duration_ms=None), call(feature="føroyar", cost=None, usage=None)], [])
    features = store.views.groups("features", asked())
    assert [(row["feature"], row["requests"], row["cost_usd"], row["average_ms"]) for row in features["rows"]] == [
        (None, 1, "0.25", None),
        ("føroyar", 1, None, 2500.0),
        ("search", 1, "0.25", 2500.0),
    ]
    assert [row["p95_ms"] for row in features["rows"]] == [None, 2500.0, 2500.0]
    assert (features["total"]["cost_usd"], features["total"]["input_tokens"]) == ("0.5", 2)
    assert store.views.groups("models", asked(feature="search"))["rows"][0]["model"] == "gpt-4o"
    overview = store.views.overview(asked())
    assert (overview["total"]["requests"], sum(p["requests"] for p in overview["trend"]["points"])) == (3, 3)
    assert store.views.choices(asked())["orgs"] == ["acme"]


def test_of_more_calls_than_may_be_read_the_newest_are(store: Store) -> None:
    store.write([call(started_ns=(STARTED_S + n) * 10**9) for n in range(10)], [])
    few = store.views.groups("features", asked(calls="4"))
    assert few["range"]["complete"] is False
    assert (few["range"]["covers_since"], few["total"]["requests"]) == (STARTED_S + 6, 4)
    points = store.views.overview(asked(calls="4"))["trend"]["points"]
    assert points[0]["at"] == (STARTED_S + 6) // 60 * 60
    assert store.views.choices(asked(calls="4"))["range"]["complete"] is False
    assert store.views.groups("features", asked(calls="10"))["range"]["complete"] is True


def test_pages_of_calls_go_back_to_the_first_and_newer_ones_can_be_asked_for(store: Store) -> None:
    assert store.views.calls(EVERY_CALL, 2) == {"calls": [], "newest": None, "oldest": None}
    store.write([call() for _ in range(5)], [])
    first = store.views.calls(EVERY_CALL, 2)
    assert (seqs(first), first["newest"], first["oldest"]) == ([5, 4], 5, 4)
    second = store.views.calls(EVERY_CALL, 2, before=first["oldest"])
    assert (seqs(second), second["oldest"]) == ([3, 2], 2)
    last = store.views.calls(EVERY_CALL, 2, before=2)
    assert (seqs(last), last["oldest"]) == ([1], None)
    assert seqs(store.views.calls(EVERY_CALL, 9, after=3)) == [5, 4]


def test_where_few_calls_are_like_that_a_page_ends_before_all_were_looked_through(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "CALLS", 3)
    store.write([call(feature="rare"), *(call() for _ in range(4))], [])
    rare = Filters(feature="rare")
    page = store.views.calls(rare, 10)
    assert (page["calls"], page["newest"], page["oldest"]) == ([], 5, 3)
    assert seqs(store.views.calls(rare, 10, before=3)) == [1]


def test_a_call_has_the_attempts_at_it_that_failed_and_none_of_a_call_with_the_same_id(store: Store) -> None:
    at_ns = STARTED_S * 10**9
    mine, before, after = (attempt(started_ns=at_ns + ms * 10**6) for ms in (100, -1, 2501))
    retried = call(request_id="r", attempts=2)
    store.write([retried, call(request_id="r2", attempts=1), call(request_id=None)], [mine, before, after])
    shown = {one["call_id"]: one["failed_attempts"] for one in store.views.calls(EVERY_CALL, 9)["calls"]}
    assert [one["from_ms"] for one in shown.pop(retried.call_id)] == [100.0]
    assert list(shown.values()) == [[], []]
