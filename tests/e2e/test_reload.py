"""lectr.yaml is read again when it changes: a good file is adopted while traffic flows, a bad one changes nothing."""

import copy
import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from tests.e2e.answers import WORDS, Flavour, answer_as, data
from tests.e2e.calls import CHAT, JSON, asking, call, error_of, new_id, traffic
from tests.e2e.conftest import Launch, once
from tests.e2e.gateway import Gateway, wait_until
from tests.e2e.provider import Gate, Loop, Piece, Provider, Respond, sse_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import ORG_KEY, Providers, contacted, org, secret, settings_for

DONE = b"data: [DONE]\n\n"
AZURE = {**JSON, "X-Lectr-Provider": "azure"}
REVOKED_WITHIN_S = 2.0
"""The promise. Two looks of half a second, and what is left of the one before them."""


def adopt(gateway: Gateway, settings: dict[str, Any]) -> None:
    """Write the file and wait until lectr says that it is in force."""
    adopted = gateway.output.count('"settings adopted"')
    gateway.write_settings(settings)
    wait_until(lambda: gateway.output.count('"settings adopted"') > adopted, "adoption")


def as_user(key: str, **more: str) -> dict[str, str]:
    return {**JSON, "X-Lectr-Key": key, **more}


@once
def test_keys_and_orgs_come_and_go_without_a_restart(launch: Launch, providers: Providers) -> None:
    settings = settings_for(providers)
    gateway = launch(settings)
    new_key, new_org_key = secret("lc_key_"), secret("lc_key_")
    assert error_of(call(gateway, headers=as_user(new_key)))[0] == 401

    changed = copy.deepcopy(settings)
    changed["orgs"][0]["keys"] += org("", new_key)["keys"]
    changed["orgs"].append(org("newcomers", new_org_key))
    adopt(gateway, changed)
    assert [call(gateway, headers=as_user(key)).status_code for key in (ORG_KEY, new_key, new_org_key)] == [200] * 3
    assert gateway.healthz().json()["orgs"] == 4

    revoked = copy.deepcopy(changed)
    del revoked["orgs"][0]["keys"][0]
    with traffic(gateway) as outcomes:
        gateway.write_settings(revoked)
        wait_until(lambda: 401 in list(outcomes.values()), "the refusal of a revoked key", REVOKED_WITHIN_S)
    assert set(outcomes.values()) == {200, 401}
    before = contacted(providers)
    assert error_of(call(gateway, headers=as_user(ORG_KEY))) == (401, "application/json", "openai", "invalid_lectr_key")
    assert contacted(providers) == before
    assert call(gateway, headers=as_user(new_key)).status_code == 200

    closed = copy.deepcopy(revoked)
    closed["orgs"][0]["enabled"] = False
    adopt(gateway, closed)
    assert error_of(call(gateway, headers=as_user(new_key)))[3] == "org_disabled"


# --- under load -------------------------------------------------------------------------------------------------------

LONG = asking(stream=True, stream_options={"include_usage": True}, user="long")
SHORT = asking(stream=True, stream_options={"include_usage": True})
FIRST, REST = data(WORDS[0]), b"".join(map(data, WORDS[1:]))
CALLERS, STREAMERS, LONG_STREAMS = 8, 4, 6
EFFECT_WITHIN_S = 10.0  # Two seconds are promised, of a machine that has nothing else to do.


class Traffic:
    """Plain calls and short streams without a pause, of every kind that is valid through every edit."""

    def __init__(self, gateway: Gateway, kinds: list[dict[str, str]]) -> None:
        self._gateway, self._kinds = gateway, itertools.cycle(kinds)
        self._over = threading.Event()
        self.plain: Counter[int] = Counter()
        self.streams: Counter[tuple[int, bytes]] = Counter()

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(CALLERS + STREAMERS)
        works = [*[self._call] * CALLERS, *[self._stream] * STREAMERS]
        self._running = [self._pool.submit(self._on, work, next(self._kinds)) for work in works]
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for running in self._running:
            running.result()

    def _on(self, work: Callable[[dict[str, str]], None], headers: dict[str, str]) -> None:
        while not self._over.is_set():
            work(headers)

    def _call(self, headers: dict[str, str]) -> None:
        self.plain[call(self._gateway, headers=headers).status_code] += 1

    def _stream(self, headers: dict[str, str]) -> None:
        answer = call(self._gateway, headers=headers, body=SHORT)
        self.streams[answer.status_code, answer.content[-len(DONE) :]] += 1


def begin(gateway: Gateway, headers: dict[str, str], stack: ExitStack) -> Iterator[bytes]:
    """A long stream whose first words have come."""
    connection = stack.enter_context(Connection(gateway.port))
    connection.send("POST", CHAT, headers.items(), LONG)
    assert connection.read_head().status == 200
    chunks = connection.chunks()
    assert next(chunks) == FIRST
    return chunks


def test_every_edit_takes_effect_under_load_and_no_call_is_lost(
    launch: Launch, providers: Providers, loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = Gate()

    def answering(flavour: Flavour) -> Respond:
        usual = answer_as(flavour)
        pieces: list[Piece] = [FIRST, gate, *map(data, WORDS[1:])]
        return lambda received: sse_answer(pieces) if received.json().get("user") == "long" else usual(received)

    with ExitStack() as stack:
        upstreams = {
            name: stack.enter_context(Provider(loop, answering("azure" if "azure" in name else "openai")))
            for name in ("openai", "latecomer", "latecomer, moved", "azure", "azure, moved", "newcomers' azure")
        }
        origins = {name: upstream.origin for name, upstream in upstreams.items()}

        def arrivals(name: str) -> int:
            return len(upstreams[name].requests)

        def reaches(name: str, headers: dict[str, str]) -> bool:
            mark = new_id()
            is_answered = call(gateway, headers=headers, body=asking(user=mark)).status_code == 200
            return is_answered and any(mark.encode() in one.body for one in upstreams[name].requests[-300:])

        def is_refused(headers: dict[str, str], code: str) -> bool:
            answer = call(gateway, headers=headers)
            return answer.status_code >= 400 and error_of(answer)[3] == code

        old_key, new_key, newcomers_key = (secret("lc_key_") for _ in range(3))
        latecomer, newcomers = (
            {**JSON, "X-Lectr-Provider": "latecomer"},
            as_user(newcomers_key, **{"X-Lectr-Provider": "azure"}),
        )
        start = settings_for(providers)
        start["providers"][0]["base_url"] = origins["openai"] + "/v1"
        start["orgs"][0]["azure"]["endpoint"] = origins["azure"]
        start["orgs"].append(org("leavers", old_key))

        added = copy.deepcopy(start)
        added["providers"].append({"id": "latecomer", "base_url": origins["latecomer"] + "/v1"})
        added["orgs"][0]["keys"] += org("", new_key)["keys"]
        added["orgs"].append(org("newcomers", newcomers_key, azure={"endpoint": origins["newcomers' azure"]}))

        changed = copy.deepcopy(added)
        changed["providers"][-1]["base_url"] = origins["latecomer, moved"] + "/v1"
        changed["orgs"][0]["azure"]["endpoint"] = origins["azure, moved"]

        removed = copy.deepcopy(changed)
        removed["providers"].pop()
        removed["orgs"] = [one for one in removed["orgs"] if one["name"] not in ("leavers", "newcomers")]
        removed["orgs"][0]["keys"].pop()

        edits: dict[str, tuple[dict[str, Any], dict[str, Callable[[], bool]]]] = {
            "added": (added, {
                "provider": lambda: reaches("latecomer", latecomer),
                "key": lambda: reaches("openai", as_user(new_key)),
                "org and its Azure": lambda: reaches("newcomers' azure", newcomers),
            }),
            "changed": (changed, {
                "provider": lambda: reaches("latecomer, moved", latecomer),
                "Azure": lambda: reaches("azure, moved", AZURE),
            }),
            "removed": (removed, {
                "provider": lambda: reaches("openai", latecomer),
                "key": lambda: is_refused(as_user(new_key), "invalid_lectr_key"),
                "org": lambda: is_refused(as_user(old_key), "invalid_lectr_key"),
                "org and its Azure": lambda: is_refused(newcomers, "invalid_lectr_key"),
            }),
        }  # fmt: skip

        gateway = launch(start)
        long = [begin(gateway, kind, stack) for kind in (JSON, AZURE, as_user(old_key)) for _ in range(LONG_STREAMS)]
        took: dict[str, float] = {}
        with Traffic(gateway, [JSON, AZURE]) as traffic:
            for name, (settings, effects) in edits.items():
                gateway.write_settings(settings)
                began = time.monotonic()
                for what, is_seen in effects.items():
                    wait_until(is_seen, f"{what} {name}", EFFECT_WITHIN_S)
                    took[f"{what} {name}"] = round(time.monotonic() - began, 2)
                if name == "changed":
                    long += [
                        begin(gateway, kind, stack) for kind in (latecomer, newcomers) for _ in range(LONG_STREAMS)
                    ]
                    moved_away = arrivals("latecomer"), arrivals("azure")
                    # As `curl -d` sends it: lectr asks for the body, half of which comes after the provider has left.
                    form = {**latecomer, "Content-Type": "application/x-www-form-urlencoded"}
                    slow = stack.enter_context(Connection(gateway.port))
                    slow.send("POST", CHAT, [*form.items(), ("Content-Length", str(len(SHORT)))], SHORT[:20])
                    gateway.write_file("orgs: [{nmae: x}]")
                    wait_until(lambda: is_told(gateway, "nmae"), "a word on a broken edit", EFFECT_WITHIN_S)
                    assert gateway.lines('"settings refused, the old ones stay in force"')
                    assert reaches("latecomer, moved", latecomer)
                    assert reaches("azure, moved", AZURE)
                    assert reaches("openai", as_user(new_key))
            forgotten = r"cluster_manager\.cluster_removed"
            wait_until(lambda: gateway.stat(forgotten) >= 8, "an Envoy that forgot four addresses", EFFECT_WITHIN_S)
            slow.send_bytes(SHORT[20:])
            assert slow.read_head().status == 200
            so_far = traffic.plain[200]
            wait_until(lambda: traffic.plain[200] > so_far + 20, "calls after the last edit")
            gate.open()
            assert [b"".join(chunks) for chunks in long] == [REST] * len(long)
        assert (set(traffic.plain), set(traffic.streams)) == ({200}, {(200, DONE)})
        assert (arrivals("latecomer"), arrivals("azure")) == moved_away, "nothing goes to an address that was left"
        with capsys.disabled():
            counts = f"{traffic.plain.total()} calls, {traffic.streams.total()} streams, {len(long)} long ones"
            sys.stdout.write(f"\n{gateway.build}: seconds until an edit was seen {took}, beside {counts}\n")


BAD_FILES: dict[str, tuple[str | None, list[str]]] = {
    "not YAML": ("orgs: [", ["not YAML"]),
    "a mapping no more": ("- orgs", ["must be a mapping"]),
    "several mistakes": ("orgs: [{nmae: x}]\nlimits: {request_body_bytes: many}\n", ["nmae", "request_body_bytes"]),
    "an unknown kind of provider": ("providers: [{id: acme, kind: zebra, base_url: https://acme.test}]", ["zebra"]),
    "gone": (None, ["gone"]),
}


def is_told(gateway: Gateway, word: str) -> bool:
    return word in str(gateway.healthz().json()["settings_problem"])


@once
def test_a_bad_file_changes_nothing_and_healthz_says_why(launch: Launch, providers: Providers) -> None:
    settings = settings_for(providers)
    gateway = launch(settings)
    good = gateway.config.read_text()
    files: dict[Path, bytes] = {file: file.read_bytes() for file in gateway.processes.directory.rglob("*ds.yaml")}
    assert files

    for name, (text, words) in BAD_FILES.items():
        if text is None:
            gateway.config.unlink()
        else:
            gateway.write_file(text)
        wait_until(partial(is_told, gateway, words[0]), f"a word on {name}")
        health = gateway.healthz().json()
        assert health["status"] == "degraded"
        assert [word for word in words if word not in health["settings_problem"]] == [], name
        assert health["orgs"] == 3
        assert call(gateway).status_code == 200
    assert {file: file.read_bytes() for file in files} == files
    assert gateway.output.count('"settings refused, the old ones stay in force"') == len(BAD_FILES)

    gateway.write_file(good)
    wait_until(lambda: gateway.healthz().json()["status"] == "ok", "a good file")
    assert gateway.healthz().json()["settings_problem"] is None


@once
def test_a_setting_that_needs_a_restart_is_named(launch: Launch, providers: Providers) -> None:
    settings = settings_for(providers)
    gateway = launch(settings)
    adopt(gateway, {**settings, "limits": {"request_body_bytes": 4096}})
    assert '"setting":"limits.request_body_bytes"' in gateway.output
    assert call(gateway).status_code == 200
