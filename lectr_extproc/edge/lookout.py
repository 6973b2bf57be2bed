"""Once an hour has ended, what was unusual in it is told: in the log and to the webhook, once, by one lectr of a fleet.

The ledger is read on a connection of its own, so that its writer never waits for it, and only where a webhook is set.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial

from lectr_extproc.core.anomalies import Anomaly, Watching, find, since_s, told
from lectr_extproc.core.hours import HOUR_S
from lectr_extproc.core.report import Filters
from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.notices import Notices
from lectr_extproc.edge.store import Store, Unavailable, Unusable

log = logging.getLogger("lectr.anomalies")

EVERY_S = 300.0
"So long after an hour's end at most it is looked at; calls that end late are seen by those who look an hour later."


async def look_out(live: Live, ledger: Ledger, notices: Notices, open_reader: Callable[[], Store]) -> None:
    """For ever."""
    seen = 0
    while True:
        await asyncio.sleep(EVERY_S)
        now_s = int(time.time())
        if live.settings.webhook is None or now_s // HOUR_S == seen:
            continue
        try:
            news = await asyncio.to_thread(_news, ledger.store, open_reader, live.settings.anomalies, now_s)
        except (Unavailable, Unusable):
            continue
        except Exception:
            log.exception("anomalies could not be looked for")
            news = []
        seen = now_s // HOUR_S
        for one in news:
            event = told(one)
            log.warning("an anomaly: %s", one.kind, extra={"fields": event})
            notices.tell(event, partial(Store.disclaim, name=one.id))


def _news(store: Store, open_reader: Callable[[], Store], rule: Watching, now_s: int) -> list[Anomaly]:
    """What goes on and nobody has told. Each hour one lectr looks, and each anomaly is told by one."""
    hour = now_s // HOUR_S
    if not store.claim(f"hour {hour}", hour):
        return []
    in_memory = store.bound is not None
    with nullcontext(store) if in_memory else closing(open_reader()) as reader:
        hours = reader.hours(Filters(since_s=since_s(now_s, rule)))
    found = find(hours, store.dismissals(), now_s, rule)
    return [one for one in found if one.ended is None and not one.dismissed and store.claim(one.id, hour)]
