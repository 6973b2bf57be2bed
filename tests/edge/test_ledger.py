"""The ledger as a whole: batches in, rows out, whatever the database does meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from lectr_extproc.edge import ledger as module
from lectr_extproc.edge.ledger import Ledger, default_directory, open_store
from lectr_extproc.edge.store import Store, Unavailable, Unusable, Written
from tests import postgres
from tests.core.finished import DAY_S, call
from tests.edge.ledgers import Moody, attempt, ids

SETTLED = ("written", "kept_already", "dropped", "unwritable", "waiting")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", (0.001, 0.01))


@pytest.fixture
def moody() -> Moody:
    return Moody()


@pytest.fixture
def ledger(moody: Moody) -> Iterator[Ledger]:
    ledger = Ledger(Store(moody), shown="moody", retention_days=36500)
    yield ledger
    moody.mood = None
    ledger.stop()
    health = ledger.health()
    assert health["received"] == sum(health[name] for name in SETTLED)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0)  # only so that the writer has its turn


def settled(ledger: Ledger) -> dict[str, int]:
    """Its counts, once nothing waits."""
    until(lambda: not ledger.health()["waiting"])
    return {name: count for name, count in ledger.health().items() if name in SETTLED and count}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_batches_become_rows(ledger: Ledger) -> None:
    first, second = [call(), call()], [call()]
    ledger.put(first, [attempt("a")])
    ledger.put(second, [])
    ledger.put([], [])
    assert settled(ledger) == {"written": 3}
    assert ids(ledger.store) == [one.call_id for one in (*first, *second)]
    assert ledger.health()["problem"] is None


def test_what_came_before_is_known_when_it_comes_again(ledger: Ledger) -> None:
    batch = [call(), call()]
    ledger.put(batch, [])
    ledger.put(batch, [])
    assert settled(ledger) == {"written": 2, "kept_already": 2}


def test_what_the_database_does_not_take_now_waits_and_is_said_once(
    ledger: Ledger, moody: Moody, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.put([call()], [])
    settled(ledger)
    moody.mood = Unavailable("the disk is full")
    asked = moody.asked
    ledger.put([call()], [])
    ledger.put([call()], [])
    until(lambda: moody.asked > asked + 3)
    assert (ledger.health()["waiting"], ledger.health()["problem"]) == (2, "the disk is full")
    moody.mood = None
    assert settled(ledger) == {"written": 3}
    until(lambda: ledger.health()["problem"] is None)
    assert said(caplog) == [
        "the ledger cannot be written, calls wait in memory: the disk is full",
        "the ledger is written again",
    ]


def test_a_database_that_comes_late_gets_everything(moody: Moody) -> None:
    moody.mood = Unavailable("not there yet")
    ledger = Ledger(Store(moody), shown="moody", retention_days=30)
    ledger.put([call()], [])
    until(lambda: moody.asked > 2)
    assert ledger.health()["waiting"] == 1
    moody.mood = None
    assert settled(ledger) == {"written": 1}
    ledger.stop()


def test_what_no_longer_fits_is_dropped_and_counted_and_nobody_waits(
    ledger: Ledger, moody: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_ROWS", 3)
    until(lambda: moody.asked)
    moody.mood = Unavailable("gone")
    ledger.put([call(), call()], [])
    ledger.put([call(), call()], [])
    ledger.put([call()], [])
    assert ledger.health()["dropped"] == 2
    moody.mood = None
    assert settled(ledger) == {"written": 3, "dropped": 2}
    ledger.put([call()], [])
    assert settled(ledger) == {"written": 4, "dropped": 2}


def test_attempts_that_wait_crowd_out_no_call_and_have_a_bound_of_their_own(
    ledger: Ledger, moody: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_ROWS", 2)
    monkeypatch.setattr(module, "ATTEMPT_ROWS", 3)
    until(lambda: moody.asked)
    moody.mood = Unavailable("gone")
    ledger.put([], [attempt(started_ns=n) for n in (1, 2, 3)])
    ledger.put([call()], [attempt(started_ns=4)])
    ledger.put([call()], [])
    assert (ledger.health()["dropped"], ledger.health()["attempts_dropped"]) == (0, 1)
    moody.mood = None
    assert settled(ledger) == {"written": 2}
    assert [kept.started_ns for kept in ledger.store.attempts_of(["r"])] == [1, 2, 3]
    ledger.put([], [attempt(started_ns=5)])
    until(lambda: len(ledger.store.attempts_of(["r"])) == 4)


def test_dropping_is_a_problem_while_it_goes_on_and_is_said_once(
    ledger: Ledger, moody: Moody, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "QUEUE_ROWS", 0)
    ledger.put([call()], [])
    ledger.put([call()], [])
    assert ledger.health()["problem"] == "calls or attempts are dropped: too many wait to be written"
    assert said(caplog) == ["finished calls or attempts are dropped: too many wait to be written"]
    moody.mood = Unavailable("gone")
    monkeypatch.setattr(module, "QUEUE_ROWS", 1)
    ledger.put([call()], [])
    until(lambda: str(ledger.health()["problem"]).startswith("gone; calls"))
    moody.mood = None
    monkeypatch.setattr(module, "QUIET_S", 0.0)
    until(lambda: ledger.health()["problem"] is None)


def test_a_database_that_hangs_is_a_problem_though_it_raises_none(
    postgres_server: postgres.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.1)
    ledger = Ledger.start("env:URL", 30, {"URL": postgres_server.new_database("hangs")})
    ledger.put([call()], [])
    settled(ledger)
    until(lambda: ledger.health()["problem"] is None)
    with postgres_server.frozen():
        ledger.put([call()], [])
        until(lambda: ledger.health()["problem"])
        assert ledger.health()["problem"].startswith("the database takes nothing")
        assert ledger.health()["waiting"] == 1
    assert settled(ledger) == {"written": 2}
    until(lambda: ledger.health()["problem"] is None)
    ledger.stop()


def test_after_an_outage_waiting_batches_are_written_together(ledger: Ledger, moody: Moody) -> None:
    until(lambda: moody.asked)
    moody.mood = Unavailable("gone")
    for _ in range(100):
        ledger.put([call()], [])
    asked = moody.asked
    until(lambda: moody.asked > asked)
    moody.mood, asked = None, moody.asked
    assert settled(ledger) == {"written": 100}
    assert moody.asked - asked < 10


def test_a_row_that_no_database_takes_costs_itself_alone_and_is_not_repeated(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    good = call()
    ledger.put([call(feature="bad"), good], [attempt("bad"), attempt("good")])
    assert settled(ledger) == {"written": 1, "unwritable": 1}
    until(lambda: ledger.store.attempts_of(["good"]))
    assert ids(ledger.store) == [good.call_id]
    assert ledger.health()["attempts_dropped"] == 1
    assert "hush" not in " ".join(said(caplog))


def test_a_failure_of_an_unknown_kind_costs_what_it_hits_and_never_the_writer(
    ledger: Ledger, moody: Moody, caplog: pytest.LogCaptureFixture
) -> None:
    moody.mood = OSError("sk-hush")
    ledger.put([call()], [])
    until(lambda: ledger.health()["problem"] or ledger.health()["unwritable"])
    moody.mood = None
    ledger.put([call()], [])
    assert sum(settled(ledger).values()) == 2
    assert ids(ledger.store)
    assert "hush" not in f"{ledger.health()} {said(caplog)}"


def test_a_database_that_will_not_do_is_replaced_by_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "ledger.db").write_text("something else" * 100)
    ledger = Ledger.start(f"sqlite://{tmp_path}/ledger.db", 30, {})
    ledger.put([call()], [])
    assert settled(ledger) == {"written": 1}
    assert ledger.unkept() == 1, "it ends with the process"
    assert len(ids(ledger.store)) == 1
    problem = f"sqlite://{tmp_path}/ledger.db: file is not a database"
    assert (ledger.health()["url"], ledger.health()["problem"]) == ("memory", problem)
    assert said(caplog) == [f"the ledger is in memory: {problem}"]
    ledger.stop()
    assert said(caplog)[1:] == ["1 calls could not be written before the end"]


def no_folder(place: Path) -> Callable[[], object]:
    place.write_text("")
    return place.unlink


def a_file_of_something_else(place: Path) -> Callable[[], object]:
    place.mkdir()
    (place / "ledger.db").write_text("these are my notes" * 100)
    return lambda: (place / "ledger.db").rename(place / "notes")


def a_folder_in_its_place(place: Path) -> Callable[[], object]:
    (place / "ledger.db").mkdir(parents=True)
    return (place / "ledger.db").rmdir


MENDED = {
    "no folder": no_folder,
    "a file of something else": a_file_of_something_else,
    "a folder in its place": a_folder_in_its_place,
}


@pytest.mark.parametrize("spoil", MENDED.values(), ids=MENDED.keys())
def test_memory_gives_way_once_the_database_will_do_and_what_it_held_is_there(
    spoil: Callable[[Path], Callable[[], object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(module, "TRANSACTION_ROWS", 2)
    mend, url = spoil(tmp_path / "state"), f"sqlite://{tmp_path}/state/ledger.db"
    ledger = Ledger.start(url, 30, {}, ["otlp"])
    calls = [call() for _ in range(5)]
    ledger.put(calls, [attempt()])
    assert settled(ledger) == {"written": 5}
    assert (ledger.health()["url"], ledger.unkept()) == ("memory", 5)
    assert ledger.health()["problem"].startswith(url)
    mend()
    until(lambda: ledger.health()["url"] == url)
    ledger.put([last := call()], [])
    until(lambda: settled(ledger) == {"written": 6})
    assert ids(ledger.store) == [one.call_id for one in (*calls, last)]
    assert ledger.store.attempts_of(["r"]) == [attempt()]
    until(lambda: ledger.health()["problem"] is None)
    assert ledger.unkept() == 0
    ledger.stop()
    assert said(caplog)[1:] == [f"the ledger is at {url} from now on; 5 calls move there from memory"]


def test_memory_gives_way_to_a_fleets_ledger_whose_reference_comes_later(
    postgres_server: postgres.Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    ledger = Ledger.start(f"file:{tmp_path}/url", 30, {})
    calls = [call(), call()]
    ledger.put(calls, [])
    assert settled(ledger) == {"written": 2}
    (tmp_path / "url").write_text(postgres_server.new_database("late"))
    until(lambda: ledger.health()["url"] == "postgresql:///late")
    until(lambda: settled(ledger) == {"written": 2})
    assert ids(ledger.store) == [one.call_id for one in calls]
    ledger.stop()


def test_a_newer_schema_keeps_calls_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    newer, _ = open_store(f"sqlite://{tmp_path}/ledger.db", {})
    newer.migrate()
    with newer._database.transaction(writes=True) as transaction:
        transaction.run("UPDATE schema_version SET version = 99")
    ledger = Ledger.start(f"sqlite://{tmp_path}/ledger.db", 30, {})
    for count in range(1, 4):
        ledger.put([call()], [])
        assert settled(ledger) == {"written": count}
    assert ledger.health()["url"] == "memory"
    assert "its schema has version 99" in ledger.health()["problem"]
    assert (len(said(caplog)), ids(newer)) == (1, [])
    ledger.stop()
    newer.close()


def test_an_upgrade_beside_a_lectr_that_writes_costs_it_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    ledger = Ledger.start(f"sqlite://{tmp_path}/ledger.db", 30, {})
    ledger.put([call()], [])
    assert settled(ledger) == {"written": 1}
    with ledger.store._database.transaction(writes=True) as transaction:
        transaction.run("UPDATE schema_version SET version = 99")
    for count in (2, 3):
        ledger.put([call()], [])
        assert settled(ledger) == {"written": count}
    assert (ledger.health()["problem"], said(caplog)) == (None, [])
    ledger.stop()


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_file_that_was_deleted_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_idle: bool
) -> None:
    if is_idle:
        monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    path = tmp_path / "ledger.db"
    ledger = Ledger.start(f"sqlite://{path}", 30, {}, ["otlp"])
    ledger.put([call()], [])
    settled(ledger)
    for file in tmp_path.iterdir():
        file.unlink()
    if is_idle:
        until(path.exists)
        until(lambda: ledger.health()["problem"] is None)
    ledger.put([last := call()], [])
    assert settled(ledger) == {"written": 2}
    reader, _ = open_store(f"sqlite://{path}", {}, read_only=True)
    assert ids(reader) == [last.call_id]
    assert reader.cursor("otlp")
    assert f"{path} was deleted or replaced; it is opened anew" in said(caplog)
    reader.close()
    ledger.stop()


def test_a_file_may_be_named_with_a_slash_more_as_other_programs_want_it(tmp_path: Path) -> None:
    store, shown = open_store(f"sqlite:///{tmp_path}/ledger.db", {})
    store.migrate()
    store.close()
    assert shown == f"sqlite://{tmp_path}/ledger.db"
    assert (tmp_path / "ledger.db").exists()


def test_a_reference_that_leads_nowhere_means_memory_too(caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger.start("env:NOT_THERE", 30, {})
    ledger.put([call()], [])
    assert settled(ledger) == {"written": 1}
    assert ledger.unkept() == 1
    assert ledger.health()["problem"] == "the environment has no NOT_THERE, which ledger.url refers to"
    assert len(said(caplog)) == 1
    ledger.stop()


def test_memory_that_was_asked_for_is_as_good_as_written() -> None:
    ledger = Ledger.start("memory", 30, {})
    ledger.put([call()], [])
    assert settled(ledger) == {"written": 1}
    assert ledger.unkept() == 0
    ledger.stop()


def test_memory_forgets_the_oldest_and_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMORY_ROWS", 2)
    ledger = Ledger.start("memory", 30, {})
    calls = [call() for _ in range(5)]
    ledger.put(calls, [])
    assert settled(ledger) == {"written": 5}
    assert ids(ledger.store) == [one.call_id for one in calls[3:]]
    health = ledger.health()
    assert (health["pushed_out"], health["unexported_lost"], health["problem"]) == (3, 0, None)
    assert health["holds_at_most"] == ledger.store.bound
    ledger.stop()


def test_what_memory_forgets_before_a_reader_had_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMORY_ROWS", 2)
    ledger = Ledger.start("memory", 30, {}, ["otlp"])
    ledger.put([call() for _ in range(5)], [])
    settled(ledger)
    assert (ledger.health()["pushed_out"], ledger.health()["unexported_lost"]) == (3, 3)
    ledger.stop()


def test_a_readers_cursor_stands_before_the_first_call_that_is_written(tmp_path: Path) -> None:
    def run(readers: list[str]) -> tuple[int, int | None]:
        ledger = Ledger.start(f"sqlite://{tmp_path}/ledger.db", 30, {}, readers)
        ledger.put([call()], [])
        settled(ledger)
        cursor, (behind, _) = ledger.store.cursor("otlp"), ledger.store.lag("otlp")
        ledger.stop()
        return behind, cursor and cursor.seq

    assert [run([]), run(["otlp"]), run([]), run(["otlp"])] == [(1, None), (1, 1), (2, 1), (3, 1)]


def test_whoever_waits_for_rows_is_told_of_each_batch_and_reads_them_after_the_last_one(tmp_path: Path) -> None:
    ledger = Ledger.start(f"sqlite://{tmp_path}/ledger.db", 30, {})
    told = threading.Event()
    ledger.on_written = told.set
    ledger.put([call()], [])
    ledger.finish()
    assert told.is_set()
    assert len(ids(ledger.store)) == 1
    ledger.stop()


def test_what_waits_is_written_before_the_end(moody: Moody) -> None:
    release = threading.Event()

    class Slow(Store):
        def migrate(self) -> None:
            release.wait(10)
            super().migrate()

        def write(self, *batch: object) -> Written:
            written.append(super().write(*batch))  # type: ignore[arg-type]
            return written[-1]

    written: list[Written] = []
    ledger = Ledger(Slow(moody), shown="slow", retention_days=30)
    for _ in range(3):
        ledger.put([call()], [])
    ending = threading.Thread(target=ledger.stop)
    ending.start()
    release.set()
    ending.join(10)
    assert sum(one.new for one in written) == 3


def test_a_database_that_is_gone_does_not_hold_the_process_and_the_loss_is_said(
    moody: Moody, caplog: pytest.LogCaptureFixture
) -> None:
    moody.mood = Unavailable("gone")
    ledger = Ledger(Store(moody), shown="moody", retention_days=30)
    ledger.put([call(), call()], [])
    until(lambda: moody.asked)
    ledger.stop()
    assert not ledger._writer.is_alive()
    assert said(caplog)[-1] == "2 calls could not be written before the end"


def test_calls_past_their_retention_are_deleted(moody: Moody, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORGET_EVERY_S", 0.01)
    ledger = Ledger(Store(moody), shown="moody", retention_days=30)
    now = time.time_ns()
    days = DAY_S * 10**9
    old, young = call(started_ns=now - 31 * days), call(started_ns=now - 29 * days)
    ledger.put([old, young], [])
    settled(ledger)
    until(lambda: old.call_id not in ids(ledger.store))
    assert ids(ledger.store) == [young.call_id]
    ledger.stop()


def said_is(caplog: pytest.LogCaptureFixture, expected: list[str]) -> bool:
    return said(caplog) == expected


class Clock:
    """Time as a test has it pass."""

    passed_s = ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.passed_s

    def time_ns(self) -> int:
        return time.time_ns() + round((self.passed_s + self.ahead_s) * 1e9)


def test_a_clock_that_was_set_deletes_nothing_before_it_has_gone_on_for_an_hour(
    moody: Moody, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    ledger = Ledger(Store(moody), shown="moody", retention_days=30)
    ledger.put([one := call(started_ns=time.time_ns())], [])
    settled(ledger)
    warning = "the clock was set: nothing is deleted until it has gone on for an hour"
    for ahead_s, warnings in ((1000.0 * DAY_S, [warning]), (0.0, [warning] * 2)):
        clock.ahead_s, clock.passed_s = ahead_s, clock.passed_s + 3601
        ledger.put([], [attempt()])  # it has something to do
        until(partial(said_is, caplog, warnings))
        assert ids(ledger.store) == [one.call_id]
    clock.passed_s += 31.0 * DAY_S
    ledger.put([], [attempt()])
    until(lambda: not ids(ledger.store))
    ledger.stop()


def test_deleting_is_tried_again_later_where_it_fails(
    moody: Moody, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORGET_EVERY_S", 0.01)

    class Stuck(Store):
        def forget(self, *_: object) -> tuple[int, int]:
            raise Unavailable("locked")

    ledger = Ledger(Stuck(moody), shown="moody", retention_days=30)
    ledger.put([call()], [])
    assert settled(ledger) == {"written": 1}
    until(lambda: said(caplog))
    ledger.stop()
    assert {*said(caplog)} == {"calls past their retention could not be deleted: locked"}


def test_a_restarted_lectr_finds_what_the_last_one_wrote(tmp_path: Path) -> None:
    for kept in (1, 2):
        ledger = Ledger.start(f"sqlite://{tmp_path}/ledger.db", 30, {})
        ledger.put([call()], [])
        settled(ledger)
        assert len(ids(ledger.store)) == kept
        ledger.stop()


def test_a_fleets_ledger_is_found_by_a_reference_and_shown_without_its_secrets(
    postgres_server: postgres.Postgres, tmp_path: Path
) -> None:
    url = postgres_server.new_database("fleet").replace("lectr@", "lectr:hush@")
    (tmp_path / "url").write_text(url + "\n")
    for reference, environment in (("env:THE_URL", {"THE_URL": url}), (f"file:{tmp_path}/url", {})):
        ledger = Ledger.start(reference, 30, environment)
        ledger.put([call()], [])
        assert settled(ledger) == {"written": 1}
        assert ledger.health()["url"] == "postgresql:///fleet"
        ledger.stop()


REFUSED: dict[str, tuple[str | None, Mapping[str, str], str]] = {
    "nothing in the environment": ("env:X", {}, "the environment has no X"),
    "a file that is not there": ("file:/not/there", {}, "/not/there, which ledger.url refers to, cannot be read"),
    "a URL of something else": ("env:X", {"X": "mysql://u:hush@h/d"}, "names neither sqlite"),
    "a ledger that nobody has written yet": ("sqlite:///not/there.db", {}, "there is no ledger at /not/there.db yet"),
    "another process' memory": ("memory", {}, "where no other process reads it"),
    "nothing at home yet": (None, {"XDG_STATE_HOME": "/not there"}, "there is no ledger at /not there/lectr/ledger.db"),
}


@pytest.mark.parametrize(("url", "environment", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_a_reader_is_told_why_there_is_nothing_to_read(
    url: str | None, environment: Mapping[str, str], text: str
) -> None:
    with pytest.raises(Unusable, match=text) as told:
        open_store(url, environment, read_only=True)
    assert "hush" not in str(told.value)


def test_state_is_kept_where_the_system_keeps_it_or_at_home(tmp_path: Path) -> None:
    nowhere, environment = tmp_path / "nowhere", {"HOME": "/home/me"}
    assert default_directory(environment, nowhere) == Path("/home/me/.local/state/lectr")
    assert default_directory(environment, tmp_path) == tmp_path
    assert default_directory({**environment, "XDG_STATE_HOME": "/state"}, tmp_path) == Path("/state/lectr")
