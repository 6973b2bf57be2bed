"""New settings without a restart: what is adopted, what is refused, and in which order Envoy and lectr change."""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from lectr_extproc.app import service
from lectr_extproc.core.credential import Credential, Form
from lectr_extproc.edge import reload
from lectr_extproc.edge.admin import http_server
from lectr_extproc.edge.credentials import read_reference
from lectr_extproc.edge.envoy import write_files
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.reload import adopt, forget, needs_restart, watch
from lectr_extproc.keys import digest
from lectr_extproc.settings import Settings, load
from tests.edge.given import settings
from tests.edge.looks import Look, paced

ONE, TWO = "orgs: [{name: one}]\n", "orgs: [{name: one}, {name: two}]\n"
GROQ: dict[str, Any] = {"providers": [{"id": "groq", "base_url": "https://groq.example/openai/v1"}]}


@contextlib.asynccontextmanager
async def watching(file: Path, loading: Callable[[str], Settings] = load) -> AsyncIterator[tuple[Live, Look]]:
    """Watch a file; time passes only as `look` says: so many looks at the file, each until it has had its effect."""
    with pytest.MonkeyPatch.context() as patch:
        look = paced(reload, patch)
        live = Live(load(ONE))
        task = asyncio.create_task(watch(live, file, loading))
        await look(0)
        yield live, look
        task.cancel()


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    file = tmp_path / "lectr.yaml"
    file.write_text(ONE)
    return file


def write(file: Path, text: str) -> None:
    file.write_bytes(text.encode(errors="surrogateescape"))


def fields_of(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record.__dict__["fields"] for record in caplog.records]


# --- the file ---------------------------------------------------------------------------------------------------------


async def test_a_good_change_is_adopted(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with watching(file) as (live, look):
        write(file, TWO)
        await look(2)
        assert live.settings.orgs == ("one", "two")
        assert live.health()["status"] == "ok"
        await look(2)
    assert caplog.messages == ["settings adopted"]


async def test_a_change_between_start_and_the_first_look_is_not_missed(file: Path) -> None:
    write(file, TWO)
    async with watching(file) as (live, look):
        await look(1)
        assert live.settings.orgs == ("one", "two")


async def test_what_the_file_said_at_start_is_not_read_again(file: Path) -> None:
    read: list[str] = []

    def loading(text: str) -> Settings:
        read.append(text)
        return load(text)

    async with watching(file, loading) as (_, look):
        await look(3)
        assert read == []
        write(file, TWO)
        await look(3)
        assert read == [TWO]


async def test_a_change_that_changes_nothing_is_not_adopted(file: Path) -> None:
    async with watching(file) as (live, look):
        before = live.settings
        write(file, ONE + "# a word\n")
        await look(3)
        assert live.settings is before


@pytest.mark.parametrize("text", ["", "# nothing but a word\n", "---\n"])
async def test_a_file_that_became_empty_locks_nobody_out(file: Path, text: str) -> None:
    async with watching(file) as (live, look):
        write(file, text)
        await look(2)
        assert live.settings.orgs == ("one",)
        assert live.health()["status"] == "degraded"
        assert "the file is empty" in live.health()["settings_problem"]


async def test_a_file_that_says_there_is_no_org_is_believed_and_may_be_emptied_then(file: Path) -> None:
    async with watching(file) as (live, look):
        for text in ("orgs: []", ""):
            write(file, text)
            await look(2)
            assert live.settings.orgs == ()
            assert live.health()["status"] == "ok"


BAD = {
    "an unknown setting": ("orgz: []", "orgz"),
    "no YAML": ("orgs: [", "not YAML"),
    "no text": ("\udcff", "the file is not UTF-8 text"),
}


@pytest.mark.parametrize(("text", "problem"), BAD.values(), ids=BAD)
async def test_a_bad_change_keeps_the_old_settings_and_says_so_until_it_is_mended(
    file: Path, text: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(file) as (live, look):
        before = live.settings
        write(file, text)
        await look(5)
        assert live.health()["status"] == "degraded"
        assert problem in live.health()["settings_problem"]
        assert live.settings is before
        assert caplog.messages == ["settings refused, the old ones stay in force"]
        assert problem in str(fields_of(caplog)[0]["problems"])
        write(file, ONE)
        await look(2)
        assert live.health()["status"] == "ok"
        assert live.settings is before


async def test_a_file_that_is_gone_keeps_the_old_settings_until_it_is_back(file: Path) -> None:
    async with watching(file) as (live, look):
        os.remove(file)  # noqa: PTH107
        await look(2)
        assert "the file is gone" in str(live.settings_problem)
        assert live.health()["orgs"] == 1
        write(file, TWO)
        await look(2)
        assert (live.settings.orgs, live.settings_problem) == (("one", "two"), None)


async def test_neither_a_pipe_nor_more_than_settings_can_be_is_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "MOST_BYTES", 100)
    async with watching(file) as (live, look):
        os.remove(file)  # noqa: PTH107
        os.mkfifo(file)
        await look(2)
        assert "the file cannot be read: it is no file" in str(live.settings_problem)
        os.remove(file)  # noqa: PTH107
        write(file, "#" * 101)
        await look(2)
        assert "the file cannot be read: it is larger than 100 bytes" in str(live.settings_problem)
        write(file, TWO)
        await look(2)
        assert (live.settings.orgs, live.settings_problem) == (("one", "two"), None)


async def test_a_symbolic_link_that_is_swapped_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes changes a ConfigMap: the file is a link into a folder that is itself a link."""
    for name, text in (("v1", ONE), ("v2", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lectr.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "lectr.yaml").symlink_to("..data/lectr.yaml")
    async with watching(tmp_path / "lectr.yaml") as (live, look):
        (tmp_path / "..new").symlink_to("v2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        await look(2)
        assert live.settings.orgs == ("one", "two")


async def test_a_file_that_is_still_being_written_is_not_adopted_half(file: Path) -> None:
    """Half a file may well be valid, with fewer orgs in it."""
    async with watching(file) as (live, look):
        before = live.settings
        for text in ("", "orgs: []", TWO):
            write(file, text)
            await look(1)
            assert live.settings is before
        await look(1)
        assert live.settings.orgs == ("one", "two")


async def test_whatever_goes_wrong_the_watch_goes_on_and_tries_again(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [ValueError("lc_key_secret"), ValueError("lc_key_secret"), OSError(28, "No space left on device")]

    def loading(text: str) -> Settings:
        if errors:
            raise errors.pop(0)
        return load(text)

    write(file, TWO)
    async with watching(file, loading) as (live, look):
        problems = []
        for _ in range(4):
            await look(1)
            problems.append(live.settings_problem)
    disk_full = "[Errno 28] No space left on device"
    assert problems == ["ValueError", "ValueError", disk_full, None]
    assert fields_of(caplog) == [{"problem": "ValueError"}, {"problem": disk_full}]


async def test_a_folder_that_cannot_be_written_keeps_the_old_settings(file: Path, tmp_path: Path) -> None:
    include = tmp_path / "include"
    write(include, "a file where the folder should be")
    async with watching(file) as (live, look):
        write(file, f"{TWO}envoy: {{directory: {include}}}\n")
        await look(2)
        assert str(include) in str(live.settings_problem)
        assert live.health()["orgs"] == 1
        include.unlink()
        await look(1)
        assert (live.settings.orgs, live.settings_problem) == (("one", "two"), None)
        assert (include / "cds.yaml").exists()


async def test_the_watch_ends_with_the_service_also_when_something_beside_it_fails(file: Path, tmp_path: Path) -> None:
    async def fail() -> None:
        async with service(settings(f"unix:{tmp_path}/lectr.sock"), file, load):
            assert "watch" in tasks()
            raise ValueError("beside")

    with pytest.raises(ValueError, match="beside"):
        await fail()
    assert "watch" not in tasks()


def tasks() -> set[str]:
    return {getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks()}


# --- files of keys ----------------------------------------------------------------------------------------------------

reading = partial(load, read_reference=read_reference)


def held_by(live: Live) -> str | None:
    credential = live.snapshot.credentials.get("groq")
    return credential.secret if credential else None


async def test_a_key_that_changed_in_its_file_is_adopted_whole(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    secret = tmp_path / "groq"
    write(secret, "gsk_one\n")
    write(file, f"{ONE}credentials: {{groq: 'file:{secret}'}}")
    async with watching(file, reading) as (live, look):
        await look(3)
        assert held_by(live) == "gsk_one"
        for half in ("gsk_t", "gsk_tw"):
            write(secret, half)
            await look(1)
            assert held_by(live) == "gsk_one"
        write(secret, "gsk_two")
        await look(2)
        assert held_by(live) == "gsk_two"
        await look(2)
    assert caplog.messages == ["settings adopted"] * 2
    assert "gsk_" not in str([vars(record) for record in caplog.records])


async def test_a_token_that_changed_in_its_file_is_the_admin_ports(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    write(secret, "the-first-token-of-all\n")
    write(file, f"{ONE}admin: {{token: 'file:{secret}'}}")
    async with watching(file, reading) as (live, look):
        await look(3)
        assert live.settings.admin_token == "the-first-token-of-all"
        for written, told in (("the-second-of-them", None), ("short", "admin.token"), ("the-third-of-them", None)):
            write(secret, written)
            await look(2)
            assert (live.settings.admin_token == written) is (told is None)
            assert (live.settings_problem is None) is (told is None)


async def test_a_key_that_cannot_be_read_keeps_the_old_one_until_its_file_is_mended(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "groq"
    write(secret, "gsk_one")
    write(file, f"{ONE}credentials: {{groq: 'file:{secret}'}}")
    async with watching(file, reading) as (live, look):
        await look(3)
        for bad, told in ((None, "cannot be read"), ("hunter2 ", "is no key")):
            secret.unlink() if bad is None else write(secret, bad)
            await look(5)
            assert held_by(live) == "gsk_one"
            assert told in str(live.health()["settings_problem"])
        write(secret, "gsk_two")
        await look(2)
        assert (held_by(live), live.settings_problem) == ("gsk_two", None)
    assert caplog.messages == ["settings refused, the old ones stay in force"] * 2
    assert "hunter2" not in str([vars(record) for record in caplog.records])


async def test_settings_whose_key_comes_later_are_adopted_when_it_comes(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "groq"
    async with watching(file, reading) as (live, look):
        write(file, f"{TWO}credentials: {{groq: 'file:{secret}'}}")
        await look(3)
        assert (live.settings.orgs, held_by(live)) == (("one",), None)
        write(secret, "gsk_one")
        await look(2)
        assert (live.settings.orgs, held_by(live)) == (("one", "two"), "gsk_one")


async def test_a_mounted_secret_that_kubernetes_swaps_is_a_new_key(file: Path, tmp_path: Path) -> None:
    mount = tmp_path / "secrets"
    for name in ("v1", "v2"):
        (mount / name).mkdir(parents=True)
        write(mount / name / "groq", f"gsk_{name}")
    (mount / "..data").symlink_to("v1")
    (mount / "groq").symlink_to("..data/groq")
    write(file, f"{ONE}credentials: {{groq: 'file:{mount}/groq'}}")
    async with watching(file, reading) as (live, look):
        await look(3)
        assert held_by(live) == "gsk_v1"
        (mount / "..new").symlink_to("v2")
        (mount / "..new").rename(mount / "..data")
        await look(2)
        assert held_by(live) == "gsk_v2"


async def test_what_can_be_no_file_does_not_end_the_watch(file: Path) -> None:
    async with watching(file, reading) as (live, look):
        for odd in ("/dev/zero", "/a\\0b"):
            write(file, f'{ONE}credentials: {{groq: "file:{odd}"}}')
            await look(3)
            assert "credentials.groq" in str(live.settings_problem)
        write(file, TWO)
        await look(2)
        assert live.settings.orgs == ("one", "two")


# --- Envoy ------------------------------------------------------------------------------------------------------------


class Admin:
    """Envoy's admin port: it reports the clusters of the files, once it has been asked `slow` times."""

    def __init__(self, directory: Path, live: Live, slow: int = 0) -> None:
        self.directory, self.live, self.slow = directory, live, slow
        self.asked: list[bool] = []
        "Per question: were the addresses in force still the old ones?"
        self._old = live.snapshot.sites

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert Request(scope).url.path == "/clusters"
        self.asked.append(self.live.snapshot.sites is self._old)
        said = "".join(f"{cluster}::default\n" for cluster in self.written()) if len(self.asked) > self.slow else ""
        await PlainTextResponse(said)(scope, receive, send)

    def written(self) -> set[str]:
        known = json.dumps((self.directory / "cds.yaml").read_text())
        return {name for name in ALL_CLUSTERS if name in known}


def clusters(of: Settings) -> set[str]:
    return {upstream.cluster for upstream in of.snapshot.upstreams}


ALL_CLUSTERS = clusters(settings()) | clusters(settings(**GROQ))
(NEW,) = clusters(settings(**GROQ)) - clusters(settings())
(OLD,) = clusters(settings()) - clusters(settings(**GROQ))


def with_envoy(directory: Path, port: int, **sections: Any) -> Settings:
    return settings(envoy={"directory": str(directory), "admin": f"127.0.0.1:{port}"}, **sections)


@contextlib.asynccontextmanager
async def envoy(app: Callable[[], ASGIApp]) -> AsyncIterator[int]:
    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await app()(scope, receive, send)

    async with http_server(late, "127.0.0.1:0") as port:
        yield port


async def test_envoy_learns_of_additions_before_lectr_and_of_removals_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[set[str], bool]] = []

    def seen(directory: Path, files: dict[str, str]) -> None:
        write_files(directory, files)
        steps.append((admin.written() & {OLD, NEW}, live.settings is new))

    monkeypatch.setattr(reload, "write_files", seen)
    monkeypatch.setattr(reload, "ENVOY_ADOPTS_WITHIN_S", 10)
    async with envoy(lambda: admin) as port:
        live, new = Live(with_envoy(tmp_path, port)), with_envoy(tmp_path, port, **GROQ)
        admin = Admin(tmp_path, live, slow=2)
        assert await adopt(live, new)
        await forget(live)
    assert steps == [({OLD, NEW}, False), ({NEW}, True)]
    assert admin.asked == [True, True, True]


async def test_what_is_taken_away_does_not_wait_for_envoy_and_what_changed_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def some(azure: str, *orgs: dict[str, Any], held: dict[str, str], identity: dict[str, Any]) -> Settings:
        rows = [
            {
                "keys": [{"sha256": digest(org["name"])}],
                "workloads": [f"spiffe://mesh/{org['name']}"],
                "azure": {"endpoint": azure},
                **org,
            }
            for org in orgs
        ]
        sections = {"orgs": rows, "credentials": held, "identity": identity}
        return replace(
            with_envoy(tmp_path, 1, orgs=rows, identity=identity),
            snapshot=load(json.dumps(sections), read_reference=str).snapshot,
        )

    def seen(_: Path, __: dict[str, str]) -> None:
        snapshot = live.snapshot
        found[:] = [
            {org.name: (org.enabled, dict(org.credentials)) for org in snapshot.orgs_by_key.values()},
            {name.rpartition("/")[2]: org.enabled for name, org in snapshot.orgs_by_workload.items()},
            dict(snapshot.credentials),
            snapshot.identity,
            {upstream.host for upstream in snapshot.upstreams if upstream.provider == "azure"},
        ]
        raise OSError("no space left")

    found: list[Any] = []
    monkeypatch.setattr(reload, "write_files", seen)
    a, b = {"azure": "env:A"}, {"azure": "env:B"}
    live = Live(
        some(
            "https://old.example",
            {"name": "goes", "credentials": a},
            {"name": "stays", "credentials": a},
            {"name": "changes", "credentials": a},
            {"name": "loses", "credentials": a},
            {"name": "ends"},
            held={"openai": "env:C", "groq": "env:C"},
            identity={"xfcc": True},
        )
    )
    new = some(
        "https://new.example",
        {"name": "stays", "credentials": a},
        {"name": "changes", "credentials": b},
        {"name": "loses"},
        {"name": "ends", "enabled": False},
        {"name": "comes"},
        held={"groq": "env:D"},
        identity={"attribute": "connection.uri_san_peer_certificate"},
    )
    with pytest.raises(OSError, match="no space left"):
        await adopt(live, new)
    had = {"azure": Credential(Form.NONE, "env:A")}
    assert found == [
        {"stays": (True, had), "changes": (True, had), "loses": (True, {}), "ends": (False, {})},
        {"stays": True, "changes": True, "loses": True, "ends": False},
        {"groq": Credential(Form.NONE, "env:C")},
        None,
        {"old.example"},
    ]


async def test_envoy_forgets_an_address_only_when_no_decision_for_it_can_be_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "ENVOY_ADOPTS_WITHIN_S", 0.0)
    write(file := tmp_path / "lectr.yaml", TWO)
    before, after = with_envoy(tmp_path, 1), with_envoy(tmp_path, 1, **GROQ)
    loaded = iter([before, after])
    async with watching(file, lambda _: next(loaded)) as (live, look):
        admin = Admin(tmp_path, live, slow=0)
        await look(1)
        write(file, ONE)
        await look(2)
        assert live.settings is after
        known = []
        for _ in range(10):
            known.append(admin.written() & {OLD, NEW})
            await look(1)
    assert known == [{OLD, NEW}] * 9 + [{NEW}], "two seconds, as long as Envoy waits for a decision, and a look more"


async def test_a_disk_that_fails_while_envoy_should_forget_does_not_end_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "envoy").touch()
    await forget(Live(with_envoy(tmp_path / "envoy", 1)))
    assert caplog.messages == ["Envoy keeps addresses that left"]


async def test_an_envoy_that_is_away_delays_the_change_but_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reload, "ENVOY_ADOPTS_WITHIN_S", 0.02)
    async with envoy(lambda: admin) as port:
        live, new = Live(with_envoy(tmp_path, port)), with_envoy(tmp_path, port, **GROQ)
        admin = Admin(tmp_path, live, slow=1000)
        await adopt(live, new)
    assert live.settings is new
    assert caplog.messages[0] == "Envoy has not reported the new clusters yet"
    assert fields_of(caplog)[0] == {"clusters": [NEW]}


async def test_a_change_of_orgs_alone_asks_envoy_nothing(tmp_path: Path) -> None:
    live, new = Live(with_envoy(tmp_path, 1)), with_envoy(tmp_path, 1, orgs=[])
    await adopt(live, new)
    assert live.settings is new


async def test_an_envoy_that_keeps_its_own_files_must_be_told_by_its_operator(caplog: pytest.LogCaptureFixture) -> None:
    live = Live(settings())
    await adopt(live, settings(**GROQ))
    assert "render Envoy's configuration again" in caplog.messages[0]
    assert fields_of(caplog) == [{"added": [NEW], "removed": [OLD]}]


# --- restart ----------------------------------------------------------------------------------------------------------

RESTARTS: dict[str, dict[str, Any]] = {
    "grpc.listen": {"listen": "127.0.0.1:1"},
    "grpc.workers": {"grpc": {"workers": 2}},
    "grpc.tls": {"grpc": {"tls": {"cert": "a", "key": "b"}}},
    "admin.listen": {"admin": {"listen": "127.0.0.1:1"}},
    "envoy.listen": {"envoy": {"listen": "127.0.0.1:1"}},
    "envoy.admin": {"envoy": {"admin": "127.0.0.1:1"}},
    "envoy.profile": {"envoy": {"profile": "portable"}},
    "envoy.directory": {"envoy": {"directory": "/x"}},
    "failover.attempts_max": {"envoy": {"profile": "portable"}, "failover": {"attempts_max": 2}},
    "limits.request_body_bytes": {"limits": {"request_body_bytes": 2048}},
    "spool.file": {"spool": {"file": "/calls.jsonl"}},
    "log.level": {"log": {"level": "debug"}},
    "ledger": {"ledger": {"url": "memory"}},
    "telemetry.llm_spans": {"telemetry": {"llm_spans": "off"}},
}


@pytest.mark.parametrize(("name", "section"), RESTARTS.items(), ids=RESTARTS)
def test_a_setting_that_is_only_read_at_start_needs_a_restart(name: str, section: dict[str, Any]) -> None:
    before = settings(envoy={"profile": "portable"}) if name == "failover.attempts_max" else settings()
    assert needs_restart(before, settings(**section)) == [name]


def test_every_other_setting_does_not() -> None:
    assert needs_restart(settings(), settings(orgs=[], limits={"inspect_body_bytes": 1}, **GROQ)) == []


async def test_a_restart_that_is_needed_is_logged_and_the_rest_is_adopted(caplog: pytest.LogCaptureFixture) -> None:
    live = Live(settings())
    await adopt(live, settings("127.0.0.1:1", orgs=[]))
    assert live.settings.orgs == ()
    assert fields_of(caplog) == [{"setting": "grpc.listen"}]


async def test_the_portable_profile_fails_over_from_the_next_start_on() -> None:
    envoy = {"profile": "portable"}
    live = Live(settings(envoy=envoy))
    await adopt(live, settings(envoy=envoy, failover={"attempts_max": 2}, orgs=[]))
    assert live.snapshot.failover is not None
    assert (live.snapshot.failover.attempts_max, live.settings.gateway.relays, live.settings.orgs) == (1, False, ())
