"""Telemetry: what a finished call costs, in the thread that serves (metrics) and in the outbox's (its span)."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge.attributes import of_span
from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.otlp_bytes import request_of
from lectr_extproc.edge.outbox import BATCH_SIZE, CURSOR
from lectr_extproc.edge.spans import Spans
from lectr_extproc.edge.telemetry import Telemetry
from tests.bench.timing import microseconds
from tests.e2e.otlp_sink import sink
from tests.edge.finished import call

BATCH = 20
"As many calls as an access-log batch of a busy gateway has."
CAUGHT_UP = 10_000


def calls(count: int) -> list[CallRecord]:
    """Calls of which everything is known, so that every attribute is there."""
    # Ids that differ from call to call are cleaned each time; the rest is remembered.
    return [
        call(
            call_id=f"{n + 1:032x}",
            request_id=f"{n:08x}-0000-4000-8000-000000000000",
            response_id=f"chatcmpl-{n}",
            attempts=1,
        )
        for n in range(count)
    ]


def measure() -> Iterator[tuple[str, str]]:
    """Per call."""
    logging.getLogger("lectr").setLevel(logging.CRITICAL)  # an outbox that is stopped on purpose says so
    records = calls(100 * BATCH)
    every, spans = iter(records * 50), Spans(Resource({}))
    attributes = f"all {len(of_span(records[0]))} attributes of a span"
    yield attributes, f"{microseconds(lambda: of_span(next(every))):6.1f} µs"
    cost = microseconds(lambda: spans.of(next(every)))
    yield "a span with all attributes (promised: 60 µs)", f"{cost:6.1f} µs"
    made = [span for record in records[:BATCH_SIZE] for span in spans.of(record)]
    cost = microseconds(lambda: request_of(made).SerializeToString(), calls=10) / len(made)
    yield "its encoding", f"{cost:6.1f} µs"

    batches = [records[start : start + BATCH] for start in range(0, len(records), BATCH)]
    for what, subject in (
        ("the metrics of one call", Telemetry.start(InMemoryMetricReader())),
        ("the same, where nothing is set", Telemetry()),
    ):
        some = iter(batches * 5)
        cost = microseconds(lambda some=some, subject=subject: subject.record(next(some)), calls=len(batches)) / BATCH  # type: ignore[misc]
        subject.shutdown()
        yield what, f"{cost:6.1f} µs"
    yield from _catching_up()


def _catching_up() -> Iterator[tuple[str, str]]:
    """Everything: read, made, encoded, compressed, sent over HTTP, and written that it was."""
    with tempfile.TemporaryDirectory() as directory, sink() as (url, _):
        ledger = Ledger.start(f"sqlite://{Path(directory)}/ledger.db", 36500, {}, [CURSOR])
        ledger.put(calls(CAUGHT_UP), [])
        ledger.finish()
        with mock.patch.dict(os.environ, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{url}/v1/traces"}):
            subject = Telemetry.start()
        assert subject.outbox is not None
        wall, cpu = time.perf_counter(), time.process_time()
        subject.outbox.start(ledger)
        subject.shutdown(within_s=60)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        sent = subject.export()["exported"]
        ledger.stop()
    yield (
        "catching up, the collector's CPU included",
        f"{sent / wall:8,.0f} spans/s, {cpu / sent * 1e6:6.1f} µs CPU a span",
    )
