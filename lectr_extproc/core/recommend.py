"""Which traffic could go to a cheaper model of the same provider, what that would save, and how sure that is.

The ledger knows tokens, errors and the task that a client names, and never a prompt. So nothing is suggested that
cannot do whatever the present model can, and what is not known decides nothing. Thresholds are settings; the models to
suggest are the lineup's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import mul
from typing import Any, Literal, NamedTuple

from lectr_extproc.core.pricing import UNITS, PriceTable, Row, count, undated, usd
from lectr_extproc.core.report import Filters, cost_text
from lectr_extproc.core.tables import Known, Org
from lectr_extproc.core.usage import COUNTS, Usage

Boldness = Literal["conservative", "moderate", "aggressive"]
Confidence = Literal["low", "medium", "high"]

SIZES = (100_000, 128_000, 199_999, 200_000, 272_000)
"Above which input some model of the catalogue costs more: calls are added up apart from those below."
MOSTLY = 0.9
"Of the calls; a few long ones do not make prompts long."
LARGE = 10
"Times `min_calls`: from such a sample on an error rate of a per cent is known to half a per cent."
MONTH_DAYS = 30

_HOUR_NS = 3600 * 10**9
_DAY_S = 86_400
_REQUEST, _AUDIO_HOUR, _OUTPUT = (UNITS.index(unit) for unit in ("request", "audio_hour", "output"))
_CONFIDENCES: tuple[Confidence, ...] = ("low", "medium", "high")

_ANYBODY = Org(name="-")

_BY_TASK: Mapping[str, tuple[Boldness, Boldness]] = {
    "classification": ("aggressive", "aggressive"),
    "extraction": ("aggressive", "moderate"),
    "summarisation": ("moderate", "conservative"),
}
"How far to go down where prompts are short, and where they are long."


@dataclass(frozen=True, slots=True, kw_only=True)
class Advising:
    """What is worth suggesting."""

    days: int = 30
    min_days: float = 7
    min_calls: int = 100
    min_saving_usd: float = 1
    "A month."
    short_prompt_tokens: int = 1000
    short_output_tokens: int = 200
    max_error_rate: float = 0.05


class Part(NamedTuple):
    """Calls that are priced alike."""

    calls: int
    usage: Usage
    "Of all of them."
    service_tier: str | None
    hour: int
    "Of the UTC day: some prices differ by it."


@dataclass(slots=True)
class Traffic:
    """What the calls of one group add up to."""

    calls: int = 0
    errors: int = 0
    "By the provider's answer, or for want of one."
    since_ns: int = 2**63
    "When the first one began."
    counted: int = 0
    "Calls of which the provider told the tokens; the others are no calls without tokens."
    short_prompts: int = 0
    short_outputs: int = 0
    most_input: int = 0
    most_output: int = 0
    parts: list[Part] = field(default_factory=list)

    @property
    def error_rate(self) -> float:
        """Of the calls."""
        return self.errors / self.calls


Key = tuple[str | None, str | None, str, str, str | None]
"Org, feature, provider, model as sent, task."


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a recommendation rests on."""

    since: datetime
    days: float
    calls: int
    counted: int
    error_rate: float
    short_prompts: float
    "The part of the counted calls."
    short_outputs: float
    most_input: int
    most_output: int
    target_calls: int
    "Of the same org, whatever the feature."
    target_error_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """Another model for one org's calls of one feature and task."""

    org: str | None
    feature: str | None
    task: str | None
    provider: str
    model: str
    target: str
    target_retires: date | None
    boldness: Boldness
    confidence: Confidence
    cost_usd: Decimal
    "A month of these calls at today's prices."
    saving_usd: Decimal
    evidence: Evidence


# --- from the ledger --------------------------------------------------------------------------------------------------


def statement(filters: Filters, rule: Advising) -> tuple[str, list[Any]]:
    """The question whose rows `traffic_of` reads. Models that the gateway chose are no client's to change.

    Numbers and what differs most are grouped by first: SQLite sorts, and texts take it longer.
    """
    where, values = filters.where()
    # As integers: those that PostgreSQL makes of their sums take Python longer to read than the database to add up.
    sums = ", ".join(f"CAST(sum({name}) AS BIGINT)" for name in COUNTS)
    size = " ".join(f"WHEN input_tokens > {size} THEN {size}" for size in reversed(SIZES))
    sql = (
        "SELECT org, feature, provider, model_sent, task_known, service_tier,"  # noqa: S608 - our own names and numbers
        f" started_ns / {_HOUR_NS} - started_ns / {24 * _HOUR_NS} * 24 AS hour, CASE {size} ELSE 0 END AS size,"
        " CASE WHEN token_source = 'provider' THEN 1 ELSE 0 END AS told, count(*),"
        " sum(CASE WHEN error_source = 'provider' THEN 1 ELSE 0 END), min(started_ns),"
        f" sum(CASE WHEN input_tokens <= {rule.short_prompt_tokens} THEN 1 ELSE 0 END),"
        f" sum(CASE WHEN output_tokens <= {rule.short_output_tokens} THEN 1 ELSE 0 END),"
        f" max(input_tokens), max(output_tokens), {sums}"
        " FROM calls WHERE provider IS NOT NULL AND model_sent IS NOT NULL AND candidates IS NULL"
        f" AND {where}"
        " GROUP BY hour, size, told, model_sent, feature, org, provider, task_known, service_tier"
    )
    return sql, values


def traffic_of(rows: Iterable[Sequence[Any]]) -> dict[Key, Traffic]:
    """The rows, by who asks whom for what."""
    found: dict[Key, Traffic] = {}
    for org, feature, provider, model, task, tier, hour, _, told, calls, errors, since_ns, *counted in rows:
        traffic = found.setdefault((org, feature, provider, model, task), Traffic())
        traffic.calls += calls
        traffic.errors += int(errors)
        traffic.since_ns = min(traffic.since_ns, since_ns)
        if told:
            short_prompts, short_outputs, most_input, most_output, *sums = counted
            usage = Usage(**{name: None if n is None else int(n) for name, n in zip(COUNTS, sums, strict=True)})
            traffic.counted += calls
            traffic.short_prompts += int(short_prompts)
            traffic.short_outputs += int(short_outputs)
            traffic.most_input = max(traffic.most_input, most_input or 0)
            traffic.most_output = max(traffic.most_output, most_output or 0)
            traffic.parts.append(Part(calls, usage, tier, int(hour)))
    return found


# --- what to suggest --------------------------------------------------------------------------------------------------


def boldness(task: str | None, *, short_prompts: bool, short_outputs: bool) -> Boldness | None:
    """How far down a task allows to go. Where it says nothing, or no more than "write something", the lengths decide.

    What is answered shortly is mostly a choice, a value or a line, while a long answer may be anything.
    """
    if task == "reasoning":
        return None
    if task is not None and task in _BY_TASK:
        return _BY_TASK[task][not short_prompts]
    if not short_outputs:
        return None
    return "moderate" if task is None and short_prompts else "conservative"


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What traffic is compared with, at one time."""

    prices: PriceTable
    lineup: Mapping[tuple[str, str], Known]
    orgs: Mapping[str, Org]
    "By name; of one that is gone nothing is known."
    at_s: int


def recommend(traffic: Mapping[Key, Traffic], market: Market, rule: Advising) -> list[Recommendation]:
    """What to suggest, the largest saving first."""
    tried = _by_model(traffic)
    found = [one for key, seen in traffic.items() if (one := _recommend_for(key, seen, tried, market, rule))]
    return sorted(found, key=lambda one: (-one.saving_usd, str(one.org), str(one.feature), one.model, str(one.task)))


_Tried = Mapping[tuple[str | None, str, str], Traffic]


def _recommend_for(key: Key, seen: Traffic, tried: _Tried, market: Market, rule: Advising) -> Recommendation | None:
    org, feature, provider, model, task = key
    days = (market.at_s - seen.since_ns / 10**9) / _DAY_S
    if seen.counted < rule.min_calls or days < rule.min_days or seen.error_rate > rule.max_error_rate:
        return None
    lineup = market.lineup
    known = lineup.get((provider, model)) or lineup.get((provider, undated(model)))
    prompts, outputs = seen.short_prompts / seen.counted, seen.short_outputs / seen.counted
    bold = boldness(task, short_prompts=prompts >= MOSTLY, short_outputs=outputs >= MOSTLY)
    cost = monthly(seen.parts, market.prices.row(provider, model), market.at_s, days)
    if known is None or bold is None or cost is None:
        return None
    fit = [
        (price, target)
        for target in _targets(known, provider, bold, lineup)
        if (price := monthly(seen.parts, market.prices.row(provider, target.model), market.at_s, days)) is not None
        and _can_do(target, known, seen, market.at_s)
        and market.orgs.get(org or "", _ANYBODY).may_use(provider, target.model)
        and not _fails(tried.get((org, provider, target.model)), rule)
    ]
    price, target = min(fit, key=lambda one: one[0], default=(cost, known))
    if usd(cost - price) < Decimal(str(rule.min_saving_usd)) or price >= cost:
        return None
    other = tried.get((org, provider, target.model), Traffic())
    points = (task is not None) + (seen.counted >= LARGE * rule.min_calls) + (other.calls >= rule.min_calls)
    return Recommendation(
        org=org,
        feature=feature,
        task=task,
        provider=provider,
        model=model,
        target=target.model,
        target_retires=target.retires,
        boldness=bold,
        confidence=_CONFIDENCES[min(points, 2)],
        cost_usd=_cents(cost),
        saving_usd=_cents(cost - price),
        evidence=Evidence(
            since=datetime.fromtimestamp(seen.since_ns // 10**9, UTC),
            days=round(days, 1),
            calls=seen.calls,
            counted=seen.counted,
            error_rate=round(seen.error_rate, 4),
            short_prompts=round(prompts, 3),
            short_outputs=round(outputs, 3),
            most_input=seen.most_input,
            most_output=seen.most_output,
            target_calls=other.calls,
            target_error_rate=round(other.error_rate, 4) if other.calls else None,
        ),
    )


def _fails(other: Traffic | None, rule: Advising) -> bool:
    """Whether an org has seen enough of a model to know that it fails there."""
    return other is not None and other.calls >= rule.min_calls and other.error_rate > rule.max_error_rate


def _by_model(traffic: Mapping[Key, Traffic]) -> dict[tuple[str | None, str, str], Traffic]:
    """What an org has seen of each model, under its name without a date too."""
    found: dict[tuple[str | None, str, str], Traffic] = {}
    for (org, _, provider, model, _), seen in traffic.items():
        for name in {model, undated(model)}:
            total = found.setdefault((org, provider, name), Traffic())
            total.calls += seen.calls
            total.errors += seen.errors
    return found


def _targets(known: Known, provider: str, bold: Boldness, lineup: Mapping[tuple[str, str], Known]) -> Iterator[Known]:
    """The models below: the most cautious alone, all that are a step away, or all there are on the way down."""
    names = list(known.to[:1] if bold == "conservative" else known.to)
    met = {known.model, *names}
    for name in names:  # it grows meanwhile
        target = lineup[provider, name]
        yield target
        if bold == "aggressive":
            names += [further for further in target.to if further not in met]
            met.update(target.to)


def _can_do(target: Known, known: Known, seen: Traffic, at_s: int) -> bool:
    """What of a prompt the ledger does not know, pictures for instance, the present model's abilities stand for."""
    return (
        not target.is_retired(datetime.fromtimestamp(at_s, UTC).date())
        and target.lacks <= known.lacks
        and (target.window is None or seen.most_input <= target.window)
        and (target.max_output is None or seen.most_output <= target.max_output)
    )


def monthly(parts: Iterable[Part], row: Row | None, at_s: int, days: float) -> int | None:
    """Pico-USD that a month of these calls costs at today's prices; None if a part of it has no price."""
    if row is None:
        return None
    midnight, total = at_s - at_s % _DAY_S, 0
    for part in parts:
        held, _ = row.rates(midnight + part.hour * 3600, part.service_tier)
        counts = count(part.usage, row.minimum_audio_s * part.calls)
        unpriced = any(unit < len(counts) and counts[unit] for unit in held.lacks)
        if unpriced or (held.splits_output and counts[_OUTPUT] and part.usage.image_output_tokens is None):
            return None
        amounts = list(map(mul, counts, held.level((part.usage.input_tokens or 0) // part.calls)))
        amounts[_REQUEST] *= part.calls
        if len(amounts) > _AUDIO_HOUR:
            amounts[_AUDIO_HOUR] //= 3600
        total += sum(amounts)
    return round(total * MONTH_DAYS / days)


def _cents(pico: int) -> Decimal:
    return round(usd(pico), 2)


# --- as it is shown ---------------------------------------------------------------------------------------------------


def as_json(found: Iterable[Recommendation]) -> list[dict[str, Any]]:
    """For programs: money and moments as text, what is not known absent."""
    return [_known(asdict(one) | {"evidence": _known(asdict(one.evidence))}) for one in found]


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Decimal) else value.isoformat() if isinstance(value, date) else value
        for name, value in fields.items()
        if value is not None
    }


def as_text(found: Sequence[Recommendation]) -> str:
    """For people: three lines each."""
    return "\n\n".join(map(_lines, found)) or "nothing to recommend"


def _lines(one: Recommendation) -> str:
    seen = one.evidence
    what = f"{one.org or '-'}, feature {one.feature or '-'}, task {one.task or '-'}"
    target = f"; {one.target}: {seen.target_error_rate:.1%} of {seen.target_calls:,}" if seen.target_calls else ""
    ends = f", which retires {one.target_retires}" if one.target_retires else ""
    return (
        f"{what}: {one.provider}/{one.model} → {one.target}{ends}\n"
        f"  saves {cost_text(one.saving_usd)} of {cost_text(one.cost_usd)} a month, confidence {one.confidence}"
        f" ({one.boldness})\n"
        f"  {seen.calls:,} calls in {seen.days:,} days, tokens known of {seen.counted:,},"
        f" errors {seen.error_rate:.1%}{target}"
    )
