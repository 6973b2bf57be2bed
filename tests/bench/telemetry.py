"""Telemetry: what a finished call costs the thread that serves, its export excepted."""

from collections.abc import Iterator, Sequence

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge.attributes import of_span
from lectr_extproc.edge.telemetry import Telemetry
from tests.bench.timing import microseconds
from tests.edge.finished import call

BATCH = 20
"As many calls as an access-log batch of a busy gateway has."


class Nowhere(SpanExporter):
    """A back end that takes everything at once."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to end."""


def measure() -> Iterator[tuple[str, str]]:
    """Per call, of which everything is known, so that every attribute is there."""
    # Ids that differ from call to call are cleaned each time; the rest is remembered.
    records = [
        call(call_id=f"{n:032x}", request_id=f"{n:08x}-0000-4000-8000-000000000000", response_id=f"chatcmpl-{n}")
        for n in range(100 * BATCH)
    ]
    batches = [records[start : start + BATCH] for start in range(0, len(records), BATCH)]
    every = iter(records * 50)
    yield (
        f"all {len(of_span(records[0]))} attributes of a span",
        f"{microseconds(lambda: of_span(next(every))):6.1f} µs",
    )

    for what, subject in (
        ("a span with all attributes, queued (promised: 60 µs)", Telemetry(Nowhere())),
        ("the metrics of one call", Telemetry(None, InMemoryMetricReader())),
        ("both, where no endpoint is set", Telemetry()),
    ):
        yield what, f"{_per_call(subject, batches):6.1f} µs"


def _per_call(subject: Telemetry, batches: list[list[CallRecord]]) -> float:
    some = iter(batches * 5)
    cost = microseconds(lambda: subject.record(next(some)), calls=len(batches)) / BATCH
    subject.shutdown()
    return cost
