"""What can be asked of lectr's metrics, in words of no back end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

REQUESTS, COST, TOKENS = "lectr.llm.requests", "lectr.llm.cost", "lectr.llm.tokens"
DURATION, FIRST_CHUNK = "gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk"

ORG, PROVIDER, MODEL, FEATURE = "lectr.org", "gen_ai.provider.name", "gen_ai.request.model", "lectr.feature"
ERROR, TOKEN_TYPE, PRICING = "error.type", "gen_ai.token.type", "lectr.pricing_status"

FILTERS: Mapping[str, str] = {"org": ORG, "provider": PROVIDER, "model": MODEL, "feature": FEATURE}
"What a reader of a dashboard can choose, and the label that it is."

_COMMON = frozenset({"gen_ai.operation.name", PROVIDER, MODEL, "gen_ai.response.model"})
_CALLS = _COMMON | {ORG, FEATURE}
LABELS: Mapping[str, frozenset[str]] = {
    REQUESTS: _CALLS | {"lectr.task", ERROR, PRICING},
    COST: _CALLS,
    TOKENS: _CALLS | {TOKEN_TYPE},
    DURATION: _COMMON | {ERROR, "server.address"},
    FIRST_CHUNK: _COMMON,
    "lectr.breaker.state": frozenset({PROVIDER, MODEL, "server.address"}),
    "lectr.degraded": frozenset({"part"}),
    "lectr.events.dropped": frozenset({"reason"}),
    "lectr.limit.used": frozenset({ORG, "limit", "for"}),
}
"By metric; the others have none."


@dataclass(frozen=True, slots=True)
class Other:
    """A label is there, and has none of these values."""

    than: tuple[str, ...]


Value = str | tuple[str, ...] | bool | Other
"Of a label: this one, one of these, another one; or that it is there, or that it is not."

How = Literal["total", "per minute", "per hour", "p50", "p95", "mean", "last"]
COUNTED = frozenset({"total", "per minute", "per hour"})
"These are asked of counters; `last` of gauges, and the others of histograms."


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One question about one metric. With `over` it is a part of that: both have the same `how` and `by`."""

    metric: str
    how: How
    name: str = ""
    "For people, where one panel has several."
    by: tuple[str, ...] = ()
    where: Mapping[str, Value] = field(default_factory=dict)
    over: "Measure | None" = None

    def __post_init__(self) -> None:
        if strange := {*self.by, *self.where} - LABELS.get(self.metric, frozenset()):
            raise ValueError(f"{self.metric} has no label {', '.join(sorted(strange))}")

    @property
    def filters(self) -> tuple[str, ...]:
        """Which of the reader's choices narrow it."""
        return tuple(name for name, label in FILTERS.items() if label in LABELS.get(self.metric, frozenset()))


def share(part: Mapping[str, Value], metric: str, *, by: tuple[str, ...] = (), of: Mapping[str, Value] = {}) -> Measure:
    """Which part of what was counted is so."""
    whole = Measure(metric=metric, how="total", by=by, where=of)
    return Measure(metric=metric, how="total", by=by, where={**of, **part}, over=whole)
