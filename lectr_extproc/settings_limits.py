"""The limits of an org: what may be written, and the values: one for each thing that is limited."""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from lectr_extproc.core.limits import Kind, Limit, OrgLimits
from lectr_extproc.core.pricing import PICO
from lectr_extproc.settings_types import Label, Section


class ForSection(Section):
    """Whose calls a limit is for: one of the three."""

    key: str | None = Field(default=None, min_length=1, description="The label of one of this org's keys.")
    feature: Label | None = Field(default=None, description="X-Lectr-Feature.")
    model: str | None = Field(default=None, min_length=1, description="As clients write it, or as it is sent.")

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if sum(value is not None for value in (self.key, self.feature, self.model)) != 1:
            raise ValueError("name a key, a feature or a model, one of them")
        return self


Usd = Annotated[Decimal, Field(gt=0, le=10**5, allow_inf_nan=False)]

Most = Annotated[int, Field(gt=0, le=10**9)]


def _window(value: object) -> object:
    """Seconds, or a number and the unit of time it counts."""
    if isinstance(value, str) and (found := re.fullmatch(r"([0-9]{1,7})([smhd])", value)):
        return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
    return value


class RollingSection(Section):
    """So much money in whatever stretch of time of this length."""

    usd: Usd = Field(description="USD.")
    window: Annotated[
        Annotated[int, Field(ge=60, le=31 * 86400)],
        BeforeValidator(_window, json_schema_input_type=int | str),
    ] = Field(description="Seconds, or 90s, 30m, 1h, 7d.")


class _Amounts(Section):
    daily_usd: Usd | None = Field(default=None, description="USD per day, which begins at 00:00 UTC.")
    monthly_usd: Usd | None = Field(default=None, description="USD per calendar month (UTC).")
    rolling: list[RollingSection] = Field(default_factory=list, description="USD within a window that slides.")
    requests_per_minute: Most | None = Field(
        default=None, description="A bucket of so many that refills, full at first."
    )
    tokens_per_minute: Most | None = Field(default=None, description="The same for tokens, of prompts and answers.")
    parallel_streams: Most | None = Field(default=None, description="Streams that are open at a time.")
    over: Literal["refuse", "economy", "standard", "premium"] = Field(
        default="refuse", description="What becomes of calls beyond these: 429, or a model of this tier, and no bound."
    )
    warn_at: list[Annotated[Decimal, Field(gt=0, le=1)]] = Field(
        default_factory=lambda: [Decimal("0.8"), Decimal(1)],
        description="Parts of the money that are told to the webhook, each once in a day, a month or a window.",
    )


class LimitSection(_Amounts):
    """Limits for a part of an org's calls, beside those for all of them."""

    for_: ForSection | None = Field(default=None, alias="for", description="Default: every call of the org.")


class OrgLimitsSection(_Amounts):
    """What an org may use (docs/limits.md)."""

    narrower: list[LimitSection] = Field(default_factory=list, description="For one key, feature or model each.")
    when_store_is_away: Literal["open", "closed"] = Field(
        default="open",
        description="What becomes of calls while the ledger's database cannot be had: they go on, or get 503.",
    )
    assumed_output_tokens: Annotated[int, Field(gt=0, le=10**6)] = Field(
        default=4096, description="How long an answer is taken to be that its call does not bound, until it is over."
    )


def org_limits(org: str, labels: Iterable[str], limits: OrgLimitsSection) -> dict[str, OrgLimits]:
    """By the label of a key, what its calls are held to."""
    rows = [*_rows(org, limits, ForSection.model_construct())]
    for narrower in limits.narrower:
        rows += _rows(org, narrower, narrower.for_ or ForSection.model_construct())
    return {
        label: OrgLimits(
            rows=tuple(row for row in rows if row.key in (None, label)),
            is_closed=limits.when_store_is_away == "closed",
            assumed_output=limits.assumed_output_tokens,
        )
        for label in labels
    }


def _rows(org: str, section: OrgLimitsSection | LimitSection, of: ForSection) -> Iterator[Limit]:
    over = None if section.over == "refuse" else section.over

    def limit(kind: Kind, most: int, window_s: int = 0) -> Limit:
        return Limit(
            org=org,
            kind=kind,
            most=most,
            window_s=window_s,
            key=of.key,
            feature=of.feature,
            model=of.model,
            over=over,
            warn_at=tuple(int(part * 100) for part in section.warn_at) if kind in _MONEY else (),
        )

    if section.daily_usd is not None:
        yield limit("daily", int(section.daily_usd * PICO))
    if section.monthly_usd is not None:
        yield limit("monthly", int(section.monthly_usd * PICO))
    for rolling in section.rolling:
        yield limit("rolling", int(rolling.usd * PICO), rolling.window)
    if section.requests_per_minute is not None:
        yield limit("requests", section.requests_per_minute)
    if section.tokens_per_minute is not None:
        yield limit("tokens", section.tokens_per_minute)
    if section.parallel_streams is not None:
        yield limit("streams", section.parallel_streams)


_MONEY = ("daily", "monthly", "rolling")
