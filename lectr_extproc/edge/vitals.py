"""How models do now: fed by finished calls, read by decisions, shown to people.

Nothing waits here. Decisions and finished calls meet on one event loop, so a call that tries a half-open model is the
only one of its process; of several processes one has claimed the trial (breakers.py).
"""

import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from typing import Any

from lectr_extproc.core.breaker import Breakers, Event, State, events_of
from lectr_extproc.core.health import Breaking, Health, Target
from lectr_extproc.core.outcome import Route
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.edge.logs import without_keys

log = logging.getLogger("lectr.breaker")


HOLD_S = 5
"So long after the last news of other lectrs what is half-open is left to them; then each tries for itself."


class Vitals:
    """One per process."""

    def __init__(self) -> None:
        self._breakers = Breakers()
        self.health = Health(sick=self._breakers.until)
        "For decisions."
        self._news: deque[Event] = deque(maxlen=1000)
        "What other lectrs do not know yet."
        self._claims: dict[Target, int | None] = {}
        "Which half-open models this lectr tries, by the end of that."

    def heed(self, records: Sequence[CallRecord], snapshot: Snapshot) -> None:
        """What finished calls tell."""
        now_s = time.time()
        for record in records:
            if record.error_category is None and not self._breakers.states and record.tries is None:
                continue  # all is well, as nearly always
            for event in events_of(record, snapshot.providers):
                target = event.target._replace(model=without_keys(event.target.model))
                # An Envoy whose clock is ahead must not hold a model back.
                heard = event._replace(target=target, at_s=min(event.at_s, now_s))
                if heard.what == "failed" or target in self._breakers.states:
                    self._news.append(heard)
                    self._tell(target, *self._breakers.take(heard, snapshot.breaking))

    def asked(self, route: Route, rule: Breaking) -> None:
        """A chosen call goes on its way: where its model is half-open, this is the call that tries."""
        target, now_s = Target(route.choice.provider, route.choice.model_sent or "", route.authority), time.time()
        if self.health.sick.get(target, inf) > now_s:
            return
        if target in self._claims:
            del self._claims[target]
            self._breakers.keep(target, self._breakers.states[target])
        else:
            self._breakers.take(Event(target, "asked", now_s), rule)
        log.warning("breaker half-open", extra={"fields": target._asdict()})

    def news(self) -> list[Event]:
        """What happened since this was last asked."""
        news = list(self._news)
        self._news.clear()
        return news

    def not_told(self, news: Sequence[Event]) -> None:
        """It is to be told again."""
        self._news.extendleft(reversed(news))

    def adopt(self, states: Mapping[Target, State], claimed: Iterable[Target], rule: Breaking) -> None:
        """What all lectrs know together; and of what is half-open, what this one tries from now on."""
        before = dict(self._breakers.states)
        claims = {**self._claims, **{target: states[target].until_s for target in claimed}}
        self._claims = {t: until_s for t, until_s in claims.items() if t in states and states[t].until_s == until_s}
        self._breakers.adopt(states, self._claims, int(time.time()) + HOLD_S)
        for event in self._news:
            self._breakers.take(event, rule)
        for target in before.keys() | self._breakers.states.keys():
            self._tell(target, before.get(target), self._breakers.states.get(target), {"by": "another lectr"})

    def measured(self, first_token_ms: Mapping[Target, int]) -> None:
        """How soon streams begin, from now on."""
        self.health = replace(self.health, first_token_ms=first_token_ms)

    def first_tokens(self) -> list[dict[str, Any]]:
        """What was measured, as `/healthz` shows it."""
        measured = sorted(self.health.first_token_ms.items())
        return [{**target._asdict(), "first_token_ms": figure} for target, figure in measured]

    def breakers(self) -> list[dict[str, Any]]:
        """Those that are not closed, as `/healthz` shows them."""
        now_s, sick = time.time(), self.health.sick
        return [
            {
                **target._asdict(),
                "state": state._replace(until_s=sick.get(target, state.until_s)).phase(now_s),
                "failures": state.failures,
                "until": datetime.fromtimestamp(state.until_s, UTC).isoformat(timespec="seconds"),
                "until_s": state.until_s,
            }
            for target, state in sorted(self._breakers.states.items())
            if state.until_s is not None
        ]

    def _tell(
        self, target: Target, before: State | None, after: State | None, more: Mapping[str, str] | None = None
    ) -> None:
        """A line where a model opens, again or for the first time, and where it closes."""
        was_open, is_open = (state is not None and state.until_s is not None for state in (before, after))
        again = before is not None and after is not None and before.is_asked and not after.is_asked
        if is_open and (not was_open or again):
            fields = {**target._asdict(), "failures": after.failures if after else None, **(more or {})}
            log.warning("breaker open", extra={"fields": fields})
        elif was_open and not is_open:
            log.info("breaker closed", extra={"fields": {**target._asdict(), **(more or {})}})
