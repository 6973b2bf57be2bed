"""Tells of limits that are used up to a threshold, and of anomalies, by a signed POST to whoever the settings name.

Nothing waits for it. It says what is spent of which limit or what is unusual, and nothing of any call.
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import httpx
import orjson

from lectr_extproc.core.exceeded import told
from lectr_extproc.core.limits import Warned
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.store import Store, Unavailable, Unusable
from lectr_extproc.settings import Webhook

log = logging.getLogger("lectr.limits")

ROOM = 1_000
"So many wait at most: a limit has two thresholds a day."
PAUSES_S = (1.0, 5.0, 30.0, 120.0, 600.0)
"Between attempts; after the last of them nobody is told."
TIMEOUT_S = 10.0
ENDS_WITHIN_S = 5.0
"What waits when lectr stops is sent once more, all at once, and nobody waits longer for it."

SIGNATURE = "X-Lectr-Signature"
DELIVERY = "X-Lectr-Delivery"


class _Notice(NamedTuple):
    id: str
    "The same in each attempt."
    content: bytes
    tell_again: Callable[[Store], None]
    "Has the next lectr tell it."


class Notices:
    """One per process; made on the event loop on which it sends."""

    def __init__(self, live: Live, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._live = live
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[_Notice] = asyncio.Queue(ROOM)
        self._under_way: _Notice | None = None

    def put(self, warned: Sequence[Warned]) -> None:
        """From any thread."""
        for one in warned:
            event = told(one, int(time.time()))
            log.warning("a limit is used up to %d %%", one.per_cent, extra={"fields": event})
            self.tell(event, partial(_tell_of_limit_again, warned=one))

    def tell(self, event: Mapping[str, object], tell_again: Callable[[Store], None]) -> None:
        """From any thread."""
        notice = _Notice(secrets.token_hex(16), orjson.dumps(event), tell_again)
        self._loop.call_soon_threadsafe(self._take, notice)

    def _take(self, notice: _Notice) -> None:
        if self._live.settings.webhook is None:
            return
        try:
            self._waiting.put_nowait(notice)
        except asyncio.QueueFull:
            self._live.counts["webhooks_lost"] += 1

    async def send(self) -> None:
        """One after the other, for ever."""
        async with self._client() as client:
            while True:
                self._under_way = await self._waiting.get()
                is_told = await self._deliver(client, self._under_way)
                self._live.counts["webhooks_sent" if is_told else "webhooks_lost"] += 1
                self._under_way = None

    async def finish(self, store: Store) -> None:
        """Once nobody sends any more: a last attempt for what waits. What fails is left to the next lectr."""
        left = [self._under_way] if self._under_way else []
        while not self._waiting.empty():
            left.append(self._waiting.get_nowait())
        if not left or (webhook := self._live.settings.webhook) is None:
            return
        async with self._client() as client:
            attempts = {asyncio.create_task(_post(client, webhook, notice)): notice for notice in left}
            _, late = await asyncio.wait(attempts, timeout=ENDS_WITHIN_S)
            for attempt in late:
                attempt.cancel()
        # Whatever goes wrong here, the ledger is still to be stopped in order.
        untold = [attempts[one] for one in attempts if one in late or one.exception() or one.result() is not None]
        self._live.counts["webhooks_sent"] += len(left) - len(untold)
        if not untold:
            return
        try:
            if store.bound is not None:
                raise Unavailable("the ledger is in memory")
            for notice in untold:
                await asyncio.to_thread(notice.tell_again, store)
            log.warning("webhooks are left to the next lectr", extra={"fields": {"webhooks": len(untold)}})
        except (Unavailable, Unusable) as error:
            self._live.counts["webhooks_lost"] += len(untold)
            log.error("webhooks could not be delivered: %s", error, extra={"fields": {"webhooks": len(untold)}})

    def _client(self) -> httpx.AsyncClient:
        # What a proxy in the environment says is not for this: the address is the operator's own.
        return httpx.AsyncClient(timeout=TIMEOUT_S, transport=self._transport, trust_env=False)

    async def _deliver(self, client: httpx.AsyncClient, notice: _Notice) -> bool:
        for pause_s in (*PAUSES_S, None):
            webhook = self._live.settings.webhook
            problem = "there is no webhook any more" if webhook is None else await _post(client, webhook, notice)
            if problem is None:
                return True
            if webhook is None or pause_s is None:
                break
            await asyncio.sleep(pause_s)
        log.error("a webhook could not be delivered: %s", problem)
        return False


def _tell_of_limit_again(store: Store, warned: Warned) -> None:
    store.counters.tell_again(warned)


async def _post(client: httpx.AsyncClient, webhook: Webhook, notice: _Notice) -> str | None:
    """What went wrong, if anything. Who answers is not quoted."""
    signature = hmac.new(webhook.secret.encode(), notice.content, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", SIGNATURE: f"sha256={signature}", DELIVERY: notice.id}
    try:
        answer = await client.post(webhook.url, content=notice.content, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return type(error).__name__
    return None if answer.is_success else f"HTTP {answer.status_code}"
