"""Spans leave from the ledger: all of them, once, whatever the collector does meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge import outbox as module
from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.otlp import Hear, Outcome, Sender
from lectr_extproc.edge.outbox import CURSOR, Outbox
from lectr_extproc.edge.spans import Spans
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import SetAside, Store, Unavailable
from tests import postgres
from tests.core.finished import call as bare
from tests.edge.conftest import Environment
from tests.edge.ledgers import Moody, attempt

TAKEN = Outcome(verdict="taken")
DOWN = Outcome(verdict="later", reason="ConnectionError")
WRONG_KEY = Outcome(verdict="refused", reason="HTTP 401 Unauthorized")
TOO_LARGE = Outcome(verdict="refused", reason="HTTP 413", is_too_much=True)

Answer = Outcome | Callable[[Sequence[str]], Outcome]


def call(**changes: Any) -> CallRecord:
    return bare(**{"dialect": "openai.chat", "path": "/v1/chat/completions", "attempts": 1, **changes})


class Collector(SpanExporter):
    """What a test says it is; `taken` are the call ids it has, one for each span, and the names of spans."""

    def __init__(self) -> None:
        self.answer: Answer = TAKEN
        self.taken: list[str] = []
        self.names: list[str] = []
        self.asked = 0

    def sender(self) -> Sender:
        def make(hear: Hear) -> SpanExporter:
            self.hear = hear
            return self

        return Sender(make)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        ids = [str((span.attributes or {}).get("lectr.call_id", "")) for span in spans]
        self.asked += 1
        outcome = self.answer(ids) if callable(self.answer) else self.answer
        if outcome.verdict == "taken":
            self.taken += filter(None, ids)
            self.names += [span.name for span in spans]
        self.hear(outcome)
        return SpanExportResult.SUCCESS if outcome.verdict == "taken" else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Nothing to end."""


class Process:
    """A lectr, as far as this goes."""

    def __init__(self, ledger: Ledger, collector: Collector, **changes: Any) -> None:
        self.ledger, self.collector = ledger, collector
        given = {"batch_size": 10, "delay_s": 0.001, "timeout_s": 1.0, **changes}
        self.outbox = Outbox(collector.sender(), Spans(Resource({})), **given)
        self.outbox.start(ledger)

    def put(self, *calls: CallRecord) -> list[str]:
        self.ledger.put(calls, [])
        return [one.call_id for one in calls]

    def end(self) -> None:
        self.ledger.finish()
        self.outbox.stop()
        self.ledger.stop()

    @property
    def health(self) -> dict[str, Any]:
        health = self.outbox.health()
        assert health["read"] == sum(health[name] for name in SETTLED)
        return health


SETTLED = ("exported", "refused", "not_sampled", "without_span", "span_errors")
Start = Callable[..., Process]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, environment: Environment) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", (0.001, 0.01))
    monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(module, "QUIET_S", 0.0)


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        server: postgres.Postgres = request.getfixturevalue("postgres_server")
        return server.new_database(f"outbox{time.monotonic_ns()}")
    return "memory" if request.param == "memory" else f"sqlite://{tmp_path}/ledger.db"


@pytest.fixture
def start(collector: Collector, tmp_path: Path) -> Iterator[Start]:
    """Start a lectr with the ledger in a file, unless the test names another; each ends with the test."""
    started: list[Process] = []

    def start(ledger: Ledger | str = f"sqlite://{tmp_path}/ledger.db", **changes: Any) -> Process:
        if isinstance(ledger, str):
            ledger = Ledger.start("env:LEDGER", 36500, {"LEDGER": ledger}, [CURSOR])
        started.append(Process(ledger, changes.pop("collector", collector), **changes))
        return started[-1]

    yield start
    for process in started:
        process.end()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0)  # only so that the others have their turn


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_every_call_is_sent_once_from_every_kind_of_ledger(url: str, start: Start, collector: Collector) -> None:
    lectr = start(url)
    ids = [one for _ in range(7) for one in lectr.put(*(call() for _ in range(9)))]
    until(lambda: len(collector.taken) >= len(ids))
    until(lambda: lectr.health["exported"] == len(ids) and lectr.health["lag"] == 0)
    assert collector.taken == ids
    assert (lectr.health["problem"], lectr.health["oldest_unexported_s"]) == (None, None)
    assert lectr.ledger.health()["written"] == lectr.health["read"]


def test_a_new_batch_is_sent_without_waiting_for_a_turn(
    start: Start, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 60.0)
    lectr = start()
    lectr.put(call())
    until(lambda: lectr.health["exported"] == 1)  # nothing but a batch ends the pause that follows
    lectr.put(call())
    until(lambda: len(collector.taken) == 2)


def test_a_collector_that_was_down_gets_everything_once_in_order(
    start: Start, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.answer = DOWN
    lectr = start()
    ids = lectr.put(*(call() for _ in range(35)))
    until(lambda: collector.asked > 3 and lectr.health["lag"] == 35)
    health = lectr.health
    assert (health["exported"], health["problem"]) == (0, "spans wait in the ledger: ConnectionError")
    assert health["oldest_unexported_s"] > 0
    collector.answer = TAKEN
    until(lambda: lectr.health["lag"] == 0)
    assert collector.taken == ids
    assert said(caplog) == ["spans wait in the ledger: ConnectionError", "spans are sent again"]
    assert lectr.health["problem"] is None


def test_a_collector_is_not_asked_before_it_said(start: Start, collector: Collector) -> None:
    collector.answer = Outcome(verdict="later", reason="HTTP 429", after_s=60)
    lectr = start()
    lectr.put(call())
    until(lambda: collector.asked)
    until(lambda: lectr.health["problem"])
    asked = collector.asked
    lectr.put(call())
    until(lambda: lectr.ledger.health()["written"] == 2)
    assert collector.asked == asked == 1


def test_pauses_grow_and_differ_and_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pauses = [module._backoff_s(failures) for failures in range(1, 40)]
    assert pauses[0] < 1
    assert all(24 <= pause <= 36 for pause in pauses[10:])
    assert len(set(pauses)) == len(pauses)


def test_what_is_refused_is_set_aside_and_holds_nothing_up(
    start: Start, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.answer = WRONG_KEY
    lectr = start()
    lectr.put(*(call() for _ in range(25)))
    until(lambda: lectr.health["set_aside"] == 25)
    assert lectr.ledger.store.set_aside(CURSOR, 9) == [SetAside(1, 25, 25, WRONG_KEY.reason)]
    problem = "the collector refuses spans, which are set aside: HTTP 401 Unauthorized"
    assert (lectr.health["refused"], lectr.health["lag"], lectr.health["problem"]) == (25, 0, problem)
    collector.answer = TAKEN
    ids = lectr.put(call())
    until(lambda: collector.taken == ids)
    until(lambda: lectr.health["problem"] is None)
    assert said(caplog) == [problem, "spans are sent again"]


def test_what_was_set_aside_is_sent_when_somebody_asks_for_it(start: Start, collector: Collector) -> None:
    collector.answer = WRONG_KEY
    lectr = start()
    ids = lectr.put(call(org=None), *(call() for _ in range(23)), call(org=None))[1:-1]
    until(lambda: lectr.health["set_aside"] == 23)
    collector.answer = TAKEN
    lectr.ledger.store.ask_again(CURSOR)
    until(lambda: lectr.health["set_aside"] == 0)
    assert collector.taken == ids
    assert lectr.ledger.store.set_aside(CURSOR, 9) == []


def test_what_is_refused_again_is_set_aside_again_and_asked_for_once(start: Start, collector: Collector) -> None:
    collector.answer = WRONG_KEY
    lectr = start()
    ids = lectr.put(*(call() for _ in range(25)))
    until(lambda: lectr.health["set_aside"] == 25)
    poison = ids[12]
    collector.answer = lambda sent: Outcome(verdict="refused", reason="HTTP 400") if poison in sent else TAKEN
    lectr.ledger.store.ask_again(CURSOR)
    until(lambda: len(collector.taken) == 15)
    until(lambda: lectr.health["set_aside"] == 10)
    assert lectr.ledger.store.set_aside(CURSOR, 9) == [SetAside(11, 20, 10, "HTTP 400")]


def test_what_is_refused_now_and_then_is_set_aside_up_to_a_bound_and_the_rest_is_counted(
    start: Start, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_RANGES", 3)
    calls = [call() for _ in range(10)]
    refused = {one.call_id for one in calls[::2]}
    collector.answer = lambda sent: WRONG_KEY if refused & {*sent} else TAKEN
    lectr = start(batch_size=1)
    lectr.put(*calls)
    until(lambda: lectr.health["set_aside_lost"] == 2)
    until(lambda: lectr.health["set_aside"] == 3)
    assert lectr.health["refused"] == 5
    assert [part.first for part in lectr.ledger.store.set_aside(CURSOR, 9)] == [5, 7, 9]


def test_what_is_too_large_is_sent_in_halves_and_one_that_is_too_large_alone_costs_itself(
    start: Start, collector: Collector
) -> None:
    lectr = start()
    calls = [call() for _ in range(10)]
    poison = calls[6].call_id
    collector.answer = lambda sent: TOO_LARGE if len(sent) > 3 or poison in sent else TAKEN
    ids = lectr.put(*calls)
    until(lambda: lectr.health["read"] == 10)
    assert collector.taken == [one for one in ids if one != poison]
    assert lectr.ledger.store.set_aside(CURSOR, 9) == [SetAside(7, 7, 1, "HTTP 413")]


def test_halves_that_were_taken_are_not_sent_again_when_the_others_have_to_wait(
    start: Start, collector: Collector
) -> None:
    lectr = start()
    calls = [call(), call(org=None), *(call() for _ in range(8))]
    last, down = calls[-1].call_id, threading.Event()
    down.set()

    def answer(sent: Sequence[str]) -> Outcome:
        return TOO_LARGE if len(sent) > 5 else DOWN if last in sent and down.is_set() else TAKEN

    collector.answer = answer
    ids = lectr.put(*calls)
    until(lambda: lectr.health["problem"])
    down.clear()
    until(lambda: lectr.health["read"] == 10)
    assert collector.taken == [ids[0], *ids[2:]]
    assert lectr.health["without_span"] == 1


def test_spans_that_were_rejected_out_of_a_batch_are_counted_and_their_stretch_is_kept(
    start: Start, collector: Collector
) -> None:
    collector.answer = Outcome(verdict="taken", rejected=3, reason="rejected: too old")
    lectr = start()
    lectr.put(*(call() for _ in range(10)))
    until(lambda: lectr.health["set_aside"] == 3)
    assert (lectr.health["exported"], lectr.health["refused"]) == (7, 3)
    assert lectr.ledger.store.set_aside(CURSOR, 9) == [SetAside(1, 10, 3, "rejected: too old")]
    assert "too old" in lectr.health["problem"]


def test_one_replica_that_refuses_now_and_then_is_one_line(
    start: Start, collector: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_S", 60.0)
    answers = iter([WRONG_KEY, TAKEN] * 100)
    collector.answer = lambda _: next(answers)
    lectr = start(batch_size=1)
    lectr.put(*(call() for _ in range(10)))
    until(lambda: lectr.health["read"] == 10)
    assert len(said(caplog)) == 1
    assert lectr.health["problem"]


def test_calls_without_a_span_are_passed_over_and_counted(
    start: Start, collector: Collector, environment: Environment
) -> None:
    lectr = start()
    lectr.put(call(org=None), call(dialect="models"))
    until(lambda: lectr.health["without_span"] == 2)
    assert collector.asked == 0
    environment.setenv("OTEL_TRACES_SAMPLER", "always_off")
    sampled_out = start(collector=Collector())
    lectr.outbox.stop()
    lectr.put(call())
    until(lambda: sampled_out.health["not_sampled"] == 1)


def test_an_odd_record_costs_no_other_its_span(
    start: Start, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    lectr = start()
    make = lectr.outbox._spans.of

    def of(record: CallRecord, *more: Any) -> list[ReadableSpan]:
        if record.feature == "odd":
            raise ValueError("sk-hush")
        return make(record, *more)

    monkeypatch.setattr(lectr.outbox._spans, "of", of)
    _, good = lectr.put(call(feature="odd"), call())
    until(lambda: collector.taken == [good])
    until(lambda: lectr.health["span_errors"] == 1)


# --- several lectrs, and one that dies --------------------------------------------------------------------------------


def test_of_several_lectrs_one_sends_and_another_goes_on_when_it_ends(
    url: str, start: Start, collector: Collector
) -> None:
    if url == "memory":
        return  # it is one process' own
    first = start(url)
    until(lambda: first.health["sends"])
    second = start(url)
    ids = [*first.put(call()), *second.put(call())]
    until(lambda: len(collector.taken) == 2)
    until(lambda: first.health["exported"] == 2)
    assert not second.health["sends"]
    first.end()
    until(lambda: second.health["sends"])
    ids += second.put(call())
    until(lambda: len(collector.taken) == 3)
    assert sorted(collector.taken) == sorted(ids)


def test_where_one_died_another_goes_on_after_its_lease(
    start: Start, collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dead = Ledger.start(f"sqlite://{tmp_path}/ledger.db", 30, {}, [CURSOR])
    one, other = call(), call()
    dead.put([one, other], [])
    dead.finish()
    assert dead.store.lease(CURSOR, "dead", 0.2) == 0
    dead.store.advance(CURSOR, "dead", 1)
    dead.stop()
    start()
    until(lambda: collector.taken)
    assert collector.taken == [other.call_id]


def test_one_killed_between_sending_and_advancing_sends_the_same_spans_again(
    start: Start, collector: Collector
) -> None:
    """That is the only way to get one twice."""
    lectr = start()
    store = lectr.ledger.store
    until(lambda: lectr.health["sends"])

    def steal(_: Sequence[str]) -> Outcome:
        with store._database.transaction(writes=True) as transaction:
            transaction.run("UPDATE cursors SET holder = 'another'")
        collector.answer = TAKEN
        return TAKEN

    collector.answer = steal
    (sent,) = lectr.put(call())
    until(lambda: collector.taken == [sent])
    with store._database.transaction(writes=True) as transaction:
        transaction.run("UPDATE cursors SET until_ms = 0")
    until(lambda: collector.taken == [sent, sent])
    until(lambda: lectr.health["exported"] == 1)


def test_the_lectr_after_one_that_ended_sends_what_that_one_could_not(start: Start, collector: Collector) -> None:
    collector.answer = DOWN
    first = start()
    ids = first.put(call(), call())
    until(lambda: collector.asked)
    first.end()
    collector.answer = TAKEN
    start()
    until(lambda: collector.taken == ids)


def test_what_is_written_last_is_sent_before_the_end(start: Start, collector: Collector) -> None:
    lectr = start()
    ids = lectr.put(*(call() for _ in range(55)))
    lectr.end()
    assert collector.taken == ids


def test_the_end_does_not_wait_for_a_collector_that_does_not_answer(start: Start, collector: Collector) -> None:
    go = threading.Event()

    def hang(_: Sequence[str]) -> Outcome:
        go.wait(10)
        return DOWN

    collector.answer = hang
    lectr = start()
    lectr.put(call())
    until(lambda: collector.asked)
    lectr.outbox.stop(within_s=0.05)
    assert lectr.outbox._thread.is_alive()
    go.set()
    lectr.outbox._thread.join(10)


# --- what raises nothing ----------------------------------------------------------------------------------------------

STALL = "no span leaves, for "


def stalls(lectr: Process) -> bool:
    return str(lectr.health["problem"]).startswith(STALL)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALLED_S", 0.2)


@pytest.mark.usefixtures("impatient")
def test_an_export_that_never_returns_is_a_problem_until_it_does(start: Start, collector: Collector) -> None:
    go = threading.Event()

    def hang(_: Sequence[str]) -> Outcome:
        go.wait(10)
        return TAKEN

    collector.answer = hang
    lectr = start(timeout_s=0.01)
    until(lambda: lectr.health["sends"])
    lectr.put(call())
    until(lambda: stalls(lectr))
    go.set()
    until(lambda: lectr.health["problem"] is None)


@pytest.mark.usefixtures("impatient")
def test_calls_that_nobody_sends_are_a_problem_until_somebody_does(start: Start, collector: Collector) -> None:
    lectr = start(timeout_s=0.01)
    until(lambda: lectr.health["sends"])
    until(lambda: not stalls(lectr))

    def hold(until_ms: str) -> None:
        with lectr.ledger.store._database.transaction(writes=True) as transaction:
            transaction.run(f"UPDATE cursors SET holder = 'dead', until_ms = {until_ms}")

    hold(f"{Sqlite.now_ms} + 29000")
    lectr.put(call())
    until(lambda: stalls(lectr))
    assert (lectr.health["sends"], lectr.health["lag"]) == (False, 1)
    hold("0")
    until(lambda: lectr.health["problem"] is None)


@pytest.mark.usefixtures("impatient")
def test_a_ledger_that_hangs_is_a_problem_of_the_spans_too(
    start: Start, collector: Collector, postgres_server: postgres.Postgres
) -> None:
    lectr = start(postgres_server.new_database("hung"), timeout_s=0.01)
    lectr.put(call())
    until(lambda: lectr.health["exported"] == 1)
    with postgres_server.frozen():
        until(lambda: stalls(lectr))
    until(lambda: lectr.health["problem"] is None)


# --- the ledger in trouble --------------------------------------------------------------------------------------------


def test_a_ledger_that_cannot_be_read_is_read_later(
    start: Start, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    moody = Moody()
    lectr = start(Ledger(Store(moody), shown="moody", retention_days=30, readers=[CURSOR]))
    first = lectr.put(call())
    until(lambda: collector.taken == first)
    moody.mood = Unavailable("locked")
    until(lambda: lectr.health["problem"] == "the ledger cannot be read: locked")
    moody.mood = OSError("sk-hush")
    until(lambda: lectr.health["problem"] == "the ledger cannot be read: OSError")
    moody.mood = None
    until(lambda: lectr.health["problem"] is None)
    second = lectr.put(call())
    until(lambda: collector.taken == first + second)
    assert "hush" not in " ".join(said(caplog))


def test_what_memory_hands_over_is_sent_once(
    start: Start, collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lectr_extproc.edge.ledger.LOOK_EVERY_S", 0.01)
    (tmp_path / "state").write_text("")
    lectr = start(f"sqlite://{tmp_path}/state/ledger.db")
    ids = lectr.put(*(call() for _ in range(15)))
    until(lambda: lectr.health["exported"] == 15)
    collector.answer = DOWN
    ids += lectr.put(*(call() for _ in range(5)))
    until(lambda: lectr.health["problem"])
    (tmp_path / "state").unlink()
    until(lambda: lectr.ledger.health()["url"] != "memory")
    collector.answer = TAKEN
    ids += lectr.put(call())
    until(
        lambda: lectr.ledger.health()["written"] == 21 and lectr.health["lag"] == 0 and lectr.health["exported"] == 21
    )
    assert collector.taken == ids


def test_a_ledger_that_is_made_anew_is_read_from_its_first_call(
    start: Start, collector: Collector, tmp_path: Path
) -> None:
    lectr = start(f"sqlite://{tmp_path}/ledger.db")
    ids = lectr.put(*(call() for _ in range(5)))
    until(lambda: collector.taken == ids)
    for file in tmp_path.iterdir():
        file.unlink()
    ids += lectr.put(call(), call())
    until(lambda: collector.taken == ids)
    until(lambda: lectr.health["problem"] is None)


def test_memory_that_is_full_drops_the_oldest_and_counts_them(
    start: Start, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lectr_extproc.edge.ledger.MEMORY_ROWS", 20)
    collector.answer = DOWN
    lectr = start("memory")
    ids = [one for _ in range(5) for one in lectr.put(*(call() for _ in range(10)))]
    until(lambda: lectr.ledger.health()["written"] == 50)
    collector.answer = TAKEN
    until(lambda: lectr.health["exported"] == 20)
    assert collector.taken == ids[30:]
    assert lectr.ledger.health()["unexported_lost"] == 30


# --- attempts ---------------------------------------------------------------------------------------------------------


def recent(**changes: Any) -> CallRecord:
    """A call that ended just now, at its second attempt."""
    now = {"started_ns": time.time_ns() - 10**9, "duration_ms": 1000.0, "request_id": "r", "attempts": 2}
    return call(**{**now, **changes})


def failed(record: CallRecord, after_ns: int = 10**6) -> Any:
    return attempt(started_ns=record.started_ns + after_ns)


def test_attempts_that_come_after_their_call_are_waited_for(start: Start, collector: Collector) -> None:
    lectr = start()
    record = recent()
    lectr.put(call(), record, call())
    until(lambda: len(collector.taken) == 1)
    lectr.ledger.put([], [failed(record)])
    until(lambda: len(collector.taken) == 3)
    assert collector.names == ["chat gpt-4o"] * 2 + ["attempt 1", "attempt 2"] + ["chat gpt-4o"]


@pytest.mark.parametrize("ahead_s", [0, 3600])
def test_attempts_that_never_come_hold_nothing_up_for_long_whatever_envoys_clock_says(
    start: Start, collector: Collector, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    monkeypatch.setattr(module, "ATTEMPTS_WITHIN_S", 0.05)
    monkeypatch.setattr(module, "ATTEMPTS_POLL_S", 0.01)
    lectr = start()
    lectr.put(recent(started_ns=time.time_ns() + ahead_s * 10**9), call())
    until(lambda: len(collector.taken) == 2)
    assert collector.names == ["chat gpt-4o", "attempt 2", "chat gpt-4o"]


def test_an_attempt_of_another_call_with_the_same_request_id_is_not_taken_for_one_of_this(
    start: Start, collector: Collector
) -> None:
    lectr = start()
    old = call(request_id="r", attempts=3)
    other = call(request_id="r", attempts=2, started_ns=old.started_ns + 10**10)
    lectr.ledger.put([old, other], [failed(old), failed(old, -1), failed(old, 3 * 10**9), failed(other)])
    until(lambda: len(collector.taken) == 2)
    assert collector.names == ["chat gpt-4o", "attempt 1", "attempt 3", "chat gpt-4o", "attempt 1", "attempt 2"]
