"""How models do now: fed by finished calls, read by decisions, shown to people.

Nothing waits here. Decisions and finished calls meet on one event loop, so a call that tries a half-open model is the
only one of its process.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lectr_extproc.core.breaker import Breakers, Event, event_of
from lectr_extproc.core.decision import Route
from lectr_extproc.core.health import Breaking, Health, Target
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.snapshot import Snapshot

log = logging.getLogger("lectr.breaker")


class Vitals:
    """One per process."""

    def __init__(self) -> None:
        self._breakers = Breakers()
        self.health = Health(sick=self._breakers.until)
        "For decisions."

    def heed(self, records: Sequence[CallRecord], snapshot: Snapshot) -> None:
        """What finished calls tell."""
        now_s = time.time()
        for record in records:
            if record.error_category is None and not self._breakers.states:
                continue  # all is well, as nearly always
            event = event_of(record, snapshot.providers)
            if event is not None:  # an Envoy whose clock is ahead must not hold a model back
                self._take(event._replace(at_s=min(event.at_s, now_s)), snapshot.breaking)

    def asked(self, route: Route, rule: Breaking) -> None:
        """A chosen call goes on its way: where its model is half-open, this is the call that tries."""
        target = Target(route.choice.provider, route.choice.model_sent or "", route.authority)
        if target in self.health.sick:
            self._take(Event(target, "asked", time.time()), rule)

    def measured(self, first_token_ms: Mapping[Target, int]) -> None:
        """How soon streams begin, from now on."""
        self.health = replace(self.health, first_token_ms=first_token_ms)

    def first_tokens(self) -> list[dict[str, Any]]:
        """What was measured, as `/healthz` shows it."""
        measured = sorted(self.health.first_token_ms.items())
        return [{**target._asdict(), "first_token_ms": figure} for target, figure in measured]

    def breakers(self) -> list[dict[str, Any]]:
        """Those that are not closed, as `/healthz` shows them."""
        now_s = time.time()
        return [
            {
                **target._asdict(),
                "state": state.phase(now_s),
                "failures": state.failures,
                "until": datetime.fromtimestamp(state.until_s, UTC).isoformat(timespec="seconds"),
                "until_s": state.until_s,
            }
            for target, state in sorted(self._breakers.states.items())
            if state.until_s is not None
        ]

    def _take(self, event: Event, rule: Breaking) -> None:
        before, after = self._breakers.take(event, rule)
        was_s, until_s = (state.until_s if state else None for state in (before, after))
        if until_s == was_s:
            return
        word = "closed" if until_s is None else "half-open" if event.what == "asked" else "open"
        fields = {**event.target._asdict(), "failures": after.failures if after else None}
        log.log(logging.INFO if until_s is None else logging.WARNING, "breaker %s", word, extra={"fields": fields})
