"""How long one call of a function takes."""

import time
from collections.abc import Callable


def microseconds(function: Callable[[], object], *, rounds: int = 5, calls: int = 5_000) -> float:
    """The best of several rounds: what the work costs when nothing else runs."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        best = min(best, time.perf_counter() - start)
    return best / calls * 1e6
