"""What the running process shares: the settings in force, and the counts and states that `/healthz` shows."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from lectr_extproc.catalog.prices import PriceList, price_table
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.edge.vitals import Vitals
from lectr_extproc.settings import Settings

VERSION = version("lectr-extproc")

LOST_S = 60.0
"Losing calls is over when none has been lost for so long, as it is with the ledger's dropping."


@dataclass(slots=True)
class Live:
    """One per process. Settings are swapped by one assignment; a handler reads them once, at its top."""

    settings: Settings
    settings_problem: str | None = None
    "Why the newest file is not in force, when it is not."
    price_list: PriceList | None = None
    "Newer prices than those of this installation, under the prices of whatever settings are in force."
    prices_problem: str | None = None
    "Why the newest price list is not in force, when it is not."
    spool_problem: str | None = None
    "Why finished calls wait in the spool, when they do."
    spool: Callable[[], dict[str, Any] | None] = lambda: None
    "Where it is read, if there is one."
    counts: Counter[str] = field(default_factory=Counter)
    telemetry: Callable[[], dict[str, Any]] = dict
    "What telemetry says of itself."
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    ledger: Callable[[], dict[str, Any]] = dict
    "What the ledger says of itself."
    export: Callable[[], dict[str, Any]] = dict
    "What the outbox says of itself."
    limits: Callable[[], dict[str, Any]] = dict
    "What the counters of limits say of themselves."
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    vitals: Vitals = field(default_factory=Vitals)
    _lost_at: dict[str, float] = field(default_factory=dict)
    _priced: tuple[Settings, PriceList, Snapshot] | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The settings' own, with the newer prices in it where there are some; made once for each pair of the two."""
        settings, price_list, priced = self.settings, self.price_list, self._priced
        if price_list is None:
            return settings.snapshot
        if priced is None or priced[0] is not settings or priced[1] is not price_list:
            prices = price_table(settings.prices, *price_list, rows=settings.snapshot.providers)
            self._priced = priced = (settings, price_list, replace(settings.snapshot, prices=prices))
        return priced[2]

    def lose(self, count: str, number: int = 1) -> None:
        """Count what Envoy told and what will have no record."""
        self.counts[count] += number
        self._lost_at[count] = time.monotonic()

    def _losses(self) -> str | None:
        recent = [count for count, at in self._lost_at.items() if time.monotonic() < at + LOST_S]
        return f"finished calls may have no record: {', '.join(recent)}" if recent else None

    def problems(self) -> dict[str, str | None]:
        """Each part that can be degraded while calls go on, and what is wrong with it."""
        return {
            "settings": self.settings_problem,
            "prices": self.prices_problem,
            "spool": self.spool_problem,
            "ledger": self.ledger().get("problem"),
            "export": self.export().get("problem"),
            "limits": self.limits().get("problem"),
            "telemetry": self.telemetry().get("problem"),
            "records": self._losses(),
        }

    def events(self) -> dict[str, Any]:
        """What became of finished calls."""
        return {**self.ledger(), **self.export(), **self.limits()}

    def breakers(self) -> list[dict[str, Any]]:
        """The models that are not asked first for now."""
        return self.vitals.breakers()

    def health(self) -> dict[str, Any]:
        """What `/healthz` answers."""
        problems = {part: problem for part, problem in self.problems().items() if problem}
        return {
            "status": "degraded" if problems else "ok",
            "version": VERSION,
            "degraded": list(problems),
            "problems": problems,
            "settings_problem": self.settings_problem,
            "prices": {"version": self.snapshot.prices.version, "problem": self.prices_problem},
            "spool": self.spool(),
            "spool_problem": self.spool_problem,
            "records_problem": self._losses(),
            "orgs": len(self.settings.orgs),
            "clusters": [upstream.cluster for upstream in self.snapshot.upstreams],
            "breakers": self.breakers(),
            "first_tokens": self.vitals.first_tokens(),
            "ledger": self.ledger(),
            "export": self.export(),
            "limits": self.limits(),
            "telemetry": self.telemetry(),
            "counts": dict(sorted(self.counts.items())),
        }
