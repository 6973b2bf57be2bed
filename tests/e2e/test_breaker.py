"""A model that fails is no longer chosen first, and one call finds out whether it is well again."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.answers import Flavour
from tests.e2e.calls import asking, call
from tests.e2e.conftest import Launch, once
from tests.e2e.gateway import Build, Gateway, wait_until
from tests.e2e.provider import Answer, Gate, json_answer
from tests.e2e.scene import OPENAI_KEY, Providers, secret, settings_for
from tests.postgres import Postgres

STAYS: dict[Flavour, str] = {"openai": "gpt-4.1-mini", "anthropic": "claude-haiku-4-5"}


def settings_in(listening: Providers, directory: Path) -> dict[str, Any]:
    """Two models to choose from, of which OpenAI's costs less."""
    key = directory / "anthropic"
    key.write_text(secret("sk-ant-api03-"))
    settings = settings_for(listening)
    for provider in settings["providers"]:
        provider["models"] = [STAYS[provider["id"]]] if provider["id"] in STAYS else []
    settings["orgs"][0] |= {"credentials": {"anthropic": f"file:{key}"}}
    return settings


@pytest.fixture(scope="module")
def breaking(build: Build, listening: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A breaker stays open for two seconds."""
    settings = settings_in(listening, tmp_path_factory.mktemp("keys")) | {"breaker": {"open_s": 2}}
    with Gateway(build, settings, tmp_path_factory.mktemp("breaking")) as gateway:
        yield gateway


def state(gateway: Gateway) -> list[str]:
    return [one["state"] for one in gateway.healthz().json()["breakers"]]


def provider_of(answer: httpx.Response) -> str:
    return answer.headers["x-model-router-provider"]


def test_three_failures_sink_a_model_and_one_call_brings_it_back(
    breaking: Gateway, providers: Providers, call_id: str
) -> None:
    openai = providers["openai"]
    for _ in range(3):
        openai.answer_with(json_answer({"error": {"message": "overloaded"}}, 503))
        call(breaking, body=asking("economy"))
    wait_until(lambda: state(breaking) != [], "an open breaker")
    assert [one["model"] for one in breaking.healthz().json()["breakers"]] == ["gpt-4.1-mini"]
    assert len(openai.requests) == 3
    assert provider_of(call(breaking, body=asking("economy"))) == "anthropic"
    pinned = call(breaking, body=asking("gpt-4.1-mini"))
    assert (pinned.status_code, len(openai.requests)) == (200, 4)

    gate = Gate()
    trying: list[httpx.Response] = []

    def ask() -> None:
        trying.append(call(breaking, body=asking("economy"), call_id=call_id))

    wait_until(lambda: state(breaking) == ["half_open"], "a breaker that is half-open")
    openai.answer_with(Answer(pieces=(gate, b"{}"), headers=[("content-type", "application/json")], chunked=True))
    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: len(openai.requests) == 5, "a call that tries")
    assert provider_of(call(breaking, body=asking("economy"))) == "anthropic", "the others wait for what becomes of it"
    gate.open()
    thread.join()
    assert provider_of(trying[0]) == "openai"
    wait_until(lambda: state(breaking) == [], "a closed breaker")
    assert provider_of(call(breaking, body=asking("economy"))) == "openai"
    assert json.loads(breaking.ask("status", "--json"))["breakers"] == []
    said = [json.loads(line)["event"] for line in breaking.lines('"breaker ', 3)]
    assert said == ["breaker open", "breaker half-open", "breaker closed"]


@once
def test_how_soon_models_answer_here_counts_more_than_what_was_published(
    launch: Launch, providers: Providers, tmp_path: Path
) -> None:
    settings = settings_in(providers, tmp_path) | {"latency": {"calls": 2}}
    settings["ledger"] = {"url": f"sqlite://{tmp_path}/ledger.db"}
    before, fast = launch(settings), asking("economy", prefer="fast")
    assert provider_of(call(before, body=fast)) == "anthropic", "as it is published"
    for _ in range(2):
        call(before, body=asking("gpt-4.1-mini", stream=True))
    wait_until(lambda: before.healthz().json()["ledger"]["written"] == 3, "records in the ledger")
    after = launch(settings)
    wait_until(lambda: after.healthz().json()["first_tokens"], "a model that was measured")
    assert provider_of(call(after, body=fast)) == "openai"
    plan = json.loads(
        after.ask("explain", "--json", "--model", "economy", "--header", f"Authorization: Bearer {OPENAI_KEY}")
    )["plan"]
    assert [one["is_measured"] for one in plan["candidates"] if one["model"] == "gpt-4.1-mini"] == [True]


@once
def test_what_fails_for_one_lectr_is_sunk_by_the_fleet_and_one_call_of_them_all_tries_it(
    launch: Launch, providers: Providers, postgres: Postgres, tmp_path: Path
) -> None:
    settings = settings_in(providers, tmp_path) | {"breaker": {"open_s": 2}}
    settings["ledger"] = {"url": postgres.new_database("breakers")}
    one, *others = fleet = [launch(settings) for _ in range(3)]
    overloaded = json_answer({"error": {"message": "overloaded"}}, 503)

    def each_asks() -> list[str]:
        return [provider_of(call(gateway, body=asking("economy"))) for gateway in fleet]

    def trials() -> int:
        return sum(gateway.output.count('"breaker half-open"') for gateway in fleet)

    assert each_asks() == ["openai"] * 3
    providers["openai"].answer_with(*[overloaded] * 4)
    for _ in range(3):
        call(one, body=asking("economy"))
    wait_until(lambda: all(map(state, fleet)), "a breaker that is open everywhere")
    assert [json.loads(other.lines('"breaker open"')[0])["by"] for other in others] == ["another lectr"] * 2
    assert [gateway.ask("status").count("breaker     openai/gpt-4.1-mini at 127.0.0.1:") for gateway in fleet] == [
        1
    ] * 3

    failed = len(providers["openai"].requests)
    wait_until(lambda: each_asks() and trials(), "a call that tries")
    assert len(providers["openai"].requests) == failed + 1, "it failed, so that nobody asks again yet"
    wait_until(lambda: each_asks() == ["openai"] * 3, "a model that is well")
    assert trials() == 2, "one each time, of all"
    wait_until(lambda: not any(map(state, fleet)), "a breaker that is closed everywhere")
    assert [json.loads(gateway.ask("status", "--json"))["breakers"] for gateway in fleet] == [[]] * 3
