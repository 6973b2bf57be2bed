"""How soon models answer, as the ledger has it."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lectr_extproc.edge import measure
from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.store import Unavailable
from tests.edge.given import live

TARGET = ("openai", "gpt-4o", "api.openai.com")


class Asked:
    """A ledger that answers, or raises, what a test wants; the test ends with the last."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.since_ns = 0
        self.store = self

    def first_bytes(self, since_ns: int, newest: int) -> list[Any]:
        assert newest == measure.NEWEST
        self.since_ns = since_ns
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return cast("list[Any]", answer)


async def measured(shared: Live, *answers: Any) -> list[float]:
    """How long it waited after each answer."""
    asked, waits = Asked(*answers), list[float]()

    async def sleep(for_s: float) -> None:
        waits.append(for_s)
        if len(waits) == len(answers):
            raise asyncio.CancelledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "asyncio", SimpleNamespace(sleep=sleep, to_thread=asyncio.to_thread))
        with pytest.raises(asyncio.CancelledError):
            await measure.measure(shared, cast("Ledger", asked))
    assert time.time_ns() - asked.since_ns < 3 * 3600 * 10**9
    return waits


async def test_what_the_ledger_measured_is_known_to_decisions_until_it_says_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = live(tmp_path, latency={"calls": 2, "within_h": 2})
    often = [(*TARGET, 20_000), (*TARGET, 30_000)]
    assert await measured(shared, often) == [measure.EVERY_S]
    assert dict(shared.vitals.health.first_token_ms) == {TARGET: 30}
    shown = {"provider": "openai", "model": "gpt-4o", "host": "api.openai.com", "first_token_ms": 30}
    assert shared.health()["first_tokens"] == [shown]
    assert await measured(shared, Unavailable("locked"), ValueError("odd")) == [measure.AGAIN_S, measure.EVERY_S]
    assert dict(shared.vitals.health.first_token_ms) == {TARGET: 30}
    assert [line.message for line in caplog.records] == ["models could not be measured"]
    assert await measured(shared, often[:1]) == [measure.EVERY_S]
    assert not shared.vitals.health.first_token_ms
