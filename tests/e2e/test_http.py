"""HTTP as clients speak it: versions, methods, upgrades, kept connections."""

import json
import subprocess
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.e2e.answers import TEXT, WORDS
from tests.e2e.calls import CHAT, JSON, KEYS, asking, call, new_id
from tests.e2e.gateway import Gateway
from tests.e2e.provider import websocket_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import OPENAI_KEY, ORG_KEY, Providers, contacted, credentials_in, secret

BEARER = [("authorization", f"Bearer {OPENAI_KEY}")]
HTTP_2 = {"HTTP/1.1": ("--http1.1", "1.1"), "HTTP/2": ("--http2-prior-knowledge", "2")}


def curl(gateway: Gateway, *arguments: str, path: str = CHAT, body: bytes | None = None) -> tuple[str, bytes]:
    """curl's own words, then the body."""
    headers = [part for name, value in JSON.items() for part in ("-H", f"{name}: {value}")]
    data = ["--data-binary", "@-"] if body else []
    said = ["-w", "%{stderr}%{http_version} %{http_code} %{num_connects}\n"]
    done = subprocess.run(
        ["curl", "-sS", "-q", *headers, *arguments, *data, *said, gateway.url + path],
        input=body,
        capture_output=True,
        check=True,
        timeout=20,
    )
    return done.stderr.decode().strip(), done.stdout


@pytest.mark.parametrize("version", HTTP_2)
def test_a_client_may_speak_either_http(gateway: Gateway, providers: Providers, version: str) -> None:
    option, number = HTTP_2[version]
    said, answer = curl(gateway, option, body=asking())
    assert said == f"{number} 200 1"
    assert json.loads(answer)["choices"][0]["message"]["content"] == TEXT

    said, answer = curl(gateway, option, "-N", body=asking(stream=True))
    deltas = [json.loads(line[6:]) for line in answer.decode().splitlines() if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in deltas) == "".join(WORDS)

    said, answer = curl(gateway, option, "-H", "X-Lectr-Key;", body=asking())
    assert said == f"{number} 401 1"
    assert [credentials_in(one) for one in providers["openai"].requests] == [BEARER] * 2


def test_a_connection_is_kept_for_the_next_call(gateway: Gateway, providers: Providers) -> None:
    with Connection(gateway.port) as connection:
        for model in ("gpt-4o", "claude-opus-4-9", "gpt-4o"):
            connection.send("POST", CHAT, JSON.items(), asking(model))
            connection.read_body(connection.read_head())
    assert contacted(providers) == ["openai", "openai", "anthropic"]


def test_a_refused_stranger_is_told_that_its_connection_ends(gateway: Gateway, providers: Providers) -> None:
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, [("content-type", "application/json")], asking())
        assert connection.read_head().values("connection") == ["close"]


def test_two_requests_sent_at_once_are_answered_in_order(gateway: Gateway, providers: Providers) -> None:
    with Connection(gateway.port) as connection:
        for model in ("claude-opus-4-9", "gpt-4o", "llama-3.3-70b-versatile"):
            connection.send("POST", CHAT, JSON.items(), asking(model))
        answers = [json.loads(connection.read_body(connection.read_head())) for _ in range(3)]
    models = [answer["model"] for answer in answers]
    assert models == ["claude-opus-4-9", "gpt-4o-2024-08-06", "llama-3.3-70b-versatile"]


def test_a_client_that_waits_for_100_continue_gets_it(gateway: Gateway, providers: Providers) -> None:
    body = asking("llama-3.3-70b-versatile")
    with Connection(gateway.port) as connection:
        framing = [("content-length", str(len(body))), ("expect", "100-continue")]
        connection.send("POST", CHAT, [*JSON.items(), *framing])
        assert connection.read_head().status == 100
        connection.send_bytes(body)
        assert connection.read_head().status == 200
    assert providers["groq"].next_request().body == body


def test_a_stranger_that_waits_for_100_continue_is_refused_instead(gateway: Gateway, providers: Providers) -> None:
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, [("content-length", "9"), ("expect", "100-continue")])
        heads = [connection.read_head().status]
        if heads == [100]:
            heads.append(connection.read_head().status)
    assert heads[-1] == 401
    assert contacted(providers) == []


METHODS: dict[str, tuple[str, str]] = {
    "the files": ("GET", "/v1/files"),
    "one file": ("GET", "/v1/files/file-1"),
    "a list with a query": ("GET", "/v1/files?limit=2&after=a%20b&order=desc&flag"),
    "a deletion": ("DELETE", "/v1/files/file-1"),
    "a head": ("HEAD", "/v1/files"),
    "a preflight": ("OPTIONS", CHAT),
}


@pytest.mark.parametrize("case", METHODS)
def test_a_call_without_a_body_passes_as_it_is(gateway: Gateway, providers: Providers, call_id: str, case: str) -> None:
    method, path = METHODS[case]
    call(gateway, path, method=method, headers=KEYS, call_id=call_id)

    received = providers["openai"].next_request()
    assert (received.method, received.target, received.body) == (method, path, b"")
    assert credentials_in(received) == BEARER
    record = gateway.record(call_id)
    assert (record["method"], record["path"]) == (method, path.partition("?")[0])
    assert "model_requested" not in record


def test_the_answer_to_head_has_the_headers_of_get(gateway: Gateway, providers: Providers) -> None:
    answer = call(gateway, "/v1/models", method="HEAD", headers={**KEYS, "X-Lectr-Provider": "openai"})
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) > 0
    assert answer.content == b""


@pytest.mark.parametrize("key", [None, "odd", secret("lc_key_")], ids=["no key", "an odd key", "an unknown key"])
def test_an_upgrade_without_a_good_key_is_refused(gateway: Gateway, providers: Providers, key: str | None) -> None:
    headers = {"Authorization": f"Bearer {OPENAI_KEY}", **({"X-Lectr-Key": key} if key else {})}
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(
            f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=gpt-realtime", additional_headers=headers, proxy=None
        ),
    ):
        pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["error"]["type"] == "authentication_error"
    assert contacted(providers) == []


UPGRADES: dict[str, tuple[str, str, dict[str, str]]] = {
    "to OpenAI by its model": ("/v1/realtime?model=gpt-realtime", "openai", {}),
    "to Groq by header": ("/v1/realtime?model=x", "groq", {"X-Lectr-Provider": "groq"}),
    "with its key in the query": (
        "/v1/realtime?model=gpt-realtime&key=" + secret("sk-"),
        "openai",
        {"Authorization": ""},
    ),
}


@pytest.mark.parametrize("case", UPGRADES)
def test_an_upgrade_is_routed_and_rewritten_like_any_call(
    gateway: Gateway, providers: Providers, call_id: str, case: str
) -> None:
    path, name, more = UPGRADES[case]
    provider: Any = providers[name]  # type: ignore[index]
    provider.answer_with(websocket_answer)
    headers = {**KEYS, "x-request-id": call_id, **more}
    url = f"ws://127.0.0.1:{gateway.port}{path}"
    with connect(url, additional_headers=headers, proxy=None, subprotocols=None) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"

    received = provider.next_request()
    assert received.values("host") == [f"127.0.0.1:{provider.port}"]
    assert len(credentials_in(received)) == 1
    assert "key=" not in received.query
    assert ORG_KEY not in repr(received)
    record = gateway.record(call_id)
    assert (record["status"], record["provider"]) == (101, name)


def test_calls_with_trailers_and_chunks_arrive_whole(gateway: Gateway, providers: Providers) -> None:
    body = asking("claude-opus-4-9")
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body))) + b"0\r\nx-trailer: 1\r\n\r\n"
    with Connection(gateway.port) as connection:
        framing = [("transfer-encoding", "chunked"), ("trailer", "x-trailer"), ("x-request-id", new_id())]
        connection.send("POST", CHAT, [*JSON.items(), *framing], chunks)
        assert connection.read_head().status == 200
    assert providers["anthropic"].next_request().body == body
