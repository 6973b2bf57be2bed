"""A client cannot steer: whatever it sends, a call goes where lectr decided, and the next call works as ever."""

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from lectr_extproc.core.upstream import Upstream
from tests.e2e.calls import CHAT, JSON, asking, call, works
from tests.e2e.gateway import Gateway
from tests.e2e.provider import Answer, Cut
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import (
    OPENAI_KEY,
    ORG_KEY,
    Providers,
    assert_nothing_of_ours,
    contacted,
    credentials_in,
    secret,
)

Pairs = list[tuple[str, str]]
BEARER = [("authorization", f"Bearer {OPENAI_KEY}")]


def cluster_of(providers: Providers) -> str:
    return Upstream.parse("groq", providers["groq"].origin).cluster


def header_tries(cluster: str) -> dict[str, Pairs]:
    """Headers that would matter to Envoy, to us or to a provider, were they believed."""
    envoy = {
        "upstream-rq-timeout-ms": "1",
        "upstream-rq-per-try-timeout-ms": "1",
        "expected-rq-timeout-ms": "1",
        "retry-on": "5xx,reset,connect-failure",
        "retry-grpc-on": "unavailable",
        "max-retries": "9",
        "hedge-on-per-try-timeout": "true",
        "original-path": "/v1/secrets",
        "original-method": "DELETE",
        "original-url": "http://groq.test/",
        "original-dst-host": "127.0.0.1:1",
        "upstream-alt-stat-name": "other",
        "upstream-stream-duration-ms": "1",
        "internal": "true",
        "force-trace": "true",
        "external-address": "10.0.0.1",
        "decorator-operation": "x",
        "ip-tags": "admin",
        "attempt-count": "7",
    }
    ours = {
        "cluster": cluster,
        "routed": "1",
        "org": "dal-verk",
        "decision": "openai",
        "model": "gpt-4o",
        "shape": "anthropic",
        "provider-url": "http://127.0.0.1:1",
        "": "x",
    }
    forwarded = {"host": "groq.test", "proto": "https", "for": "10.0.0.1", "port": "1", "client-cert": "Hash=x"}
    return {
        **{f"x-lectr-{name}": [(f"x-lectr-{name}", value)] for name, value in ours.items()},
        "x-lectr-cluster twice": [("x-lectr-cluster", cluster), ("X-Lectr-Cluster", f"{cluster}.h1")],
        "x-lectr-cluster with a comma": [("x-lectr-cluster", f"{cluster},{cluster}")],
        "every x-envoy- header": [(f"x-envoy-{name}", value) for name, value in envoy.items()],
        "every x-forwarded- header": [(f"x-forwarded-{name}", value) for name, value in forwarded.items()],
        "metadata in headers": [
            ("lectr", '{"routed": "1"}'),
            ("x-dynamic-metadata", "lectr.routed=1"),
            ("routed", "1"),
            ("envoy.filters.http.ext_proc", "lectr"),
        ],
        "a gRPC client's": [("te", "trailers"), ("grpc-timeout", "1n"), ("x-b3-sampled", "1")],
        "two providers named": [("x-lectr-provider", "groq"), ("x-lectr-provider", "gemini")],
        "a method in a header": [("x-http-method-override", "DELETE")],
        "labels twice": [("x-lectr-feature", "a"), ("x-lectr-feature", "b"), ("x-lectr-task", "a, b")],
        "content types twice": [("content-type", "application/json"), ("content-type", "text/plain")],
        "hosts twice": [("host", "api.groq.com")],
        "a key named as hop-by-hop": [("connection", "x-lectr-key, authorization"), ("keep-alive", "timeout=1")],
        "an upgrade to h2c": [
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ],
        "names of pseudo-headers": [("x-:path", "/admin"), ("path", "/admin"), ("authority", "groq.test")],
        "high bytes": [("x-odd", "\xff\xfe\x80"), ("x-lectr-feature", "\xe9\xff")],
        "a very long header": [("x-long", "x" * 20_000)],
        "eighty headers": [(f"x-many-{number}", "x") for number in range(80)],
    }


def exchange(gateway: Gateway, request: bytes) -> None:
    """Send bytes and wait until the far side has hung up, as it may at any time.

    To Envoy a client that closes its side has left, and its calls with it: only what may be no call at all ends so.
    """
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as client,
        contextlib.suppress(ConnectionError),
    ):
        client.sendall(request)
        if b"/v1/hidden" not in request:
            client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass


@pytest.fixture
def unharmed(gateway: Gateway, providers: Providers) -> Iterator[None]:
    """After the test lectr and Envoy are the same processes as before, and work."""
    failed = gateway.healthz().json()["counts"].get("decisions_failed", 0)
    yield
    assert works(gateway)
    assert gateway.process.poll() is None
    assert gateway.healthz().json()["counts"].get("decisions_failed", 0) == failed
    assert gateway.stat("server.live") == 1


def test_no_header_of_a_client_decides_where_its_call_goes(
    gateway: Gateway, providers: Providers, unharmed: None
) -> None:
    outcomes = {}
    for name, pairs in header_tries(cluster_of(providers)).items():
        providers["openai"].reset()
        with Connection(gateway.port) as connection, contextlib.suppress(EOFError, ConnectionError):
            connection.send("POST", CHAT, [*JSON.items(), *pairs], asking())
            status = connection.read_head().status
            outcomes[name] = status, [one.target for one in providers["openai"].requests]
        for received in providers["openai"].requests:
            assert credentials_in(received) in (BEARER, []), name
            assert_nothing_of_ours(received)
            assert received.values("host") == [f"127.0.0.1:{providers['openai'].port}"], name
        assert contacted(providers) in (["openai"], []), name

    # A header that the client calls hop-by-hop ends at Envoy: without its key the call is a stranger's.
    refused: dict[str, object] = {"a key named as hop-by-hop": (401, [])}
    assert outcomes == {name: refused.get(name, (200, [CHAT])) for name in header_tries("any")}


def test_no_header_of_a_client_makes_a_call_happen_twice(gateway: Gateway, providers: Providers) -> None:
    tries = header_tries("any")["every x-envoy- header"]
    providers["openai"].answer_with(*[Answer(head=b"", pieces=(Cut.RESET,))] * 3)
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, [*JSON.items(), *tries], asking())
        assert connection.read_head().status == 503
    assert contacted(providers) == ["openai"]


TARGETS = {
    "two slashes": "//v1//chat//completions",
    "a climb": "/v1/../../v1/chat/completions",
    "a climb out": "/../../etc/passwd",
    "an encoded climb": "/v1/%2e%2e/%2e%2e/admin",
    "an encoded slash": "/v1%2fchat%2fcompletions",
    "a backslash": "/v1\\..\\admin",
    "a zero byte": "/v1/chat%00/completions",
    "a line break": "/v1/chat%0d%0aX-Lectr-Cluster:%20x/completions",
    "a broken escape": "/v1/%zz",
    "a bad UTF-8 escape": "/v1/%ff%fe",
    "unicode": "/v1/chat/ø".encode().decode("latin-1"),
    "a semicolon": "/v1/chat/completions;x=1",
    "a fragment": "/v1/chat/completions#x",
    "no leading slash": "v1/chat/completions",
    "an absolute URL": "http://api.groq.com/v1/chat/completions",
    "an absolute URL with a user": "http://a:b@api.groq.com/v1/chat/completions",
    "another scheme": "ftp://api.groq.com/v1",
    "an asterisk": "*",
    "a question mark alone": "/v1/chat/completions?",
    "a key without value": "/v1/chat/completions?key=",
    "many question marks": "/v1/chat/completions???key=a?key=b",
    "an odd query": "/v1/chat/completions?%6b%65%79=%00&&=&key",
    "a long path": "/v1/" + "x" * 8_000,
    "a path longer than headers may be": "/v1/" + "x" * 100_000,
    "a deployment that climbs": "/openai/deployments/..%2f..%2fadmin/chat/completions",
    "a path inside our own": "/lectr_routed",
}


def test_no_path_of_a_client_decides_where_its_call_goes(
    gateway: Gateway, providers: Providers, unharmed: None
) -> None:
    azure = "a deployment that climbs"
    statuses = {}
    for name, target in TARGETS.items():
        for provider in providers.values():
            provider.reset()
        with Connection(gateway.port) as connection, contextlib.suppress(EOFError, ConnectionError):
            connection.send("POST", target, JSON.items(), asking())
            statuses[name] = connection.read_head().status
        assert contacted(providers) in ([], ["azure" if name == azure else "openai"]), name
        for received in [one for provider in providers.values() for one in provider.requests]:
            assert_nothing_of_ours(received)
            assert len(credentials_in(received)) == 1
            assert ".." not in received.path.replace("%2e", ".").split("/")

    assert {name for name, status in statuses.items() if status >= 500} == set()
    assert statuses["two slashes"] == statuses["a climb"] == statuses["an absolute URL"] == 200


METHODS = ["GET", "HEAD", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "CONNECT", "get", "X-ODD", "G\x00T"]


def test_no_method_of_a_client_decides_where_its_call_goes(
    gateway: Gateway, providers: Providers, unharmed: None
) -> None:
    for method in METHODS:
        for body in (b"", asking()):
            headers = [*JSON.items(), ("content-length", str(len(body)))]
            with Connection(gateway.port) as connection, contextlib.suppress(EOFError, ConnectionError):
                connection.send(method, CHAT, headers, body)
                assert connection.read_head().status < 500, method
    assert set(contacted(providers)) == {"openai"}
    for received in providers["openai"].requests:
        assert credentials_in(received) == BEARER
        assert_nothing_of_ours(received)


def raw(headers: Pairs, body: bytes = b"", line: str = f"POST {CHAT} HTTP/1.1") -> bytes:
    pairs = [("Host", "gateway.test"), ("x-case", "__"), *JSON.items(), *headers]
    return "\r\n".join([line, *(f"{name}: {value}" for name, value in pairs), "", ""]).encode("latin-1") + body


HIDDEN = raw([("content-length", "0"), ("connection", "close")], line="POST /v1/hidden HTTP/1.1")
CHUNKED, BOTH = ("transfer-encoding", "chunked"), ("content-length", "6")
SMUGGLED = {
    "both framings": raw([BOTH, CHUNKED], b"0\r\n\r\n" + HIDDEN),
    "both framings, the other way round": raw([CHUNKED, BOTH], b"0\r\n\r\n" + HIDDEN),
    "two lengths": raw([("content-length", "0"), ("content-length", str(len(HIDDEN)))], HIDDEN),
    "a length and a plus": raw([("content-length", "+0")], HIDDEN),
    "a length in a list": raw([("content-length", "0, 9")], HIDDEN),
    "a negative length": raw([("content-length", "-1")], HIDDEN),
    "an obscured encoding": raw([("transfer-encoding", "xchunked"), BOTH], b"0\r\n\r\n" + HIDDEN),
    "an encoding twice": raw([CHUNKED, ("transfer-encoding", "identity"), BOTH], b"0\r\n\r\n" + HIDDEN),
    "a space before the colon": raw([("transfer-encoding ", "chunked"), BOTH], b"0\r\n\r\n" + HIDDEN),
    "a folded header": raw([("x-folded", "a\r\n transfer-encoding: chunked"), BOTH], b"0\r\n\r\n" + HIDDEN),
    "a bare line feed": raw([("x-a", "b\ntransfer-encoding: chunked"), BOTH], b"0\r\n\r\n" + HIDDEN),
    "a bare carriage return": raw([("x-a", "b\rtransfer-encoding: chunked"), BOTH], b"0\r\n\r\n" + HIDDEN),
    "a zero byte": raw([("x-a", "b\x00c"), BOTH], b"0\r\n\r\n" + HIDDEN),
    "a chunk size that overflows": raw([CHUNKED], b"fffffffffffffffff\r\n" + HIDDEN),
    "a chunk extension": raw([CHUNKED], b"0;\nxx\r\n\r\n" + HIDDEN),
    "HTTP/1.0 with chunks": raw([CHUNKED], b"0\r\n\r\n" + HIDDEN, line=f"POST {CHAT} HTTP/1.0"),
    "HTTP/0.9": f"GET {CHAT}\r\n\r\n".encode(),
    "HTTP/2 in the clear, half a preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "nothing": b"\r\n\r\n\r\n",
    "two sound calls, one behind the other": raw([CHUNKED], b"0\r\n\r\n" + HIDDEN),
}


def test_one_request_is_never_taken_for_another(gateway: Gateway, providers: Providers, unharmed: None) -> None:
    marked = [request.replace(b"x-case: __", b"x-case: %02d" % case) for case, request in enumerate(SMUGGLED.values())]
    with ThreadPoolExecutor(len(marked)) as threads:  # Envoy lets a second pass before it closes what it refused
        list(threads.map(partial(exchange, gateway), marked))
    for case, name in enumerate(SMUGGLED):
        arrived = [one for one in providers["openai"].requests if one.values("x-case") == [f"{case:02}"]]
        # What Envoy does accept, both sides of it understand in the same way: also a second call behind the first.
        assert [one.target for one in arrived] in ([], [CHAT], [CHAT, "/v1/hidden"]), name
        for received in arrived:
            assert len(received.values("content-length") + received.values("transfer-encoding")) <= 1, name
            assert b"/v1/hidden" not in received.body, name
            assert_nothing_of_ours(received)
    assert set(contacted(providers)) == {"openai"}


def test_a_post_of_headers_alone_is_a_call_without_a_model(
    gateway: Gateway, providers: Providers, unharmed: None
) -> None:
    assert call(gateway, body=b"", headers={**JSON, "model": "claude-opus-4-9"}).status_code == 200
    assert contacted(providers) == ["openai"]


def test_a_get_with_a_body_goes_where_its_model_lives(gateway: Gateway, providers: Providers) -> None:
    answer = call(gateway, method="GET", body=asking("llama-3.3-70b-versatile"))
    assert answer.status_code == 200
    assert contacted(providers) == ["groq"]


def test_an_unknown_key_with_every_trick_at_once_reaches_nobody(
    gateway: Gateway, providers: Providers, unharmed: None
) -> None:
    for name, pairs in header_tries(cluster_of(providers)).items():
        for key in ([("x-lectr-key", secret("lc_key_"))], [("x-lectr-key", "odd")], []):
            with Connection(gateway.port) as connection, contextlib.suppress(EOFError, ConnectionError):
                connection.send("POST", CHAT, [*key, ("content-type", "application/json"), *pairs], asking())
                assert connection.read_head().status in (400, 401, 403), name
    assert contacted(providers) == []
    assert ORG_KEY not in gateway.output
