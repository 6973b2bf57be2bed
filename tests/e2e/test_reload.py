"""lectr.yaml is read again when it changes: a good file is adopted while traffic flows, a bad one changes nothing."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from lectr_extproc.core.upstream import Upstream
from tests.e2e.answers import WORDS, answer_as, data
from tests.e2e.calls import CHAT, JSON, asking, call, error_of
from tests.e2e.conftest import Launch
from tests.e2e.gateway import Gateway, wait_until
from tests.e2e.provider import Gate, Loop, Piece, Provider, sse_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import ORG_KEY, Providers, contacted, org, secret, settings_for

AZURE = {**JSON, "X-Lectr-Provider": "azure"}


def adopt(gateway: Gateway, settings: dict[str, Any]) -> None:
    """Write the file and wait until lectr says that it is in force."""
    adopted = gateway.output.count('"settings adopted"')
    gateway.write_settings(settings)
    wait_until(lambda: gateway.output.count('"settings adopted"') > adopted, "adoption")


def as_user(key: str, **more: str) -> dict[str, str]:
    return {**JSON, "X-Lectr-Key": key, **more}


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
    adopt(gateway, revoked)
    before = contacted(providers)
    assert error_of(call(gateway, headers=as_user(ORG_KEY))) == (401, "application/json", "openai", "invalid_lectr_key")
    assert contacted(providers) == before
    assert call(gateway, headers=as_user(new_key)).status_code == 200

    closed = copy.deepcopy(revoked)
    closed["orgs"][0]["enabled"] = False
    adopt(gateway, closed)
    assert error_of(call(gateway, headers=as_user(new_key)))[3] == "org_disabled"


def test_a_new_address_is_adopted_while_traffic_flows(launch: Launch, providers: Providers, loop: Loop) -> None:
    settings = settings_for(providers)
    gateway = launch(settings)
    over, outcomes = threading.Event(), list[tuple[int, int]]()

    def calls() -> None:
        while not over.is_set():
            outcomes.append((call(gateway, headers=AZURE).status_code, call(gateway).status_code))

    with Provider(loop, answer_as("azure")) as theirs, ThreadPoolExecutor(1) as client:
        running = client.submit(calls)
        try:
            wait_until(lambda: len(outcomes) > 5, "traffic")
            moved = copy.deepcopy(settings)
            moved["orgs"][0]["azure"]["endpoint"] = theirs.origin
            adopt(gateway, moved)
            old = len(providers["azure"].requests)
            so_far = len(outcomes)
            wait_until(lambda: len(outcomes) > so_far + 10, "calls after the move")
        finally:
            over.set()
        running.result()
        assert set(outcomes) == {(200, 200)}
        assert len(theirs.requests) > 5
        assert len(providers["azure"].requests) <= old + 1, "one call may have been on its way"

        (cds,) = gateway.processes.directory.rglob("cds.yaml")
        clusters = {resource["name"] for resource in yaml.safe_load(cds.read_text())["resources"]}
        assert Upstream.parse("azure", theirs.origin).cluster in clusters
        assert Upstream.parse("azure", providers["azure"].origin).cluster not in clusters


def test_a_stream_outlives_the_address_it_came_from(launch: Launch, providers: Providers, loop: Loop) -> None:
    settings = settings_for(providers)
    gateway = launch(settings)
    gate = Gate()
    pieces: list[Piece] = [data(WORDS[0]), gate, *map(data, WORDS[1:])]
    providers["azure"].answer_with(sse_answer(pieces))
    removed = r"cluster_manager\.cluster_removed"
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, AZURE.items(), asking(stream=True))
        assert connection.read_head().status == 200
        chunks = connection.chunks()
        assert next(chunks) == data(WORDS[0])

        without = copy.deepcopy(settings)
        del without["orgs"][0]["azure"]
        adopt(gateway, without)
        wait_until(lambda: gateway.stat(removed) >= 2, "an Envoy that has forgotten the address")
        assert error_of(call(gateway, headers=AZURE))[3] == "azure_config_missing"
        gate.open()
        assert b"".join(chunks) == b"".join(map(data, WORDS[1:]))


BAD_FILES: dict[str, tuple[str | None, list[str]]] = {
    "not YAML": ("orgs: [", ["not YAML"]),
    "a mapping no more": ("- orgs", ["must be a mapping"]),
    "several mistakes": ("orgs: [{nmae: x}]\nlimits: {request_body_bytes: many}\n", ["nmae", "request_body_bytes"]),
    "an unknown kind of provider": ("providers: [{id: acme, kind: zebra, base_url: https://acme.test}]", ["zebra"]),
    "gone": (None, ["gone"]),
}


def is_told(gateway: Gateway, word: str) -> bool:
    return word in str(gateway.healthz().json()["settings_problem"])


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


def test_a_setting_that_needs_a_restart_is_named(launch: Launch, providers: Providers) -> None:
    settings = settings_for(providers)
    gateway = launch(settings)
    adopt(gateway, {**settings, "limits": {"request_body_bytes": 4096}})
    assert '"setting":"limits.request_body_bytes"' in gateway.output
    assert call(gateway).status_code == 200
