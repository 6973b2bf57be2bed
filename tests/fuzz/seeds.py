"""What fuzzing begins with, besides the corpus: the suite's fixtures and Envoy's messages, as the targets read them."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import brotli
from backports import zstd

from lectr_extproc.pb import ext_proc_pb2 as ext
from tests.edge.given import batch, body, core_headers, entry, form, headers
from tests.fuzz.targets import DIALECTS, TYPES

ROOT = Path(__file__).parents[2]
LARGEST = 1000
USAGE = b'data: {"id": "1", "object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 3}}\n\n'


def seeds(target: str) -> Iterator[bytes]:
    """Some that this target reads well."""
    match target:
        case "answers":
            for dialect, content in fixtures():
                kind = next((n for n, sign in enumerate((b"{", b"data:", b"[", b"\0")) if content.startswith(sign)), 4)
                yield bytes([DIALECTS.index(dialect), 0, kind + 0xA0, 7]) + content
        case "sse_events" | "streams":
            yield from (b"\x05" + content + USAGE for _, content in fixtures() if b"data:" in content)
        case "json_values":
            yield from (b"\x05" + content for _, content in fixtures() if content[:1] in b"{[")
        case "aws_events":
            yield from (b"\x1f\x05\x05:typ\x07\x00\x01a" + content for _, content in fixtures())
        case "encodings":
            for number, encode in enumerate((gzip.compress, lambda data: data[2:], brotli.compress, zstd.compress)):
                yield bytes([number, 5]) + encode(USAGE * 3)
        case "bodies":
            yield b'boundary=b\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o\r\n--b--\r\n'
            yield b'\n{"model": "gpt-4o", "stream": true, "stream_options": {"a": [1, {"b": NaN}]}}'
        case "ext_proc_messages":
            yield from conversations()
        case "access_log_messages":
            made = entry("c" * 32, upstream_cluster="openai-1", upstream_request_attempt_count=1)
            made.common_properties.metadata.filter_metadata["lectr.usage"].update({"input_tokens": 7, "finish": "stop"})
            yield batch(made, entry("d" * 32), first=True).SerializeToString()
        case "spool_lines":
            answer, decision = {"input_tokens": 7}, {"call_id": "c" * 32, "routed": "1", "provider": "openai"}
            line = {"answer": answer, "decision": decision, "start_ns": "1795000000.000000001", "flags": "DC,UF"}
            yield json.dumps(line).encode() + b"\n"
        case _:
            yield b"orgs:\n- {name: a, keys: [{sha256: '%s'}], azure: {endpoint: 'https://x.test'}}\n" % (b"ab" * 32)
            yield b"providers: [{id: x, kind: vllm, base_url: 'http://h:1', models: [&m {id: a, input: 0.1}, *m]}]\n"
            yield b"envoy: {listen: '127.0.0.1:1'}\ngrpc: {listen: 'unix:/x'}\ncredentials: {groq: 'env:G'}\n"
            yield b"prices: [{provider: xai, discount: 0.1, from: 2026-01-01}]\nledger: {url: memory}\n"


def fixtures() -> Iterator[tuple[str, bytes]]:
    """Answers by their dialect, those that are small."""
    for folder in sorted((ROOT / "tests/fixtures").iterdir()):
        if folder.name in DIALECTS:
            for file in sorted(folder.glob("*.response.*")):
                if len(content := file.read_bytes()) <= LARGEST:
                    yield folder.name, content


def conversations() -> Iterator[bytes]:
    """Messages about one call, each behind its length."""
    answer = [(":status", "200"), ("content-type", TYPES[1])]
    answered = ext.ProcessingRequest(response_headers=ext.HttpHeaders(headers=core_headers(answer)))
    last = ext.HttpBody(body=USAGE, end_of_stream=True)
    for said in (
        [headers()],
        [form(), body(b'{"model": "openai/gpt-4o", "stream": true}')],
        [headers(), answered, ext.ProcessingRequest(response_body=last)],
    ):
        written = [message.SerializeToString() for message in said]
        yield b"".join(len(message).to_bytes(2) + message for message in written)
