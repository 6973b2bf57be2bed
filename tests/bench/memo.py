"""The memo: a call from Envoy's bytes to the reply, remembered, new, and new to a memo that is full of others."""

from collections.abc import Iterator

from lectr_extproc.core.memo import ENTRY, Memo
from lectr_extproc.edge.ext_proc import ExtProc
from tests.bench.decide import message
from tests.bench.test_work import decided, live
from tests.bench.timing import microseconds


def measure() -> Iterator[tuple[str, str]]:
    """Without gRPC's part."""
    lectr = live()
    calls = iter([message(f"feature-{n}").SerializeToString() for n in range(20_000)])
    known, new, full = ExtProc(lectr), ExtProc(lectr), ExtProc(lectr)
    full._memo = lectr.snapshot, Memo(b"", room=20 * ENTRY)
    asked = message().SerializeToString()
    for what, cost in {
        "a call like one before": microseconds(lambda: decided(known, asked), calls=1000),
        "a call that is new, and kept": microseconds(lambda: decided(new, next(calls)), calls=1000),
        "the same, where the memo is full every 16 calls": microseconds(lambda: decided(full, next(calls)), calls=1000),
    }.items():
        yield what, f"{cost:6.1f} µs"
