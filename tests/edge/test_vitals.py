"""How models do, as finished calls tell it."""

import dataclasses
import logging
import time

import pytest

from lectr_extproc.core.breaker import State
from lectr_extproc.core.health import Breaking, Target
from lectr_extproc.core.outcome import Route
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.tries import Try
from lectr_extproc.edge.vitals import HOLD_S, Vitals
from tests.core.finished import call
from tests.core.given import request, routed, snapshot

TABLES = snapshot()
MINI = Target("openai", "gpt-4.1-mini", "api.openai.com")
RULE = Breaking()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    return clock


def finished(ended_s: float, *, well: bool = False) -> CallRecord:
    return call(
        model_sent=MINI.model,
        host=MINI.host,
        started_ns=int((ended_s - 1) * 1e9),
        duration_ms=1000.0,
        error_category=None if well else "overloaded",
        error_source=None if well else "provider",
    )


def trying() -> Route:
    return routed(request("gpt-4.1-mini"), TABLES)


def test_a_model_that_fails_opens_is_tried_by_one_call_and_closes(
    now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lectr.breaker")
    vitals = Vitals()
    vitals.asked(trying(), RULE)
    vitals.heed([finished(998), finished(999)], TABLES)
    assert (dict(vitals.health.sick), vitals.breakers()) == ({}, [])
    vitals.heed([finished(1000)], TABLES)
    assert dict(vitals.health.sick) == {MINI: 1030}
    shown = {"provider": "openai", "model": "gpt-4.1-mini", "host": "api.openai.com", "failures": 3}
    (breaker,) = vitals.breakers()
    assert breaker == {**shown, "state": "open", "until": "1970-01-01T00:17:10+00:00", "until_s": 1030}
    now[0] = 1031
    assert vitals.breakers()[0]["state"] == "half_open"
    vitals.asked(trying(), RULE)
    vitals.asked(trying(), RULE)
    assert dict(vitals.health.sick) == {MINI: 1061}
    vitals.heed([finished(1040, well=True)], TABLES)
    assert (dict(vitals.health.sick), vitals.breakers()) == ({}, [])
    assert [line.message for line in caplog.records] == ["breaker open", "breaker half-open", "breaker closed"]
    assert [line.fields["model"] for line in caplog.records] == [MINI.model] * 3  # type: ignore[attr-defined]


def test_an_envoy_whose_clock_is_ahead_holds_no_model_back(now: list[float]) -> None:
    vitals = Vitals()
    vitals.heed([finished(9000)] * 3, TABLES)
    assert dict(vitals.health.sick) == {MINI: 1030}


def test_calls_that_say_nothing_change_nothing(now: list[float]) -> None:
    vitals = Vitals()
    vitals.heed([finished(1000, well=True), call(error_category="rate_limit", error_source="provider")], TABLES)
    assert vitals.breakers() == []


def test_what_other_lectrs_know_counts_here_and_what_is_known_here_is_theirs_to_hear(
    now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lectr.breaker")
    vitals = Vitals()
    vitals.heed([finished(1000)], TABLES)
    news = vitals.news()
    assert [(event.target, event.what) for event in news] == [(MINI, "failed")]
    assert vitals.news() == []
    vitals.not_told(news)
    assert vitals.news() == news
    vitals.adopt({MINI: State(3, 1000, 1030)}, [], RULE)
    assert dict(vitals.health.sick) == {MINI: 1030}
    vitals.adopt({}, [], RULE)
    lines = [(line.message, line.fields["by"]) for line in caplog.records]  # type: ignore[attr-defined]
    assert lines == [("breaker open", "another lectr"), ("breaker closed", "another lectr")]


def test_what_happens_while_the_others_are_told_is_not_forgotten(now: list[float]) -> None:
    vitals = Vitals()
    vitals.heed([finished(1000)] * 2, TABLES)
    vitals.news()
    vitals.heed([finished(1000)], TABLES)
    vitals.adopt({MINI: State(2, 1000)}, [], RULE)
    assert dict(vitals.health.sick) == {MINI: 1030}


def test_a_half_open_model_is_tried_by_who_claimed_it_and_by_everybody_where_no_news_comes(now: list[float]) -> None:
    ours, theirs = Vitals(), Vitals()
    now[0] = 1031
    states = {MINI: State(3, 1000, 1061, is_asked=True)}
    ours.adopt(states, [MINI], RULE)
    theirs.adopt(states, [], RULE)
    assert (ours.health.sick[MINI], theirs.health.sick[MINI]) == (0, 1061)
    assert [one.breakers()[0]["state"] for one in (ours, theirs)] == ["half_open"] * 2
    ours.adopt(states, [], RULE)
    assert ours.health.sick[MINI] == 0, "it is claimed until it is tried"
    ours.asked(trying(), RULE)
    theirs.asked(trying(), RULE)
    ours.adopt(states, [], RULE)
    assert (ours.health.sick[MINI], theirs.health.sick[MINI]) == (1061, 1061)

    alone = Vitals()
    alone.adopt({MINI: State(3, 1000, 1030)}, [], RULE)
    assert alone.health.sick[MINI] == 1031 + HOLD_S
    assert alone.breakers()[0]["state"] == "open"
    now[0] = 1031 + HOLD_S
    alone.asked(trying(), RULE)
    assert alone.health.sick[MINI] == 1061 + HOLD_S


def test_a_key_that_a_client_put_where_the_model_belongs_is_shown_to_nobody(now: list[float]) -> None:
    vitals = Vitals()
    key = "lc_key_0123456789abcdefghij"
    vitals.heed([dataclasses.replace(finished(1000), model_sent=key)] * 3, TABLES)
    assert vitals.breakers()[0]["model"] == "lc_key_…"
    assert key not in repr(vitals.news())


def test_a_candidate_that_failed_before_another_answered_opens_too(now: list[float]) -> None:
    vitals = Vitals()
    one = Try(provider="openai", model=MINI.model, host=MINI.host, began_ms=999_000, status=503, duration_ms=1000.0)
    answered = dataclasses.replace(
        one, provider="groq", model="llama", host="g.example", began_ms=1_000_000, status=200
    )
    won = dataclasses.replace(finished(1000, well=True), provider="groq", model_sent="llama", host="g.example")
    vitals.heed([dataclasses.replace(won, tries=(one, answered))] * 3, TABLES)
    assert dict(vitals.health.sick) == {MINI: 1030}
