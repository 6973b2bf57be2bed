"""How soon models answer, asked of the ledger now and then, and never while a call waits."""

import asyncio
import logging
import time

from lectr_extproc.core.health import medians
from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.store import Unavailable, Unusable

log = logging.getLogger("lectr.measure")

EVERY_S = 60.0
AGAIN_S = 2.0
"When the ledger could not be asked, as before it is there. Until then what was measured before counts."
NEWEST = 20_000
"Of so many calls at most: it takes some 50 ms in a thread, and who has more of them has fresher ones."


async def measure(live: Live, ledger: Ledger) -> None:
    """Keep the figures of models what the ledger says, for ever."""
    while True:
        rule = live.snapshot.measuring
        since_ns = time.time_ns() - round(rule.within_h * 3600e9)
        try:
            rows = await asyncio.to_thread(ledger.store.first_bytes, since_ns, NEWEST)
            live.vitals.measured(medians(rows, rule.calls))
        except (Unavailable, Unusable):
            await asyncio.sleep(AGAIN_S)
        except Exception:  # calls go on with what was measured before
            log.exception("models could not be measured")
            await asyncio.sleep(EVERY_S)
        else:
            await asyncio.sleep(EVERY_S)
