"""What lies below a call: TLS to the provider, large bodies, upgrades, and either side leaving early."""

import asyncio
import hashlib
import json
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.e2e.answers import answer_as, data
from tests.e2e.calls import ask, asking
from tests.e2e.conftest import Launch
from tests.e2e.gateway import Gateway, wait_until
from tests.e2e.provider import Answer, Cut, Gate, Loop, Piece, Provider, digest_answer, sse_answer, websocket_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import OPENAI_KEY, ORG_KEY, PROMPT, Providers, settings_for
from tests.e2e.tls import Authority

KEYS = {"X-Lectr-Key": ORG_KEY, "Authorization": f"Bearer {OPENAI_KEY}"}
JSON = [*KEYS.items(), ("Content-Type", "application/json")]
CHAT = "/v1/chat/completions"
STREAMING = b'{"model": "gpt-4o", "stream": true, "stream_options": {"include_usage": true}, "messages": []}'
EVENT = data({"choices": [{"index": 0, "delta": {"content": "first"}}]})


def post(gateway: Gateway, body: bytes) -> httpx.Response:
    return httpx.post(gateway.url + CHAT, headers=dict(JSON), content=body, timeout=30, trust_env=False)


@pytest.mark.parametrize("trusted", [True, False], ids=["a certificate we trust", "one we do not"])
def test_a_provider_is_called_over_tls_only_with_a_certificate_for_its_name(
    launch: Launch, loop: Loop, providers: Providers, tmp_path: Path, trusted: bool
) -> None:
    authority, stranger = (Authority(tmp_path / name) for name in ("authority", "stranger"))
    with Provider(loop, answer_as("openai"), authority.server_context("localhost")) as provider:
        settings: dict[str, Any] = settings_for(providers)
        settings["providers"][0]["base_url"] = f"https://localhost:{provider.port}/v1"
        settings["envoy"] = {"trusted_ca": str((authority if trusted else stranger).bundle)}
        answer = post(launch(settings), b'{"model": "gpt-4o", "messages": []}')

        if not trusted:
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "provider_unreachable"
            assert provider.requests == []
            return
        assert answer.status_code == 200
        received = provider.next_request()
        assert received.sni == "localhost"
        assert received.values("host") == [f"localhost:{provider.port}"]


def test_ten_mebibytes_reach_the_provider_unchanged(gateway: Gateway, providers: Providers) -> None:
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": PROMPT * (10 << 15)}]}).encode()
    providers["openai"].answer_with(digest_answer)

    answer = post(gateway, body)

    assert answer.json() == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_a_websocket_passes_both_ways(gateway: Gateway, providers: Providers) -> None:
    providers["openai"].answer_with(websocket_answer)
    url = f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=gpt-realtime"
    with connect(url, additional_headers=KEYS, proxy=None) as websocket:
        websocket.send("state")
        assert websocket.recv() == "state"
        websocket.send(b"\x00\xff" * 40_000)
        assert websocket.recv() == b"\x00\xff" * 40_000

    received = providers["openai"].next_request()
    assert received.target == "/v1/realtime?model=gpt-realtime"
    assert received.values("authorization") == [KEYS["Authorization"]]
    assert "x-lectr-key" not in received.names


def test_a_caller_who_hangs_up_ends_the_call_at_the_provider(gateway: Gateway, providers: Providers) -> None:
    pieces: list[Piece] = [EVENT, Gate()]
    providers["openai"].answer_with(sse_answer(pieces))
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, JSON, STREAMING)
        connection.read_head()
        assert next(connection.chunks()) == EVENT

    assert providers["openai"].next_request().ended.result(10) == "cut short"


@pytest.mark.parametrize("cut", [Cut.RESET, Cut.CLOSE], ids=lambda cut: cut.value)
def test_a_provider_that_breaks_off_is_seen_to_break_off(gateway: Gateway, providers: Providers, cut: Cut) -> None:
    gate = Gate()
    providers["openai"].answer_with(sse_answer([EVENT, gate, cut]))
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, JSON, STREAMING)
        assert connection.read_head().status == 200
        chunks = connection.chunks()
        assert next(chunks) == EVENT
        gate.open()
        with pytest.raises((EOFError, ConnectionResetError)):
            next(chunks)


IN_FLIGHT, AT_ONCE, CROWD_WITHIN_S = 2000, 100, 60.0
"At once: what a busy machine decides well within the two seconds that Envoy waits for a decision."


@pytest.fixture
def many_files() -> Iterator[None]:
    """Each call in flight is four open files in three processes; a shell's usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_two_thousand_slow_calls_are_in_flight_at_a_time_and_none_is_refused(
    launch: Launch, loop: Loop, providers: Providers
) -> None:
    gate = Gate()
    slow = Answer(headers=[("content-length", "2")], pieces=(gate, b"{}"))
    with Provider(loop, lambda _: slow) as provider, Loop() as clients:
        settings = settings_for(providers)
        settings["providers"][0]["base_url"] = provider.origin + "/v1"
        gateway = launch(settings)

        async def crowd(size: int) -> set[bytes]:
            return set(await asyncio.gather(*(ask(gateway.port, asking()) for _ in range(size))))

        def has_arrived(count: int) -> bool:
            return len(provider.requests) == count

        with ThreadPoolExecutor(IN_FLIGHT // AT_ONCE) as pool:
            answers = []
            for arrived in range(AT_ONCE, IN_FLIGHT + 1, AT_ONCE):
                answers.append(pool.submit(clients.run, crowd(AT_ONCE), CROWD_WITHIN_S))
                wait_until(partial(has_arrived, arrived), f"{arrived} calls at the provider")
            gate.open()
            assert [answer.result() for answer in answers] == [{b"HTTP/1.1 200 OK"}] * len(answers)
