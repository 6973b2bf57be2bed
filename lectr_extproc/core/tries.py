"""Each attempt at a call as Envoy carries it from one to the next, and as the record keeps it.

Whoever makes an attempt knows of those before it from the call's metadata alone: any lectr can make it.
"""

from collections.abc import Sequence
from dataclasses import replace

import orjson

from lectr_extproc.core.quick import quick_dataclass


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One attempt at a call: who was asked for what, and what became of it."""

    provider: str
    model: str
    host: str
    began_ms: int
    "Milliseconds since 1970, by the clock of the lectr that made it."
    status: int | None = None
    "None: no answer began."
    why: str | None = None
    "What the answer says went wrong, where that alone was the reason to go on."
    wait_s: int | None = None
    "When the provider says to come back."
    duration_ms: float | None = None
    "Until the next one, or the end of the call."


def to_text(tries: Sequence[Try]) -> str:
    """As one text: a Struct in the metadata would make numbers doubles, and nothing reads a part of it."""
    return orjson.dumps([(t.provider, t.model, t.host, t.began_ms, t.status, t.why, t.wait_s) for t in tries]).decode()


def from_text(text: object) -> tuple[Try, ...]:
    """The same again; what is no such text holds no attempts."""
    try:
        rows = orjson.loads(text) if isinstance(text, str) else []
        return tuple(
            Try(
                provider=str(provider),
                model=str(model),
                host=str(host),
                began_ms=int(began),
                status=status,
                why=why,
                wait_s=wait,
            )
            for provider, model, host, began, status, why, wait in rows
        )
    except (ValueError, TypeError):  # orjson's own error is a ValueError
        return ()


def with_durations(tries: Sequence[Try], ended_ms: float, status: int | None) -> tuple[Try, ...]:
    """Each with the time until the next, and the last with that until the call's end and the call's status."""
    ends = [*(t.began_ms for t in tries[1:]), ended_ms]
    timed = [replace(t, duration_ms=max(0.0, round(end - t.began_ms, 3))) for t, end in zip(tries, ends, strict=False)]
    return (*timed[:-1], *(replace(last, status=last.status or status) for last in timed[-1:]))
