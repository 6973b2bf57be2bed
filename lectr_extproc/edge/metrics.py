"""Every finished call in counters and histograms, before any span is sampled or lost: money is added up here.

Calls are added up first, and handed to the SDK when it collects: a measurement costs it 7 µs, and a call has eleven.
Labels that clients choose are bounded.
"""

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol

from opentelemetry.metrics import CallbackOptions, Histogram, Observation
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import Aggregation, ExplicitBucketHistogramAggregation, View
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

BREAKER_LIMIT = 100
"A provider that is down has them all open, and names of models are clients'."
BREAKER_STATES = {"half_open": 1, "open": 2}

HELD_CALLS = 250
"So many are added up at most before they are handed over, which takes a millisecond; nobody may ever collect."

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
    "lectr.events.pushed_out": ("{event}", "Calls that a ledger in memory forgot to make room for others."),
    "lectr.ledger.queue": ("{event}", "Calls that wait to be written."),
    "lectr.export.lag": ("{event}", "Calls in the ledger that are not exported yet, at most."),
    "lectr.export.age": ("s", "Since the first of them began."),
    "lectr.export.set_aside": ("{event}", "Calls in the ledger that the collector refused."),
    "lectr.limit.reserved": ("{request}", "Calls that something was held of limits for."),
    "lectr.limit.refused": ("{request}", "Calls that did not fit into a limit."),
    "lectr.limit.let_through": ("{request}", "Calls that were held to no limit, because the counters were away."),
    "lectr.limit.store_errors": ("{error}", "Failed attempts to reach the counters of limits."),
    "lectr.limit.used": ("{part}", "Which part of a limit of money is used, as of the last call that was held to it."),
    "lectr.process.events": ("{event}", "What happened in this process, as `counts` on /healthz names it."),
    "lectr.breaker.state": ("{state}", "2 where a model is not asked first, 1 while one call tries it; else absent."),
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
    "lectr.events.pushed_out": {"pushed_out": None},
    "lectr.ledger.queue": {"waiting": None},
    "lectr.export.lag": {"lag": None},
    "lectr.export.age": {"oldest_unexported_s": None},
    "lectr.export.set_aside": {"set_aside": None},
    "lectr.limit.reserved": {"limits_held": None},
    "lectr.limit.refused": {"limits_refused": None},
    "lectr.limit.let_through": {"limits_let_through": None},
    "lectr.limit.store_errors": {"limits_store_errors": None},
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

    org: str | None = None
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

    def breakers(self) -> Sequence[Mapping[str, Any]]:
        """The models that are not asked first for now."""


class Metrics:
    """Records to counters and histograms, before any sampling: money comes from here."""

    def __init__(
        self,
        readers: Sequence[MetricReader],
        resource: Resource,
        is_known: IsKnown,
        process: Process | None = None,
    ) -> None:
        wanted = os.environ.get(OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION, "").strip().lower()
        self._in_bulk = wanted != "base2_exponential_bucket_histogram" and hasattr(Aggregation, "_create_aggregation")
        views = [View(instrument_name="gen_ai.client.*", aggregation=_Buckets())] if self._in_bulk else []
        self.provider = MeterProvider(readers, resource, shutdown_on_exit=False, views=views)
        self.shutdown = self.provider.shutdown
        self._is_known = is_known
        self._feature = _Capped(FEATURE_LIMIT, "__other__")
        self._model = _Capped(MODEL_LIMIT, "other")
        self._error = _Capped(ERROR_LIMIT, "_OTHER")
        self._held: defaultdict[_Key, _Sums] = defaultdict(_Sums)
        self._held_calls = 0
        self._lock = threading.Lock()
        meter = self.provider.get_meter(SCOPE_NAME, SCOPE_VERSION)
        # It never has a value: of all that the SDK does, it is what comes before every collection.
        meter.create_observable_gauge("lectr.llm", [self._before_collection])
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
                is_counter = name.startswith(("lectr.events.", "lectr.limit."))
                create = meter.create_observable_counter if is_counter else meter.create_observable_gauge
                create(name, [_figures_of(process, parts)], *METRICS[name])
            for name, create, observe in (
                ("lectr.limit.used", meter.create_observable_gauge, _limits_of(process)),
                ("lectr.process.events", meter.create_observable_counter, _events_of(process)),
                ("lectr.degraded", meter.create_observable_gauge, _problems_of(process)),
                ("lectr.breaker.state", meter.create_observable_gauge, _breakers_of(process)),
            ):
                create(name, [observe], *METRICS[name])

    def record(self, records: Sequence[CallRecord]) -> None:
        """Count a batch."""
        with self._lock:
            for record in records:
                self._held[self._key(record)].add(record)
            self._held_calls += len(records)
        if self._held_calls >= HELD_CALLS:
            self._hand_over()

    def _before_collection(self, _: CallbackOptions) -> Iterable[Observation]:
        self._hand_over()
        return ()

    def _hand_over(self) -> None:
        with self._lock:
            held, self._held, self._held_calls = self._held, defaultdict(_Sums), 0
        for key, sums in held.items():
            self._measure(key, sums)

    def _key(self, record: CallRecord) -> _Key:
        error = names.error_type(record)
        error = error and self._error(error)
        if record.org is None:  # whoever has no key adds no value to any label
            return _Key(error=error)
        operation, provider = names.operation(record), names.provider_name(record)
        sent, answered = record.model_sent, record.model_answered
        is_real = error is None or (sent is not None and self._is_known(record.provider or "", sent))
        return _Key(
            record.org,
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

    def _measure(self, key: _Key, sums: "_Sums") -> None:
        common = _present(
            {
                names.OPERATION: key.operation,
                names.PROVIDER: key.provider,
                names.REQUEST_MODEL: key.model,
                names.RESPONSE_MODEL: key.answered,
            }
        )
        featured = {**_present({names.ORG: key.org}), **common, names.FEATURE: key.feature}
        outcome = {names.TASK: key.task, names.ERROR_TYPE: key.error, names.PRICING_STATUS: key.pricing}
        self._requests.add(sums.calls, {**featured, **_present(outcome)})
        if sums.pico_usd:
            self._cost.add(sums.pico_usd / PICO, featured)
        for kind, total in sums.tokens.items():
            if total:
                self._tokens.add(total, {**featured, names.TOKEN_TYPE: kind})
        if key.operation is None:
            return
        for kind, counts in (("input", sums.inputs), ("output", sums.outputs)):
            self._distribute(self._token_usage, counts, {**common, names.TOKEN_TYPE: kind})
        timed = {**common, **_present({names.SERVER_ADDRESS: key.server, names.ERROR_TYPE: key.error})}
        self._distribute(self._duration, sums.durations_s, timed)
        self._distribute(self._first_chunk, sums.first_chunks_s, common)

    def _distribute(self, histogram: Histogram, values: list[float], labels: Mapping[str, str]) -> None:
        for amount in (_Many.of(values),) if self._in_bulk and values else values:
            histogram.record(amount, labels)


class _Sums:
    """What calls that are alike add up to."""

    __slots__ = ("calls", "durations_s", "first_chunks_s", "inputs", "outputs", "pico_usd", "tokens")

    def __init__(self) -> None:
        self.calls = self.pico_usd = 0
        self.tokens = dict.fromkeys(TOKEN_TYPES, 0)
        self.inputs: list[float] = []
        self.outputs: list[float] = []
        self.durations_s: list[float] = []
        self.first_chunks_s: list[float] = []

    def add(self, record: CallRecord) -> None:
        self.calls += 1
        if record.cost and record.cost.total:
            self.pico_usd += record.cost.total
        if usage := record.usage:
            for kind, field in TOKEN_TYPES.items():
                self.tokens[kind] += getattr(usage, field) or 0
            if usage.input_tokens is not None:
                self.inputs.append(usage.input_tokens)
            if usage.output_tokens is not None:
                self.outputs.append(usage.output_tokens)
        if record.duration_ms is not None:
            self.durations_s.append(record.duration_ms / 1000)
        if record.streaming and record.first_byte_ms is not None:
            self.first_chunks_s.append(record.first_byte_ms / 1000)


class _Many(float):
    """Several values on their way to one histogram, as one measurement."""

    values: Sequence[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> "_Many":
        many = cls(0)
        many.values = values
        return many


class _Value(NamedTuple):
    """As much of a measurement as a histogram looks at."""

    value: float


class _Buckets(ExplicitBucketHistogramAggregation):
    """The SDK's histogram with a door for many values at once.

    The one method of an aggregation that the SDK calls has no public name (1.45). Were it another, values would go one
    by one, and the test of what is handed over would fail.
    """

    def _create_aggregation(self, *arguments: Any) -> Any:
        made: Any = super()._create_aggregation(*arguments)
        add = made.aggregate

        def aggregate(measurement: Any, _: bool = False) -> None:
            for value in measurement.value.values:
                add(_Value(value), False)  # no exemplar, for nothing here is in a span

        made.aggregate = aggregate
        return made


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


def _limits_of(process: Process) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for one in process.events().get("limits_used", ()):
            yield Observation(one["part"], {names.ORG: one["org"], "limit": one["limit"], "for": one["for"]})

    return observe


def _events_of(process: Process) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(count, {"event": event}) for event, count in list(process.counts.items())]


def _problems_of(process: Process) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(int(bool(problem)), {"part": part}) for part, problem in process.problems().items()]


def _breakers_of(process: Process) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for one in process.breakers()[:BREAKER_LIMIT]:
            labels = {
                names.PROVIDER: names.PROVIDER_NAMES.get(one["provider"], one["provider"]),
                names.REQUEST_MODEL: names.clean(one["model"]),
                names.SERVER_ADDRESS: names.address(one["host"])[0],
            }
            yield Observation(BREAKER_STATES[one["state"]], labels)

    return observe
