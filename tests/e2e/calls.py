"""Calls as clients make them, told apart by their `x-request-id`."""

import asyncio
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from tests.e2e.gateway import Gateway, wait_until
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import MESSAGES, OPENAI_KEY, ORG_KEY

CHAT, CLAUDE_MESSAGES = "/v1/chat/completions", "/v1/messages"
KEYS = {"X-Lectr-Key": ORG_KEY, "Authorization": f"Bearer {OPENAI_KEY}"}
JSON = {**KEYS, "Content-Type": "application/json"}

_client = httpx.Client(trust_env=False, verify=False, timeout=30)
_client.headers.clear()  # what a test does not say is not sent


def new_id() -> str:
    return f"call-{uuid.uuid4()}"


def asking(model: object = "gpt-4o", **more: object) -> bytes:
    """The body of a call."""
    return json.dumps({"model": model, "messages": MESSAGES, **more}).encode()


def call(
    gateway: Gateway,
    path: str = CHAT,
    *,
    method: str = "POST",
    headers: Mapping[str, str] = JSON,
    body: Any = None,
    call_id: str | None = None,
) -> httpx.Response:
    """One call; without a body it asks gpt-4o."""
    return _client.request(
        method,
        gateway.url + path,
        headers={**headers, **({"x-request-id": call_id} if call_id else {})},
        content=asking() if body is None and method == "POST" else body,
    )


def works(gateway: Gateway) -> bool:
    """A plain call is answered as ever."""
    return call(gateway).status_code == 200


async def ask(port: int, body: bytes) -> bytes:
    """One call on a connection of its own, for a crowd of them; its status line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [f"POST {CHAT} HTTP/1.1", "host: h", "connection: close", f"content-length: {len(body)}"]
    writer.write("\r\n".join([*head, *(f"{name}: {value}" for name, value in JSON.items()), "", ""]).encode() + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.partition(b"\r\n")[0]


PAUSE_S = 0.02
"Between two calls of a client: without it the load would be whatever the machine can bear."
NO_ANSWER = 0
"The status of a call whose connection broke before its answer was there."


@contextmanager
def in_background(make: Callable[[], httpx.Response]) -> Iterator[Future[httpx.Response]]:
    """A call that waits while the block goes on; its answer is there after the block."""
    with ThreadPoolExecutor(1) as client:
        yield client.submit(make)


@contextmanager
def traffic(gateway: Gateway) -> Iterator[dict[str, int]]:
    """Calls one after the other, from two clients, for as long as the block lasts: the status of each, by its id."""
    over = threading.Event()
    outcomes: dict[str, int] = {}

    def calls() -> None:
        while not over.wait(PAUSE_S):
            call_id = new_id()
            try:
                outcomes[call_id] = call(gateway, call_id=call_id).status_code
            except httpx.TransportError:
                outcomes[call_id] = NO_ANSWER

    with ThreadPoolExecutor(2) as clients:
        running = [clients.submit(calls) for _ in range(2)]
        try:
            wait_until(lambda: len(outcomes) > 10, "traffic")
            yield outcomes
        finally:
            over.set()
        for client in running:
            client.result()


Error = tuple[int, str, str, str]
"Status, content type, whose SDK understands the error, and our code."


def error_of(answer: httpx.Response) -> Error:
    return answer.status_code, answer.headers["content-type"], *shape_and_code(answer.content)


def shape_and_code(body: bytes) -> tuple[str, str]:
    document = json.loads(body)
    error = document["error"]
    if document.get("type") == "error":
        assert set(document) == {"type", "error", "request_id"}
        assert set(error) == {"type", "message", "code"}
        return "anthropic", error["code"]
    assert set(document) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    return "openai", error["code"]


def read_error(connection: Connection) -> Error:
    """The next answer of a raw connection, as an error."""
    head = connection.read_head()
    (content_type,) = head.values("content-type")
    return head.status, content_type, *shape_and_code(connection.read_body(head))
