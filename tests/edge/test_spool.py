"""The spool: read on by the next lectr however the last one ended, kept small, and never read by two at a time."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.edge import spool
from lectr_extproc.edge.access_log import Sink
from lectr_extproc.edge.admin import http_server
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.spool import Spool
from tests.edge.given import Records, live
from tests.ports import free_port


def lines(*ids: str) -> bytes:
    return b"".join(
        orjson.dumps({"answer": None, "start_ns": "1.5", "status": 200, "decision": {"call_id": id_}}) + b"\n"
        for id_ in ids
    )


def append(file: Path, *ids: str) -> None:
    write(file, lines(*ids))


def write(file: Path, content: bytes) -> None:
    """As Envoy does: behind whatever is there, and a file where there is none."""
    with file.open("ab") as opened:
        opened.write(content)


@pytest.fixture(name="file")
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(spool, "POLL_S", 0.01)
    return tmp_path / "calls.jsonl"


@contextlib.asynccontextmanager
async def following(shared: Live, sink: Sink, file: Path) -> AsyncIterator[Spool]:
    reader = Spool(shared, sink, file)
    task = asyncio.create_task(reader.follow())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def move(file: Path, to: str) -> None:
    file.rename(file.with_name(to))


async def until(holds: Callable[[], object]) -> None:
    """Look often for what the reader's own task does, which tells nobody."""
    while True:
        if holds():
            return
        await asyncio.sleep(0.01)


async def test_what_envoy_writes_becomes_records_in_order(file: Path) -> None:
    shared, records = live(file.parent), Records()
    async with following(shared, records, file):
        append(file, "a", "b")
        assert await records.get() == ["a", "b"]
        append(file, "c")
        assert await records.get() == ["c"]
    assert shared.counts == {"calls_recorded": 3}
    assert shared.health()["status"] == "ok"


async def test_the_next_lectr_reads_on_where_the_last_one_stopped(file: Path) -> None:
    records = Records()
    append(file, "a")
    async with following(live(file.parent), records, file):
        assert await records.get() == ["a"]
    append(file, "while nobody reads")
    async with following(live(file.parent), records, file):
        assert await records.get() == ["while nobody reads"]


async def test_one_that_was_killed_before_it_kept_its_place_hands_the_batch_on_again(file: Path) -> None:
    append(file, "a", "b")

    def dies(_calls: Sequence[CallRecord], _attempts: Sequence[Attempt]) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        Spool(live(file.parent), dies, file)._read_from(file)
    records = Records()
    async with following(live(file.parent), records, file):
        assert await records.get() == ["a", "b"]


async def test_the_place_is_kept_only_when_all_before_it_is_written(file: Path) -> None:
    records, waiting = Records(), 2
    append(file, "a", "b")
    first = Spool(live(file.parent), records, file, lambda: waiting)
    assert first._is_mine()
    assert first.read()
    append(file, "c")
    assert first.read()
    waiting = 1
    first.read()  # the killed one had seen `a` and `b` written, and not `c`
    os.close(first._place)
    async with following(live(file.parent), records, file):
        assert [await records.get() for _ in range(3)] == [["a", "b"], ["c"], ["c"]]


async def test_while_nothing_can_be_written_calls_stay_in_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MOST_AT_RISK", 1)
    records, waiting = Records(), 2
    reader = Spool(live(file.parent), records, file, lambda: waiting)
    append(file, "a")
    assert not reader.read()
    waiting = 0
    assert reader.read()
    assert await records.get() == ["a"]


async def test_a_place_that_cannot_be_read_costs_no_call(file: Path) -> None:
    file.with_name("calls.jsonl.place").write_text("not numbers")
    append(file, "a")
    records = Records()
    async with following(live(file.parent), records, file):
        assert await records.get() == ["a"]


async def test_the_last_words_are_read_by_the_one_that_stops(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "POLL_S", 60)
    records = Records()
    async with following(live(file.parent), records, file) as reader:
        await until(lambda: reader._held)
        append(file, "last")
    assert await records.get() == ["last"]


async def test_one_that_stops_waits_until_what_it_handed_on_is_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "LAST_WORDS_S", 0)
    append(file, "a")
    records, waiting = Records(), 1
    task = asyncio.create_task(Spool(live(file.parent), records, file, lambda: waiting).follow())
    assert await records.get() == ["a"]
    task.cancel()
    await asyncio.sleep(0)  # the task has been told
    waiting = 0
    await asyncio.gather(task, return_exceptions=True)
    append(file, "b")
    async with following(live(file.parent), records, file):
        assert await records.get() == ["b"]


async def test_of_two_lectrs_one_reads_and_the_other_goes_on_after_it(file: Path) -> None:
    first, second = Records(), Records()
    async with contextlib.AsyncExitStack() as stack:
        async with following(live(file.parent), first, file) as reader:
            await until(lambda: reader._held)
            await stack.enter_async_context(following(live(file.parent), second, file))
            append(file, "a")
            assert await first.get() == ["a"]
            append(file, "b")
            assert await first.get() == ["b"]
        append(file, "c")
        assert await second.get() == ["c"]


async def test_a_line_is_waited_for_to_its_end(file: Path) -> None:
    shared, records = live(file.parent), Records()
    whole = lines("a")
    reader = Spool(shared, records, file)
    for byte in whole[:-1]:
        write(file, bytes([byte]))
        assert not (reader._is_mine() and reader.read())
    write(file, whole[-1:])
    assert reader.read()
    assert await records.get() == ["a"]
    assert shared.counts == {"calls_recorded": 1}


async def test_what_is_no_entry_is_counted_and_costs_itself_alone(file: Path) -> None:
    shared, records = live(file.parent), Records()
    write(file, b"\x00\xff\n" + lines("a")[:-9] + lines("b"))
    Spool(shared, records, file).read()
    assert await records.get() == ["b"]
    assert shared.counts == {"calls_recorded": 1, "spool_lines_unreadable": 1}


async def test_a_line_longer_than_any_of_envoys_does_not_stop_the_rest(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "BATCH_BYTES", 512)
    monkeypatch.setattr(spool, "LONGEST_LINE_BYTES", 4096)
    shared, records = live(file.parent), Records()
    write(file, b"x" * 10_000 + b"\n" + lines("a" * 1000) + lines("b"))
    async with following(shared, records, file):
        got = [*await records.get()]
        while got[-1:] != ["b"]:
            got += await records.get()
    assert got == ["a" * 1000, "b"]


async def test_a_file_that_others_removed_or_emptied_is_read_from_its_start(file: Path) -> None:
    records = Records()
    append(file, "a", "b")
    async with following(live(file.parent), records, file):
        assert await records.get() == ["a", "b"]
        os.truncate(file, 0)
        append(file, "c")
        assert await records.get() == ["c"]
        move(file, "taken")
        append(file, "d", "e")
        assert await records.get() == ["d", "e"]


# --- keeping it small -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def envoy_admin(port: int, reopen: Callable[[], None]) -> AsyncIterator[None]:
    def answer(_: Request) -> PlainTextResponse:
        reopen()
        return PlainTextResponse("OK")

    app = Starlette(routes=[Route("/reopen_logs", answer, methods=["POST"])])
    async with http_server(app, f"127.0.0.1:{port}"):
        yield


async def test_a_file_that_has_grown_is_put_aside_and_removed_when_envoy_has_let_go_of_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "KEPT_BYTES", 50)
    port, records = free_port(), Records()
    shared = live(file.parent, envoy={"admin": f"127.0.0.1:{port}"})
    aside = file.with_name("calls.jsonl.aside")

    def reopen() -> None:
        append(aside, "b")  # what Envoy still had for the old file
        append(file, "c")

    append(file, "a")
    async with envoy_admin(port, reopen), following(shared, records, file):
        assert [await records.get() for _ in range(3)] == [["a"], ["b"], ["c"]]
        await until(lambda: not aside.exists())
    assert shared.counts == {"calls_recorded": 3}


async def test_what_has_been_read_makes_room_on_a_full_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    records = Records()
    reader = Spool(live(file.parent), records, file)
    append(file, "a")
    assert [reader.read() for _ in range(4)] == [True, False, False, False]
    assert file.with_name("calls.jsonl.aside").exists(), "Envoy still writes there: it has made no new file"
    assert await records.get() == ["a"]


async def test_an_envoy_that_cannot_be_asked_loses_nothing_and_is_told_of(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spool, "KEPT_BYTES", 50)
    records = Records()
    shared = live(file.parent, envoy={"admin": f"127.0.0.1:{free_port()}"})
    aside = file.with_name("calls.jsonl.aside")
    envoy = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(envoy, lines("a"))
    async with following(shared, records, file):
        assert await records.get() == ["a"]
        await until(lambda: shared.spool_problem)
        assert shared.health()["status"] == "degraded"
        os.write(envoy, lines("b"))
        os.close(envoy)
        assert await records.get() == ["b"]
        append(file, "c")  # an Envoy that was started again makes its file unasked
        assert await records.get() == ["c"]
        await until(lambda: not aside.exists() and shared.spool_problem is None)
    assert [line.getMessage() for line in caplog.records if line.name == "lectr.spool"] == ["the spool is in trouble"]


async def test_a_spool_that_cannot_be_read_says_why_and_goes_on_when_it_can(file: Path) -> None:
    shared, records = live(file.parent), Records()
    (folder := file.with_name("folder")).mkdir()
    move(folder, file.name)
    async with following(shared, records, file):
        await until(lambda: shared.spool_problem == f"{file}: Is a directory")
        move(file, "folder")
        append(file, "a")
        assert await records.get() == ["a"]
        await until(lambda: shared.spool_problem is None)


def test_a_folder_that_is_not_there_is_told_at_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot write beside .*: No such file or directory"):
        Spool(live(tmp_path), Records(), tmp_path / "none" / "calls.jsonl")
