"""The limits of an org's settings as values: one for each thing that is limited, for the keys that it is for."""

from collections.abc import Iterator

from lectr_extproc.core.limits import Kind, Limit, OrgLimits
from lectr_extproc.core.pricing import PICO
from lectr_extproc.settings_file import ForSection, LimitSection, OrgLimitsSection, OrgSection


def org_limits(section: OrgSection) -> dict[str, OrgLimits]:
    """By the label of a key, what its calls are held to; nothing, where there are no limits."""
    limits = section.limits
    if limits is None:
        return {}
    rows = [*_rows(section.name, limits, ForSection.model_construct())]
    for narrower in limits.narrower:
        rows += _rows(section.name, narrower, narrower.for_ or ForSection.model_construct())
    return {
        key.label: OrgLimits(
            rows=tuple(row for row in rows if row.key in (None, key.label)),
            is_closed=limits.when_store_is_away == "closed",
            assumed_output=limits.assumed_output_tokens,
        )
        for key in section.keys
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
