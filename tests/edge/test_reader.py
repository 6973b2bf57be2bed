"""Who reads the ledger for the console: beside the event loop, one question at a time, what is slow not too often."""

import asyncio
import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lectr_extproc.edge import reader as module
from lectr_extproc.edge.ledger import in_memory
from lectr_extproc.edge.reader import Kept, Reader
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import EVERY_CALL, Store, Unavailable, Unusable
from tests.core.finished import call


def count(store: Store) -> int:
    return len(store.read_after(0, 10, EVERY_CALL))


async def test_what_is_read_is_read_with_a_connection_of_its_own_and_not_on_the_event_loop(tmp_path: Path) -> None:
    written, opened = Store(Sqlite(tmp_path / "ledger.db")), []
    written.migrate()
    written.write([call()], [])

    def open_() -> Store:
        opened.append(Store(Sqlite(tmp_path / "ledger.db", read_only=True)))
        return opened[-1]

    reader = Reader(open_)
    with pytest.raises(Unavailable, match="lectr starts"):
        await reader.ask(count)
    reader.store = lambda: written
    assert [await reader.ask(count), await reader.ask(count), len(opened)] == [1, 1, 1]
    assert await reader.ask(lambda store: (store, threading.current_thread().name)) == (opened[0], "console")
    await reader.close()
    written.close()


async def test_a_ledger_in_memory_is_read_where_it_is() -> None:
    memory = in_memory()
    memory.migrate()
    reader = Reader(lambda: pytest.fail("there is nothing to open"))
    reader.store = lambda: memory
    assert await reader.ask(lambda store: store) is memory
    await reader.close()
    memory.close()


async def test_whatever_goes_wrong_goes_wrong_where_it_is_waited_for_and_for_nobody_else() -> None:
    reader = Reader(lambda: pytest.fail("there is nothing to open"))
    reader.store = in_memory

    def wrong(_: Store) -> None:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        await reader.ask(wrong)
    assert await reader.ask(lambda _: 7) == 7


async def test_somebody_who_has_gone_holds_nobody_up() -> None:
    reader, go_on = Reader(in_memory), threading.Event()
    reader.store = in_memory
    gone = asyncio.create_task(reader.ask(lambda _: go_on.wait(10)))
    await asyncio.sleep(0)
    gone.cancel()
    assert await reader.ask(lambda _: 7) == 7
    go_on.set()
    for thread in [thread for thread in threading.enumerate() if thread.name == "console"]:
        await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)  # what it found is told to nobody


class Slow:
    """A question that is answered when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: list[Any] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self) -> Any:
        self.asked += 1
        await self.go_on.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: 1000 + clock.now))
    return clock


async def settled(kept: Kept[Any]) -> None:
    if kept._task is not None:
        await kept._task


async def test_what_was_found_is_kept_for_a_minute_and_then_found_anew_while_the_old_is_shown(
    clock: SimpleNamespace,
) -> None:
    slow = Slow()
    kept = Kept(slow)
    slow.answers = ["one", "two"]
    assert [await kept.get("settings"), await kept.get("settings")] == [(1000, "one")] * 2
    clock.now = 61.0
    assert await kept.get("settings") == (1000, "one")
    await settled(kept)
    assert (await kept.get("settings"), slow.asked) == ((1061, "two"), 2)


async def test_what_took_long_is_kept_longer(clock: SimpleNamespace) -> None:
    async def find() -> str:
        clock.now += 10
        return "found"

    kept = Kept(find)
    await kept.get("settings")
    clock.now += 199
    await kept.get("settings")
    assert kept._task is None
    clock.now += 2
    await kept.get("settings")
    assert kept._task is not None
    await settled(kept)


async def test_new_settings_and_what_has_changed_are_heeded_at_once(clock: SimpleNamespace) -> None:
    slow = Slow()
    kept = Kept(slow)
    slow.answers = ["one", "two", "three"]
    first, other = object(), object()
    await kept.get(first)
    await kept.get(other)
    await settled(kept)
    assert await kept.get(other) == (1000, "two")
    kept.outdate()
    await kept.get(other)
    await settled(kept)
    assert await kept.get(other) == (1000, "three")


async def test_who_asks_first_waits_for_a_moment_only(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    slow = Slow()
    kept = Kept(slow)
    slow.answers = ["one"]
    slow.go_on.clear()
    assert await kept.get("settings") == (None, None)
    slow.go_on.set()
    await settled(kept)
    assert await kept.get("settings") == (1000, "one")


async def test_a_ledger_that_cannot_be_had_is_said_until_there_is_something_to_show(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    slow = Slow()
    kept = Kept(slow)
    slow.answers = [
        Unavailable("it is locked"),
        Unusable("it is gone"),
        ValueError("hush"),
        "one",
        Unavailable("again"),
    ]
    for said in ("it is locked", "it is gone", "ValueError"):
        with pytest.raises((Unavailable, Unusable), match=said):
            await kept.get("settings")
    assert caplog.messages == ["the console could not be answered"]
    assert await kept.get("settings") == (1000, "one")
    clock.now = 61.0
    for _ in range(2):
        assert await kept.get("settings") == (1000, "one")
        await settled(kept)
        slow.answers = ["two"]
