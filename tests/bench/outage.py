"""`python -m tests.bench.outage [SECONDS] [CALLS_A_SECOND]`: a collector that is down for so long, then back.

Not part of `make bench`, because it takes as long as it says: ten minutes at 200 calls a second unless told otherwise.
It fails where a span is missing or has come twice.
"""

import os
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.outbox import CURSOR
from lectr_extproc.edge.telemetry import Telemetry
from tests.collector import Collector
from tests.edge.finished import call

BATCHES_A_SECOND = 10


def main(seconds: int, rate: int) -> None:
    """Write calls while the collector answers 503; then see how long it takes until it has them all."""
    with tempfile.TemporaryDirectory() as directory, Collector() as collector:
        os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = collector.url
        telemetry = Telemetry.start()
        ledger = Ledger.start(f"sqlite://{Path(directory)}/ledger.db", 36500, {}, [CURSOR])
        assert telemetry.outbox is not None
        telemetry.outbox.start(ledger)
        collector.status = 503
        size = rate // BATCHES_A_SECOND
        began, before_mb = time.monotonic(), _resident_mb()
        for turn in range(seconds * BATCHES_A_SECOND):
            # Of ids alone: the collector stands in this process, and keeps what it gets.
            first = turn * size + 1
            ledger.put([call(call_id=f"{n:032x}", request_id=None, attempts=1) for n in range(first, first + size)], [])
            time.sleep(max(0.0, began + (turn + 1) / BATCHES_A_SECOND - time.monotonic()))
        count = seconds * BATCHES_A_SECOND * size
        print(f"down for {seconds} s: {count:,} calls, {_resident_mb() - before_mb:+.1f} MB")
        collector.status, back = 200, time.monotonic()
        while telemetry.export()["exported"] < count:
            time.sleep(0.1)
        print(f"caught up after {time.monotonic() - back:.1f} s, the pause before the first batch included")
        ledger.finish()
        telemetry.shutdown()
        ledger.stop()
        assert collector.calls() == Counter(f"{n:032x}" for n in range(1, count + 1)), (
            "a span is missing, or came twice"
        )
        print(f"{count:,} spans arrived, none twice")


def _resident_mb() -> float:
    """On Linux what is resident now; the most there was is no measure of growth."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    chosen = [int(argument) for argument in sys.argv[1:]]
    main(*(*chosen, *(600, 200)[len(chosen) :]))
