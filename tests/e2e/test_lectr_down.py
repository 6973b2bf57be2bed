"""lectr may be slow, die or be replaced at any moment: new calls get a clean 503, answers on their way finish."""

import signal
import time

import pytest

from lectr_extproc.core.upstream import Upstream
from tests.e2e.answers import WORDS, data
from tests.e2e.calls import (
    CHAT,
    CLAUDE_MESSAGES,
    JSON,
    KEYS,
    asking,
    call,
    error_of,
    new_id,
    read_error,
    traffic,
    works,
)
from tests.e2e.conftest import LaunchApart
from tests.e2e.gateway import STOP_WITHIN_S, Apart, wait_until
from tests.e2e.provider import Gate, Piece, sse_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import Providers, contacted, settings_for

SLOW_S = 0.4
FLUSH_S = 0.1
FORM = [*KEYS.items(), ("content-type", "application/x-www-form-urlencoded")]


def impatient(providers: Providers) -> dict[str, object]:
    return {**settings_for(providers), "envoy": {"message_timeout_s": SLOW_S}}


def assert_unavailable(gateway: Apart, providers: Providers) -> None:
    """Every kind of call is answered 503, also one that names a cluster."""
    providers_before = contacted(providers)
    cluster = Upstream.parse("openai", providers["openai"].origin).cluster
    for path, shape in ((CHAT, "openai"), (CLAUDE_MESSAGES, "anthropic")):
        for more in ({}, {"x-lectr-cluster": cluster}, {"Content-Type": "application/x-www-form-urlencoded"}):
            answer = call(gateway, path, headers={**JSON, **more})
            assert error_of(answer) == (503, "application/json", shape, "gateway_unavailable")
            assert "connect" not in answer.text
    assert call(gateway, "/v1/models", method="GET", headers=KEYS).status_code == 503
    assert contacted(providers) == providers_before


def test_a_lectr_that_hangs_or_dies_lets_nothing_through(launch_apart: LaunchApart, providers: Providers) -> None:
    gateway = launch_apart(impatient(providers))
    assert works(gateway)

    gateway.process.send_signal(signal.SIGSTOP)
    began, undecided = time.monotonic(), new_id()
    assert_unavailable(gateway, providers)
    assert time.monotonic() - began < 7 * (SLOW_S + 1)
    call(gateway, call_id=undecided)
    gateway.process.send_signal(signal.SIGCONT)
    wait_until(lambda: works(gateway), "a lectr that goes on")
    record = gateway.record(undecided)
    said = tuple(record.get(name) for name in ("status", "error_category", "error_source", "error_code", "path"))
    assert said == (503, "gateway_unavailable", "gateway", "gateway_unavailable", CHAT)
    assert len(record["call_id"]) == 32, "made up from the entry, for nobody drew one"
    before = contacted(providers)

    gateway.process.kill()
    gateway.process.wait()
    assert_unavailable(gateway, providers)
    assert contacted(providers) == before

    gateway.process = gateway.serve()
    wait_until(lambda: works(gateway), "a lectr that is back")


def test_an_upgrade_finds_no_way_past_a_dead_lectr(launch_apart: LaunchApart, providers: Providers) -> None:
    gateway = launch_apart(impatient(providers))
    gateway.process.kill()
    gateway.process.wait()
    upgrade = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")]
    with Connection(gateway.port) as connection:
        key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        connection.send("GET", "/v1/realtime?model=gpt-realtime", [*KEYS.items(), *upgrade, key])
        assert read_error(connection) == (503, "application/json", "openai", "gateway_unavailable")
    assert contacted(providers) == []


def test_answers_on_their_way_finish_without_lectr(launch_apart: LaunchApart, providers: Providers) -> None:
    gateway = launch_apart(settings_for(providers))
    gates = [Gate() for _ in range(5)]
    connections = []
    for gate in gates:
        pieces: list[Piece] = [data(WORDS[0]), gate, *map(data, WORDS[1:]), b"data: [DONE]\n\n"]
        providers["openai"].answer_with(sse_answer(pieces))
        connection = Connection(gateway.port)
        connection.send("POST", CHAT, JSON.items(), asking(stream=True))
        assert connection.read_head().status == 200
        connections.append((connection, chunks := connection.chunks()))
        assert next(chunks) == data(WORDS[0])

    gateway.process.kill()
    gateway.process.wait()
    for gate, (connection, chunks) in zip(gates, connections, strict=True):
        with connection:
            gate.open()
            assert b"".join(chunks) == b"".join(map(data, WORDS[1:])) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_a_lectr_that_goes_while_it_waits_for_a_body_lets_nothing_through(
    launch_apart: LaunchApart, providers: Providers, how: signal.Signals
) -> None:
    gateway = launch_apart(impatient(providers))
    body = asking("claude-opus-4-9")
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, [*FORM, ("content-length", str(len(body)))], body[:20])
        wait_until(lambda: gateway.healthz().json()["counts"].get("bodies_asked_for") == 1, "a request for the body")
        gateway.process.send_signal(how)
        if how is signal.SIGKILL:
            gateway.process.wait()
            failed = r"http\.lectr\.ext_proc\.streams_failed"
            wait_until(lambda: gateway.stat(failed) == 1, "an Envoy that has seen it")
        connection.send_bytes(body[20:])
        assert read_error(connection) == (503, "application/json", "openai", "gateway_unavailable")
    assert contacted(providers) == []
    if how is signal.SIGSTOP:
        gateway.process.send_signal(signal.SIGCONT)


def test_a_new_lectr_takes_over_a_tcp_port_without_a_failed_call_and_with_a_flush_of_records_lost_at_most(
    launch_apart: LaunchApart, providers: Providers
) -> None:
    """As it takes over a Unix socket: test_faults. How many are lost: `python -m tests.soak restarts`."""
    gateway = launch_apart({**settings_for(providers), "envoy": {"access_log_flush_s": FLUSH_S}}, "tcp")
    began = time.monotonic()
    with traffic(gateway) as outcomes:
        old, gateway.process = gateway.process, gateway.serve()
        old.send_signal(signal.SIGTERM)
        so_far = len(outcomes)
        wait_until(lambda: gateway.healthz().json()["counts"].get("decisions", 0) > 50, "calls by the new one")
        assert len(outcomes) > so_far
        assert old.wait(STOP_WITHIN_S) == 0
    of_a_flush = len(outcomes) * FLUSH_S / (time.monotonic() - began)
    assert works(gateway)
    assert set(outcomes.values()) == {200}

    def without_a_record() -> set[str]:
        return outcomes.keys() - {record["request_id"] for record in gateway.records('"event":"call"')}

    wait_until(lambda: len(without_a_record()) <= of_a_flush, "a record of each call but those of a flush")


def test_a_lectr_that_is_told_to_stop_first_writes_the_records_of_the_last_calls(
    launch_apart: LaunchApart, providers: Providers
) -> None:
    # It waits some of Envoy's flush intervals for what Envoy still has: long ones, on a busy machine.
    gateway = launch_apart({**settings_for(providers), "envoy": {"access_log_flush_s": 0.3}})
    first, *ids = (new_id() for _ in range(21))
    call(gateway, call_id=first)
    gateway.record(first)  # Envoy opens its log stream with the first entry of a worker
    for call_id in ids:
        call(gateway, call_id=call_id)
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(STOP_WITHIN_S) == 0

    assert [gateway.record(call_id)["status"] for call_id in ids] == [200] * 20
