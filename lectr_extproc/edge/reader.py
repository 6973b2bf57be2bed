"""Who reads the ledger for the console: in threads beside the event loop, on a connection of its own.

So no call that is decided waits for it, and neither does the ledger's writer. One question is read at a time; what
takes long to read is kept for a multiple of that time, so that it never takes more than a small part of it.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from lectr_extproc.edge.store import Store, Unavailable, Unusable

log = logging.getLogger("lectr.console")

T = TypeVar("T")

FRESH_S = 60.0
TIMES = 20
"What took a second to read is read again after 20, or after a minute if that is longer."
PATIENCE_S = 2.0
"So long somebody waits for what nobody has read before."


class Reader:
    """Reads with one connection, as long as there is a ledger."""

    def __init__(self, open_: Callable[[], Store]) -> None:
        self._open = open_
        self._opened: Store | None = None
        self._turn = asyncio.Lock()
        self.store: Callable[[], Store] | None = None
        "Where the ledger writes now; none while lectr starts."

    async def ask(self, question: Callable[[Store], T]) -> T:
        """The answer; Unavailable or Unusable where the ledger cannot be had."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            told: asyncio.Future[T] = loop.create_future()

            def tell(take: Callable[[Any], None], outcome: object) -> None:
                if not told.done():  # who asked may have gone
                    take(outcome)

            def read() -> None:
                outcome: tuple[Callable[[Any], None], object]
                try:
                    outcome = told.set_result, question(self._find())
                except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                    outcome = told.set_exception, error
                with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                    loop.call_soon_threadsafe(tell, *outcome)

            # No executor's: those are waited for at the end of the process, for as long as they read.
            threading.Thread(target=read, name="console", daemon=True).start()
            return await told

    async def close(self) -> None:
        """Let go of the connection; of one that is being read the end of the process does."""
        if self._opened and not self._turn.locked():
            await asyncio.to_thread(self._opened.close)

    def _find(self) -> Store:
        if self.store is None:
            raise Unavailable("lectr starts")
        if (store := self.store()).bound is not None:  # in memory it is nowhere else, and small
            return store
        if self._opened is None:
            self._opened = self._open()
        return self._opened


class Kept(Generic[T]):
    """The answer to a question that takes long, with the time it is from."""

    def __init__(self, find: Callable[[], Awaitable[T]]) -> None:
        self._find = find
        self.found: T | None = None
        self.as_of: int | None = None
        "None until it was read for the first time."
        self._problem: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._of: object = None
        self._stale_at = float("-inf")

    async def get(self, of: object) -> tuple[int | None, T | None]:
        """What is known, and as of when; what is stale, or was found for something else, is read again meanwhile."""
        if self._task is None and (time.monotonic() >= self._stale_at or of is not self._of):
            self._of, self._task = of, asyncio.create_task(self._refresh())
        if self.as_of is None and self._task is not None:
            await asyncio.wait({self._task}, timeout=PATIENCE_S)
            if self._problem is not None:
                raise self._problem
        return self.as_of, self.found

    def outdate(self) -> None:
        """Something of it has changed."""
        self._stale_at = float("-inf")

    async def _refresh(self) -> None:
        began, at = time.monotonic(), int(time.time())
        self._problem = None
        try:
            self.found, self.as_of = await self._find(), at
            took_s = time.monotonic() - began
            self._stale_at = time.monotonic() + max(FRESH_S, TIMES * took_s)
        except (Unavailable, Unusable) as error:
            self._problem = error
        except Exception as error:
            log.exception("the console could not be answered")
            self._problem = Unavailable(type(error).__name__)
        finally:
            self._task = None
