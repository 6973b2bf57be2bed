from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.breaker import TARGETS, Breakers, Event, State, event_of, events_of, step
from lectr_extproc.core.health import Breaking, Target
from lectr_extproc.core.record import CATEGORY_OF_STATUS
from lectr_extproc.core.tries import Try
from tests.core.finished import STARTED_S, call

MINI = Target("openai", "gpt-4.1-mini", "api.openai.com")
RULE = Breaking()


def after(*events: tuple[str, float], rule: Breaking = RULE) -> State | None:
    state = None
    for what, at_s in events:
        state = step(state, Event(MINI, what, at_s), rule)  # type: ignore[arg-type]
    return state


OPEN = (("failed", 0), ("failed", 60), ("failed", 120))


def test_three_failures_each_within_a_minute_of_the_one_before_open_it_for_half_a_minute() -> None:
    state = after(*OPEN)
    assert state == State(3, 120, 150)
    assert [state.phase(now) for now in (120, 149.9, 150)] == ["open", "open", "half_open"]


def test_less_than_that_leaves_it_closed() -> None:
    for events in (OPEN[:2], (("failed", 0), ("failed", 60), ("failed", 121)), (*OPEN[:2], ("well", 61), OPEN[2])):
        state = after(*events)
        assert state is not None
        assert (state.until_s, state.phase(10**6)) == (None, "closed")


def test_how_many_how_soon_and_how_long_are_settings() -> None:
    assert after(("failed", 5), rule=Breaking(failures=1, open_s=2)) == State(1, 5, 7)
    two = Breaking(failures=2, within_s=1)
    assert after(("failed", 5), ("failed", 6.5), rule=two) == State(1, 6.5)


def test_one_call_tries_it_and_the_others_wait_for_what_becomes_of_that() -> None:
    state = after(*OPEN, ("asked", 151))
    assert state == State(3, 120, 181, is_asked=True)
    assert state.phase(152) == "half_open"
    assert after(*OPEN, ("asked", 151), ("asked", 170)) == state
    assert after(*OPEN, ("asked", 151), ("well", 151)) is None
    assert after(*OPEN, ("asked", 151), ("failed", 152)) == State(4, 152, 182)


def test_a_call_that_tries_and_is_never_heard_of_is_followed_by_another() -> None:
    assert after(*OPEN, ("asked", 151), ("asked", 181)) == State(3, 120, 211, is_asked=True)


def test_nobody_tries_what_is_closed_or_open() -> None:
    assert after(("asked", 5)) is None
    assert after(*OPEN[:2], ("asked", 61)) == after(*OPEN[:2])
    assert after(*OPEN, ("asked", 149)) == after(*OPEN)


def test_failures_of_calls_that_were_under_way_do_not_hold_it_open_longer() -> None:
    assert after(*OPEN, ("failed", 140), ("failed", 130)) == State(5, 140, 150)


def test_a_failure_of_whatever_call_once_it_is_half_open_opens_it_again() -> None:
    assert after(*OPEN, ("failed", 500)) == State(4, 500, 530)


def test_a_call_that_began_before_the_last_failure_or_while_it_was_open_proves_nothing() -> None:
    assert after(*OPEN[:2], ("well", 59)) == after(*OPEN[:2])
    assert after(*OPEN[:2], ("well", 60)) is None
    assert after(*OPEN, ("well", 149)) == after(*OPEN)
    assert after(*OPEN, ("well", 150)) is None
    assert after(*OPEN, ("asked", 150), ("well", 149.9)) is None, "it began before its decision"
    assert after(("well", 1)) is None


EVENTS = st.lists(st.tuples(st.sampled_from(["failed", "well", "asked"]), st.floats(0, 300, width=32)), max_size=60)


@given(EVENTS, st.booleans())
def test_whatever_happens_it_opens_for_reasons_only_and_never_for_long(
    events: list[tuple[str, float]], in_order: bool
) -> None:
    state, latest = None, 0.0
    for what, at_s in sorted(events, key=lambda event: event[1]) if in_order else events:
        before, state = state, step(state, Event(MINI, what, at_s), RULE)  # type: ignore[arg-type]
        latest = max(latest, at_s)
        if state is None:
            continue
        assert state.failures >= 1
        assert (state.until_s is not None) == (state.failures >= 3) or state.until_s is None
        assert state.until_s is None or state.until_s < latest + RULE.open_s + 1
        if state.until_s is not None and (before is None or before.until_s is None):
            assert (what, state.failures) == ("failed", 3)
        if before is not None and before.is_asked and before.until_s is not None and at_s < before.until_s:
            assert not (what == "asked" and state != before), "a second call tries"


def test_targets_are_told_apart_and_what_is_open_is_seen_while_it_is() -> None:
    breakers, other = Breakers(), MINI._replace(host="acme.openai.azure.com")
    for what, at_s in OPEN:
        breakers.take(Event(MINI, what, at_s), RULE)  # type: ignore[arg-type]
    before, now = breakers.take(Event(other, "failed", 5), RULE)
    assert (before, now, dict(breakers.until)) == (None, State(1, 5), {MINI: 150})
    kept = breakers.take(Event(MINI, "well", 149), RULE)
    assert kept[0] is kept[1] is breakers.states[MINI]
    assert breakers.take(Event(MINI, "well", 150), RULE) == (State(3, 120, 150), None)
    assert (dict(breakers.until), list(breakers.states)) == ({}, [other])


def test_of_what_all_know_one_tries_its_own_and_leaves_the_others_until_there_is_news() -> None:
    breakers = Breakers({MINI: State(1, 0)})
    mine, others, due, shut = (MINI._replace(model=name) for name in ("mine", "others", "due", "shut"))
    states = {
        mine: State(3, 100, 190, is_asked=True),
        others: State(3, 100, 191, is_asked=True),
        due: State(3, 100, 130),
        shut: State(2, 100),
    }
    breakers.adopt(states, [mine], 165)
    assert dict(breakers.states) == states
    assert dict(breakers.until) == {mine: 0, others: 191, due: 165}
    breakers.take(Event(mine, "failed", 162), RULE)
    assert breakers.until[mine] == 192
    breakers.adopt({}, [], 170)
    assert (dict(breakers.states), dict(breakers.until)) == ({}, {})


def test_clients_names_of_models_do_not_fill_the_memory() -> None:
    breakers = Breakers()
    for number in range(TARGETS + 5):
        breakers.take(Event(MINI._replace(model=f"m{number}"), "failed", number), Breaking(failures=1))
    assert len(breakers.states) == len(breakers.until) == TARGETS
    assert MINI._replace(model="m4") not in breakers.states
    assert MINI._replace(model="m5") in breakers.states


# --- what a call says -------------------------------------------------------------------------------------------------

FAILED = {"model_sent": "gpt-4.1-mini", "host": "api.openai.com", "duration_ms": 1500.0, "error_source": "provider"}


def said(provider: str = "openai", **changes: Any) -> str | None:
    event = event_of(call(**{**FAILED, "provider": provider, **changes}), PROVIDERS)
    return event.what if event else None


def test_a_failure_counts_when_it_is_over_and_a_success_from_when_it_began() -> None:
    assert event_of(call(**FAILED, error_category="server_error"), PROVIDERS) == Event(MINI, "failed", STARTED_S + 1.5)
    untimed = replace(call(**FAILED, error_category="server_error"), duration_ms=None)
    assert event_of(untimed, PROVIDERS) == Event(MINI, "failed", STARTED_S)
    well = {**FAILED, "error_source": None}
    assert event_of(call(**well), PROVIDERS) == Event(MINI, "well", STARTED_S)


COUNT = {408, 498, 500, 502, 503, 504, 524, 529}
DO_NOT = {400, 401, 403, 404, 413, 422, 429, 405, 415}


@pytest.mark.parametrize("status", sorted(COUNT | DO_NOT))
def test_the_callers_mistakes_and_limits_that_are_kept_are_no_failures(status: int) -> None:
    category = CATEGORY_OF_STATUS.get(status, "server_error" if status >= 500 else "invalid_request")
    assert said(status=status, error_category=category) == ("failed" if status in COUNT else None)


CASES: dict[str, tuple[dict[str, Any], str | None]] = {
    "it cannot be reached": ({"error_category": "unreachable", "error_code": "provider_unreachable"}, "failed"),
    "it breaks off": ({"error_category": "stream_interrupted"}, "failed"),
    "an error within its stream": ({"error_category": "stream_error", "error_code": "overloaded_error"}, "failed"),
    "a limit within its stream": ({"error_category": "stream_error", "error_code": "rate_limit_exceeded"}, None),
    "Google's word for a limit": ({"error_category": "server_error", "error_code": "RESOURCE_EXHAUSTED"}, None),
    "a mistake within its stream": ({"error_category": "stream_error", "error_code": "invalid_request_error"}, None),
    "a full window said with a 500": (
        {"error_category": "server_error", "error_code": "context_length_exceeded"},
        None,
    ),
    "the caller hung up": ({"error_category": "client_disconnect", "error_source": "client"}, None),
    "our own refusal": ({"error_category": "authentication", "error_source": "gateway"}, None),
    "Envoy gave up": ({"error_category": "server_error", "error_source": "gateway"}, None),
    "Groq's 413 is a quota": ({"provider": "groq", "status": 413, "error_code": "rate_limit_exceeded"}, "failed"),
    "anybody else's 413": ({"status": 413, "error_category": "request_too_large"}, None),
    "the gateway's credit is used up": ({"error_category": "quota", "credential": "gateway"}, "failed"),
    "the client's credit is used up": ({"error_category": "quota", "credential": "client"}, None),
    "a provider that has left the settings": ({"provider": "gone", "error_category": "server_error"}, "failed"),
    "no provider": ({"provider": None, "error_category": "server_error"}, None),
    "no model": ({"model_sent": None, "error_category": "server_error"}, None),
    "nowhere sent": ({"host": None, "error_category": "server_error"}, None),
    "tokens are counted": ({"dialect": "anthropic.count_tokens", "error_category": None}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_call_says_of_its_model(case: str) -> None:
    changes, what = CASES[case]
    assert said(**{"error_category": "request_too_large", **changes}) == what


def test_each_candidate_that_failed_before_another_answered_has_failed() -> None:
    def tried(provider: str, status: int | None, why: str | None = None) -> Try:
        return Try(
            provider=provider, model="m", host="h", began_ms=STARTED_S * 1000, status=status, why=why, duration_ms=500.0
        )

    record = call(
        host="g.example",
        provider="groq",
        model_sent="llama",
        tries=(
            tried("openai", 503),
            tried("anthropic", 429),
            tried("xai", None),
            tried("gemini", 402, "quota"),
            tried("groq", 413, "quota"),
            tried("groq", 200),
        ),
    )
    assert [(event.target.provider, event.what, event.at_s - STARTED_S) for event in events_of(record, PROVIDERS)] == [
        ("openai", "failed", 0.5),
        ("xai", "failed", 0.5),
        ("groq", "failed", 0.5),
        ("groq", "well", 0.0),
    ]
    assert [event.what for event in events_of(call(host="h", tries=None), PROVIDERS)] == ["well"]
    assert list(events_of(call(host=None), PROVIDERS)) == []
