"""Limits of orgs: what is held, refused and settled, as clients meet it, whatever becomes of lectr and its database."""

import asyncio
import hashlib
import hmac
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.answers import chat
from tests.e2e.calls import JSON, ask, asking, call, error_of
from tests.e2e.conftest import Launch, LaunchApart, once
from tests.e2e.gateway import Build, Gateway, wait_until
from tests.e2e.provider import Gate, Received, json_answer
from tests.e2e.scene import (
    MESSAGES,
    ORG,
    PROMPT,
    SECOND_KEY,
    Providers,
    contacted,
    secret,
    settings_for,
)
from tests.e2e.sdks import anthropic_client, openai_client
from tests.postgres import Postgres

COST = 0.0001325
"What an answer of the scripted provider costs: 21 × 2.5 + 8 × 10 millionths, by gpt-4o's list price."
BOUNDED = asking(max_tokens=1000)
"A call that may cost a thousand tokens × 10 millionths, and its prompt, which weighs little beside it."
HELD = -(-len(BOUNDED) // 3) * 2.5e-6 + 1000 * 10e-6


def limited(providers: Providers, second: dict[str, Any] | None = None, **limits: object) -> dict[str, Any]:
    settings = settings_for(providers)
    settings["orgs"][0]["limits"] = limits
    settings["orgs"][1] |= {"limits": second} if second else {}
    return settings


def limits_of(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.healthz().json()["limits"]
    return found


def spent(gateway: Gateway) -> float:
    """What the ledger says, of all orgs."""
    (line,) = json.loads(gateway.ask("report", "--json"))["total"]
    return float(line.get("cost_usd", 0))


@pytest.fixture(scope="module")
def spending(build: Build, listening: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The first org has no money at all for one model and for one feature; the second may ask twice in a minute."""
    narrower = [
        {"for": {"model": "gpt-4o"}, "daily_usd": 0.000001},
        {"for": {"model": "claude-opus-4-1"}, "monthly_usd": 0.000001},
        {"for": {"feature": "drafts"}, "rolling": [{"usd": 0.000001, "window": "1h"}], "over": "economy"},
    ]
    settings = limited(listening, {"requests_per_minute": 60}, narrower=narrower)
    settings["orgs"][0]["aliases"] = {"writer": ["gpt-4o", "gpt-4.1"]}
    for provider in settings["providers"]:
        provider["models"] = {"openai": ["gpt-4.1-mini"]}.get(provider["id"], [])
    with Gateway(build, settings, tmp_path_factory.mktemp("spending")) as gateway:
        yield gateway


def test_the_openai_sdk_raises_its_rate_limit_error_and_does_not_try_again(
    spending: Gateway, providers: Providers, call_id: str
) -> None:
    before = limits_of(spending)["limits_refused"]
    with openai_client(spending, **{"x-request-id": call_id}) as client, pytest.raises(openai.RateLimitError) as raised:
        client.with_options(max_retries=2).chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": PROMPT}]
        )
    assert raised.value.code == "daily_spend_limit_exceeded"
    assert "daily spend limit of model 'gpt-4o'" in raised.value.message
    said = raised.value.response.headers
    assert 0 < int(said["retry-after"]) <= 86_400
    assert int(said["x-ratelimit-reset"]) % 86_400 == 0
    assert (said["x-ratelimit-limit"], said["x-ratelimit-remaining"]) == ("0.000001", "0.000001")
    assert contacted(providers) == []
    record = spending.record(call_id)
    assert (record["status"], record["error_code"], record["error_source"]) == (429, raised.value.code, "gateway")
    assert limits_of(spending)["limits_refused"] == before + 1


def test_the_anthropic_sdk_raises_its_rate_limit_error(spending: Gateway, providers: Providers) -> None:
    with anthropic_client(spending) as client, pytest.raises(anthropic.RateLimitError) as raised:
        client.with_options(max_retries=2).messages.create(
            model="claude-opus-4-1", max_tokens=99, messages=[{"role": "user", "content": PROMPT}]
        )
    body: Any = raised.value.body
    assert body["error"]["type"] == "rate_limit_error"
    assert body["error"]["message"].startswith("monthly_spend_limit_exceeded: The monthly spend limit of model")
    assert contacted(providers) == []


@once
def test_a_client_that_waits_as_it_is_told_gets_its_answer(spending: Gateway, providers: Providers) -> None:
    with openai_client(spending, org=SECOND_KEY) as client:
        wait_until(lambda: call_of_second(spending) == 429, "a minute's requests used up")
        began = time.monotonic()
        answer = client.with_options(max_retries=1).chat.completions.with_raw_response.create(
            model="gpt-4o", messages=[{"role": "user", "content": PROMPT}]
        )
    assert answer.status_code == 200
    assert answer.retries_taken in (0, 1)
    assert time.monotonic() - began < 5


def call_of_second(gateway: Gateway) -> int:
    return call(gateway, headers={**JSON, "X-Lectr-Key": SECOND_KEY}).status_code


def test_beyond_its_limit_a_feature_gets_a_cheaper_tier_and_answers_say_so(
    spending: Gateway, providers: Providers, call_id: str
) -> None:
    body = asking("gpt-4.1")
    answer = call(spending, headers={**JSON, "X-Lectr-Feature": "drafts"}, body=body, call_id=call_id)
    assert answer.status_code == 200
    assert (answer.headers["x-model-router-model"], answer.headers["x-model-router-tier"]) == (
        "gpt-4.1-mini",
        "economy",
    )
    assert providers["openai"].next_request().json() == {"model": "gpt-4.1-mini", "messages": MESSAGES}
    record = spending.record(call_id)
    assert (record["model_requested"], record["model_sent"], record["tier"]) == ("gpt-4.1", "gpt-4.1-mini", "economy")
    assert "over_limit" in record["notes"]
    embedding = b'{"model": "text-embedding-3-small", "input": "' + b"x" * 1000 + b'"}'
    refused = call(spending, "/v1/embeddings", headers={**JSON, "X-Lectr-Feature": "drafts"}, body=embedding)
    assert error_of(refused)[::3] == (429, "spend_limit_exceeded")


def test_a_choice_falls_on_the_next_model_where_the_first_has_no_room(spending: Gateway, providers: Providers) -> None:
    answer = call(spending, body=asking("writer"))
    assert (answer.status_code, answer.headers["x-model-router-model"]) == (200, "gpt-4.1")
    assert [received.json()["model"] for received in providers["openai"].requests] == ["gpt-4.1"]


@once
def test_a_model_that_an_org_may_not_use_is_refused_whoever_pins_it_and_however(
    launch: Launch, providers: Providers, call_id: str
) -> None:
    settings = settings_for(providers)
    settings["orgs"][0] |= {"allowed": {"providers": ["openai"]}, "blocked": {"models": ["gpt-4.1"]}}
    settings["orgs"][1] |= {"allowed": {"models": ["gpt-4o", "gpt-4.1"]}}
    settings["orgs"][1]["keys"][0]["blocked"] = {"models": ["gpt-4.1"]}
    gateway = launch(settings)
    with openai_client(gateway, **{"x-request-id": call_id}) as client:
        owners = {model.id: model.owned_by for model in client.models.list()}
        assert (owners["gpt-4o"], owners["economy"], "gpt-4.1" in owners) == ("openai", "lectr", False)
        assert set(owners.values()) == {"openai", "lectr"}
        for model in ("gpt-4.1", "openai/gpt-4.1", "groq/llama-3.1-8b-instant"):
            with pytest.raises(openai.PermissionDeniedError) as raised:
                client.chat.completions.create(model=model, messages=[{"role": "user", "content": PROMPT}])
            assert raised.value.code == "model_not_allowed"
    with anthropic_client(gateway) as claude, pytest.raises(anthropic.PermissionDeniedError):
        claude.messages.create(model="claude-opus-4-1", max_tokens=9, messages=[{"role": "user", "content": PROMPT}])
    assert contacted(providers) == []
    assert call(gateway).status_code == 200
    second = {**JSON, "X-Lectr-Key": SECOND_KEY}
    hidden = {**second, "Content-Type": "application/octet-stream"}
    assert [call(gateway, headers=given).status_code for given in (second, hidden)] == [200, 403]
    assert call(gateway, headers=second, body=asking("gpt-4.1")).status_code == 403, "it is blocked for this key"
    assert call(gateway, "/v1/files", method="GET", headers=second).status_code != 403


def hundred_at_once(providers: Providers, *gateways: Gateway) -> Counter[bytes]:
    """How so many calls are answered, of which none ends before all have been decided; twenty of them fit."""
    gate = Gate()

    def held_back(received: Received) -> Any:
        answer = chat("openai", received)
        return replace(answer, pieces=(gate, *answer.pieces))

    providers["openai"].answer_with(*[held_back] * 100)

    async def ask_and_open() -> Counter[bytes]:
        calls = [asyncio.create_task(ask(gateways[i % len(gateways)].port, BOUNDED)) for i in range(100)]
        answered = asyncio.as_completed(calls, timeout=30)
        try:
            refused = [await next(answered) for _ in range(80)]
            assert Counter(line.split()[1] for line in refused) == {b"429": 80}
        finally:
            gate.open()  # also for a provider that waits when this fails
        return Counter(line.split()[1] for line in await asyncio.gather(*calls))

    return asyncio.run(ask_and_open())


def test_a_hundred_at_once_spend_no_more_than_there_is(launch: Launch, providers: Providers) -> None:
    gateway = launch(limited(providers, daily_usd=round(HELD * 20.5, 9)))
    assert hundred_at_once(providers, gateway) == {b"200": 20, b"429": 80}
    assert len(contacted(providers)) == 20
    wait_until(lambda: spent(gateway) == pytest.approx(20 * COST), "twenty records")
    assert call(gateway, body=BOUNDED).status_code == 200, "what was only held is there again"


@once
def test_what_was_spent_is_known_to_the_lectr_that_comes_next(launch_apart: LaunchApart, providers: Providers) -> None:
    gateway = launch_apart(limited(providers, daily_usd=round(HELD + COST * 1.5, 9)))
    answered = 0

    def is_refused() -> bool:
        """Once those before it are on record: what they hold would keep it out, too."""
        nonlocal answered
        status = call(gateway, body=BOUNDED).status_code
        answered += status == 200
        wait_until(lambda: spent(gateway) == pytest.approx(answered * COST), "records")
        return status == 429

    wait_until(is_refused, "an end of the money")
    gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait()
    gateway.process = gateway.serve()
    refused = call(gateway, body=BOUNDED)
    assert error_of(refused)[::3] == (429, "daily_spend_limit_exceeded")
    assert answered
    assert f"{answered * COST:.6f}".rstrip("0")[:7] in refused.json()["error"]["message"]


@once
def test_streams_are_counted_while_they_are_open(launch: Launch, providers: Providers) -> None:
    gateway = launch(limited(providers, parallel_streams=2))
    gates = [Gate() for _ in range(2)]

    def held_back(gate: Gate) -> Any:
        def respond(received: Received) -> Any:
            answer = chat("openai", received)
            return replace(answer, pieces=(answer.pieces[0], gate, *answer.pieces[1:]))

        return respond

    providers["openai"].answer_with(*map(held_back, gates))
    with openai_client(gateway) as client:

        def stream() -> Any:
            return client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": PROMPT}], stream=True
            )

        open_ones = [stream() for _ in gates]
        with pytest.raises(openai.RateLimitError) as raised:
            stream()
        assert raised.value.code == "concurrent_streams_exceeded"
        assert call(gateway).status_code == 200, "which is no stream"
        gates[0].open()
        list(open_ones[0])
        wait_until(lambda: call(gateway, body=asking(stream=True)).status_code == 200, "room for a stream")
        gates[1].open()
        list(open_ones[1])


@once
def test_a_webhook_is_told_once_and_can_tell_that_it_is_us(
    launch: Launch, providers: Providers, tmp_path: Path
) -> None:
    secret_of_hook = secret("whsec-")
    (tmp_path / "hook").write_text(secret_of_hook)
    hook = providers["groq"]
    hook.answer_with(json_answer({}, 503), json_answer({}))  # it is tried again
    settings = limited(providers, daily_usd=round(HELD * 1.5, 9), warn_at=[0.5])
    settings["webhook"] = {"url": f"{hook.origin}/hook", "secret": f"file:{tmp_path}/hook"}
    gateway = launch(settings)
    for _ in range(3):
        call(gateway, body=BOUNDED)
    refused, told = hook.next_request(), hook.next_request()
    assert (told.target, told.body) == ("/hook", refused.body)
    signature = hmac.new(secret_of_hook.encode(), told.body, hashlib.sha256).hexdigest()
    assert told.values("x-lectr-signature") == [f"sha256={signature}"]
    event = told.json()
    assert (event["event"], event["org"], event["threshold"]) == ("limit.threshold", ORG, 0.5)
    wait_until(lambda: gateway.healthz().json()["counts"].get("webhooks_sent"), "a delivery")
    assert len(hook.requests) == 2
    assert PROMPT not in repr(hook.requests)


# --- a fleet ----------------------------------------------------------------------------------------------------------


@once
def test_three_lectrs_share_one_budget(launch: Launch, providers: Providers, postgres: Postgres) -> None:
    settings = limited(providers, daily_usd=round(HELD * 20.5, 9)) | {"ledger": {"url": postgres.new_database("fleet")}}
    fleet = [launch(settings) for _ in range(3)]
    assert hundred_at_once(providers, *fleet) == {b"200": 20, b"429": 80}
    wait_until(lambda: spent(fleet[0]) == pytest.approx(20 * COST), "the records of all")
    assert {call(gateway, body=BOUNDED).status_code for gateway in fleet} == {200}


@once
def test_while_the_database_is_away_a_setting_decides(
    launch: Launch, providers: Providers, postgres: Postgres, call_id: str
) -> None:
    settings = limited(providers, {"daily_usd": 1, "when_store_is_away": "closed"}, daily_usd=1)
    gateway = launch(settings | {"ledger": {"url": postgres.new_database("away")}})
    second = {**JSON, "X-Lectr-Key": SECOND_KEY}
    assert (call(gateway).status_code, call(gateway, headers=second).status_code) == (200, 200)
    postgres.stop()
    try:
        assert call(gateway).status_code == 200
        refused = call(gateway, headers=second, call_id=call_id)
        assert error_of(refused)[::3] == (503, "limits_unavailable")
        assert gateway.record(call_id)["error_code"] == "limits_unavailable"
        health = gateway.healthz().json()
        assert "limits" in health["degraded"]
        assert health["limits"]["limits_store_errors"] >= 1
        assert health["limits"]["limits_let_through"] >= 1
    finally:
        postgres.start()
    wait_until(lambda: call(gateway, headers=second).status_code == 200, "counters that are there again")
    wait_until(lambda: "limits" not in gateway.healthz().json()["degraded"], "a gateway that is well")
