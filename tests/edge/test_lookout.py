"""What is unusual is told once: in the log and to the webhook, by one of the lectrs that share a ledger."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lectr_extproc.core.anomalies import find
from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge import lookout
from lectr_extproc.edge.ledger import Ledger, in_memory
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.notices import Notices
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import EVERY_CALL, Store, Unavailable
from lectr_extproc.settings import Webhook
from tests.core.finished import STARTED_S, call
from tests.edge.given import live

HOUR_S = 3600
BEGIN = STARTED_S // HOUR_S * HOUR_S
FAILED = {"error_category": "overloaded", "error_source": "provider"}


def calls(hours: range, failing: range) -> list[CallRecord]:
    """Ten calls an hour, of which in some hours all fail."""
    return [
        call(started_ns=(BEGIN + hour * HOUR_S) * 10**9, **(FAILED if hour in failing else {}))
        for hour in hours
        for _ in range(10)
    ]


@pytest.fixture(params=["a file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = in_memory() if request.param == "memory" else Store(Sqlite(tmp_path / "ledger.db"))
    made.migrate()
    made.write(calls(range(-100, 1), range(1)), [])
    yield made
    made.close()


class Lectr:
    """One that looks out, at the hours that a test says, and what it tells."""

    def __init__(self, directory: Path, store: Store, *, webhook: bool = True) -> None:
        self.live: Live = live(directory, anomalies={"min_calls": 10})
        if webhook:
            self.live.settings = replace(
                self.live.settings, webhook=Webhook(url="https://hook.example/a", secret="hush")
            )
        self.store: Any = store
        self.opened = 0
        self.told: list[Mapping[str, object]] = []
        self._file = directory / "ledger.db"
        self._now = 0.0

    def open_reader(self) -> Store:
        self.opened += 1
        return Store(Sqlite(self._file, read_only=True))

    def _hear(self, event: Mapping[str, object], tell_again: Callable[[Store], None]) -> None:
        self.told.append(event)
        self.tell_again = tell_again

    async def at(self, *hours: float) -> list[str]:
        """The kinds that are told when it wakes up at these hours."""
        before, clock = len(self.told), iter(hours)
        now = SimpleNamespace(time=lambda: self._now)

        async def sleep(for_s: float) -> None:
            assert for_s == lookout.EVERY_S
            if (hour := next(clock, None)) is None:
                raise asyncio.CancelledError
            self._now = BEGIN + hour * HOUR_S

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lookout, "asyncio", SimpleNamespace(sleep=sleep, to_thread=asyncio.to_thread))
            patch.setattr(lookout, "time", now)
            notices = cast("Notices", SimpleNamespace(tell=self._hear))
            ledger = cast("Ledger", SimpleNamespace(store=self.store))
            with pytest.raises(asyncio.CancelledError):
                await lookout.look_out(self.live, ledger, notices, self.open_reader)
        return [str(event["kind"]) for event in self.told[before:]]


async def test_an_anomaly_is_told_once_its_hour_has_ended_and_once_only(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "lectr.anomalies")
    one = Lectr(tmp_path, store)
    assert await one.at(0.5) == []
    assert await one.at(1.1, 1.2, 1.9) == ["errors"]
    assert (one.told[0]["event"], one.told[0]["observed"]) == ("anomaly", 1.0)
    assert caplog.messages == ["an anomaly: errors"]
    store.write(calls(range(1, 2), range(1, 2)), [])
    assert await one.at(2.1) == []
    assert one.opened == (0 if store.bound else 3)


async def test_what_nobody_heard_is_told_by_the_next_lectr(tmp_path: Path, store: Store) -> None:
    one = Lectr(tmp_path, store)
    first = await one.at(1.1)
    one.tell_again(store)
    assert (first, await Lectr(tmp_path, store).at(1.9, 2.1)) == (["errors"], ["errors"])


async def test_of_several_lectrs_with_one_ledger_one_looks_and_tells(tmp_path: Path, store: Store) -> None:
    first, second = Lectr(tmp_path, store), Lectr(tmp_path, store)
    assert [await one.at(1.1) for one in (first, second)] == [["errors"], []]
    assert second.opened == 0
    assert await second.at(3.1) == ["traffic_down"]


async def test_what_is_dismissed_or_over_is_not_told(tmp_path: Path, store: Store) -> None:
    one = Lectr(tmp_path, store)
    store.write(calls(range(1, 30), range(1)), [])
    assert await one.at(30) == []
    assert await one.at(24) == ["errors"]


async def test_what_was_dismissed_before_it_was_looked_for_is_not_told(tmp_path: Path, store: Store) -> None:
    one, other = Lectr(tmp_path, in_memory()), Lectr(tmp_path, store)
    one.store.migrate()
    one.store.write(calls(range(-100, 1), range(1)), [])
    assert await one.at(1.1) == ["errors"]
    event = one.told[0]
    dismissal = find(store.hours(EVERY_CALL), [], BEGIN + HOUR_S, other.live.settings.anomalies)[0]
    assert dismissal.id == event["id"]
    store.dismiss(dismissal.dismissal())
    assert await other.at(1.1) == []
    one.store.close()


async def test_without_a_webhook_nobody_looks(tmp_path: Path, store: Store) -> None:
    assert await Lectr(tmp_path, store, webhook=False).at(1.1) == []
    assert store.claim(f"hour {BEGIN // HOUR_S + 1}", BEGIN // HOUR_S)


async def test_a_ledger_that_cannot_be_had_is_asked_again(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    one = Lectr(tmp_path, store)

    def away(*_: object) -> bool:
        one.store = store
        raise Unavailable("it is locked")

    one.store = SimpleNamespace(claim=away)
    assert await one.at(1.1) == []
    assert await one.at(1.2) == ["errors"]
    assert caplog.messages == ["an anomaly: errors"]


async def test_a_mistake_of_ours_ends_nothing(tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    one = Lectr(tmp_path, store)

    def wrong(*_: object) -> bool:
        raise ValueError

    one.store = SimpleNamespace(claim=wrong)
    assert await one.at(1.1, 1.2) == []
    assert caplog.messages == ["anomalies could not be looked for"]
