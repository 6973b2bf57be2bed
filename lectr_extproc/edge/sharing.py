"""Once a second lectrs with one ledger tell each other which models fail. No call waits for it."""

import asyncio
import logging
import time

from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.store import Unavailable, Unusable

log = logging.getLogger("lectr.sharing")

EVERY_S = 1.0


async def share(live: Live, ledger: Ledger) -> None:
    """For ever. While the ledger cannot be had each lectr goes by what it finds itself."""
    while True:
        await asyncio.sleep(EVERY_S)
        news, rule = live.vitals.news(), live.snapshot.breaking
        try:
            states, claimed = await asyncio.to_thread(ledger.store.breakers.sync, news, rule, time.time())
        except (Unavailable, Unusable):
            live.vitals.not_told(news)
        except Exception:  # what cannot be told once cannot be told again
            log.exception("what is known of models that fail could not be shared")
        else:
            live.vitals.adopt(states, claimed, rule)
