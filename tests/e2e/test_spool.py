"""With a spool no finished call is without its record: whoever is killed, replaced or away."""

import asyncio
import itertools
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lectr_extproc.core.record import Attempt, CallRecord, LogEntry
from lectr_extproc.core.spool import entry_from
from lectr_extproc.core.upstream import Upstream
from lectr_extproc.edge import spool, wire_log
from lectr_extproc.edge.envoy import reopen_logs
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.spool import Spool
from lectr_extproc.gateway import render_bootstrap
from lectr_extproc.pb import access_log_pb2 as als
from lectr_extproc.settings import compile_settings
from tests.e2e.answers import WORDS, answer_as, data
from tests.e2e.calls import CHAT, JSON, KEYS, asking, call, new_id, traffic
from tests.e2e.conftest import Launch, LaunchApart, once
from tests.e2e.envoy import GOOD_KEY, Envoy, Headers, ScriptedLectr, options_for, port_of, refuse, route
from tests.e2e.gateway import STOP_WITHIN_S, Build, wait_until
from tests.e2e.provider import Gate, Loop, Provider, sse_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import HUSH, ORG, Providers, settings_for
from tests.ports import free_port


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def spooling(providers: Providers, file: Path) -> dict[str, Any]:
    return {**settings_for(providers), "spool": {"file": str(file)}}


@once
def test_a_planned_restart_under_load_fails_no_call_and_says_each_record_once(
    launch_apart: LaunchApart, providers: Providers, file: Path
) -> None:
    """That whoever else goes costs no row, either: test_faults."""
    gateway = launch_apart(spooling(providers, file))
    with traffic(gateway) as outcomes:
        old, gateway.process = gateway.process, gateway.serve()
        old.send_signal(signal.SIGTERM)
        wait_until(lambda: gateway.healthz().json()["counts"].get("calls_recorded", 0) > 50, "records by the new one")
    assert old.wait(STOP_WITHIN_S) == 0
    assert set(outcomes.values()) == {200}
    said = [record["request_id"] for record in gateway.records('"event":"call"', len(outcomes))]
    assert sorted(said) == sorted(outcomes)


def test_a_call_that_ends_while_nobody_reads_keeps_its_record(
    launch_apart: LaunchApart, providers: Providers, file: Path
) -> None:
    gateway = launch_apart(spooling(providers, file))
    call_id, gate = new_id(), Gate()
    providers["openai"].answer_with(sse_answer([data(WORDS[0]), gate, b"data: [DONE]\n\n"]))
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, [*JSON.items(), ("x-request-id", call_id)], asking(stream=True))
        assert connection.read_head().status == 200
        chunks = connection.chunks()
        assert next(chunks) == data(WORDS[0])
        gateway.process.kill()
        gateway.process.wait()
        gate.open()
        assert b"".join(chunks) == b"data: [DONE]\n\n"
    gateway.process = gateway.serve()
    record = gateway.record(call_id)
    assert (record["status"], record["org"], record["model_requested"]) == (200, ORG, "gpt-4o")


def test_lectr_run_reads_its_own_spool_to_the_end(launch: Launch, providers: Providers, file: Path) -> None:
    gateway = launch(spooling(providers, file))
    ids = [new_id() for _ in range(20)]
    for call_id in ids:
        call(gateway, call_id=call_id)
    assert gateway.stop() == 0
    assert [gateway.record(call_id)["status"] for call_id in ids] == [200] * 20


def test_no_key_reaches_the_file(launch_apart: LaunchApart, providers: Providers, file: Path) -> None:
    gateway = launch_apart(spooling(providers, file))
    key = f"AIza{HUSH}0123456789012345678901234"
    paths = [f"/v1beta/models/gemini-2.5-flash:generateContent?key={key}", f"{CHAT}?key={key}", f"/nowhere?key={key}"]
    for path in paths:
        call(gateway, path)
    call(gateway, f"{CHAT}?key={key}", headers={**JSON, "X-Lectr-Key": f"wrong-{HUSH}"})
    gateway.process.kill()
    gateway.process.wait()
    call(gateway, f"{CHAT}?key={key}")
    wait_until(lambda: file.read_bytes().count(b"\n") == 5, "five lines")
    assert HUSH not in file.read_text()


def test_bytes_that_are_no_text_cost_no_record(launch_apart: LaunchApart, providers: Providers, file: Path) -> None:
    gateway = launch_apart(spooling(providers, file))
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, [*JSON.items(), ("x-request-id", "caf\xe9\x80")], asking())
        assert connection.read_head().status == 200
    wait_until(lambda: gateway.healthz().json()["counts"].get("calls_recorded") == 1, "its record")
    assert "spool_lines_unreadable" not in gateway.healthz().json()["counts"]


# --- the same entry by either way -------------------------------------------------------------------------------------


@pytest.fixture
def provider(loop: Loop) -> Iterator[Provider]:
    with Provider(loop, answer_as("openai")) as provider:
        yield provider


def with_both_logs(sending: str, spooling: str) -> str:
    """A configuration that sends its entries and writes them too."""
    one, two = yaml.safe_load(sending), yaml.safe_load(spooling)
    logs = [
        document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["access_log"]
        for document in (one, two)
    ]
    logs[0] += logs[1]
    return str(yaml.safe_dump(one))


def test_a_line_and_an_entry_of_the_grpc_log_say_the_same(
    build: Build, provider: Provider, file: Path, tmp_path: Path
) -> None:
    to, down = Upstream.parse("provider", provider.origin), Upstream.parse("down", f"http://127.0.0.1:{free_port()}")
    options = options_for(build, tmp_path)
    text = with_both_logs(
        render_bootstrap(options, [to, down]),
        render_bootstrap(options_for(build, tmp_path, spool=str(file)), [to, down]),
    )

    def decide(headers: Headers, message: Any) -> Any:
        match headers.get("x-want"):
            case "refusal":
                return refuse(401, "{}")
            case "down":
                return route(down.cluster)
            case _:
                return route(to.cluster, metadata={"call_id": "c1", "count": 3, "share": 0.5, "is": True})

    wanted = ["", "refusal", "down", "nobody", "hang up"]
    lectr = ScriptedLectr(options.lectr, decide)
    with lectr, Envoy(build, options, text, tmp_path):
        for want in wanted:
            with Connection(port_of(options.listen)) as connection:
                headers = [("x-want", want), ("x-request-id", 'a"b\\c\xc3\xa9'), ("content-type", "application/json")]
                key = [] if want == "nobody" else [("x-lectr-key", GOOD_KEY)]
                body = asking(stream=want == "hang up")
                if want == "hang up":
                    provider.answer_with(sse_answer([b"data: {}\n\n", Gate()]))
                connection.send("POST", f"{CHAT}?key=x", [*headers, *key], body)
                head = connection.read_head()
                if want != "hang up":
                    connection.read_body(head)
        sent = [lectr.entry() for _ in wanted]
        wait_until(lambda: file.exists() and file.read_bytes().count(b"\n") == len(wanted), "a line of each call")
    message = als.StreamAccessLogsMessage(http_logs=als.StreamAccessLogsMessage.HTTPAccessLogEntries(log_entry=sent))
    written = [entry_from(line) for line in file.read_bytes().splitlines()]
    expected = [told for told in wire_log.told_in(message) if isinstance(told, LogEntry)]
    # Of a call that lectr refused the gRPC log leaves out where it would have gone; no record says it.
    expected[1] = replace(expected[1], cluster="lectr_unrouted")
    assert written == expected


# --- keeping the file small -------------------------------------------------------------------------------------------


@contextmanager
def reading(live: Live, file: Path, seen: list[str]) -> Iterator[None]:
    """The reader in a loop of its own thread."""

    def sink(records: Sequence[CallRecord], _: Sequence[Attempt]) -> None:
        seen.extend(record.call_id for record in records)

    loop = asyncio.new_event_loop()
    task = loop.create_task(Spool(live, sink, file).follow())
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.gather(task, return_exceptions=True)))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def test_a_file_that_is_put_aside_again_and_again_under_load_loses_no_line(
    build: Build, provider: Provider, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "KEPT_BYTES", 4000)
    monkeypatch.setattr(spool, "POLL_S", 0.02)
    to = Upstream.parse("provider", provider.origin)
    options = options_for(build, tmp_path, spool=str(file))
    live = Live(compile_settings({"envoy": {"admin": options.admin}}))
    seen, turns = list[str](), list[str]()

    async def reopen(admin: str) -> bool:
        turns.append(admin)
        return await reopen_logs(admin)

    monkeypatch.setattr(spool, "reopen_logs", reopen)
    numbers = itertools.count()
    lectr = ScriptedLectr(options.lectr, lambda *_: route(to.cluster, metadata={"call_id": str(next(numbers))}))
    calls = 0
    with lectr, Envoy(build, options, render_bootstrap(options, [to]), tmp_path), reading(live, file, seen):
        with Connection(port_of(options.listen)) as connection:
            while len(turns) < 5:
                assert calls < 5000
                connection.send("POST", CHAT, [*KEYS.items(), ("content-type", "application/json")], asking())
                connection.read_body(connection.read_head())
                calls += 1
        wait_until(lambda: len(seen) >= calls, "all records")
    assert seen == [str(number) for number in range(calls)]
    assert live.spool_problem is None
