"""Azure OpenAI lives at each org's own endpoint, which settings alone decide."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest

from tests.e2e.answers import TEXT, answer_as
from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, asking, call, error_of
from tests.e2e.gateway import Build, Gateway
from tests.e2e.provider import Loop, Provider
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import (
    AZURE_API_VERSION,
    ORG_KEY,
    PROMPT,
    SECOND_KEY,
    Providers,
    contacted,
    credentials_in,
    org,
    secret,
    settings_for,
)

AZURE_KEY = secret("")
V1_KEY, SPELT_KEY = secret("lc_key_"), secret("lc_key_")
DATED = f"api-version={AZURE_API_VERSION}"
DEPLOYMENT = "/openai/deployments/gpt-4o"


def headers(key: str = ORG_KEY, **more: str) -> dict[str, str]:
    named = {"X-Lectr-Provider": "azure", "api-key": AZURE_KEY, "Content-Type": "application/json"}
    return {"X-Lectr-Key": key, **named, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    path: str = CHAT
    body: bytes = field(default_factory=asking)
    target: str


DATED_CASES = {
    "a chat": Case(target=f"{DEPLOYMENT}/chat/completions?{DATED}"),
    "embeddings": Case(path="/v1/embeddings", target=f"{DEPLOYMENT}/embeddings?{DATED}"),
    "a query of the client's": Case(path=f"{CHAT}?a=1", target=f"{DEPLOYMENT}/chat/completions?a=1&{DATED}"),
    "an api-version of the client's": Case(
        path=f"{CHAT}?api-version=2025-01-01-preview",
        target=f"{DEPLOYMENT}/chat/completions?api-version=2025-01-01-preview",
    ),
    "a prefix before the model": Case(body=asking("azure/gpt-4o"), target=f"{DEPLOYMENT}/chat/completions?{DATED}"),
    "a model that tries to climb": Case(
        body=asking("../../admin?x=1#"),
        target=f"/openai/deployments/..%2F..%2Fadmin%3Fx%3D1%23/chat/completions?{DATED}",
    ),
    "responses, whose body names the deployment": Case(path="/v1/responses", target=f"/openai/responses?{DATED}"),
    "models": Case(path="/v1/models", target=f"/openai/models?{DATED}"),
    "Azure's own path": Case(
        path="/openai/deployments/ours/chat/completions?api-version=2024-06-01",
        target="/openai/deployments/ours/chat/completions?api-version=2024-06-01",
    ),
    "Azure's own path without a version": Case(
        path="/openai/deployments/ours/embeddings", target=f"/openai/deployments/ours/embeddings?{DATED}"
    ),
    "Azure's own v1 path": Case(path="/openai/v1/chat/completions", target="/openai/v1/chat/completions"),
}


@pytest.mark.parametrize("case", DATED_CASES)
def test_a_call_gets_the_path_azure_wants(gateway: Gateway, providers: Providers, case: str) -> None:
    asked = DATED_CASES[case]
    call(gateway, asked.path, headers=headers(), body=asked.body)

    received = providers["azure"].next_request()
    assert received.target == asked.target
    assert received.body == asked.body.replace(b'"azure/', b'"')
    assert received.values("host") == [f"127.0.0.1:{providers['azure'].port}"]
    assert credentials_in(received) == [("api-key", AZURE_KEY)]


@pytest.fixture(scope="module")
def of_others(
    build: Build, loop: Loop, listening: Providers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Provider]]:
    """A gateway where two more orgs have the v1 API, each spelt its way, at an endpoint of their own."""
    with Provider(loop, answer_as("azure")) as theirs:
        settings = settings_for(listening)
        settings["orgs"] += [
            org("v1", V1_KEY, azure={"endpoint": theirs.origin, "api_version": "v1"}),
            org("spelt", SPELT_KEY, azure={"endpoint": f"{theirs.origin}/openai/v1/"}),
        ]
        with Gateway(build, settings, tmp_path_factory.mktemp("azure")) as gateway:
            yield gateway, theirs


@pytest.mark.parametrize("key", [V1_KEY, SPELT_KEY], ids=["api_version: v1", "endpoint: …/openai/v1"])
def test_each_org_reaches_its_own_endpoint(of_others: tuple[Gateway, Provider], providers: Providers, key: str) -> None:
    gateway, theirs = of_others
    theirs.reset()
    for path in (CHAT, "/v1/responses", f"{CHAT}?api-version=preview"):
        assert call(gateway, path, headers=headers(key)).status_code == 200
    assert call(gateway, headers=headers(ORG_KEY)).status_code == 200

    targets = ["/openai/v1/chat/completions", "/openai/v1/responses", "/openai/v1/chat/completions?api-version=preview"]
    assert [one.target for one in theirs.requests] == targets
    assert [one.json()["model"] for one in theirs.requests] == ["gpt-4o"] * 3
    assert [one.target for one in providers["azure"].requests] == [f"{DEPLOYMENT}/chat/completions?{DATED}"]


MISSING: dict[str, tuple[str, dict[str, str], str]] = {
    "by header": (CHAT, {}, "openai"),
    "by header, for a message": (CLAUDE_MESSAGES, {}, "anthropic"),
    "by path": (f"{DEPLOYMENT}/chat/completions", {"X-Lectr-Provider": ""}, "openai"),
}


@pytest.mark.parametrize("case", MISSING)
def test_an_org_without_azure_is_told_so(gateway: Gateway, providers: Providers, call_id: str, case: str) -> None:
    path, more, shape = MISSING[case]
    answer = call(gateway, path, headers=headers(SECOND_KEY, **more), call_id=call_id)

    assert error_of(answer) == (400, "application/json", shape, "azure_config_missing")
    assert contacted(providers) == []
    record = gateway.record(call_id)
    assert (record["org"], record["provider"], record["error_code"]) == ("dal-verk", "azure", "azure_config_missing")


def test_azures_own_sdk_client_works(gateway: Gateway, providers: Providers) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=gateway.url,
        api_version="2024-06-01",
        api_key=AZURE_KEY,
        default_headers={"X-Lectr-Key": ORG_KEY},
        max_retries=0,
    ) as client:
        answer = client.chat.completions.create(model="ours", messages=[{"role": "user", "content": PROMPT}])

    assert answer.choices[0].message.content == TEXT
    received = providers["azure"].next_request()
    assert received.target == "/openai/deployments/ours/chat/completions?api-version=2024-06-01"
    assert credentials_in(received) == [("api-key", AZURE_KEY)]


def test_a_client_cannot_name_the_endpoint(gateway: Gateway, providers: Providers, loop: Loop) -> None:
    with Provider(loop, answer_as("azure")) as stranger:
        elsewhere = f"127.0.0.1:{stranger.port}"
        attempts: list[tuple[str, list[tuple[str, str]]]] = [
            (CHAT, [("host", elsewhere)]),
            (f"http://{elsewhere}{CHAT}", [("host", elsewhere)]),
            (CHAT, [("host", "gateway.test"), ("x-forwarded-host", elsewhere), ("forwarded", f"host={elsewhere}")]),
            (CHAT, [("host", "gateway.test"), ("x-lectr-cluster", elsewhere), ("x-original-host", elsewhere)]),
            (CHAT, [("host", "gateway.test"), ("x-lectr-azure-endpoint", stranger.origin)]),
            (f"{CHAT}?endpoint={stranger.origin}", [("host", "gateway.test")]),
        ]
        for target, tried in attempts:
            with Connection(gateway.port) as connection:
                connection.send("POST", target, [*headers().items(), *tried], asking(), host=None)
                assert connection.read_head().status == 200
            assert providers["azure"].next_request().path == f"{DEPLOYMENT}/chat/completions"
        assert stranger.requests == []
    hosts: list[Any] = [one.values("host") for one in providers["azure"].requests]
    assert hosts == [[f"127.0.0.1:{providers['azure'].port}"]] * len(attempts)
