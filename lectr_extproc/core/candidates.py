"""Which models a call that leaves the choice to the gateway may go to, in which order, and why not to the others.

Whether an org can reach a provider is asked of the caller; what a conversation needs, what models are and what they
cost is compared here. The figures are data (`catalog/ranking.py`); an unknown one never drops a model, it only comes
later in the order.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import NamedTuple

from lectr_extproc.core.auto import Score, Tier
from lectr_extproc.core.conversation import Conversation
from lectr_extproc.core.pricing import PriceTable, price
from lectr_extproc.core.tables import CatalogError, Known
from lectr_extproc.core.usage import Usage
from lectr_extproc.core.words import Prefer

CHAT_APIS = frozenset(
    {"openai.chat", "openai.responses", "openai.input_tokens", "anthropic.messages", "anthropic.count_tokens"}
    | {"gemini.generate"}
)
"In which a model of conversations is asked."

ABILITIES = ("vision", "tools", "json", "audio")
_SHARES = (100, 33)
"Of input and of output in what orders by price: a third of a token is written for each that is read."
ANSWER_TOKENS = 500
"How long an answer is taken to be where the client does not bound it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A model to choose, and what is known of it. Figures have sources, and what nobody published is None."""

    provider: str
    model: str
    tier: Tier | None = None
    apis: frozenset[str] | None = None
    "None: whatever its provider speaks."
    lacks: frozenset[str] = frozenset()
    "What it certainly cannot do, of ABILITIES."
    quality: float | None = None
    "GPQA Diamond, per cent."
    coding: float | None = None
    "SWE-bench Verified, per cent."
    first_token_ms: int | None = None
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        figures = (self.quality, self.coding, self.first_token_ms)
        if not self.lacks <= set(ABILITIES) or (any(figure is not None for figure in figures) and not self.sources):
            raise CatalogError(f"model {self.model!r}: an ability there is not, or a figure without a source")


class Candidate(NamedTuple):
    """A model that fits, and what it would cost."""

    row: Ranked
    price: int | None
    "What orders by price: pico-USD for 100 tokens read and 33 written."
    estimate: int | None
    "Pico-USD for this call, if the answer is as long as the client allows, or usual."
    sick_until_s: int | None = None
    "It has failed too often to be asked before the others until then (s since 1970)."
    measured_ms: int | None = None
    "How soon its streams began here, lately."

    @property
    def first_token_ms(self) -> int | None:
        """As measured here, or else as published."""
        return self.row.first_token_ms if self.measured_ms is None else self.measured_ms


class Dropped(NamedTuple):
    """A model that does not, and the first reason."""

    model: str
    provider: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The models for one call, the first to be asked first."""

    candidates: tuple[Candidate, ...]
    dropped: tuple[Dropped, ...]
    prefer: Prefer | None = None
    tier: Tier | None = None
    auto: Score | None = None


def make_plan(
    rows: Iterable[Ranked],
    conversation: Conversation,
    refusal: Callable[[Ranked], str | None],
    *,
    sick_until_s: Callable[[Ranked], int | None] = lambda _: None,
    measured_ms: Callable[[Ranked], int | None] = lambda _: None,
    lineup: Mapping[tuple[str, str], Known],
    prices: PriceTable,
    at_s: int,
    prefer: Prefer | None = None,
    tier: Tier | None = None,
    auto: Score | None = None,
) -> Plan:
    """Candidates in order: by preference, or as they are written where there is none; behind them those that are sick.

    Where only windows are too small, they are not asked about: what does not fit is the provider's to say.
    """
    today = datetime.fromtimestamp(at_s, UTC).date()
    tokens = conversation.tokens
    output = conversation.max_output or ANSWER_TOKENS
    usage = Usage(input_tokens=tokens - (conversation.max_output or 0), output_tokens=output)
    needs = [ability for ability in ABILITIES if getattr(conversation, f"needs_{ability}")]
    fit: list[Candidate] = []
    small: list[Candidate] = []
    dropped: list[Dropped] = []
    for row in rows:
        known = lineup.get((row.provider, row.model))
        reason = "retired" if row.tier and known and known.is_retired(today) else refusal(row)
        reason = reason or next((ability for ability in needs if ability in row.lacks), None)
        if reason is not None:
            dropped.append(Dropped(row.model, row.provider, reason))
            continue
        found = prices.row(row.provider, row.model)
        level = found.rates(at_s)[0].level(tokens) if found else None
        per_token = _SHARES[0] * level[0] + _SHARES[1] * level[1] if level else None
        until_s = sick_until_s(row)
        is_sick = until_s is not None and until_s > at_s
        estimate = price(usage, found, at_s).total
        candidate = Candidate(row, per_token, estimate, until_s if is_sick else None, measured_ms(row))
        (small if known and known.window and known.window < tokens else fit).append(candidate)
    if fit:
        dropped += [Dropped(one.row.model, one.row.provider, "context") for one in small]
    candidates = fit or small
    if prefer is not None:
        candidates.sort(key=_ORDERS[prefer])
    candidates.sort(key=lambda one: one.sick_until_s is not None)
    return Plan(candidates=tuple(candidates), dropped=tuple(dropped), prefer=prefer, tier=tier, auto=auto)


def _low(value: float | None) -> float:
    return inf if value is None else value


def _high(value: float | None) -> float:
    return inf if value is None else -value


_Key = Callable[[Candidate], tuple[float, ...]]
_BY_PRICE: _Key = lambda one: (_low(one.price), _high(one.row.quality))  # noqa: E731
_ORDERS: Mapping[Prefer, _Key] = {
    "cheap": _BY_PRICE,
    "balanced": _BY_PRICE,
    "fast": lambda one: (_low(one.first_token_ms), _high(one.row.quality), _low(one.price)),
    "quality": lambda one: (_high(one.row.quality), _low(one.price)),
    "coding": lambda one: (_high(one.row.coding), _high(one.row.quality), _low(one.price)),
}
"What nobody knows comes last."
