"""Tells of limits that are used up to a threshold, and of anomalies, by a signed POST to whoever the settings name.

Nothing waits for it. It says what is spent of which limit or what is unusual, and nothing of any call.
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import httpx
import orjson

from lectr_extproc.core.exceeded import told
from lectr_extproc.core.limits import Warned
from lectr_extproc.edge.live import Live
from lectr_extproc.settings import Webhook

log = logging.getLogger("lectr.limits")

ROOM = 1_000
"So many wait at most: a limit has two thresholds a day."
PAUSES_S = (1.0, 5.0, 30.0, 120.0, 600.0)
"Between attempts; after the last of them nobody is told."
TIMEOUT_S = 10.0

SIGNATURE = "X-Lectr-Signature"
DELIVERY = "X-Lectr-Delivery"


class _Notice(NamedTuple):
    id: str
    "The same in each attempt."
    content: bytes


class Notices:
    """One per process; made on the event loop on which it sends."""

    def __init__(self, live: Live, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._live = live
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[_Notice] = asyncio.Queue(ROOM)

    def put(self, warned: Sequence[Warned]) -> None:
        """From any thread."""
        for one in warned:
            event = told(one, int(time.time()))
            log.warning("a limit is used up to %d %%", one.per_cent, extra={"fields": event})
            self.tell(event)

    def tell(self, event: Mapping[str, object]) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._take, _Notice(secrets.token_hex(16), orjson.dumps(event)))

    def _take(self, notice: _Notice) -> None:
        if self._live.settings.webhook is None:
            return
        try:
            self._waiting.put_nowait(notice)
        except asyncio.QueueFull:
            self._live.counts["webhooks_lost"] += 1

    async def send(self) -> None:
        """One after the other, for ever."""
        # What a proxy in the environment says is not for this: the address is the operator's own.
        async with httpx.AsyncClient(timeout=TIMEOUT_S, transport=self._transport, trust_env=False) as client:
            while True:
                notice = await self._waiting.get()
                is_told = await self._deliver(client, notice)
                self._live.counts["webhooks_sent" if is_told else "webhooks_lost"] += 1

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


async def _post(client: httpx.AsyncClient, webhook: Webhook, notice: _Notice) -> str | None:
    """What went wrong, if anything. Who answers is not quoted."""
    signature = hmac.new(webhook.secret.encode(), notice.content, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", SIGNATURE: f"sha256={signature}", DELIVERY: notice.id}
    try:
        answer = await client.post(webhook.url, content=notice.content, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return type(error).__name__
    return None if answer.is_success else f"HTTP {answer.status_code}"
