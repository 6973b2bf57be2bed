"""A call costs no more work than it did: lines of Python run and calls made, which are the same on any machine.

`python -m tests.bench.test_work` prints the figures of this Python, to be written below after a change that is meant.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

import pytest
from opentelemetry.sdk.resources import Resource

from lectr_extproc.core.record import CallRecord
from lectr_extproc.edge.access_log import _entries, take
from lectr_extproc.edge.ext_proc import ExtProc
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.otlp_bytes import request_of
from lectr_extproc.edge.spans import Spans
from lectr_extproc.keys import digest
from lectr_extproc.pb import access_log_pb2 as als
from lectr_extproc.pb import ext_proc_pb2 as ext
from lectr_extproc.settings import compile_settings
from tests.bench.decide import KEY, entry, message

TOLERANCE = 0.02
"A figure that falls by more is to be written down, too, or the next rise hides in it. The order of sets makes 1 %."

WORK: dict[str, dict[str, int]] = {
    "3.11": {"decided": 1444, "repeated": 281, "recorded": 888, "told": 1447},
    "3.12": {"decided": 1407, "repeated": 280, "recorded": 884, "told": 1426},
    "3.13": {"decided": 1390, "repeated": 280, "recorded": 880, "told": 1427},
}
"Lines run and functions called, those in C as well, for one call; by version of Python: each compiles in its own way."


class Counter:
    """What runs while it counts."""

    steps = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        before = sys.gettrace(), sys.getprofile()
        sys.settrace(self._trace)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.settrace(before[0])
            sys.setprofile(before[1])

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        self.steps += event == "line"
        return self._trace

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        self.steps += event in {"call", "c_call"}


def work_of(once: Callable[[], object]) -> int:
    """The second time: what is made once and kept is no work of a call."""
    once()
    counter = Counter()
    with counter.counting():
        once()
    return counter.steps


def live() -> Live:
    org = {"name": "bench", "keys": [{"sha256": digest(KEY)}]}
    return Live(compile_settings({"orgs": [org], "providers": [{"id": "openai", "observe": "native"}]}))


class Context:
    """gRPC's side of one call."""

    def __init__(self, asked: bytes) -> None:
        self._asked = asked

    async def read(self) -> bytes:
        return self._asked

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return ()


def decided(server: ExtProc, asked: bytes) -> bytes:
    """One call, from Envoy's bytes to the reply, without gRPC. Nothing in it waits, so no loop runs it."""
    call = server.process(None, Context(asked))
    try:
        call.send(None)
    except StopIteration as end:
        return cast("bytes", end.value)
    raise AssertionError("it waited")


def figures() -> dict[str, int]:
    """A pinned call decided, decided as one before, recorded with its price, and told as a span, in bytes."""
    lectr, records = live(), list[CallRecord]()
    server, asked = ExtProc(lectr), message().SerializeToString()
    others = [message(feature).SerializeToString() for feature in ("one", "two")]
    for other in others:
        decided(ExtProc(lectr), other)
    new = iter(others)
    metadata = {key: value.string_value for key, value in _decision(decided(server, asked)).items()}
    batch = als.StreamAccessLogsMessage()
    batch.http_logs.log_entry.append(entry(metadata))
    sent = batch.SerializeToString()

    def record() -> None:
        take(lectr, lambda made, _: records.extend(made), _entries(sent))

    work = {
        "decided": work_of(lambda: decided(server, next(new))),
        "repeated": work_of(lambda: decided(server, asked)),
        "recorded": work_of(record),
    }
    assert records[-1].cost
    spans = Spans(Resource({}))
    return {**work, "told": work_of(lambda: request_of(spans.of(records[-1])).SerializeToString())}


def _decision(reply: bytes) -> Any:
    return ext.ProcessingResponse.FromString(reply).dynamic_metadata["lectr"].fields  # type: ignore[union-attr]


def this_python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize("step", ["decided", "repeated", "recorded", "told"])
def test_a_call_runs_no_more_lines_and_makes_no_more_calls_than_it_did(step: str) -> None:
    assert this_python() in WORK, (
        f"run `python -m tests.bench.test_work` with Python {this_python()}, and write it down"
    )
    assert figures()[step] == pytest.approx(WORK[this_python()][step], rel=TOLERANCE)


def test_the_same_call_takes_the_same_work_again() -> None:
    assert figures() == figures()


if __name__ == "__main__":
    print(f'    "{this_python()}": {figures()},')
