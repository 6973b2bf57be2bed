"""What somebody is to be told of, once for all back ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lectr_extproc.core.exceeded import CODES
from tools.dashboards.measures import (
    COST,
    DURATION,
    ERROR,
    FIRST_CHUNK,
    MODEL,
    ORG,
    PRICING,
    PROVIDER,
    REQUESTS,
    Measure,
    Other,
    share,
)

NOT_THEIRS = Other(("cancelled", "model_not_allowed", *sorted({*CODES.values()} - {"rate_limit_exceeded"})))
"Failures of a provider, less those that clients and limits made. That one code is OpenAI's own, too."


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Something that ought not to be: a measure over so many minutes that is above a figure."""

    name: str
    measure: Measure
    above: float = 0
    minutes: int = 15
    lasts: int = 0
    "For so many minutes, before it is told."
    enough: int = 0
    "Of a share: of fewer it says nothing."
    times_last_week: int = 0
    "And more than so many times what it was at this hour a week before."
    is_silence: bool = False
    "The measure is not there at all, instead."
    severity: Literal["critical", "warning", "info"] = "warning"
    summary: str
    do: str

    @property
    def runbook(self) -> str:
        """Where it is said what to do."""
        return f"docs/dashboards.md#{self.name.lower()}"


RULES: Sequence[Rule] = (
    Rule(
        name="LectrCostSpike",
        measure=Measure(metric=COST, how="per hour", by=(ORG,)),
        above=1,
        minutes=60,
        times_last_week=3,
        summary="An organisation spends 3 times what it spent at this hour last week",
        do="Look which model and feature it is. Bound it with `limits`, or send that feature elsewhere with a rule.",
    ),
    Rule(
        name="LectrErrors",
        measure=share({ERROR: NOT_THEIRS}, REQUESTS, by=(PROVIDER,), of={PROVIDER: True}),
        above=0.1,
        enough=20,
        severity="critical",
        summary="More than a tenth of the calls to a provider fail",
        do="The table of errors says how. Limits and hang-ups do not count. A pinned call needs a rule.",
    ),
    Rule(
        name="LectrSlow",
        measure=Measure(metric=DURATION, how="p95", by=(MODEL,)),
        above=60,
        lasts=15,
        summary="One in twenty calls to a model takes longer than a minute",
        do="Compare with its time to the first token: long answers, or a slow provider. Send part of it elsewhere.",
    ),
    Rule(
        name="LectrSlowFirstToken",
        measure=Measure(metric=FIRST_CHUNK, how="p95", by=(MODEL,)),
        above=10,
        lasts=15,
        summary="One in twenty streams of a model begins later than after 10 seconds",
        do="`lectr.provider_ttft_ms` and `lectr.gateway_ms` on its spans say whose time it is.",
    ),
    Rule(
        name="LectrBreakerOpen",
        measure=Measure(metric="lectr.breaker.state", how="last", by=(PROVIDER, MODEL, "server.address")),
        above=1,
        lasts=2,
        summary="A model fails so often that it is not asked first any more",
        do="`lectr status` says since when. Chosen calls go elsewhere meanwhile; pinned ones still go there and fail.",
    ),
    Rule(
        name="LectrLimitNear",
        measure=Measure(metric="lectr.limit.used", how="last", by=(ORG, "limit", "for")),
        above=0.8,
        summary="More than four fifths of a limit are used",
        do="`lectr limits` says how much and until when. Raise it, or tell them: beyond it their calls get 429.",
    ),
    Rule(
        name="LectrLimitReached",
        measure=Measure(metric="lectr.limit.refused", how="total"),
        summary="Calls were refused by a limit",
        do="`lectr limits` shows which is used up; the table of errors whose calls got 429.",
    ),
    Rule(
        name="LectrLimitsNotHeld",
        measure=Measure(metric="lectr.limit.let_through", how="total"),
        severity="critical",
        summary="Calls were held to no limit, because their counters could not be had",
        do="`limits` on /healthz says why: the ledger's database is away, or too slow.",
    ),
    Rule(
        name="LectrRecordsLost",
        measure=Measure(metric="lectr.events.dropped", how="total", by=("reason",)),
        severity="critical",
        summary="Calls were lost: the ledger or what is exported is incomplete",
        do="The reason says where. `queue_full` and `unwritable`: missing in the ledger. Others: in the spans only.",
    ),
    Rule(
        name="LectrExportBehind",
        measure=Measure(metric="lectr.export.age", how="last"),
        above=600,
        lasts=5,
        summary="Spans are more than ten minutes late",
        do="`export` on /healthz says why. Nothing is lost yet: they wait in the ledger for seven days.",
    ),
    Rule(
        name="LectrExportRefused",
        measure=Measure(metric="lectr.events.refused", how="total"),
        summary="The collector refused spans for good",
        do="`lectr outbox` says with what answer. Mend that, then `lectr outbox retry`.",
    ),
    Rule(
        name="LectrUnpriced",
        measure=Measure(metric=REQUESTS, how="total", by=(PROVIDER, MODEL), where={PRICING: "unavailable"}),
        minutes=60,
        severity="info",
        summary="Calls have no price: what they cost is in no sum",
        do="Write the model under `prices`, or name a newer list under `catalogue`. `lectr price` shows what is known.",
    ),
    Rule(
        name="LectrDegraded",
        measure=Measure(
            metric="lectr.degraded",
            how="last",
            by=("part",),
            where={"part": ("prices", "spool", "ledger", "export", "limits", "telemetry", "records")},
        ),
        lasts=5,
        summary="A part of lectr is degraded; calls go on",
        do="/healthz says what is wrong with it, and so does the log.",
    ),
    Rule(
        name="LectrSettingsRefused",
        measure=Measure(metric="lectr.degraded", how="last", where={"part": "settings"}),
        lasts=1,
        summary="The newest lectr.yaml is not in force",
        do="`lectr check` lists its mistakes; until they are mended the settings before stay.",
    ),
    Rule(
        name="LectrSilent",
        measure=Measure(metric="lectr.degraded", how="last"),
        lasts=5,
        is_silence=True,
        severity="critical",
        summary="No lectr tells anything",
        do="Without one Envoy answers every call with 503. Look whether it runs, and whether its metrics can be had.",
    ),
)
