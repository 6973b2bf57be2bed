"""Keys that the gateway holds: one key is all a client needs, and each goes to its own provider and nowhere else."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from lectr_extproc.core.upstream import Upstream
from tests.e2e.answers import TEXT, WORDS, Flavour, answer_as
from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, asking, call, new_id
from tests.e2e.conftest import Launch, once
from tests.e2e.gateway import Build, Gateway, wait_until
from tests.e2e.provider import Loop, Provider
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import (
    ORG,
    ORG_KEY,
    PREFIXES,
    PROMPT,
    SECOND_KEY,
    Providers,
    assert_nothing_of_ours,
    contacted,
    credentials_in,
    held_in,
    secret,
    settings_for,
)

HELD: dict[Flavour, str] = {
    "openai": secret("sk-proj-"),
    "anthropic": secret("sk-ant-api03-"),
    "groq": secret("gsk_"),
    "gemini": secret("AIza"),
    "azure": secret(""),
}
SECOND_OPENAI = secret("sk-proj-")
OWNERS: dict[str, Flavour] = {key: flavour for flavour, key in HELD.items()}
OWNERS[SECOND_OPENAI] = "openai"
FORMS: dict[Flavour, tuple[str, str]] = {
    "openai": ("authorization", "Bearer {}"),
    "anthropic": ("x-api-key", "{}"),
    "groq": ("authorization", "Bearer {}"),
    "gemini": ("authorization", "Bearer {}"),
    "azure": ("api-key", "{}"),
}
ONE_KEY = {"Authorization": f"Bearer {ORG_KEY}", "Content-Type": "application/json"}
SECOND = {"Authorization": f"Bearer {SECOND_KEY}", "Content-Type": "application/json"}


def holding_settings(providers: Providers, directory: Path) -> dict[str, Any]:
    """Keys in files, one in the environment; Azure's and Gemini's held for the first org, an own one for the second."""
    held = held_in(directory, HELD)
    (directory / "second").write_text(SECOND_OPENAI)
    settings = settings_for(providers)
    settings["credentials"] = {
        "openai": held["openai"],
        "groq": held["groq"],
        "anthropic": "env:HELD_FOR_ANTHROPIC",
    }
    settings["orgs"][0]["credentials"] = {"azure": held["azure"], "gemini": held["gemini"]}
    settings["orgs"][1]["credentials"] = {"openai": f"file:{directory}/second"}
    return settings


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HELD_FOR_ANTHROPIC", HELD["anthropic"])
        yield


@pytest.fixture(scope="module")
def holding(build: Build, listening: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = holding_settings(listening, tmp_path_factory.mktemp("keys"))
    with Gateway(build, settings, tmp_path_factory.mktemp("holding")) as gateway:
        yield gateway


def held_keys_in(provider: Provider) -> set[str]:
    """The held keys in anything that a provider received."""
    return {key for key in OWNERS for one in provider.requests if key in repr(one)}


def assert_kept(providers: Providers) -> None:
    """No held key was anywhere but with its own provider, and no key of ours with any."""
    assert [
        (OWNERS[key], name) for name, one in providers.items() for key in held_keys_in(one) if OWNERS[key] != name
    ] == []
    for provider in providers.values():
        for received in provider.requests:
            assert_nothing_of_ours(received)
            assert len(credentials_in(received)) <= 1


# --- one key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", FORMS)
def test_a_client_without_a_key_for_the_provider_goes_with_the_held_one(
    holding: Gateway, providers: Providers, flavour: Flavour
) -> None:
    call_id = new_id()
    assert call(holding, headers={**ONE_KEY, "X-Lectr-Provider": flavour}, call_id=call_id).status_code == 200

    name, value = FORMS[flavour]
    assert credentials_in(providers[flavour].next_request()) == [(name, value.format(HELD[flavour]))]
    record = holding.record(call_id)
    assert (record["org"], record["provider"], record["credential"]) == (ORG, flavour, "gateway")
    assert_kept(providers)


def test_geminis_own_api_gets_the_held_key_in_its_own_header(holding: Gateway, providers: Providers) -> None:
    call(holding, "/v1beta/models/gemini-2.5-flash:generateContent", headers=ONE_KEY)
    assert credentials_in(providers["gemini"].next_request()) == [("x-goog-api-key", HELD["gemini"])]


def test_the_clients_own_key_goes_first_unless_it_is_evidently_anothers(holding: Gateway, providers: Providers) -> None:
    theirs, misplaced = secret("gsk_"), secret("sk-ant-api03-")
    ids = {key: new_id() for key in (theirs, misplaced)}
    for key, call_id in ids.items():
        own = {"X-Lectr-Key": ORG_KEY, "Authorization": f"Bearer {key}", "X-Lectr-Provider": "groq"}
        call(holding, headers={**own, "Content-Type": "application/json"}, call_id=call_id)

    sent = [credentials_in(providers["groq"].next_request()) for _ in ids]
    assert sent == [[("authorization", f"Bearer {key}")] for key in (theirs, HELD["groq"])]
    records = [holding.record(call_id) for call_id in ids.values()]
    assert [record["credential"] for record in records] == ["client", "gateway"]
    assert [record.get("notes") for record in records] == [None, ["credential_of_another_provider"]]


def test_an_orgs_keys_are_its_own(holding: Gateway, providers: Providers) -> None:
    ids = {flavour: new_id() for flavour in ("openai", "groq", "gemini")}
    for flavour, call_id in ids.items():
        call(holding, headers={**SECOND, "X-Lectr-Provider": flavour}, call_id=call_id)

    assert credentials_in(providers["openai"].next_request()) == [("authorization", f"Bearer {SECOND_OPENAI}")]
    assert credentials_in(providers["groq"].next_request()) == [("authorization", f"Bearer {HELD['groq']}")]
    assert credentials_in(providers["gemini"].next_request()) == []
    assert [holding.record(call_id)["credential"] for call_id in ids.values()] == ["gateway", "gateway", "none"]


MODELS: dict[Flavour, str] = {
    "openai": "gpt-4o",
    "anthropic": "claude-sonnet-4-6",
    "groq": "llama-3.3-70b-versatile",
    "gemini": "gemini-2.5-flash",
    "azure": "azure/gpt-4o",
}


def test_one_key_in_the_openai_sdk_reaches_every_provider(holding: Gateway, providers: Providers) -> None:
    with openai.OpenAI(base_url=f"{holding.url}/v1", api_key=ORG_KEY, max_retries=0) as client:
        for model in MODELS.values():
            asked: Any = {"model": model, "messages": [{"role": "user", "content": PROMPT}]}
            assert client.chat.completions.create(**asked).choices[0].message.content == TEXT
            with client.chat.completions.create(**asked, stream=True) as stream:
                deltas = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]
            assert "".join(deltas) == TEXT

    assert {name: held_keys_in(one) for name, one in providers.items()} == {name: {key} for name, key in HELD.items()}
    assert_kept(providers)


def test_one_key_in_the_anthropic_sdk_is_enough(holding: Gateway, providers: Providers) -> None:
    asked: Any = {"model": MODELS["anthropic"], "max_tokens": 64, "messages": [{"role": "user", "content": PROMPT}]}
    with anthropic.Anthropic(base_url=holding.url, api_key=ORG_KEY, max_retries=0) as claude:
        assert [block.text for block in claude.messages.create(**asked).content if block.type == "text"] == [TEXT]
        with claude.messages.stream(**asked) as stream:
            assert list(stream.text_stream) == WORDS

    assert contacted(providers) == ["anthropic"] * 2
    for received in providers["anthropic"].requests:
        assert credentials_in(received) == [("x-api-key", HELD["anthropic"])]
    assert_kept(providers)


# --- and nowhere else -------------------------------------------------------------------------------------------------

Attack = tuple[str, str, list[tuple[str, str]], str, object]
"Method, target, headers, host, model."


def attacks(providers: Providers, stranger: str) -> Iterator[Attack]:
    """Ways to ask for another address, each with a stranger's and with each provider's."""
    sites = {name: one.origin + PREFIXES.get(name, "") for name, one in providers.items()}
    hosts = [stranger, *(f"127.0.0.1:{one.port}" for one in providers.values())]
    clusters = [Upstream.parse(name, url).cluster for name, url in sites.items()]
    clusters += [Upstream.parse(name, f"http://{stranger}").cluster for name in sites] + ["lectr", "lectr_unrouted"]

    def attack(
        method: str = "POST",
        target: str = CHAT,
        headers: Iterable[tuple[str, str]] = (),
        host: str = "gateway.test",
        model: object = "gpt-4o",
    ) -> Attack:
        return method, target, list(headers), host, model

    for host in hosts:
        yield attack(host=host)
        yield attack("CONNECT", host, host=host)
        for target in (f"http://{host}{CHAT}", f"http://gateway.test@{host}{CHAT}", f"//{host}{CHAT}"):
            yield attack(target=target)
        for target in (
            f"/@{host}{CHAT}",
            f"/..%2f..%2f{host}{CHAT}",
            f"/\\{host}{CHAT}",
            f"{CHAT}?base_url=http://{host}",
        ):
            yield attack(target=target)
        for target in (f"/v1/../{host}", f"/v1/..//{host}", f"@{host}/v1/models", f"/v1/models#@{host}"):
            yield attack("GET", target)
        yield attack(target=f"/openai/deployments/..%2f..%2f@{host}/chat/completions?api-version=2024-10-21")
        yield attack(target=f"/openai/deployments/@{host}/chat/completions?api-version=2024-10-21")
        yield attack(target=f"/v1beta/models/..%2f@{host}:generateContent")
        for name in ("x-forwarded-host", "x-envoy-original-dst-host", "x-original-host", "x-host", "forwarded"):
            yield attack(headers=[(name, host)])
        yield attack(headers=[("x-envoy-original-path", f"http://{host}/"), ("x-rewrite-url", f"http://{host}/")])
        for model in (f"http://{host}/v1", f"openai/@{host}", f"azure/..%2f@{host}", f"azure/{host}", f"groq/{host}"):
            yield attack(model=model)
        for value in (host, f"http://{host}/v1", f"openai@{host}", f"openai,{host}"):
            yield attack(headers=[("x-lectr-provider", value)])
    for cluster in clusters:
        for name in ("x-lectr-cluster", "X-Lectr-Cluster", "x-envoy-cluster"):
            yield attack(headers=[(name, cluster)])
        yield attack(headers=[("x-lectr-cluster", cluster), ("x-lectr-provider", "nobody")], model="mystery")
        yield attack(
            headers=[("connection", "x-lectr-cluster, authorization, x-api-key"), ("x-lectr-cluster", cluster)]
        )
        yield attack("GET", "/v1/realtime?model=gpt-4o", [*UPGRADE, ("x-lectr-cluster", cluster)])
    for first, second in (("openai", "groq"), ("groq", "azure"), ("anthropic", "gemini")):
        yield attack(headers=[("x-lectr-provider", first), ("x-lectr-provider", second)])
        yield attack(headers=[("x-lectr-provider", f"{first}, {second}")])
        yield attack("GET", "/v1/models", [*UPGRADE, ("x-lectr-provider", first)])
        yield attack("POST", CLAUDE_MESSAGES, [("x-lectr-provider", second)])
        yield attack(headers=[("authorization", f"Bearer {secret('sk-ant-')}"), ("x-lectr-provider", first)])
        yield attack(headers=[("authorization", f"Bearer {secret('gsk_')}")], model=MODELS["gemini"])
    for value in ("", " ", "../groq", "groq\t", "GROQ", "%67roq", "groq\u00ff", "lectr", "groq-", "google"):
        yield attack(headers=[("x-lectr-provider", value)])
    odd: list[object] = [
        "",
        None,
        7,
        {"a": 1},
        "groq/gpt-4o\r\nx-api-key: 1",
        "models/../gemini",
        "grok-3",
        "llama3.1:8b",
    ]
    yield from (attack(model=name) for name in odd)


UPGRADE = [
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


@pytest.mark.parametrize("key", [ORG_KEY, SECOND_KEY], ids=["the org with Azure", "an org without"])
def test_a_held_key_goes_to_its_own_provider_and_nowhere_else_whatever_a_client_asks(
    holding: Gateway, providers: Providers, loop: Loop, key: str
) -> None:
    with Provider(loop, answer_as("openai")) as stranger:
        for method, target, headers, host, model in attacks(providers, f"127.0.0.1:{stranger.port}"):
            body = b"" if method in {"GET", "CONNECT"} else asking(model)
            ours = [("authorization", f"Bearer {key}"), ("content-type", "application/json")]
            with Connection(holding.port) as connection:
                connection.send(method, target, [*ours, *headers], body, host=host)
                try:
                    connection.read_head()
                except (EOFError, ConnectionError):
                    continue  # hung up on: an answer too
        assert stranger.requests == []

    assert_kept(providers)
    second = {"openai": {SECOND_OPENAI}, "azure": set(), "gemini": set()} if key == SECOND_KEY else {}
    expected = {name: second.get(name, {held}) for name, held in HELD.items()}
    assert {name: held_keys_in(one) for name, one in providers.items()} == expected, "each attack was worth trying"
    assert call(holding, headers=ONE_KEY).status_code == 200


# --- rotation ---------------------------------------------------------------------------------------------------------


@once
def test_a_new_key_in_its_file_goes_out_within_two_seconds(
    launch: Launch, providers: Providers, tmp_path: Path
) -> None:
    gateway = launch(holding_settings(providers, tmp_path))
    call(gateway, headers=ONE_KEY)
    assert credentials_in(providers["openai"].next_request()) == [("authorization", f"Bearer {HELD['openai']}")]

    rotated = secret("sk-proj-")
    (tmp_path / "new").write_text(rotated)
    (tmp_path / "new").rename(tmp_path / "openai")

    def goes_out() -> bool:
        call(gateway, headers=ONE_KEY)
        return credentials_in(providers["openai"].next_request()) == [("authorization", f"Bearer {rotated}")]

    began = time.monotonic()
    wait_until(goes_out, "the new key")
    assert time.monotonic() - began < 2

    (tmp_path / "openai").unlink()
    wait_until(lambda: "credentials.openai" in str(gateway.healthz().json()["settings_problem"]), "a word on it")
    assert goes_out()


def test_a_provider_that_moves_takes_its_key_along(
    launch: Launch, providers: Providers, loop: Loop, tmp_path: Path
) -> None:
    settings = holding_settings(providers, tmp_path)
    gateway = launch(settings)
    with Provider(loop, answer_as("groq")) as moved:
        settings["providers"] = [
            {**one, "base_url": f"{moved.origin}/openai/v1"} if one["id"] == "groq" else one
            for one in settings["providers"]
        ]
        gateway.write_settings(settings)
        wait_until(lambda: '"settings adopted"' in gateway.output, "adoption")
        call(gateway, headers={**ONE_KEY, "X-Lectr-Provider": "groq"})
        assert credentials_in(moved.next_request()) == [("authorization", f"Bearer {HELD['groq']}")]
        assert contacted(providers) == []
        assert_kept({**providers, "groq": moved})
