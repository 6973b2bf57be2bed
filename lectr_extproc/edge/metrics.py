"""Every finished call in counters and histograms, before any span is sampled or lost: money is added up here.

Batches are added up first, for a measurement costs the SDK 7 µs. Labels that clients choose are bounded.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource

from lectr_extproc.core.pricing import PICO
from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge import attributes as names

SCOPE_NAME = "lectr_extproc"
SCOPE_VERSION = version("lectr-extproc")

IsKnown = Callable[[str, str], bool]
"(provider, model) -> is this name in the price table?"

FEATURE_LIMIT, MODEL_LIMIT, ERROR_LIMIT = 100, 500, 100
"How many values of a label are told apart: clients choose them, and each is a series in somebody's back end."

METRICS: Mapping[str, tuple[str, str]] = {
    "lectr.llm.requests": ("{request}", "Finished calls, refused ones too."),
    "lectr.llm.cost": ("{USD}", "What calls cost, where the price is known."),
    "lectr.llm.tokens": ("{token}", "Tokens used; cached and reasoning ones are in input and output, too."),
    "gen_ai.client.token.usage": ("{token}", "Tokens used per call."),
    "gen_ai.client.operation.duration": ("s", "From the start of a call to its end."),
    "gen_ai.client.operation.time_to_first_chunk": ("s", "From the start of a streamed call to its first byte."),
    "lectr.events.received": ("{event}", "Finished calls that Envoy told of."),
    "lectr.events.written": ("{event}", "Calls that were written to the ledger."),
    "lectr.events.exported": ("{event}", "Calls whose spans the collector took."),
    "lectr.events.refused": ("{event}", "Calls whose spans the collector refused for good; they are set aside."),
    "lectr.events.dropped": ("{event}", "Calls that were lost."),
    "lectr.ledger.queue": ("{event}", "Calls that wait to be written."),
    "lectr.export.lag": ("{event}", "Calls in the ledger that are not exported yet, at most."),
    "lectr.export.age": ("s", "Since the first of them began."),
    "lectr.export.set_aside": ("{event}", "Calls in the ledger that the collector refused."),
    "lectr.process.events": ("{event}", "What happened in this process, as `counts` on /healthz names it."),
    "lectr.degraded": ("{problem}", "1 where a part of this process is degraded, such as `settings`; calls go on."),
}
"Each with its unit and what it counts. Braces keep a unit out of Prometheus' names."

_SECONDS = [round(0.01 * 2**power, 2) for power in range(16)]
BUCKETS: Mapping[str, Sequence[float]] = {
    "gen_ai.client.token.usage": [4**power for power in range(14)],
    "gen_ai.client.operation.duration": _SECONDS,
    "gen_ai.client.operation.time_to_first_chunk": _SECONDS,
}
"As the conventions have them, and two more for answers that take minutes."

EVENTS: Mapping[str, Mapping[str, str | None]] = {
    "lectr.events.received": {"received": None},
    "lectr.events.written": {"written": None},
    "lectr.events.exported": {"exported": None},
    "lectr.events.refused": {"refused": None},
    "lectr.events.dropped": {
        "dropped": "queue_full",
        "unwritable": "unwritable",
        "unexported_lost": "not_exported",
        "set_aside_lost": "refused",
        "span_errors": "error",
    },
    "lectr.ledger.queue": {"waiting": None},
    "lectr.export.lag": {"lag": None},
    "lectr.export.age": {"oldest_unexported_s": None},
    "lectr.export.set_aside": {"set_aside": None},
}
"Each with the figures of /healthz in it, and the reason a figure is shown under."

TOKEN_TYPES = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
}


class _Key(NamedTuple):
    """Calls that are alike in everything a metric tells apart."""

    operation: str | None = None
    provider: str | None = None
    model: str | None = None
    answered: str | None = None
    server: str | None = None
    feature: str = "untagged"
    task: str | None = None
    error: str | None = None
    pricing: str | None = None


class Process(Protocol):
    """What the metrics tell of the running process."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How often what happened in it."""

    def events(self) -> Mapping[str, Any]:
        """What became of finished calls, as the ledger and the outbox count it."""

    def problems(self) -> Mapping[str, str | None]:
        """Each part that can be degraded, and what is wrong with it."""


class Metrics:
    """Records to counters and histograms, before any sampling: money comes from here."""

    def __init__(
        self,
        readers: Sequence[MetricReader],
        resource: Resource,
        is_known: IsKnown,
        process: Process | None = None,
    ) -> None:
        self.provider = MeterProvider(readers, resource, shutdown_on_exit=False)
        self.shutdown = self.provider.shutdown
        self._is_known = is_known
        self._feature = _Capped(FEATURE_LIMIT, "__other__")
        self._model = _Capped(MODEL_LIMIT, "other")
        self._error = _Capped(ERROR_LIMIT, "_OTHER")
        meter = self.provider.get_meter(SCOPE_NAME, SCOPE_VERSION)
        self._requests, self._cost, self._tokens = (
            meter.create_counter(name, *METRICS[name])
            for name in ("lectr.llm.requests", "lectr.llm.cost", "lectr.llm.tokens")
        )
        self._token_usage, self._duration, self._first_chunk = (
            meter.create_histogram(name, *METRICS[name], explicit_bucket_boundaries_advisory=buckets)
            for name, buckets in BUCKETS.items()
        )
        if process is not None:
            for name, parts in EVENTS.items():
                is_counter = name.startswith("lectr.events.")
                create = meter.create_observable_counter if is_counter else meter.create_observable_gauge
                create(name, [_figures_of(process, parts)], *METRICS[name])
            for name, create, observe in (
                ("lectr.process.events", meter.create_observable_counter, _events_of(process)),
                ("lectr.degraded", meter.create_observable_gauge, _problems_of(process)),
            ):
                create(name, [observe], *METRICS[name])

    def record(self, records: Sequence[CallRecord]) -> None:
        """Count a batch."""
        alike: defaultdict[_Key, list[CallRecord]] = defaultdict(list)
        for record in records:
            alike[self._key(record)].append(record)
        for key, members in alike.items():
            self._add(key, members)

    def _key(self, record: CallRecord) -> _Key:
        error = names.error_type(record)
        error = error and self._error(error)
        if record.org is None:  # whoever has no key adds no value to any label
            return _Key(error=error)
        operation, provider = names.operation(record), names.provider_name(record)
        sent, answered = record.model_sent, record.model_answered
        is_real = error is None or (sent is not None and self._is_known(record.provider or "", sent))
        return _Key(
            operation,
            provider,
            sent and self._model(sent, admit=is_real),
            answered and self._model(answered, admit=is_real),
            record.host and names.address(record.host)[0],
            self._feature(record.feature) if record.feature else "untagged",
            record.task_known or (record.task and "other"),
            error,
            record.cost.status if record.cost else None,
        )

    def _add(self, key: _Key, members: Sequence[CallRecord]) -> None:
        """The counters once for all of them; each call of its own is in the histograms alone."""
        common = _present(
            {
                names.OPERATION: key.operation,
                names.PROVIDER: key.provider,
                names.REQUEST_MODEL: key.model,
                names.RESPONSE_MODEL: key.answered,
            }
        )
        featured = {**common, names.FEATURE: key.feature}
        outcome = {names.TASK: key.task, names.ERROR_TYPE: key.error, names.PRICING_STATUS: key.pricing}
        self._requests.add(len(members), {**featured, **_present(outcome)})
        if pico := sum(r.cost.total or 0 for r in members if r.cost):
            self._cost.add(pico / PICO, featured)
        used = [r.usage for r in members if r.usage]
        for kind, field in TOKEN_TYPES.items() if used else ():
            known = [count for usage in used if (count := getattr(usage, field)) is not None]
            if total := sum(known):
                self._tokens.add(total, {**featured, names.TOKEN_TYPE: kind})
            if kind in {"input", "output"} and key.operation:
                typed = {**common, names.TOKEN_TYPE: kind}
                for count in known:
                    self._token_usage.record(count, typed)
        if key.operation is None:
            return
        timed = {**common, **_present({names.SERVER_ADDRESS: key.server, names.ERROR_TYPE: key.error})}
        for record in members:
            if record.duration_ms is not None:
                self._duration.record(record.duration_ms / 1000, timed)
            if record.streaming and record.first_byte_ms is not None:
                self._first_chunk.record(record.first_byte_ms / 1000, common)


class _Capped:
    """The first values of a label that were admitted; every other one is the same."""

    def __init__(self, limit: int, other: str) -> None:
        self._limit = limit
        self._other = other
        self._kept: set[str] = set()

    def __call__(self, text: str, *, admit: bool = True) -> str:
        text = names.clean(text)
        if text in self._kept:
            return text
        if not admit or len(self._kept) >= self._limit:
            return self._other
        self._kept.add(text)
        return text


def _present(labels: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if value is not None}


def _figures_of(
    process: Process, parts: Mapping[str, str | None]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        figures = process.events()
        for part, reason in parts.items():
            if figures.get(part) is not None:
                yield Observation(figures[part], {"reason": reason} if reason else None)

    return observe


def _events_of(process: Process) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(count, {"event": event}) for event, count in list(process.counts.items())]


def _problems_of(process: Process) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(int(bool(problem)), {"part": part}) for part, problem in process.problems().items()]
