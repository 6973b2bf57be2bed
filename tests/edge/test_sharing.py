"""Lectrs with one ledger tell each other which models fail."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lectr_extproc.core.breaker import Event, State
from lectr_extproc.core.health import Breaking, Target
from lectr_extproc.edge import sharing
from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.store import Unavailable
from tests.core import finished
from tests.edge.given import live

MINI = Target("openai", "gpt-4.1-mini", "api.openai.com")


class Told:
    """A ledger that answers, or raises, what a test wants, and keeps what it was told."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.told: list[int] = []
        self.store = SimpleNamespace(breakers=self)

    def sync(self, events: Sequence[Event], rule: Breaking, now_s: float) -> Any:
        assert rule.failures == 2
        self.told.append(len(events))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def shared(vitals: Live, *answers: Any) -> list[int]:
    """How many events were told each time."""
    told, turns = Told(*answers), iter(range(len(answers)))

    async def sleep(for_s: float) -> None:
        assert for_s == sharing.EVERY_S
        if next(turns, None) is None:
            raise asyncio.CancelledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "asyncio", SimpleNamespace(sleep=sleep, to_thread=asyncio.to_thread))
        with pytest.raises(asyncio.CancelledError):
            await sharing.share(vitals, cast("Ledger", told))
    return told.told


async def test_news_go_out_once_and_again_where_the_ledger_was_away_and_what_all_know_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = live(tmp_path, breaker={"failures": 2})
    failed = finished.call(model_sent="m", host="h", error_category="overloaded", error_source="provider")
    one.vitals.heed([failed], one.snapshot)
    known = {MINI: State(2, 1000, 4_000_000_000)}
    assert await shared(one, Unavailable("locked"), ({}, ()), ValueError("odd"), (known, ())) == [1, 1, 0, 0]
    assert dict(one.vitals.health.sick) == {MINI: 4_000_000_000}
    said = [line.message for line in caplog.records]
    assert "what is known of models that fail could not be shared" in said
