"""Time that passes only as a test says, for what looks at something again and again."""

import asyncio
from collections.abc import Awaitable, Callable
from types import ModuleType, SimpleNamespace

import pytest

Look = Callable[[int], Awaitable[None]]
"Let so many pauses of the module end, each look until it has had its effect."


def paced(module: ModuleType, patch: pytest.MonkeyPatch) -> Look:
    """Put the pauses of a module (`asyncio.sleep`) into the hands of a test; `look(0)` waits for the first."""
    looks, over = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def sleep(_: float) -> None:
        over.release()
        await looks.acquire()

    async def look(times: int) -> None:
        if not times:
            await over.acquire()
        for _ in range(times):
            looks.release()
            await over.acquire()

    patch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep, to_thread=asyncio.to_thread, timeout=asyncio.timeout))
    return look
