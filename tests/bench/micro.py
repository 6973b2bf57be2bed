"""Each step of a call alone, in this process."""

from collections.abc import Iterator

from tests.bench import auto, decide, ledger, limits, memo, pricing, rules, telemetry, usage, wire


def measure() -> Iterator[tuple[str, str, str]]:
    """What it is a part of, what it is, and what it takes."""
    for part in (decide, memo, auto, rules, wire, usage, pricing, telemetry, ledger, limits):
        for what, value in part.measure():
            yield part.__name__.rpartition(".")[2], what, value.strip()
