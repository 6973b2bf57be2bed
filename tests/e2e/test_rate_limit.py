"""Envoy's own rate limit filter holds callers to budgets of tokens and of cost, set up as docs/rate-limits.md says."""

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.answers import INPUT_TOKENS, OUTPUT_TOKENS, chat, data, error
from tests.e2e.budgets import Asked, Budgets
from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, JSON, asking, call, error_of, works
from tests.e2e.gateway import REPOSITORY, STOP_WITHIN_S, Apart, Build, wait_until
from tests.e2e.provider import Answer, Cut, Gate, Received, sse_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import ORG, SECOND_KEY, SECOND_ORG, Providers, contacted, secret, settings_for

BLOCK = re.compile(r"^```yaml\n# ([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENT = (REPOSITORY / "docs" / "rate-limits.md").read_text()
DOCUMENTED = {where: yaml.safe_load(text) for where, text in BLOCK.findall(DOCUMENT)}
"What the example adds, by where."

TOKENS = INPUT_TOKENS + OUTPUT_TOKENS
MICRO_USD = 133
"21 × 2.5 + 8 × 10 = 132.5 by gpt-4o's list price."
MODELS = {CHAT: "gpt-4o", CLAUDE_MESSAGES: "claude-opus-4-1"}
SEARCH = {**JSON, "X-Lectr-Feature": "search"}
SPENT = (429, "application/json", "openai", "budget_spent")


def observed(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, with the example's providers observed as it says."""
    wanted = {row["id"]: row for row in DOCUMENTED["lectr.yaml"]["providers"]}
    return {**settings, "providers": [{**row, **wanted.get(row["id"], {})} for row in settings["providers"]]}


def extend(bootstrap: Path, budgets: Budgets) -> None:
    """Do to a rendered file what the example says; only the service's port is this test's."""
    document = yaml.safe_load(bootstrap.read_text())
    static = document["static_resources"]
    manager = static["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["http_filters"][-1]["name"] == "envoy.filters.http.router"
    manager["http_filters"][-1:-1] = DOCUMENTED["http_filters"]
    manager["local_reply_config"]["mappers"] += DOCUMENTED["mappers"]
    manager["access_log"] += DOCUMENTED["access_log"]
    (cluster,) = DOCUMENTED["clusters"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoint["endpoint"]["address"]["socket_address"]["port_value"] = budgets.port
    static["clusters"].append(cluster)
    bootstrap.write_text(yaml.safe_dump(document))


@pytest.fixture(scope="module")
def service() -> Iterator[Budgets]:
    with Budgets() as service:
        yield service


@pytest.fixture
def budgets(service: Budgets) -> Budgets:
    """The service with nothing spent, and no limits."""
    service.reset()
    return service


@pytest.fixture(scope="module")
def limited(
    build: Build, listening: Providers, service: Budgets, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Apart]:
    """A gateway whose Envoy was given the example's lines, and started anew."""
    directory = tmp_path_factory.mktemp("limited")
    with Apart(build, observed(settings_for(listening)), directory) as gateway:
        gateway.envoy.send_signal(signal.SIGTERM)
        gateway.envoy.wait(STOP_WITHIN_S)
        bootstrap = directory / "envoy" / build.profile / "bootstrap.yaml"
        extend(bootstrap, service)
        flush = ["--file-flush-interval-msec", "100"]  # stdout too is a file; the default is ten seconds
        command = [str(build.binary), "-c", str(bootstrap), "--disable-hot-restart", "--log-level", "warning", *flush]
        gateway.envoy = gateway.processes.start(command)

        def is_ready() -> bool:
            try:
                return gateway.stat("cluster.lectr.membership_healthy") == 1
            except (httpx.TransportError, ValueError):  # not there yet, or without clusters yet
                return False

        wait_until(is_ready, "an Envoy that takes the example's lines")
        yield gateway


def peek(budget: str, *of: str, allowed: bool = True) -> Asked:
    return Asked(budget=budget, of=of, hits=0, allowed=allowed)


def charge(hits: int, budget: str, *of: str, allowed: bool = True) -> Asked:
    return Asked(budget=budget, of=of, hits=hits, allowed=allowed)


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", MODELS)
def test_an_org_whose_tokens_are_spent_gets_429_and_the_provider_is_not_contacted(
    limited: Apart, budgets: Budgets, providers: Providers, path: str, streaming: bool
) -> None:
    budgets.reset(tokens=2 * TOKENS - 1)
    body = asking(MODELS[path], stream=streaming)
    assert call(limited, path, body=body).status_code == 200
    assert budgets.next(2) == [peek("tokens", ORG), charge(TOKENS, "tokens", ORG)]
    assert call(limited, path, body=body).status_code == 200
    assert budgets.next(2) == [peek("tokens", ORG), charge(TOKENS, "tokens", ORG, allowed=False)]
    assert error_of(call(limited, path, body=body)) == SPENT
    assert budgets.next(1) == [peek("tokens", ORG, allowed=False)]
    assert len(contacted(providers)) == 2
    assert call(limited, path, headers={**JSON, "X-Lectr-Key": SECOND_KEY}, body=body).status_code == 200
    assert budgets.next(2) == [peek("tokens", SECOND_ORG), charge(TOKENS, "tokens", SECOND_ORG)]


def test_a_feature_whose_money_is_spent_gets_429_and_the_rest_of_its_org_goes_on(
    limited: Apart, budgets: Budgets, providers: Providers
) -> None:
    budgets.reset(micro_usd=MICRO_USD - 1)
    assert call(limited, headers=SEARCH).status_code == 200
    assert budgets.next(4) == [
        peek("tokens", ORG),
        peek("micro_usd", ORG, "search"),
        charge(TOKENS, "tokens", ORG),
        charge(MICRO_USD, "micro_usd", ORG, "search", allowed=False),
    ]
    assert error_of(call(limited, headers=SEARCH)) == SPENT
    assert budgets.next(2) == [peek("tokens", ORG), peek("micro_usd", ORG, "search", allowed=False)]
    assert contacted(providers) == ["openai"]
    assert works(limited)
    assert budgets.next(2) == [peek("tokens", ORG), charge(TOKENS, "tokens", ORG)]


def test_a_line_of_the_users_own_access_log_shows_tokens_and_cost(
    limited: Apart, budgets: Budgets, providers: Providers
) -> None:
    # A model nobody else asks for here, to find the line by; it costs 21 × 0.15 + 8 × 0.6 = 7.95 millionths.
    assert call(limited, body=asking("gpt-4o-mini")).status_code == 200
    assert budgets.next(2)[1] == charge(TOKENS, "tokens", ORG)
    (line,) = limited.lines("gpt-4o-mini-2024-07-18 200 ")
    assert line.split(maxsplit=1)[1] == f"{ORG} gpt-4o-mini-2024-07-18 200 tokens={TOKENS} micro_usd=8\n"


def test_a_refusal_for_a_spent_budget_is_recorded_as_the_gateways_and_costs_nothing(
    limited: Apart, budgets: Budgets, providers: Providers, call_id: str
) -> None:
    budgets.reset(tokens=-1)
    assert error_of(call(limited, call_id=call_id)) == SPENT
    assert budgets.next(1) == [peek("tokens", ORG, allowed=False)]
    record = limited.record(call_id)
    said = {name: record.get(name) for name in ("org", "status", "error_category", "error_source", "cost_usd")}
    assert said == {
        "org": ORG,
        "status": 429,
        "error_category": "rate_limit",
        "error_source": "gateway",
        "cost_usd": None,
    }


def test_a_client_that_hangs_up_is_charged_what_was_known_by_then(
    limited: Apart, budgets: Budgets, providers: Providers
) -> None:
    usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": 3}
    chunk = data({"id": "c1", "model": "gpt-4o", "choices": [], "usage": usage})
    providers["openai"].answer_with(sse_answer([chunk, Cut.SILENCE]))
    with Connection(limited.port) as connection:
        body = asking(stream=True, stream_options={"include_usage": True})
        connection.send("POST", CHAT, JSON.items(), body)
        connection.read_head()
        assert next(connection.chunks()) == chunk
        assert budgets.next(1) == [peek("tokens", ORG)]
    assert budgets.next(1) == [charge(INPUT_TOKENS + 3, "tokens", ORG)]


def test_a_call_that_used_nothing_is_not_charged_and_one_that_is_refused_is_not_asked_about(
    limited: Apart, budgets: Budgets, providers: Providers
) -> None:
    providers["openai"].answer_with(error("openai", 500))
    assert call(limited).status_code == 500
    assert call(limited, headers={**JSON, "X-Lectr-Key": secret("lc_key_")}).status_code == 401
    assert call(limited, headers={**JSON, "X-Lectr-Key": ""}).status_code == 401
    assert works(limited)
    assert budgets.next(3) == [peek("tokens", ORG), peek("tokens", ORG), charge(TOKENS, "tokens", ORG)]


def test_calls_at_the_same_time_may_overshoot(limited: Apart, budgets: Budgets, providers: Providers) -> None:
    gate = Gate()

    def held(received: Received) -> Answer:
        answer = chat("openai", received)
        return replace(answer, headers=answer.rendered_headers(), pieces=(gate, *answer.pieces))

    budgets.reset(tokens=TOKENS - 1)
    providers["openai"].answer_with(held, held)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(call, limited) for _ in range(2)]
        assert budgets.next(2) == [peek("tokens", ORG)] * 2
        gate.open()
        assert [each.result().status_code for each in calls] == [200, 200]
    assert budgets.next(2) == [charge(TOKENS, "tokens", ORG, allowed=False)] * 2
    assert error_of(call(limited)) == SPENT


def test_without_an_answer_of_the_rate_limit_service_calls_go_on(
    limited: Apart, budgets: Budgets, providers: Providers
) -> None:
    budgets.is_broken = True
    assert works(limited)
    assert budgets.next(2) == [peek("tokens", ORG), charge(TOKENS, "tokens", ORG)]
