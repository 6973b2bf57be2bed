"""Failover within the request: where a candidate fails before its first byte, the next one is asked with its own host,
path, key and model, and whatever is said of the call is about who answered."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.e2e.answers import TEXT, Flavour
from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, JSON, asking, call, in_background
from tests.e2e.candidates import (
    HELD,
    MODELS,
    STATUSES,
    assert_each_got_its_own,
    fail_at_random,
    failing_over,
    refusal,
)
from tests.e2e.conftest import Launch, LaunchApart, once
from tests.e2e.gateway import Apart, Build, Gateway, wait_until
from tests.e2e.provider import Answer, Cut, Gate, json_answer, sse_answer
from tests.e2e.scene import ANTHROPIC_KEY, MESSAGES, Providers, assert_meant_for, contacted
from tests.e2e.sdks import anthropic_client, openai_client
from tests.e2e.test_tiers import ASK, told

TIMEOUT_S = 1.5
"Of a candidate that is silent, and far more than a busy machine takes for one that is not."


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def falling(
    build: Build, listening: Providers, keys: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    settings = failing_over(listening, keys, stream_timeout_s=TIMEOUT_S, answer_timeout_s=TIMEOUT_S)
    with Gateway(build, settings, tmp_path_factory.mktemp("falling")) as gateway:
        yield gateway


FAILURES: dict[str, tuple[Answer, int | None]] = {
    **{f"status {status}": (refusal(status), status) for status in STATUSES},
    "a reset before the answer": (Answer(head=b"", pieces=(Cut.RESET,)), None),
    "a close before the answer": (Answer(head=b"", pieces=(Cut.CLOSE,)), None),
    "silence": (Answer(head=b"", pieces=(Cut.SILENCE,)), None),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_the_openai_sdk_is_answered_by_the_next_candidate(
    falling: Gateway, providers: Providers, call_id: str, failure: str
) -> None:
    answer, status = FAILURES[failure]
    providers["openai"].answer_with(answer)
    with openai_client(falling, **{"x-request-id": call_id}) as client:
        raw = client.chat.completions.with_raw_response.create(model="any", messages=ASK)
    assert raw.parse().choices[0].message.content == TEXT
    assert told(raw.headers) == {"model": "claude-sonnet-4-6", "provider": "anthropic"}
    assert contacted(providers) == ["openai", "anthropic"]
    assert_each_got_its_own(providers)
    record = falling.record(call_id)
    assert (record["provider"], record["model_sent"], record["attempts"]) == ("anthropic", "claude-sonnet-4-6", 2)
    assert [(one["provider"], one["model"], one["status"]) for one in record["tries"]] == [
        ("openai", "gpt-4o", status),
        ("anthropic", "claude-sonnet-4-6", 200),
    ]


def names(record: dict[str, Any]) -> list[tuple[str, int | None]]:
    return [(one["provider"], one["status"]) for one in record["tries"]]


def test_a_fallback_list_names_who_is_asked_next_and_never_reaches_a_provider(
    falling: Gateway, providers: Providers, call_id: str
) -> None:
    providers["openai"].answer_with(refusal(503))
    providers["groq"].answer_with(refusal(500))
    body = asking("gpt-4o", fallback=["llama-3.3-70b-versatile", "gemini-2.5-flash"])
    answer = call(falling, body=body, call_id=call_id)
    assert (answer.status_code, told(answer)) == (200, {"model": "gemini-2.5-flash", "provider": "gemini"})
    assert contacted(providers) == ["openai", "groq", "gemini"]
    assert_each_got_its_own(providers)
    assert names(falling.record(call_id)) == [("openai", 503), ("groq", 500), ("gemini", 200)]


def test_a_pinned_call_without_one_never_fails_over(falling: Gateway, providers: Providers, call_id: str) -> None:
    providers["openai"].answer_with(refusal(503))
    answer = call(falling, call_id=call_id)
    assert (answer.status_code, told(answer), contacted(providers)) == (503, {}, ["openai"])
    assert providers["openai"].next_request().body == asking()
    assert "tries" not in falling.record(call_id)


@pytest.mark.parametrize("stream", [False, True])
def test_the_anthropic_sdk_is_answered_by_the_next_candidate(
    falling: Gateway, providers: Providers, call_id: str, *, stream: bool
) -> None:
    providers["anthropic"].answer_with(refusal(529, type="overloaded_error"))
    with anthropic_client(falling) as client:
        ask: Any = {"model": "claude-sonnet-4-6", "max_tokens": 99, "messages": MESSAGES}
        how: Any = {"extra_headers": {"x-request-id": call_id}, "extra_body": {"fallback": ["grok-4.3"]}}
        if stream:
            with client.messages.stream(**ask, **how) as streamed:
                text = streamed.get_final_text()
        else:
            (block,) = client.messages.create(**ask, **how).content
            assert isinstance(block, anthropic.types.TextBlock)
            text = block.text
    assert text == TEXT
    first, second = providers["anthropic"].next_request(), providers["openai"].next_request()
    assert_meant_for(providers["anthropic"], first, target="/v1/messages", credential=("x-api-key", ANTHROPIC_KEY))
    assert second.target == "/xai/v1/messages"
    assert second.values("authorization") == [f"Bearer {HELD['xai']}"]
    assert second.json()["model"] == "grok-4.3"
    assert ANTHROPIC_KEY not in repr(second)
    assert HELD["xai"] not in repr(first)
    record = falling.record(call_id)
    assert names(record) == [("anthropic", 529), ("xai", 200)]
    assert (record["provider"], record["model_sent"], record["usage"]["output_tokens"]) == ("xai", "grok-4.3", 8)


def test_a_stream_is_the_winners_own_and_is_not_cut_when_it_lasts_longer_than_an_attempt_may_take_to_begin(
    falling: Gateway, providers: Providers, call_id: str
) -> None:
    providers["openai"].answer_with(refusal(500))
    gate = Gate()
    opening, rest = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n', b"data: [DONE]\n\n"
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n'
    providers["anthropic"].answer_with(sse_answer([opening, gate, usage, rest]))
    began = time.monotonic()
    with in_background(lambda: call(falling, body=asking("any", stream=True), call_id=call_id)) as answer:
        received = providers["anthropic"].next_request()
        wait_until(lambda: time.monotonic() > began + 2 * TIMEOUT_S, "a stream that lasts")
        gate.open()
    assert received.json()["stream_options"] == {"include_usage": True}
    assert answer.result().content == opening + rest, "the chunk that lectr asked for is taken out again"
    record = falling.record(call_id)
    assert (record["usage"]["input_tokens"], record["provider"]) == (5, "anthropic")


def test_what_has_begun_is_final(falling: Gateway, providers: Providers, call_id: str) -> None:
    gate = Gate()
    providers["openai"].answer_with(sse_answer([b"data: {}\n\n", gate, Cut.RESET]))
    headers, body = {**JSON, "x-request-id": call_id}, asking("any", stream=True)
    with httpx.stream("POST", falling.url + CHAT, headers=headers, content=body, trust_env=False) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"data: {}\n\n"
        gate.open()
        with pytest.raises(httpx.RemoteProtocolError):
            next(pieces)
    assert contacted(providers) == ["openai"]
    assert falling.record(call_id)["error_category"] == "stream_interrupted"


def test_a_provider_has_no_say_in_who_is_asked_and_in_what_is_said_of_the_choice(
    falling: Gateway, providers: Providers
) -> None:
    headers = [("x-lectr-retry", "1"), ("x-lectr-unanswered", "1"), ("x-model-router-tier", "premium")]
    providers["openai"].answer_with(json_answer({"choices": []}, headers=headers))
    answer = call(falling, body=asking("any"))
    assert (answer.status_code, contacted(providers)) == (200, ["openai"])
    assert told(answer) == {"model": "gpt-4o", "provider": "openai"}
    assert [name for name in answer.headers if name.startswith("x-lectr-")] == []


def test_where_all_fail_the_last_answer_is_the_calls(falling: Gateway, providers: Providers, call_id: str) -> None:
    failures: list[tuple[Flavour, int]] = [("openai", 500), ("anthropic", 429), ("groq", 503)]
    for name, status in failures:
        providers[name].answer_with(refusal(status, f"of {name}"))
    answer = call(falling, body=asking("any"), call_id=call_id)
    assert (answer.status_code, answer.json()) == (503, {"error": {"message": "of groq"}})
    assert [name for name in answer.headers if name.startswith("x-lectr-")] == []
    assert told(answer)["provider"] == "groq"
    assert names(falling.record(call_id)) == [("openai", 500), ("anthropic", 429), ("groq", 503)]


UNREACHED: dict[str, tuple[str, list[str]]] = {
    "openai's": (CHAT, ["gpt-4o", "claude-sonnet-4-6"]),
    "anthropic's": (CLAUDE_MESSAGES, ["claude-sonnet-4-6", "grok-4.3"]),
}


@pytest.mark.parametrize("shape", UNREACHED)
def test_where_the_last_cannot_be_reached_the_client_is_told_so_in_its_own_shape(
    falling: Gateway, providers: Providers, call_id: str, shape: str
) -> None:
    path, (first, second) = UNREACHED[shape]
    for provider in providers.values():
        provider.answer_with(*[Answer(head=b"", pieces=(Cut.RESET,))] * 2)
    answer = call(falling, path, body=asking(first, fallback=[second]), call_id=call_id)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "provider_unreachable")
    assert ("type" in answer.json()) is (shape == "anthropic's")
    assert [name for name in answer.headers if name.startswith("x-lectr-")] == []
    record = falling.record(call_id)
    assert (record["error_category"], record["error_code"]) == ("unreachable", "provider_unreachable")
    assert [(one["model"], one["status"]) for one in record["tries"]] == [(first, None), (second, None)]


def test_what_an_error_says_counts_with_the_native_profile(falling: Gateway, providers: Providers) -> None:
    providers["openai"].answer_with(refusal(403, code="insufficient_quota"))
    is_native = falling.build.profile == "native"
    assert call(falling, body=asking("any")).status_code == (200 if is_native else 403)
    assert contacted(providers) == (["openai", "anthropic"] if is_native else ["openai"])


@once
def test_where_all_are_rate_limited_the_client_is_told_the_soonest_return(
    falling: Gateway, providers: Providers
) -> None:
    waits: list[tuple[Flavour, str]] = [("openai", "31"), ("anthropic", "7"), ("groq", "60")]
    for name, wait in waits:
        waiting = [("retry-after-ms", f"{wait}000"), ("retry-after", wait)]
        providers[name].answer_with(refusal(429, headers=waiting))
    with openai_client(falling) as client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="any", messages=ASK)
    headers = caught.value.response.headers
    assert [value for name, value in headers.multi_items() if name.startswith("retry-after")] == ["7"]
    assert contacted(providers) == ["openai", "anthropic", "groq"]


FINAL: dict[str, Answer] = {
    "a wrong parameter": refusal(400, code="unknown_parameter"),
    "a model that is not there": refusal(404, code="model_not_found"),
    "the client's own bad key": refusal(401, code="invalid_api_key"),
    "an unreadable error": Answer(status=400, pieces=(b"\x00\xff",)),
    "a long error of unknown length": Answer(status=400, pieces=(b"x" * 100_000,) * 30, chunked=True),
    "a long error": refusal(400, "x" * 3_000_000),
}


@once
@pytest.mark.parametrize("case", FINAL)
def test_what_is_wrong_with_the_call_itself_is_final(falling: Gateway, providers: Providers, case: str) -> None:
    providers["openai"].answer_with(FINAL[case])
    answer = call(falling, body=asking("any"))
    assert (answer.status_code, contacted(providers)) == (FINAL[case].status, ["openai"])
    assert answer.content == FINAL[case].body


@once
def test_a_key_of_ours_that_is_refused_and_a_spent_quota_are_anothers_turn(
    falling: Gateway, providers: Providers, call_id: str
) -> None:
    providers["openai"].answer_with(refusal(403, code="insufficient_quota"))
    providers["anthropic"].answer_with(refusal(401, type="authentication_error"))
    answer = call(falling, body=asking("any"), call_id=call_id)
    assert (answer.status_code, told(answer)["provider"]) == (200, "groq")
    assert_each_got_its_own(providers)
    whys = [one.get("why") for one in falling.record(call_id)["tries"]]
    assert whys == ["quota", "key", None]


@once
def test_an_exceeded_context_is_the_larger_windows_turn(falling: Gateway, providers: Providers, call_id: str) -> None:
    exceeded = refusal(400, code="context_length_exceeded")
    providers["groq"].answer_with(exceeded)
    body = asking("llama-3.3-70b-versatile", fallback=["gpt-4o", "gemini-2.5-flash"])
    answer = call(falling, body=body, call_id=call_id)
    assert (answer.status_code, told(answer)["provider"]) == (200, "gemini")
    assert contacted(providers) == ["groq", "gemini"]
    assert_each_got_its_own(providers)
    providers["gemini"].answer_with(exceeded)
    body = asking("gemini-2.5-flash", fallback=["gpt-4o", "llama-3.3-70b-versatile"])
    assert call(falling, body=body).status_code == 400


def test_a_large_body_arrives_whole_at_each_candidate(apart: Apart, providers: Providers) -> None:
    providers["openai"].answer_with(refusal(503))
    text = "x" * 5_000_000
    messages = [{"role": "user", "content": text}]
    answer = call(apart, body=json.dumps({"model": "any", "messages": messages}).encode())
    assert answer.status_code == 200
    asked: list[Flavour] = ["openai", "anthropic"]
    for name in asked:
        assert providers[name].next_request().json() == {"model": MODELS[name], "messages": messages}


def test_whoever_fails_no_provider_ever_gets_what_is_anothers(falling: Gateway, providers: Providers) -> None:
    """Hundreds of failures in a few seconds; `python -m tests.soak failover` makes thousands."""
    answered = fail_at_random(falling, providers, calls=240, seed=7)
    assert_each_got_its_own(providers)
    assert {status for status in answered if status != 200} <= {
        *STATUSES,
        401,
    }  # the last is what became of the client's own key
    assert answered.count(200) > 150
    assert sum(len(provider.requests) for provider in providers.values()) > 380


@pytest.fixture
def apart(launch_apart: LaunchApart, listening: Providers, providers: Providers, keys: Any) -> Apart:
    return launch_apart(failing_over(listening, keys))


def fails_later(gate: Gate) -> Answer:
    """A 503 that begins when the gate is opened."""
    head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n"
    return Answer(head=b"", pieces=(gate, head, b"no"), headers=[("content-length", "2")])


@once
def test_another_lectr_makes_the_next_attempt(apart: Apart, providers: Providers, call_id: str) -> None:
    gate = Gate()
    providers["openai"].answer_with(fails_later(gate))
    with in_background(lambda: call(apart, body=asking("any"), call_id=call_id)) as answer:
        providers["openai"].next_request()
        apart.process.kill()
        apart.process.wait()
        apart.serve()
        gate.open()
    assert (answer.result().status_code, contacted(providers)) == (200, ["openai", "anthropic"])
    assert_each_got_its_own(providers)
    assert names(apart.record(call_id)) == [("openai", None), ("anthropic", 200)]


def test_what_lectr_has_not_written_does_not_leave(apart: Apart, providers: Providers) -> None:
    gate = Gate()
    providers["openai"].answer_with(fails_later(gate))
    with in_background(lambda: call(apart, body=asking("any"))) as answer:
        providers["openai"].next_request()
        apart.process.kill()
        apart.process.wait()
        gate.open()
    assert contacted(providers) == ["openai"]
    assert answer.result().status_code == 503
    assert answer.result().json()["error"]["code"] == "gateway_unavailable"


@once
def test_a_lectr_that_is_killed_while_a_candidate_answers_breaks_nothing(apart: Apart, providers: Providers) -> None:
    gate = Gate()
    scripted = json_answer({"choices": []})
    providers["openai"].answer_with(replace(scripted, pieces=(gate, *scripted.pieces)))
    with in_background(lambda: call(apart, body=asking("any"))) as answer:
        providers["openai"].next_request()
        apart.process.kill()
        apart.process.wait()
        gate.open()
    assert (answer.result().status_code, answer.result().json()) == (200, {"choices": []})


@once
def test_settings_that_change_between_two_attempts_do_not_lose_the_call(
    launch: Launch, listening: Providers, providers: Providers, keys: Any
) -> None:
    settings = failing_over(listening, keys)
    gateway = launch(settings)
    gate = Gate()
    providers["openai"].answer_with(fails_later(gate))
    with in_background(lambda: call(gateway, body=asking("any"))) as answer:
        providers["openai"].next_request()
        more = [*settings["providers"], {"id": "another", "base_url": "http://127.0.0.1:1"}]
        gateway.write_settings({**settings, "providers": more})
        wait_until(lambda: "another-" in gateway.healthz().text, "the new settings")
        gate.open()
    assert (answer.result().status_code, contacted(providers)) == (200, ["openai", "anthropic"])
    assert_each_got_its_own(providers)
