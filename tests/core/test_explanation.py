"""One call as the console shows it."""

from dataclasses import replace

import pytest

from lectr_extproc.core.explanation import call_as_json, phases, why
from lectr_extproc.core.pricing import Cost
from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.core.tries import Try
from lectr_extproc.core.usage import Usage
from tests.core.finished import STARTED_S, call

PLAIN = call(model_requested="gpt-4o", provider_source="exact", credential="client", observed="native", notes=())
BY_AUTO = replace(
    PLAIN,
    model_requested="auto",
    provider_source="chosen",
    auto_tier="economy",
    auto_score=23,
    tier="economy",
    candidates=3,
    auto_signals='{"length":10,"code":40,"steps":0}',
    dropped='{"credential":12,"vision":2}',
)

DECIDED: dict[str, tuple[CallRecord, list[str]]] = {
    "a pinned model": (
        PLAIN,
        [
            "openai, because gpt-4o is a model of it",
            "it went with the client's own key",
            "Envoy read its tokens",
        ],
    ),
    "a model that auto chose": (
        BY_AUTO,
        [
            "auto gave the conversation 23 of 100 points (code 40, length 10), which makes it economy",
            "3 models of the tier economy could answer it",
            "14 could not: 12 credential, 2 vision",
            "openai, because the gateway chose gpt-4o",
            "auto was asked for, and gpt-4o was sent",
            "it went with the client's own key",
            "Envoy read its tokens",
        ],
    ),
    "a rule, and an alias with one model": (
        replace(
            PLAIN,
            rule="r",
            rule_arm="gpt-4o-mini",
            candidates=1,
            provider_source="rule",
            credential="gateway",
            observed=None,
        ),
        [
            "rule 'r' is for it, and says: gpt-4o-mini",
            "1 model could answer it",
            "openai, because a rule of the org says so",
            "it went with a key that the gateway holds",
        ],
    ),
    "a provider without an address": (
        replace(
            PLAIN,
            rule="r",
            provider_source="default",
            provider_unknown=True,
            provider_detected="ollama",
            credential=None,
        ),
        [
            "rule 'r' is for it, and says: nothing of it is changed",
            "openai, because nothing said which provider",
            "it belongs to ollama, which has no address here",
            "Envoy read its tokens",
        ],
    ),
    "a model that nobody knows": (
        replace(PLAIN, provider_source="path", provider_unknown=True, credential="none", observed="stream"),
        [
            "openai, because the path is of its API",
            "nobody here knows the model",
            "it went without a key",
            "lectr read its tokens as it passed",
        ],
    ),
    "a bad key": (
        call(
            provider=None,
            provider_source=None,
            model_requested=None,
            model_sent=None,
            error_category="authentication",
            error_source="gateway",
            error_code="invalid_lectr_key",
        ),
        ["it failed: authentication (invalid_lectr_key), by the gateway"],
    ),
    "a call that was cut, with tokens estimated and a note of another version": (
        replace(
            PLAIN,
            notes=("no_candidate", "of_tomorrow"),
            credential=None,
            observed=None,
            token_source="estimated",
            error_category="stream_interrupted",
        ),
        [
            "openai, because gpt-4o is a model of it",
            "no model could answer it as it was asked",
            "of_tomorrow",
            "nobody told its tokens: they are estimated from its bytes",
            "it failed: stream_interrupted",
        ],
    ),
}


@pytest.mark.parametrize(("record", "sentences"), DECIDED.values(), ids=DECIDED)
def test_what_was_decided_is_said_in_sentences(record: CallRecord, sentences: list[str]) -> None:
    assert list(why(record)) == sentences


def test_each_candidate_that_was_left_is_named_with_what_became_of_it() -> None:
    asked = Try(provider="groq", model="m", host="h", began_ms=0)
    tries = (replace(asked, why="declined"), replace(asked, status=503), asked, replace(asked, provider="openai"))
    said = list(why(replace(PLAIN, tries=tries)))
    assert said[1:4] == [
        "groq/m was tried first: declined",
        "groq/m was tried next: it answered 503",
        "groq/m was tried next: it did not answer",
    ]


def test_phases_follow_each_other_from_the_first_byte_to_the_last() -> None:
    timed = call(duration_ms=1000.0, first_byte_ms=420.5, provider_first_byte_ms=400.0, gateway_ms=0.5)
    assert [tuple(phase.values()) for phase in phases(timed)] == [
        ("receive", 0.0, 20.0),
        ("gateway", 20.0, 20.5),
        ("wait", 20.5, 420.5),
        ("answer", 420.5, 1000.0),
    ]


def test_phases_that_nobody_measured_are_left_out_and_none_is_ever_negative() -> None:
    assert phases(call(duration_ms=9.0, first_byte_ms=None)) == []
    untimed = call(duration_ms=9.0, first_byte_ms=4.0, provider_first_byte_ms=None, gateway_ms=None)
    assert phases(untimed) == [{"name": "answer", "from_ms": 4.0, "to_ms": 9.0}]
    crossed = call(duration_ms=3.0, first_byte_ms=4.0, provider_first_byte_ms=9.0, gateway_ms=1.0)
    assert all(phase["from_ms"] <= phase["to_ms"] for phase in phases(crossed))


def test_a_call_is_shown_whole_and_what_is_not_known_is_none() -> None:
    nothing = call_as_json(7, call(usage=None, cost=None, provider_source=None, auto_tier=None))
    assert (nothing["seq"], nothing["at"], nothing["input_tokens"], nothing["cost_usd"]) == (7, STARTED_S, None, None)
    assert (nothing["decision"]["auto"], nothing["tries"], nothing["failed_attempts"]) == (None, [], [])
    shown = call_as_json(8, replace(BY_AUTO, usage=Usage(output_tokens=3), cost=Cost("free", total=0)))
    assert (shown["output_tokens"], shown["cost_usd"], shown["pricing_status"]) == (3, "0", "free")
    assert shown["decision"]["auto"] == {
        "tier": "economy",
        "score": 23,
        "signals": {"length": 10, "code": 40, "steps": 0},
    }
    assert shown["decision"]["dropped"] == {"credential": 12, "vision": 2}


@pytest.mark.parametrize("text", [None, "", "[1]", "{", '{"code": "x"}'])
def test_counts_that_are_none_say_nothing(text: str | None) -> None:
    decision = call_as_json(1, replace(BY_AUTO, auto_signals=text, dropped=text))["decision"]
    assert not decision["auto"]["signals"]
    assert not decision["dropped"]
    assert decision["why"][0] == "auto gave the conversation 23 of 100 points, which makes it economy"


def test_attempts_are_shown_by_their_time_after_the_calls_start_and_none_is_before_it() -> None:
    early = Try(provider="groq", model="m", host="h", began_ms=STARTED_S * 1000 - 2, status=503, duration_ms=10.5)
    late = replace(early, began_ms=STARTED_S * 1000 + 8, status=None, duration_ms=None, wait_s=30)
    failed = Attempt(
        request_id="r",
        started_ns=STARTED_S * 10**9 + 1_500_000,
        duration_ms=2.0,
        cluster="openai-1",
        address="192.0.2.1:443",
        status=None,
        flags=("upstream_connection_failure",),
        details="reset",
    )
    shown = call_as_json(1, call(tries=(early, late)), [failed])
    assert [(one["from_ms"], one["to_ms"], one["status"], one["wait_s"]) for one in shown["tries"]] == [
        (0.0, 10.5, 503, None),
        (8.0, None, None, 30),
    ]
    assert shown["failed_attempts"] == [
        {
            "from_ms": 1.5,
            "to_ms": 3.5,
            "address": "192.0.2.1:443",
            "status": None,
            "flags": ["upstream_connection_failure"],
            "details": "reset",
        }
    ]
