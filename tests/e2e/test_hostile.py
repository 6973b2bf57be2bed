"""Whatever a client sends: a clean answer, a record, and a lectr and an Envoy that go on as before."""

import gzip
import random
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, KEYS, asking, new_id, shape_and_code, works
from tests.e2e.gateway import Gateway
from tests.e2e.provider import digest_answer
from tests.e2e.rawhttp import DEADLINE_S, Connection
from tests.e2e.scene import HUSH, Providers, contacted

Pairs = list[tuple[str, str]]
JSON_TYPE = "application/json"
LONG = "m" * 1_000_000


def naming(model: str) -> bytes:
    return b'{"messages": [], "model": %b}' % model.encode("utf-8", "surrogatepass")


BODIES: dict[str, bytes] = {
    **{
        f"a model that is {what}": naming(model)
        for what, model in {
            "empty": '""',
            "a number": "12",
            "a number beyond reason": "9" * 5000,
            "no finite number": "1e999",
            "not a number": "NaN",
            "a list": '["gpt-4o"]',
            "a mapping": '{"id": "gpt-4o"}',
            "null": "null",
            "true": "true",
            "a megabyte long": f'"{LONG}"',
            "a megabyte long, at a provider": f'"groq/{LONG}"',
            "a megabyte of slashes": f'"{"/" * 1_000_000}"',
            "a zero": '"gpt\\u00004o"',
            "a zero, unescaped": '"gpt\x004o"',
            "a header": '"gpt-4o\\r\\nx-lectr-cluster: openai"',
            "a header, at a provider": '"openai/gpt-4o\\r\\nx-evil: 1"',
            "a climb": '"azure/../../admin"',
            "a query": '"azure/gpt-4o?key=1#%00"',
            "a terminal's escape": '"\\u001b[31mgpt\\u009b"',
            "half a character": '"gpt\\ud800"',
            "half a character, unescaped": '"gpt\ud800"',
            "a name in every script": '"ø漢\U0001f600\u202e\u200b"',
            "only spaces": '"   "',
            "only a prefix": '"openai/"',
            "prefixes": f'"{"openai/" * 1000}"',
            "a number after a point": '"gpt-4o:1.0"',
            "ten thousand dots": f'"{"." * 10_000}"',
        }.items()
    },
    "nothing": b"",
    "spaces": b" \n\t" * 100,
    "zeros": bytes(1000),
    "no JSON": b"<xml/>",
    "half a document": asking()[:30],
    "two documents": asking() + asking("claude-opus-4-9"),
    "a document and more": asking() + b"}]",
    "a list": b"[" + asking() + b"]",
    "a text": b'"gpt-4o"',
    "lists in lists": b'{"model": "gpt-4o", "a": ' + b"[" * 200_000,
    "mappings in mappings": b'{"model":' * 100_000,
    "closed lists in lists": b'{"model": "gpt-4o", "a": ' + b"[" * 900 + b"]" * 900 + b"}",
    "names twice": b'{"model": "gpt-4o", "model": "claude-opus-4-9", "stream": true, "stream": false}',
    "names twice, of two kinds": b'{"model": ["x"], "model": "gpt-4o", "model": 1}',
    "a hundred thousand names": b"{" + b"".join(b'"%d": 1,' % n for n in range(100_000)) + b'"model": "gpt-4o"}',
    "the model behind a megabyte": b'{"padding": "' + b"x" * 1_000_000 + b'", "model": "gpt-4o"}',
    "another stream": b'{"model": "gpt-4o", "stream": "yes", "stream_options": {"include_usage": "no"}}',
    "other options": b'{"model": "gpt-4o", "stream": true, "stream_options": [1]}',
    "options of another kind": b'{"model": "gpt-4o", "stream": true, "stream_options": "all"}',
    "an escaped name": b'{"mod\\u0065l": "gpt-4o", "str\\u0065am": true}',
    "no encoding": b'{"model": "gpt-4o\xff\xfe", "x": "\xc3"}',
    "a byte order mark": b"\xef\xbb\xbf" + asking(),
    "UTF-16": asking().decode().encode("utf-16"),
    "UTF-32": asking().decode().encode("utf-32"),
    "gzip": gzip.compress(asking(), mtime=0),
    "a form": b"model=gpt-4o&stream=true",
    "parts": b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o\r\n--b--\r\n',
    "parts without end": b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + b"--b\r\n" * 10_000,
    "a part without a name": b"--b\r\n\r\n\r\n--b\r\n: \r\n\r\n--b--",
    "a part's name twice": b"--b\r\nContent-Disposition: form-data; name=\"model\"; name*=x''y\r\n\r\n\xff\r\n--b--",
}

TYPES: dict[str, str | None] = {
    "JSON": JSON_TYPE,
    "JSON in UTF-16": f"{JSON_TYPE}; charset=utf-16",
    "a form": "application/x-www-form-urlencoded",
    "parts": "multipart/form-data; boundary=b",
    "none": None,
}

ODD_TYPES = {
    "parts without a boundary": "multipart/form-data",
    "parts with an empty boundary": 'multipart/form-data; boundary=""',
    "parts with a long boundary": f"multipart/form-data; boundary={'b' * 5000}",
    "two boundaries": "multipart/form-data; boundary=a; boundary=b",
    "a boundary of odd bytes": 'multipart/form-data; boundary="\xff\\"b',
    "semicolons": ";" * 5000,
    "a type in capitals": "APPLICATION/JSON",
    "two types": f"{JSON_TYPE}, text/plain",
    "odd bytes": "\xff\xfe/\x80",
    "an empty one": "",
}

HEADERS: dict[str, Pairs] = {
    "an encoding": [("content-encoding", "gzip")],
    "encodings": [("content-encoding", ", ".join(["gzip"] * 1000)), ("accept-encoding", "\xff;q=x," * 500)],
    "parents": [("traceparent", "00-" + "f" * 5000), ("tracestate", "\xff=" * 100), ("baggage", "=" * 5000)],
    "parents twice": [("traceparent", f"00-{'1' * 32}-{'2' * 16}-01")] * 2,
    "labels": [("x-lectr-feature", "f" * 20_000), ("x-lectr-task", "\xff" * 5000)],
    "providers": [("x-lectr-provider", "p" * 20_000)],
    "a provider of odd bytes": [("x-lectr-provider", "\xff\xc3\x28")],
    "credentials": [
        ("authorization", "\xff\xfe"),
        ("x-api-key", f"{HUSH}\xff"),
        ("api-key", " "),
        ("x-goog-api-key", "\t"),
    ],
    "credentials of a length": [("authorization", "Bearer " + HUSH + "k" * 20_000)],
    "credentials in a list": [("authorization", ", ".join([f"Bearer {HUSH}"] * 100))],
    "a request id of a length": [("x-request-id", "r" * 20_000)],
    "no agent": [("user-agent", "\xff" * 1000)],
    "cookies": [("cookie", "a=b; " * 2000)],
    "spaces": [("x-lectr-task", " \t \t "), ("x-lectr-feature", "")],
}


def send(gateway: Gateway, headers: Pairs, body: bytes, path: str = CHAT) -> tuple[int, bytes]:
    """One call, whole; the answer has a status and a body that ends."""
    with Connection(gateway.port) as connection:
        connection.send("POST", path, [*headers, ("content-length", str(len(body)))], body)
        head = connection.read_head()
        return head.status, connection.read_body(head)


def assert_clean(name: object, status: int, body: bytes) -> None:
    """What a provider answered, or a refusal of ours that its client can read. Nothing of ours is broken."""
    assert status in {200, 400, 401, 404, 413, 415, 422, 431}, (name, status, body)
    if status != 200:
        assert shape_and_code(body)[1] is not None or status == 404, (name, body)


@pytest.fixture
def unharmed(gateway: Gateway, providers: Providers, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After the test both are the same processes as before, and nothing that was counted failed.

    The providers take whatever comes, and tell what it was.
    """
    for provider in providers.values():
        monkeypatch.setattr(provider, "_respond", digest_answer)
    before = failures(gateway)
    yield
    assert works(gateway)
    assert gateway.process.poll() is None
    assert failures(gateway) == before


def failures(gateway: Gateway) -> dict[str, int]:
    health = gateway.healthz().json()
    assert health["ledger"]["unwritable"] == health["export"]["span_errors"] == 0
    return {name: count for name, count in health["counts"].items() if name.endswith("_failed")}


@pytest.mark.parametrize("kind", TYPES)
def test_whatever_a_body_holds_its_call_gets_a_clean_answer_and_a_record(
    gateway: Gateway, unharmed: None, kind: str
) -> None:
    ids = {name: new_id() for name in BODIES}
    for number, (name, body) in enumerate(BODIES.items()):
        path = CLAUDE_MESSAGES if number % 3 == 0 else CHAT
        content_type = [("content-type", said)] if (said := TYPES[kind]) else []
        answer = send(gateway, [*KEYS.items(), *content_type, ("x-request-id", ids[name])], body, path)
        assert_clean(name, *answer)
    for call_id in ids.values():
        gateway.record(call_id)


def test_whatever_headers_say_their_call_gets_a_clean_answer(gateway: Gateway, unharmed: None) -> None:
    for name, headers in HEADERS.items():
        assert_clean(name, *send(gateway, [*KEYS.items(), ("content-type", JSON_TYPE), *headers], asking()))
    for name, odd in ODD_TYPES.items():
        for body in ("parts", "gzip", "zeros"):
            assert_clean((name, body), *send(gateway, [*KEYS.items(), ("content-type", odd)], BODIES[body]))


def test_bytes_by_chance_get_a_clean_answer(gateway: Gateway, unharmed: None) -> None:
    """The same ones in each run."""
    chance = random.Random(7)
    pieces = [*b'{}[]",:\\ ', *b"modelstream\x00\xff\xc3\xed\x1b\r\n0123456789.-e"]
    names = ["x-lectr-provider", "x-lectr-feature", "traceparent", "accept-encoding", "x-request-id", "user-agent"]
    for _ in range(150):
        body = bytearray(chance.choice([asking(), *list(BODIES.values())[30:]])[:4000])
        for _ in range(chance.randrange(8)):
            at = chance.randrange(len(body) + 1)
            body[at : at + chance.randrange(4)] = bytes(chance.choices(pieces, k=chance.randrange(9)))
        # Control characters in headers are for Envoy alone to refuse, which test_steering tries.
        headers = [
            (name, bytes(chance.choices(range(32, 256), k=40)).decode("latin-1").replace("\x7f", "")) for name in names
        ]
        kind = chance.choice([*TYPES.values(), *ODD_TYPES.values()])
        typed = [("content-type", kind)] if kind else []
        assert_clean(bytes(body), *send(gateway, [*KEYS.items(), *headers, *typed], bytes(body)))


# Nothing that is no text reaches the gRPC log: Envoy, of either version, writes `!` for such bytes in `x-request-id`,
# refuses them in the path of HTTP/1 and writes `%FF` for them in that of HTTP/2. So the wire's own test tries them.


# --- HTTP/2 in the clear ----------------------------------------------------------------------------------------------

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS_FRAME, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0,
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    9,
)
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(value: bytes) -> bytes:
    """HPACK's string, without Huffman."""
    length, digits = len(value), bytearray()
    if length < 127:
        return bytes([length]) + value
    length -= 127
    while length >= 128:
        digits.append(length % 128 + 128)
        length //= 128
    return bytes([127, *digits, length]) + value


def block(pairs: Pairs) -> bytes:
    return b"".join(b"\0" + text(name.encode("latin-1")) + text(value.encode("latin-1")) for name, value in pairs)


METHOD, SCHEME, AUTHORITY, PATH = (
    (":method", "POST"), (":scheme", "http"), (":authority", "gateway.test"), (":path", CHAT),
)  # fmt: skip
PSEUDO: Pairs = [METHOD, SCHEME, AUTHORITY, PATH]
OWN: Pairs = [*((name.lower(), value) for name, value in KEYS.items()), ("content-type", JSON_TYPE)]


def request(pairs: Pairs, stream: int = 1, after: bytes = b"") -> bytes:
    """HEADERS and DATA, with frames between them and the end."""
    headers = frame(HEADERS_FRAME, END_HEADERS, stream, block(pairs))
    return headers + frame(DATA, 0, stream, asking()) + after + frame(DATA, END_STREAM, stream, b"")


USUAL = request([*PSEUDO, *OWN])

FRAMES: dict[str, bytes] = {
    "as usual": USUAL,
    **{f"no {gone[0]}": request([*(one for one in PSEUDO if one != gone), *OWN]) for gone in PSEUDO},
    **{f"{twice[0]} twice": request([*PSEUDO, twice, *OWN]) for twice in PSEUDO},
    "no name of theirs": request(OWN),
    "a pseudo-header nobody knows": request([*PSEUDO, (":cluster", "openai"), *OWN]),
    "a pseudo-header of answers": request([*PSEUDO, (":status", "200"), *OWN]),
    "a pseudo-header behind the others": request([METHOD, SCHEME, AUTHORITY, *OWN, PATH]),
    "a protocol without CONNECT": request([*PSEUDO, (":protocol", "websocket"), *OWN]),
    "CONNECT": request([(":method", "CONNECT"), AUTHORITY, *OWN]),
    "CONNECT with a protocol": request([(":method", "CONNECT"), (":protocol", "x"), SCHEME, AUTHORITY, PATH, *OWN]),
    "an empty method": request([(":method", ""), SCHEME, AUTHORITY, PATH, *OWN]),
    "an empty path": request([METHOD, SCHEME, AUTHORITY, (":path", ""), *OWN]),
    "a path that is an URL": request([METHOD, SCHEME, AUTHORITY, (":path", "http://api.groq.com/v1"), *OWN]),
    "a path of odd bytes": request([METHOD, SCHEME, AUTHORITY, (":path", "/v1/\x00\r\n \xff"), *OWN]),
    "another scheme": request([METHOD, (":scheme", "javascript"), AUTHORITY, PATH, *OWN]),
    "another host": request([*PSEUDO, ("host", "api.groq.com"), *OWN]),
    "an authority with a user": request([METHOD, SCHEME, (":authority", "a:b@c\xff"), PATH, *OWN]),
    "a name in capitals": request([*PSEUDO, *OWN, ("X-Odd", "1")]),
    "a name of odd bytes": request([*PSEUDO, *OWN, ("x\x00\r\n: ", "1")]),
    "an empty name": request([*PSEUDO, *OWN, ("", "1")]),
    "a value of two lines": request([*PSEUDO, *OWN, ("x-odd", "1\r\nx-lectr-cluster: openai")]),
    "a value of zeros": request([*PSEUDO, *OWN, ("x-odd", "\0" * 10)]),
    "a connection's header": request([*PSEUDO, *OWN, ("connection", "close")]),
    "chunks": request([*PSEUDO, *OWN, ("transfer-encoding", "chunked")]),
    "another te": request([*PSEUDO, *OWN, ("te", "gzip")]),
    "a length that is not so": request([*PSEUDO, *OWN, ("content-length", "7")]),
    "two lengths": request([*PSEUDO, *OWN, ("content-length", "7"), ("content-length", "8")]),
    "too many headers": request([*PSEUDO, *OWN, *[("x-many", "x" * 100)] * 400]),
    "a header too long": request([*PSEUDO, *OWN, ("x-long", "x" * 15_000)]),
    "trailers": request(
        [*PSEUDO, *OWN], after=frame(HEADERS_FRAME, END_HEADERS + END_STREAM, 1, block([("x-lectr-key", "x")]))
    ),
    "trailers of pseudo-headers": request(
        [*PSEUDO, *OWN], after=frame(HEADERS_FRAME, END_HEADERS + END_STREAM, 1, block([PATH]))
    ),
    "headers of chance": frame(HEADERS_FRAME, END_HEADERS + END_STREAM, 1, bytes(range(255, 100, -1))) + USUAL,
    "a header that never ends": frame(HEADERS_FRAME, 0, 1, block(PSEUDO)) + frame(CONTINUATION, 0, 1, b"") * 5000,
    "more headers without headers": frame(CONTINUATION, END_HEADERS, 1, block(PSEUDO)) + USUAL,
    "data of nobody": frame(DATA, 0, 0, b"x") + USUAL,
    "data of a stream that is not": frame(DATA, 0, 7, b"x") + USUAL,
    "an even stream": request([*PSEUDO, *OWN], stream=2),
    "a stream that depends on itself": frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 0)) + USUAL,
    "settings of half a length": frame(SETTINGS, 0, 0, b"x" * 5) + USUAL,
    "settings beyond reason": frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0xFFFFFFFF)) + USUAL,
    "a window of nothing": frame(WINDOW_UPDATE, 0, 0, bytes(4)) + USUAL,
    "a window that overflows": frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2 + USUAL,
    "a frame nobody knows": frame(0xBE, 0xFF, 1, b"x" * 100) + USUAL,
    "a frame too long": struct.pack(">I", 0xFFFFFF)[1:] + bytes([DATA, 0, 0, 0, 0, 1]) + bytes(70_000),
    "many pings": frame(PING, 0, 0, bytes(8)) * 5000 + USUAL,
    "many settings": frame(SETTINGS, 0, 0, b"") * 5000 + USUAL,
    "calls begun and left": b"".join(
        request([*PSEUDO, *OWN], stream=number) + frame(RST_STREAM, 0, number, bytes(4)) for number in range(1, 201, 2)
    )
    + request([*PSEUDO, *OWN], stream=201),
}


def speak(gateway: Gateway, said: bytes) -> str:
    """Say it in HTTP/2: how the first call that has an end ends. None may be left without one."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=DEADLINE_S) as client:
        try:
            client.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + said)
            answers = client.makefile("rb")
            while len(head := answers.read(9)) == 9:
                kind, flags = head[3], head[4]
                answers.read(int.from_bytes(head[:3]))
                if kind in (DATA, HEADERS_FRAME) and flags & END_STREAM:
                    return "answered"
                if kind in (RST_STREAM, GOAWAY):
                    return "refused"
        except ConnectionError:
            pass
    return "hung up"


def test_whatever_frames_hold_they_are_answered_or_refused(
    gateway: Gateway, providers: Providers, unharmed: None
) -> None:
    with ThreadPoolExecutor(len(FRAMES)) as clients:  # Envoy takes a second to hang up on one that says nonsense
        ends = dict(zip(FRAMES, clients.map(partial(speak, gateway), FRAMES.values()), strict=True))
    assert ends["as usual"] == ends["a stream that depends on itself"] == "answered"
    assert set(contacted(providers)) == {"openai"}


# --- HTTP/1 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "0.9", "1.2", "2.0", "9.9", "1", "x"])
def test_other_versions_of_http_are_refused(
    gateway: Gateway, providers: Providers, unharmed: None, version: str
) -> None:
    pairs = [*KEYS.items(), ("content-type", JSON_TYPE), ("content-length", str(len(asking())))]
    head = [f"POST {CHAT} HTTP/{version}", *(f"{name}: {value}" for name, value in pairs), "", ""]
    with Connection(gateway.port) as connection:
        connection.send_bytes("\r\n".join(head).encode() + asking())
        assert connection.read_head().status == (426 if "." in version else 400)
