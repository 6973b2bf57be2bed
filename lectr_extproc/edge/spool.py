"""The spool: a file that Envoy writes each finished call to, read on from where the last lectr stopped.

Nothing is lost with a lectr that is killed, for the file and the place reached in it outlive it. The place is kept
when the batch has been written: a lectr killed before that hands it on again, and the ledger knows its call ids. Where
memory stands in for a ledger that cannot be used, nothing has.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lectr_extproc.core.spool import entry_from
from lectr_extproc.edge.access_log import Sink, take
from lectr_extproc.edge.envoy import reopen_logs
from lectr_extproc.edge.live import Live

log = logging.getLogger("lectr.spool")

POLL_S = 0.2
"An idle look is three system calls."

BATCH_BYTES = 64 * 1024
"Some sixty calls: what the gRPC log's batches hold, and what the event loop can be kept from its calls for."

LONGEST_LINE_BYTES = 1024 * 1024
"No line of Envoy's is longer, for its headers are bounded. What is has not been written by Envoy."

MOST_AT_RISK = 5000
"How many calls may be handed on and end with this process: beyond it they are safer in the file."

KEPT_BYTES = 64 * 1024 * 1024
"""How much of the file may have been read before it is put aside: Envoy reopens all its logs then, so not often. On a
small volume no more than what is free, or a full one would stay full."""

REOPENS_WITHIN_S = 15
"Envoy lets go of the old file when it next flushes, after 10 s unless it is told otherwise."

NEVER = float("-inf")

LAST_WORDS_S = 2
"How long a lectr that stops reads on. What is left is for the next one."

WRITTEN_WITHIN_S = 3
"How long it waits then for what it has handed on: the next one would hand on again what nobody has written."


class Spool:
    """The file, the place reached in it, and the old file that Envoy may still be writing to."""

    def __init__(self, live: Live, sink: Sink, file: Path, unkept: Callable[[], int] = lambda: 0) -> None:
        self._live, self._sink, self._at_risk = live, sink, unkept
        self._handed = 0
        self._unkept: deque[tuple[int, int, int]] = deque()
        "How many calls had been handed on when which place was reached, of what is not known to be written."
        self._file, self._aside = file, file.with_name(f"{file.name}.aside")
        self._held, self._inode, self._offset = False, 0, 0
        self._asked_at, self._is_heard = NEVER, True
        try:
            self._place = os.open(file.with_name(f"{file.name}.place"), os.O_RDWR | os.O_CREAT, 0o640)
        except OSError as error:
            raise OSError(f"cannot write beside {file}: {error.strerror}") from None

    async def follow(self) -> None:
        """Read for ever. Of several lectrs one reads, and the next as soon as that one ends, in whatever way."""
        try:
            while True:
                busy = False
                try:
                    busy = self._is_mine() and self.read()
                    problem = await self._turn()
                except OSError as error:
                    problem = f"{error.filename or self._file}: {error.strerror}"
                if problem not in (None, self._live.spool_problem):
                    log.error("the spool is in trouble", extra={"fields": {"problem": problem}})
                self._live.spool_problem = problem
                await asyncio.sleep(0 if busy else POLL_S)
        finally:
            end = time.monotonic() + LAST_WORDS_S
            with contextlib.suppress(OSError):
                while self._is_mine() and time.monotonic() < end:
                    if not (self.read() or self._unkept):
                        break
                    await asyncio.sleep(0.01)
            end = time.monotonic() + WRITTEN_WITHIN_S
            while self._unkept and time.monotonic() < end:
                await asyncio.sleep(0.01)
                self._keep_place()
            os.close(self._place)

    def health(self) -> dict[str, Any]:
        """What `/healthz` shows: how far it is, if it is this lectr that reads."""
        file = self._aside if self._aside.exists() else self._file
        size = file.stat().st_size if file.exists() else 0
        place = {"read_bytes": self._offset, "unread_bytes": max(0, size - self._offset)} if self._held else {}
        return {"file": str(self._file), "reads": self._held, **place}

    def read(self) -> bool:
        """Hand on one batch; false when everything has been read, or what was handed on has to be written first."""
        self._keep_place()
        if self._at_risk() > MOST_AT_RISK:
            return False
        is_aside = self._aside.exists()
        # Asked before reading: Envoy writes its last line here before it makes the new file.
        is_over = is_aside and self._file.exists()
        try:
            if self._read_from(self._aside if is_aside else self._file):
                return True
        except FileNotFoundError:  # Envoy makes it when it starts
            return False
        if is_over and not self._unkept:
            self._aside.unlink()
        elif not is_aside and self._offset >= min(KEPT_BYTES, 1 + shutil.disk_usage(self._file.parent).free):
            self._file.rename(self._aside)
        return is_over and not self._unkept

    async def _turn(self) -> str | None:
        """Have Envoy make a new file where the old one was put aside; why it does not."""
        if not self._held or not self._aside.exists() or self._file.exists():
            self._asked_at, self._is_heard = NEVER, True
        elif time.monotonic() >= self._asked_at + REOPENS_WITHIN_S:
            self._asked_at = time.monotonic()
            self._is_heard = await reopen_logs(self._live.settings.gateway.admin)
        return None if self._is_heard else "envoy.admin does not answer: the spool grows"

    def _read_from(self, file: Path) -> bool:
        with file.open("rb", buffering=0) as opened:
            found = os.fstat(opened.fileno())
            if found.st_ino != self._inode or found.st_size < self._offset:  # another file, or one cut by others
                self._inode, self._offset = found.st_ino, 0
            chunk = os.pread(opened.fileno(), BATCH_BYTES, self._offset)
            if b"\n" not in chunk and len(chunk) == BATCH_BYTES:
                chunk = os.pread(opened.fileno(), LONGEST_LINE_BYTES, self._offset)
        if len(chunk) < LONGEST_LINE_BYTES or b"\n" in chunk:
            chunk = chunk[: chunk.rfind(b"\n") + 1]  # Envoy is still writing what comes behind
        if not chunk:
            return False
        lines = chunk.splitlines()
        entries = [entry for line in lines if (entry := entry_from(line))]
        if unreadable := len(lines) - len(entries):
            self._live.lose("spool_lines_unreadable", unreadable)
        take(self._live, self._sink, entries)
        self._offset += len(chunk)
        self._handed += len(entries)
        self._unkept.append((self._handed, self._inode, self._offset))
        self._keep_place()
        return True

    def _keep_place(self) -> None:
        written, reached = self._handed - self._at_risk(), None
        while self._unkept and self._unkept[0][0] <= written:
            reached = self._unkept.popleft()
        if reached:
            os.pwrite(self._place, b"%020d %020d\n" % reached[1:], 0)

    def _is_mine(self) -> bool:
        """Whether no other lectr reads. The kernel lets go of the lock with the process."""
        if not self._held:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._held = True
                # Where the last one stopped. Without that everything is handed on again, which loses nothing.
                with contextlib.suppress(ValueError):
                    self._inode, self._offset = map(int, os.pread(self._place, 64, 0).split())
        return self._held
