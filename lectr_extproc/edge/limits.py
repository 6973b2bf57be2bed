"""Who is let through: calls of orgs with limits wait here until what they may take is held for them, by a thread.

Those that wait at the same time are one transaction. Where the counters cannot be had, the org's settings say whether
its calls go on; that they are not held to anything meanwhile is counted, and said loudly.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from lectr_extproc.core.decision import decide
from lectr_extproc.core.exceeded import refusal
from lectr_extproc.core.facts import Facts
from lectr_extproc.core.health import Health
from lectr_extproc.core.limits import Ask, Exceeded, OrgLimits, Warned
from lectr_extproc.core.outcome import AskForBody, Refuse, Route, is_chosen
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.refusal import REFUSALS, Refusal
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.spending import Settlement, ask_for, less_one, settlement_of
from lectr_extproc.edge.counters import Counters
from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.store import Store, Unavailable, Unusable

log = logging.getLogger("lectr.limits")

PATIENCE_S = 1.0
"How long a call waits for the counters: half of what Envoy waits for lectr by default."
AWAY_S = 1.0
"So long after a failure no call waits for another one."
AT_ONCE = 500
SWEEP_EVERY_S = 5.0
"How often what is overdue is given back."

NOTE = "over_limit"
"On the record of a call that got a cheaper tier than it asked for."


class Away(Exception):  # noqa: N818
    """The counters cannot be had."""


class _Waiting(NamedTuple):
    ask: Ask
    loop: asyncio.AbstractEventLoop
    told: "asyncio.Future[Exceeded | None]"


class Limits:
    """One per process."""

    def __init__(
        self,
        ledger: Ledger,
        on_warning: Callable[[Sequence[Warned]], None] = lambda _: None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._ledger = ledger
        self._on_warning = on_warning
        self._clock = clock
        self._store: Store | None = None
        "The one whose counters are used; it may give way to another."
        self._counts = dict.fromkeys(("limits_held", "limits_refused", "limits_store_errors", "limits_let_through"), 0)
        self._problem: str | None = None
        self._away_until = float("-inf")
        self._busy_since: float | None = None
        self._waiting: deque[_Waiting] = deque()
        self._left: list[str] = []
        "Calls whose client has gone while they waited."
        self._sweep_at = time.monotonic() + SWEEP_EVERY_S
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._hold_on, name="limits", daemon=True)
        self._thread.start()

    async def admit(
        self, facts: Facts, route: Route, snapshot: Snapshot, health: Health
    ) -> tuple[Facts, Route | Refuse | AskForBody]:
        """The call as its org's limits let it go: as it is, to a cheaper tier, or not at all."""
        if (limits := route.org.limits) is None:
            return facts, route
        try:
            facts, route, exceeded = await self._find_room(facts, route, limits, snapshot, health)
            if exceeded and (tier := exceeded.hold.limit.over) and facts.at_most is None:
                cheaper = replace(facts, at_most=tier)
                again = decide(cheaper, snapshot, health)
                if isinstance(again, AskForBody):
                    return cheaper, again
                if is_chosen(again):
                    facts, route, exceeded = await self._find_room(cheaper, again, limits, snapshot, health)
        except Away:
            self._counts["limits_let_through"] += not limits.is_closed
            return facts, _refused(route, REFUSALS["limits_unavailable"]) if limits.is_closed else route
        if exceeded is not None:
            self._counts["limits_refused"] += 1
            return facts, _refused(route, refusal(exceeded, self._clock()))
        if facts.at_most is not None:
            choice = route.choice
            route = replace(route, choice=replace(choice, notes=(*choice.notes, NOTE)))
        return facts, route

    async def _find_room(
        self, facts: Facts, route: Route, limits: OrgLimits, snapshot: Snapshot, health: Health
    ) -> tuple[Facts, Route, Exceeded | None]:
        """Hold what a call may take, of another candidate where it was to be chosen and its model has no room."""
        while exceeded := await self._reserve(ask_for(route, facts, snapshot, limits)):
            if (less := less_one(facts, route, exceeded.hold.limit)) is None:
                break
            if not is_chosen(again := decide(less, snapshot, health)):
                break
            facts, route = less, again
        return facts, route, exceeded

    async def fits(self, facts: Facts, route: Route, snapshot: Snapshot) -> bool:
        """Whether a call that is decided already goes on as it is; then what it may take is held for it."""
        if (limits := route.org.limits) is None:
            return True
        try:
            return await self._reserve(ask_for(route, facts, snapshot, limits)) is None
        except Away:
            self._counts["limits_let_through"] += not limits.is_closed
            return not limits.is_closed

    async def _reserve(self, ask: Ask) -> Exceeded | None:
        if not ask.holds:
            return None
        now = time.monotonic()
        if now < self._away_until or (self._busy_since and now > self._busy_since + PATIENCE_S):
            raise Away
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Exceeded | None] = loop.create_future()
        with self._changed:
            self._waiting.append(_Waiting(ask, loop, told))
            self._changed.notify()
        late = loop.call_later(PATIENCE_S, self._give_up, told)
        try:
            return await told
        except asyncio.CancelledError:  # the client has gone, and lectr will not hear of its call by this id
            with self._changed:
                self._left.append(ask.call_id)
            raise
        finally:
            late.cancel()

    def _give_up(self, told: "asyncio.Future[Exceeded | None]") -> None:
        if not told.done():
            self._went_away("they take too long")
            told.set_exception(Away())

    def health(self) -> dict[str, Any]:
        """What `/healthz` shows."""
        now_s = self._clock() // 10**9
        known = self._store.counters.used if self._store else {}
        return {
            **self._counts,
            "limits_used": [
                {"org": limit.org, "for": limit.of, "limit": limit.what, "part": round(used / limit.most, 4)}
                for limit, used, resets_s in list(known.values())
                if resets_s and resets_s > now_s
            ],
            "problem": self._problem,
        }

    def stop(self) -> None:
        """Nobody asks any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(PATIENCE_S)

    def _went_away(self, problem: str) -> None:
        self._counts["limits_store_errors"] += 1
        self._away_until = time.monotonic() + AWAY_S
        if self._problem is None:
            log.error("the counters of limits cannot be had, calls are held to none or refused: %s", problem)
        self._problem = problem

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _hold_on(self) -> None:
        while (waiting := self._next()) is not None:
            verdicts: Sequence[Exceeded | Away | None] = []
            try:
                counters = self._find()
                if waiting:
                    verdicts, warned = counters.reserve([one.ask for one in waiting], self._clock())
                    self._counts["limits_held"] += verdicts.count(None)
                    if warned:
                        self._on_warning(warned)
                self._sweep(counters)
            except Exception as error:
                is_ours = isinstance(error, (Unavailable, Unusable))
                self._went_away(str(error) if is_ours else type(error).__name__)
                if not is_ours:
                    log.exception("limits failed")
                verdicts = verdicts or [Away()] * len(waiting)
            else:
                if self._problem is not None:
                    log.warning("the counters of limits are there again")
                    self._problem = None
            self._busy_since = None
            if waiting:
                with contextlib.suppress(RuntimeError):  # the loop has ended, and with it all who waited
                    waiting[0].loop.call_soon_threadsafe(_tell, list(zip(waiting, verdicts, strict=True)))

    def _next(self) -> list[_Waiting] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping, max(0.0, self._sweep_at - time.monotonic()))
            if self._stopping:
                return None
            self._busy_since = time.monotonic()
            return [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]

    def _find(self) -> Counters:
        """The counters of whichever database the ledger uses now. Memory that stands in for it knows of nothing."""
        if self._ledger.stands_in:
            raise Unavailable("the ledger is in memory")
        store = self._ledger.store
        if self._store is not store:
            store.migrate()
            self._store = store
        return store.counters

    def _sweep(self, counters: Counters) -> None:
        if time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + SWEEP_EVERY_S
        with self._changed:
            left, self._left = self._left, []
        counters.give_back(left, self._clock() // 10**9)


def _tell(verdicts: Sequence[tuple[_Waiting, Exceeded | Away | None]]) -> None:
    for one, verdict in verdicts:
        if one.told.done():  # it waits no more
            continue
        if isinstance(verdict, Away):
            one.told.set_exception(verdict)
        else:
            one.told.set_result(verdict)


def _refused(route: Route, why: Refusal) -> Refuse:
    return Refuse(refusal=why, shape=route.choice.shape, org=route.org, choice=route.choice)


def settlements(live: Live, records: Sequence[CallRecord]) -> list[Settlement]:
    """How finished calls are settled, of orgs that have limits by now."""
    snapshot = live.snapshot
    if not snapshot.limits_of:
        return []
    return [found for record in records if (found := settlement_of(record, snapshot)) is not None]
