"""Limits that are used up are told: in the log, and to the webhook, whatever becomes of that."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from lectr_extproc.core.limits import Ask, Hold, Limit, Warned
from lectr_extproc.edge import notices as module
from lectr_extproc.edge.ledger import in_memory
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.notices import Notices
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store
from lectr_extproc.settings import Webhook
from tests.edge.given import live

SECRET = "hush-0123456789abcdef"
WARNED = Warned(Limit(org="acme", kind="daily", most=50 * 10**12, feature="search"), 80, 40 * 10**12, 1_795_305_600)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.0, 0.0))


@contextlib.asynccontextmanager
async def sending(
    directory: Path, *answers: int | Exception, webhook: bool = True
) -> AsyncIterator[tuple[Live, Notices, list[httpx.Request]]]:
    """A webhook that answers so, and 200 after that, and what it gets."""
    shared, got, left = live(directory), list[httpx.Request](), list(answers)
    if webhook:
        shared.settings = replace(shared.settings, webhook=Webhook(url="https://hook.example/a", secret=SECRET))

    def respond(request: httpx.Request) -> httpx.Response:
        got.append(request)
        answer = left.pop(0) if left else 200
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer)

    notices = Notices(shared, httpx.MockTransport(respond))
    task = asyncio.create_task(notices.send())
    try:
        yield shared, notices, got
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_threshold_is_posted_with_a_signature_over_its_bytes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with sending(tmp_path) as (shared, notices, got):
        await asyncio.to_thread(notices.put, [WARNED])
        await until(lambda: shared.counts["webhooks_sent"])
    (request,) = got
    assert (request.method, str(request.url)) == ("POST", "https://hook.example/a")
    expected = hmac.new(SECRET.encode(), request.content, hashlib.sha256).hexdigest()
    assert request.headers["x-lectr-signature"] == f"sha256={expected}"
    event = json.loads(request.content)
    assert event.pop("at")
    assert event == {
        "event": "limit.threshold",
        "org": "acme",
        "limit": {"kind": "daily", "window_s": None, "for": {"feature": "search"}},
        "threshold": 0.8,
        "used_usd": "40",
        "held_usd": "0",
        "limit_usd": "50",
        "resets_at": "2026-11-22T00:00:00Z",
    }
    (line,) = [record for record in caplog.records if record.name == "lectr.limits"]
    assert (line.levelno, line.message) == (logging.WARNING, "a limit is used up to 80 %")


@pytest.mark.parametrize("failure", [500, 404, 302, httpx.ConnectError("refused by sk-hush")], ids=str)
async def test_what_does_not_arrive_is_sent_again_as_the_same(tmp_path: Path, failure: int | Exception) -> None:
    async with sending(tmp_path, failure, failure) as (shared, notices, got):
        notices.put([WARNED])
        await until(lambda: shared.counts["webhooks_sent"])
    assert len(got) == 3
    assert len({request.headers["x-lectr-delivery"] for request in got}) == 1
    assert shared.counts["webhooks_lost"] == 0


async def test_what_never_arrives_is_given_up_and_the_next_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with sending(tmp_path, 500, 500, httpx.ConnectError("sk-hush")) as (shared, notices, got):
        notices.put([WARNED, WARNED])
        await until(lambda: shared.counts["webhooks_sent"])
    assert (shared.counts["webhooks_lost"], len(got)) == (1, 4)
    assert "a webhook could not be delivered: ConnectError" in caplog.text
    assert "sk-hush" not in caplog.text


async def test_who_names_no_webhook_finds_it_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with sending(tmp_path, webhook=False) as (shared, notices, got):
        notices.put([WARNED])
        await asyncio.sleep(0)
        assert shared.counts == {}
    assert (got, "a limit is used up to 80 %" in caplog.text) == ([], True)


async def test_a_webhook_that_is_taken_away_gets_nothing_more(tmp_path: Path) -> None:
    async with sending(tmp_path, 500) as (shared, notices, got):
        notices.put([WARNED])
        await until(lambda: got)
        shared.settings = replace(shared.settings, webhook=None)
        await until(lambda: shared.counts["webhooks_lost"])
    assert len(got) == 1


async def test_more_than_fits_is_lost_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOM", 2)
    shared = live(tmp_path)
    shared.settings = replace(shared.settings, webhook=Webhook(url="https://hook.example/a", secret=SECRET))
    Notices(shared).put([WARNED] * 3)
    await until(lambda: shared.counts["webhooks_lost"])
    assert shared.counts == {"webhooks_lost": 1}


# --- the end ----------------------------------------------------------------------------------------------------------

LIMIT = Limit(org="acme", kind="daily", most=50 * 10**12, warn_at=(50, 80))


def reached(store: Store, amount: int) -> Sequence[Warned]:
    """The thresholds that nobody was told of yet, once so much more is held."""
    ask = Ask("call", (Hold(LIMIT, amount, 0),))
    return store.counters.reserve([ask], 1_795_177_845 * 10**9).warned


async def stopped(directory: Path, store: Store, status: int | Exception | None) -> tuple[Live, list[str]]:
    """A lectr that stops while it tries to tell of two thresholds; and whose deliveries the webhook got, and answers
    so at the end, or not at all."""
    shared, got = live(directory), list[str]()
    shared.settings = replace(shared.settings, webhook=Webhook(url="https://hook.example/a", secret=SECRET))

    async def respond(request: httpx.Request) -> httpx.Response:
        got.append(request.headers["x-lectr-delivery"])
        if len(got) == 1 or status is None:
            await asyncio.Event().wait()
        if isinstance(status, Exception):
            raise status
        return httpx.Response(status or 0)

    notices = Notices(shared, httpx.MockTransport(respond))
    notices.put(reached(store, 45 * 10**12))
    sending = asyncio.create_task(notices.send())
    await until(lambda: got)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await notices.finish(store)
    return shared, got


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(Sqlite(tmp_path / "ledger.db"))
    made.migrate()
    yield made
    made.close()


async def test_at_the_end_what_waits_is_sent_once_more(tmp_path: Path, store: Store) -> None:
    shared, got = await stopped(tmp_path, store, 200)
    assert shared.counts == {"webhooks_sent": 2}
    assert (len(got), len(set(got))) == (3, 2), "the one that was under way is the same delivery"
    assert reached(store, 1) == []


@pytest.mark.parametrize("status", [500, None, ValueError("sk-hush")], ids=str)
async def test_what_cannot_be_delivered_at_the_end_is_told_by_the_next_lectr(
    tmp_path: Path,
    store: Store,
    status: int | Exception | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "ENDS_WITHIN_S", 0.05)
    shared, _ = await stopped(tmp_path, store, status)
    assert shared.counts["webhooks_sent"] == shared.counts["webhooks_lost"] == 0
    assert caplog.messages[-1] == "webhooks are left to the next lectr"
    assert [one.per_cent for one in reached(store, 1)] == [50, 80]


async def test_what_nobody_can_tell_later_is_lost_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = in_memory()
    store.migrate()
    shared, _ = await stopped(tmp_path, store, 500)
    assert shared.counts["webhooks_lost"] == 2
    assert caplog.messages[-1] == "webhooks could not be delivered: the ledger is in memory"


async def test_an_end_at_which_nothing_waits_asks_nobody(tmp_path: Path, store: Store) -> None:
    async with sending(tmp_path) as (shared, notices, got):
        await notices.finish(store)
    assert (got, shared.counts) == ([], {})
