"""Every call that asked a model as one OTLP span, and every call in the metrics.

Spans are built finished, from the record, and queued in memory; the SDK's own batch processor and exporters send them
from their own threads. Nothing here waits, and nothing raises: what is lost is counted. The standard OTEL_* variables
decide where to; without an OTLP endpoint nothing is sent and almost nothing is done.
"""

import importlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge import attributes as names
from lectr_extproc.edge.metrics import SCOPE_NAME, SCOPE_VERSION, IsKnown, Metrics, Process

log = logging.getLogger("lectr.telemetry")

LlmSpans = Literal["always", "follow_parent", "off"]
"Whether a parent that was not sampled takes its call with it. `always`: every paid call is to be seen."

Signal = Literal["traces", "metrics"]

EXPORT_TIMEOUT_S = 3
"The SDK's 10 s would let a collector that is down hold the queue for 7 s per batch."
QUEUE_SIZE, BATCH_SIZE = 2048, 512  # the SDK's

_ERROR = trace.Status(trace.StatusCode.ERROR)
_UNSET = trace.Status(trace.StatusCode.UNSET)
_SAMPLED = trace.TraceFlags(trace.TraceFlags.SAMPLED)
_NO_PARENT = Context()
_W3C = TraceContextTextMapPropagator()


class Telemetry:
    """One per process. `record` takes batches as they come; the rest is for starting, stopping and /healthz."""

    def __init__(
        self,
        exporter: SpanExporter | None = None,
        reader: MetricReader | None = None,
        *,
        scraped: MetricReader | None = None,
        process: Process | None = None,
        llm_spans: LlmSpans = "always",
        is_known: IsKnown = lambda _provider, _model: False,
        problem: str | None = None,
    ) -> None:
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._complaints = _Complaints(problem)
        if exporter or reader:
            logging.getLogger("opentelemetry.exporter").addHandler(self._complaints)
        resource = _resource()
        readers = [each for each in (reader, scraped) if each]
        self._metrics = Metrics(readers, resource, self._counts, is_known, process) if readers else None
        self._sends_metrics = reader is not None
        meters = self._metrics.provider if self._metrics else None
        self._spans = _Spans(exporter, resource, self._counts, llm_spans, meters) if exporter else None

    @classmethod
    def start(
        cls,
        scraped: MetricReader | None = None,
        process: Process | None = None,
        *,
        llm_spans: LlmSpans = "always",
        is_known: IsKnown = lambda _provider, _model: False,
    ) -> Self:
        """As the environment says. Whatever cannot be had is switched off with a word in the log: calls are served.

        What is scraped, is there whatever the environment says of sending.
        """
        logging.getLogger("opentelemetry.util.re").addFilter(_without_value)
        reader: MetricReader | None = None
        try:
            exporter = _exporter("traces") if llm_spans != "off" else None
            if metric_exporter := _exporter("metrics"):
                reader = PeriodicExportingMetricReader(metric_exporter)
            return cls(exporter, reader, scraped=scraped, process=process, llm_spans=llm_spans, is_known=is_known)
        except ImportError:
            problem = (
                "the OTLP exporters cannot be imported. An installed xds-protos overwrites files of theirs: "
                "uninstall it, then reinstall opentelemetry-proto and googleapis-common-protos"
            )
            log.error("telemetry is off: %s", problem)
        except Exception as error:  # of many kinds, each a mistake in an OTEL_* variable
            problem = str(error)
            log.exception("telemetry is off: %s", problem)
        if reader:
            reader.shutdown()
        return cls(scraped=scraped, process=process, is_known=is_known, problem=problem)

    def record(self, records: Sequence[CallRecord]) -> None:
        """Count a batch of finished calls and queue their spans."""
        if self._metrics:
            try:
                self._metrics.record(records)
            except Exception:  # it must not cost the batch its spans
                self._counts["metrics_errors"] += 1
                log.exception("a batch is missing in the metrics")
        if self._spans:
            for record in records:
                try:
                    self._spans.record(record)
                except Exception:  # one odd record must not cost the others theirs
                    self._counts["span_errors"] += 1
                    log.exception("the span of a call was lost")

    def health(self) -> dict[str, Any]:
        """What `/healthz` shows: received = exported + failed + dropped + not_sampled + span_errors + waiting."""
        counts = dict(self._counts)
        return {
            "spans": "on" if self._spans else "off",
            "metrics": "on" if self._sends_metrics else "off",
            **{name: counts[name] for name in _SHOWN},
            "waiting": counts["received"] - sum(counts[name] for name in _SETTLED),
            "problem": self._complaints.last,
        }

    def shutdown(self, within_s: float = 5.0) -> None:
        """Send what is queued, for this long at most; a collector that is down must not hold the process."""
        deadline = time.monotonic() + within_s
        stopping = [
            threading.Thread(target=part.shutdown, daemon=True) for part in (self._spans, self._metrics) if part
        ]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(max(0.0, deadline - time.monotonic()))
        logging.getLogger("opentelemetry.exporter").removeHandler(self._complaints)
        if lost := self.health()["waiting"]:
            log.warning("%d spans could not be sent before the end", lost)


_SETTLED = ("exported", "failed", "dropped", "not_sampled", "span_errors")
_SHOWN = ("received", *_SETTLED, "metrics_errors")
_COUNTS = (*_SHOWN, "queued")


def asks_a_model(record: CallRecord) -> bool:
    """These have a span. A call nobody vouches for has none: a flood of bad keys is a count, not a bill."""
    return record.org is not None and names.operation(record) is not None


class _Spans:
    """Records to finished spans to the SDK's queue."""

    def __init__(
        self,
        exporter: SpanExporter,
        resource: Resource,
        counts: dict[str, int],
        llm_spans: LlmSpans,
        meters: MeterProvider | None,
    ) -> None:
        # Never a tracer of its own: the provider knows the sampler and the ids that OTEL_* asks for.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._resource = resource
        self._counts = counts
        self._follows = llm_spans == "follow_parent"
        self._scope = InstrumentationScope(SCOPE_NAME, SCOPE_VERSION)
        limit = SpanLimits().max_span_attribute_length
        self._value_limit = names.VALUE_LIMIT if limit is None else limit
        self._queue_size = _number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_SIZE)
        self._processor = BatchSpanProcessor(
            _Counting(exporter, counts),
            max_queue_size=self._queue_size,
            max_export_batch_size=min(_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_SIZE), self._queue_size),
            meter_provider=meters,
        )
        self.shutdown = self._processor.shutdown

    def record(self, record: CallRecord) -> None:
        if not asks_a_model(record):
            return
        counts = self._counts
        counts["received"] += 1
        # A span is counted out only after it left the queue. So the queue is never longer than this difference, and the
        # SDK, which would drop one without telling us, never has to.
        if counts["queued"] - counts["exported"] - counts["failed"] >= self._queue_size:
            counts["dropped"] += 1
            return
        span = self._span(record)
        if span is None:
            counts["not_sampled"] += 1
            return
        self._processor.on_end(span)
        counts["queued"] += 1

    def _span(self, record: CallRecord) -> ReadableSpan | None:
        context = _W3C.extract({"traceparent": record.traceparent}, _NO_PARENT) if record.traceparent else _NO_PARENT
        parent = trace.get_current_span(context).get_span_context() if context else None
        ids = self._provider.id_generator
        trace_id = parent.trace_id if parent else ids.generate_trace_id()
        attributes = names.of_span(record, self._value_limit)
        name = f"{attributes[names.OPERATION]} {attributes.get(names.REQUEST_MODEL, '')}".rstrip()
        verdict = self._provider.sampler.should_sample(
            context if self._follows else _NO_PARENT, trace_id, name, trace.SpanKind.CLIENT, attributes
        )
        if verdict.decision is not Decision.RECORD_AND_SAMPLE:
            return None
        return ReadableSpan(
            name,
            trace.SpanContext(trace_id, ids.generate_span_id(), is_remote=False, trace_flags=_SAMPLED),
            parent,
            self._resource,
            attributes,
            kind=trace.SpanKind.CLIENT,
            status=_ERROR if record.error_category else _UNSET,
            start_time=record.started_ns,
            end_time=record.started_ns + round((record.duration_ms or 0) * 1e6),
            instrumentation_scope=self._scope,
        )


class _Counting(SpanExporter):
    """Another exporter, and what became of each span that was given to it."""

    def __init__(self, inner: SpanExporter, counts: dict[str, int]) -> None:
        self._inner = inner
        self._counts = counts
        self.shutdown = inner.shutdown  # type: ignore[method-assign]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
            return result
        finally:
            self._counts["exported" if result is SpanExportResult.SUCCESS else "failed"] += len(spans)


class _Complaints(logging.Handler):
    """Remembers the SDK's last warning: its exporters tell why they failed nowhere else."""

    def __init__(self, last: str | None) -> None:
        super().__init__(logging.WARNING)
        self.last = last

    def emit(self, record: logging.LogRecord) -> None:
        self.last = names.clean(record.getMessage())


def _without_value(record: logging.LogRecord) -> bool:
    """The SDK quotes a malformed OTEL_EXPORTER_OTLP_HEADERS in full, the key of the back end with it."""
    record.args = ("…",)
    return True


def _exporter(signal: Signal) -> Any:
    """The SDK's exporter for a signal, or None where the environment names no endpoint or says no."""

    def option(name: str) -> str:
        specific = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", "")
        return (specific or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")).strip()

    wanted = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower() or "otlp"
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if is_disabled or wanted == "none" or not option("ENDPOINT"):
        return None
    if wanted != "otlp":
        raise ValueError(f"OTEL_{signal.upper()}_EXPORTER={wanted}: only otlp and none are known")
    protocol = option("PROTOCOL") or "http/protobuf"
    if protocol not in {"http/protobuf", "grpc"}:
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: only http/protobuf and grpc are known")
    # Importing an exporter takes 0.1 to 0.3 s and 23 to 40 MB: only for whom it is.
    if not hasattr(importlib.import_module("opentelemetry.proto.common.v1.common_pb2"), "InstrumentationScope"):
        raise ImportError("opentelemetry-proto is not itself")
    package = "opentelemetry.exporter.otlp.proto." + protocol.partition("/")[0]
    kind = "Span" if signal == "traces" else "Metric"
    arguments: dict[str, Any] = {}
    if not option("TIMEOUT"):
        arguments["timeout"] = EXPORT_TIMEOUT_S
    if not option("COMPRESSION"):
        arguments["compression"] = importlib.import_module("grpc" if protocol == "grpc" else package).Compression.Gzip
    module = importlib.import_module(f"{package}.{'trace' if signal == 'traces' else 'metric'}_exporter")
    return getattr(module, f"OTLP{kind}Exporter")(**arguments)


def _resource() -> Resource:
    resource = Resource({SERVICE_VERSION: SCOPE_VERSION}).merge(Resource.create())
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "lectr"}))
    return resource


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if text.isdigit() and int(text):
        return int(text)
    log.warning("%s=%s is not a number from 1: %d is taken", variable, text, default)
    return default
