"""Every finished call in the metrics, and every call that asked a model as a span: set up as OTEL_* says.

Metrics are added up as batches come, before anything is sampled or lost; spans leave from the ledger (outbox.py).
Nothing here waits, and nothing raises. Without an OTLP endpoint nothing is sent and almost nothing is done.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self, TypeVar

from opentelemetry.sdk.metrics.export import MetricExportResult, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource

from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge import attributes as names
from lectr_extproc.edge import otlp
from lectr_extproc.edge.metrics import SCOPE_VERSION, IsKnown, Metrics, Process
from lectr_extproc.edge.outbox import BATCH_SIZE, DELAY_S, THREAD, Outbox
from lectr_extproc.edge.spans import LlmSpans, Spans

log = logging.getLogger("lectr.telemetry")

T = TypeVar("T")

LARGEST_BATCH = 5_000


class Telemetry:
    """One per process. `record` takes batches as they come; the rest is for starting, stopping and /healthz."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        outbox: Outbox | None = None,
        *,
        sends_metrics: bool = False,
        problem: str | None = None,
        complaints: "_Complaints | None" = None,
    ) -> None:
        self.outbox = outbox
        "Has to be started with the ledger that it is to read."
        self._metrics = metrics
        self._sends_metrics = sends_metrics
        self._metrics_errors = 0
        self._problem = problem
        self._complaints = complaints or _Complaints()
        if metrics or outbox:
            logging.getLogger("opentelemetry.exporter").addHandler(self._complaints)

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
        for name in ("http.trace_exporter", "grpc.exporter"):
            logging.getLogger(f"opentelemetry.exporter.otlp.proto.{name}").addFilter(_not_of_the_outbox)
        resource = _resource()
        complaints = _Complaints()
        reader, no_reader = _or_why_not(partial(_reader, complaints))
        readers = [each for each in (reader, scraped) if each]
        metrics = Metrics(readers, resource, is_known, process) if readers else None

        def outbox() -> Outbox | None:
            sender = otlp.sender(metrics.provider if metrics else None) if llm_spans != "off" else None
            if sender is None:
                return None
            return Outbox(
                sender,
                Spans(resource, llm_spans),
                batch_size=min(_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_SIZE), LARGEST_BATCH),
                delay_s=_number("OTEL_BSP_SCHEDULE_DELAY", round(DELAY_S * 1000)) / 1000,
                timeout_s=otlp.timeout_s(),
            )

        found, no_outbox = _or_why_not(outbox)
        return cls(
            metrics, found, sends_metrics=reader is not None, problem=no_reader or no_outbox, complaints=complaints
        )

    def record(self, records: Sequence[CallRecord]) -> None:
        """Count a batch of finished calls."""
        if self._metrics:
            try:
                self._metrics.record(records)
            except Exception:
                self._metrics_errors += 1
                log.exception("a batch is missing in the metrics")

    def health(self) -> dict[str, Any]:
        """What `/healthz` shows of metrics, and of the settings of both."""
        return {
            "spans": "on" if self.outbox else "off",
            "metrics": "on" if self._sends_metrics else "off",
            "metrics_errors": self._metrics_errors,
            "problem": self._problem or self._complaints.last,
        }

    def export(self) -> dict[str, Any]:
        """What `/healthz` shows of the spans."""
        return self.outbox.health() if self.outbox else {"problem": self._problem}

    def shutdown(self, within_s: float = 5.0) -> None:
        """Send what can be sent, for this long at most; a collector that is down must not hold the process."""
        deadline = time.monotonic() + within_s
        parts = [self.outbox and self.outbox.stop, self._metrics and self._metrics.shutdown]
        stopping = [threading.Thread(target=stop, daemon=True) for stop in parts if stop]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(max(0.0, deadline - time.monotonic()))
        logging.getLogger("opentelemetry.exporter").removeHandler(self._complaints)


def _reader(complaints: "_Complaints") -> MetricReader | None:
    exporter = otlp.metric_exporter()
    if exporter is None:
        return None
    export = exporter.export

    def heard(*data: Any, **options: Any) -> Any:
        result = None
        try:
            result = export(*data, **options)
        finally:
            is_sent = result is MetricExportResult.SUCCESS
            complaints.last = None if is_sent else complaints.last or "metrics cannot be sent"
        return result

    exporter.export = heard
    return PeriodicExportingMetricReader(exporter)


def _or_why_not(make: Callable[[], T | None]) -> tuple[T | None, str | None]:
    """What was to be made, or why it is not there."""
    problem = None
    try:
        return make(), None
    except ImportError:
        problem = (
            "the OTLP exporters cannot be imported. An installed xds-protos overwrites files of theirs: "
            "uninstall it, then reinstall opentelemetry-proto and googleapis-common-protos"
        )
        log.error("telemetry is off: %s", problem)
    except Exception as error:  # of many kinds, each a mistake in an OTEL_* variable
        problem = str(error)
        log.exception("telemetry is off: %s", problem)
    return None, problem


class _Complaints(logging.Handler):
    """Remembers the SDK's last warning, until metrics are sent: its exporters tell why they failed nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.last = names.clean(record.getMessage())


def _not_of_the_outbox(record: logging.LogRecord) -> bool:
    """What the SDK says of each batch, the outbox says once."""
    return record.threadName != THREAD


def _without_value(record: logging.LogRecord) -> bool:
    """The SDK quotes a malformed OTEL_EXPORTER_OTLP_HEADERS in full, the key of the back end with it."""
    record.args = ("…",)
    return True


def _resource() -> Resource:
    resource = Resource({SERVICE_VERSION: SCOPE_VERSION}).merge(Resource.create())
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "lectr"}))
    return resource


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if text.isdecimal() and int(text):
        return int(text)
    log.warning("%s=%s is not a number from 1: %d is taken", variable, text, default)
    return default
