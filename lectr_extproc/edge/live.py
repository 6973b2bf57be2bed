"""What the running process shares: the settings in force, and the counts and states that `/healthz` shows."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.settings import Settings


@dataclass(slots=True)
class Live:
    """One per process. Settings are swapped by one assignment; a handler reads them once, at its top."""

    settings: Settings
    settings_problem: str | None = None
    "Why the newest file is not in force, when it is not."
    counts: Counter[str] = field(default_factory=Counter)
    telemetry: Callable[[], dict[str, Any]] = dict
    "What telemetry says of itself."
    draining: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def snapshot(self) -> Snapshot:
        return self.settings.snapshot

    def health(self) -> dict[str, Any]:
        """What `/healthz` answers."""
        return {
            "status": "degraded" if self.settings_problem else "ok",
            "settings_problem": self.settings_problem,
            "orgs": len(self.settings.orgs),
            "clusters": [upstream.cluster for upstream in self.snapshot.upstreams],
            "telemetry": self.telemetry(),
            "counts": dict(sorted(self.counts.items())),
        }
