"""What the dashboards show: the same views in every back end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tools.dashboards.measures import (
    COST,
    DURATION,
    ERROR,
    FEATURE,
    FIRST_CHUNK,
    MODEL,
    ORG,
    PRICING,
    PROVIDER,
    REQUESTS,
    TOKEN_TYPE,
    TOKENS,
    How,
    Measure,
    share,
)

TITLE = "lectr: calls to language models"
ABOUT = "What calls through lectr cost, how long they take, who fails, and whether anything is lost."

Shape = Literal["number", "time", "table"]
"One value of the whole time range, lines over time, or rows of values of the whole time range."
Unit = Literal["", "USD", "s", "part"]


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture, and the question that it answers."""

    title: str
    text: str
    shape: Shape
    measures: Sequence[Measure]
    units: Sequence[Unit] = ("",)
    "Of each measure, or the same of all."

    def unit(self, place: int) -> Unit:
        """Of one measure."""
        return self.units[place if len(self.units) > 1 else 0]


@dataclass(frozen=True, slots=True)
class View:
    """Panels that belong together."""

    title: str
    panels: Sequence[Panel]


def _one(metric: str, how: How, *by: str) -> tuple[Measure]:
    return (Measure(metric=metric, how=how, by=by),)


def _named(metric: str, how: How, name: str, *by: str) -> Measure:
    return Measure(metric=metric, how=how, by=by, name=name)


_FAILED, _UNPRICED, _CACHED = {ERROR: True}, {PRICING: "unavailable"}, {TOKEN_TYPE: "cache_read"}
_BY_MODEL = (MODEL, PROVIDER)

VIEWS: Sequence[View] = (
    View(
        "Overview",
        (
            Panel("Requests", "How many calls ended, refused ones too.", "number", _one(REQUESTS, "total")),
            Panel("Cost", "What they cost, as far as prices are known.", "number", _one(COST, "total"), ["USD"]),
            Panel("Cost per hour", "On average.", "number", _one(COST, "per hour"), ["USD"]),
            Panel("Failed", "Which part of the calls.", "number", [share(_FAILED, REQUESTS)], ["part"]),
            Panel("Duration, p95", "From a call's start to its end.", "number", _one(DURATION, "p95"), ["s"]),
            Panel("Requests per minute", "On average.", "number", _one(REQUESTS, "per minute")),
            Panel(
                "Cost per hour, by organisation",
                "Who spends it, and when.",
                "time",
                _one(COST, "per hour", ORG),
                ["USD"],
            ),
            Panel(
                "Requests per minute, by provider", "Where calls go.", "time", _one(REQUESTS, "per minute", PROVIDER)
            ),
        ),
    ),
    View(
        "Models",
        (
            Panel(
                "Models",
                "Which models are asked, what they cost and how long they take. Durations are of every organisation "
                "and feature.",
                "table",
                [
                    _named(REQUESTS, "total", "Requests", *_BY_MODEL),
                    _named(COST, "total", "Cost", *_BY_MODEL),
                    _named(DURATION, "mean", "Duration, average", *_BY_MODEL),
                    _named(DURATION, "p95", "Duration, p95", *_BY_MODEL),
                ],
                ["", "USD", "s", "s"],
            ),
            Panel(
                "Cost per hour, by model",
                "What a change of models did.",
                "time",
                _one(COST, "per hour", MODEL),
                ["USD"],
            ),
        ),
    ),
    View(
        "Features",
        (
            Panel(
                "Features",
                "What each feature (X-Lectr-Feature) asks and costs; calls without one are untagged.",
                "table",
                [
                    _named(REQUESTS, "total", "Requests", FEATURE),
                    _named(COST, "total", "Cost", FEATURE),
                    Measure(
                        metric=TOKENS, how="total", by=(FEATURE,), where={TOKEN_TYPE: "input"}, name="Input tokens"
                    ),
                    Measure(
                        metric=TOKENS, how="total", by=(FEATURE,), where={TOKEN_TYPE: "output"}, name="Output tokens"
                    ),
                ],
                ["", "USD", "", ""],
            ),
            Panel(
                "Cost per hour, by feature",
                "Which feature became dear, and when.",
                "time",
                _one(COST, "per hour", FEATURE),
                ["USD"],
            ),
        ),
    ),
    View(
        "Errors",
        (
            Panel(
                "Failed, by provider",
                "Who fails, and when.",
                "time",
                [share(_FAILED, REQUESTS, by=(PROVIDER,))],
                ["part"],
            ),
            Panel(
                "Errors",
                "What went wrong: a provider's code, ours, a status, or what happened.",
                "table",
                [Measure(metric=REQUESTS, how="total", by=(ERROR, PROVIDER, MODEL), where=_FAILED, name="Calls")],
            ),
        ),
    ),
    View(
        "Latency",
        (
            Panel(
                "Time to the first token",
                "From the start of a streamed call to the first byte of its answer.",
                "time",
                [_named(FIRST_CHUNK, "p50", "p50"), _named(FIRST_CHUNK, "p95", "p95")],
                ["s"],
            ),
            Panel(
                "Time to the first token, p95, by model",
                "Which model keeps people waiting.",
                "time",
                _one(FIRST_CHUNK, "p95", MODEL),
                ["s"],
            ),
            Panel(
                "Duration",
                "Of whole calls.",
                "time",
                [_named(DURATION, "p50", "p50"), _named(DURATION, "p95", "p95")],
                ["s"],
            ),
            Panel("Duration, p95, by model", "Which model is slow.", "time", _one(DURATION, "p95", MODEL), ["s"]),
        ),
    ),
    View(
        "Tokens and cache",
        (
            Panel(
                "Tokens per minute, by type",
                "Cached ones are part of input, reasoning part of output.",
                "time",
                _one(TOKENS, "per minute", TOKEN_TYPE),
            ),
            Panel(
                "Input from caches, by model",
                "Which part of the prompts providers had cached, and charged less for.",
                "time",
                [
                    Measure(
                        metric=TOKENS,
                        how="total",
                        by=(MODEL,),
                        where=_CACHED,
                        over=Measure(metric=TOKENS, how="total", by=(MODEL,), where={TOKEN_TYPE: "input"}),
                    )
                ],
                ["part"],
            ),
        ),
    ),
    View(
        "Prices",
        (
            Panel(
                "Without a price",
                "Which part of the calls no cost is known of.",
                "number",
                [share(_UNPRICED, REQUESTS)],
                ["part"],
            ),
            Panel(
                "Models without a price",
                "What to write under `prices`, or whose price list is old. Their cost is missing in every other panel.",
                "table",
                [Measure(metric=REQUESTS, how="total", by=_BY_MODEL, where=_UNPRICED, name="Calls")],
            ),
        ),
    ),
    View(
        "Limits",
        (
            Panel(
                "Limits, used",
                "How far each limit of money is used, as of the last call that was held to it.",
                "time",
                _one("lectr.limit.used", "last", ORG, "limit", "for"),
                ["part"],
            ),
            Panel(
                "Limits at work",
                "Calls per minute that did not fit, or that no limit was held against because the counters were away.",
                "time",
                [
                    _named("lectr.limit.refused", "per minute", "refused"),
                    _named("lectr.limit.let_through", "per minute", "let through"),
                    _named("lectr.limit.store_errors", "per minute", "failed look-ups"),
                ],
            ),
        ),
    ),
    View(
        "Breakers",
        (
            Panel(
                "Models that are not asked first",
                "2: it failed too often, and comes behind all others. 1: one call tries it.",
                "time",
                _one("lectr.breaker.state", "last", PROVIDER, MODEL, "server.address"),
            ),
        ),
    ),
    View(
        "Nothing lost",
        (
            Panel(
                "Waiting to be written",
                "Calls on their way to the ledger.",
                "number",
                _one("lectr.ledger.queue", "last"),
            ),
            Panel(
                "Waiting to be exported",
                "Calls in the ledger whose spans are not sent.",
                "number",
                _one("lectr.export.lag", "last"),
            ),
            Panel("Waiting since", "Age of the first of them.", "number", _one("lectr.export.age", "last"), ["s"]),
            Panel(
                "Set aside",
                "Calls whose spans the collector refused.",
                "number",
                _one("lectr.export.set_aside", "last"),
            ),
            Panel(
                "Records per minute",
                "Lines that part are calls on their way, or lost ones.",
                "time",
                [
                    _named("lectr.events.received", "per minute", "received"),
                    _named("lectr.events.written", "per minute", "written"),
                    _named("lectr.events.exported", "per minute", "exported"),
                ],
            ),
            Panel(
                "Records dropped per minute, by reason",
                "Anything here is missing somewhere: data may be incomplete.",
                "time",
                _one("lectr.events.dropped", "per minute", "reason"),
            ),
            Panel(
                "Degraded",
                "1 while a part of lectr is degraded; /healthz says why.",
                "time",
                _one("lectr.degraded", "last", "part"),
            ),
        ),
    ),
)
