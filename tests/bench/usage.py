"""Reading an answer, whatever way it comes."""

import json
from collections.abc import Callable, Iterator
from time import perf_counter

from lectr_extproc.core.strip import UsageStripper
from tests.reading import reader

_CHUNK = {
    "id": "chatcmpl-0123456789abcdef0123456789abc",
    "object": "chat.completion.chunk",
    "created": 1790000000,
    "model": "gpt-5-nano-2025-08-07",
    "service_tier": "default",
    "system_fingerprint": None,
    "choices": [{"index": 0, "delta": {"content": " about"}, "finish_reason": None}],
    "usage": None,
    "obfuscation": "0123456789abcd",
}
_USAGE = {"prompt_tokens": 400, "completion_tokens": 500, "total_tokens": 900}


def _event(chunk: dict[str, object]) -> bytes:
    return b"data: %s\n\n" % json.dumps(chunk, separators=(",", ":")).encode()


STREAM = [*[_event(_CHUNK)] * 500, _event({**_CHUNK, "choices": [], "usage": _USAGE}), b"data: [DONE]\n\n"]
DOCUMENT = [json.dumps({**_CHUNK, "choices": [{"message": {"content": "about " * 300}}], "usage": _USAGE}).encode()]
_VECTORS = [{"object": "embedding", "index": i, "embedding": [i / 7] * 1536} for i in range(400)]
_EMBEDDINGS = json.dumps({"object": "list", "data": _VECTORS, "usage": _USAGE}).encode()
EMBEDDINGS = [_EMBEDDINGS[i : i + 16_384] for i in range(0, len(_EMBEDDINGS), 16_384)]


def read(chunks: list[bytes], dialect: str, content_type: str) -> None:
    answer = reader(dialect, "openai", content_type=content_type)
    for chunk in chunks:
        answer.feed(chunk)
    answer.close()
    if answer.answer().usage is None:
        raise SystemExit("no usage was read")


def strip(chunks: list[bytes]) -> None:
    stripper = UsageStripper()
    for chunk in chunks:
        stripper.feed(chunk)
    if stripper.removed_events != 1:
        raise SystemExit("the usage chunk was not removed")


def best_ms(work: Callable[[], None], times: int) -> float:
    """The best of several runs: what else the machine does only ever adds."""
    spent = []
    for _ in range(times):
        began = perf_counter()
        work()
        spent.append(perf_counter() - began)
    return min(spent) * 1000


def measure() -> Iterator[tuple[str, str]]:
    """A stream, a document, and embeddings."""
    stream = best_ms(lambda: read(STREAM, "openai.chat", "text/event-stream"), 20)
    document = best_ms(lambda: read(DOCUMENT, "openai.chat", "application/json"), 200)
    embeddings = best_ms(lambda: read(EMBEDDINGS, "openai.embeddings", "application/json"), 3)
    yield "a stream of 500 chunks (promised: 5 ms)", f"{stream:7.2f} ms"
    yield "taking its usage chunk out", f"{best_ms(lambda: strip(STREAM), 20):7.2f} ms"
    yield f"a document of {len(DOCUMENT[0])} bytes", f"{document:7.3f} ms"
    yield f"embeddings of {len(_EMBEDDINGS) / 1e6:.1f} MB", f"{embeddings:7.1f} ms"
