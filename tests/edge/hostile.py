"""Messages as nobody's Envoy writes them: any bytes in any field, of any type, cut anywhere, in any order."""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message import Message
from hypothesis import strategies as st

from lectr_extproc.core.watch import Watch
from lectr_extproc.edge.access_log import Sink
from lectr_extproc.edge.live import Live
from tests.edge.given import serving


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _tagged(number: int, kind: int, content: bytes) -> bytes:
    return _varint(number << 3 | kind) + (_varint(len(content)) if kind == 2 else b"") + content


def _fields(content: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Some fields of every wire type; what has a length holds `content`."""
    one = (
        st.tuples(st.integers(1, 20), st.just(2), content)
        | st.tuples(st.integers(1, 20), st.just(0), st.integers(0, 2**64 - 1).map(_varint))
        | st.tuples(st.integers(1, 20), st.sampled_from([1, 5, 3, 6]), st.binary(min_size=4, max_size=8))
    )
    return st.lists(one, max_size=4).map(lambda fields: b"".join(_tagged(*field) for field in fields))


_ANY = st.binary(max_size=30) | st.text(max_size=10).map(str.encode)
_BY_CHANCE = _fields(_ANY | _fields(_ANY | _fields(_ANY)))


def like(*samples: Message) -> st.SearchStrategy[list[bytes]]:
    """Some messages: whole ones, cut ones, ones with other bytes or fields in them, and any bytes."""
    known = st.sampled_from([sample.SerializeToString() for sample in samples])
    cut = st.tuples(known, st.integers(1, 60)).map(lambda drawn: drawn[0][: -drawn[1]])
    changed = st.tuples(known, st.integers(0, 2000), st.binary(min_size=1, max_size=3)).map(
        lambda drawn: drawn[0][: drawn[1]] + drawn[2] + drawn[0][drawn[1] + len(drawn[2]) :]
    )
    more = st.tuples(known, _BY_CHANCE).map(b"".join)
    return st.lists(known | known | cut | changed | more | _BY_CHANCE, max_size=5)


@contextlib.contextmanager
def unharmed(
    live: Live, caplog: pytest.LogCaptureFixture, sink: Sink = lambda _calls, _attempts: None
) -> Iterator[Callable[[Callable[[grpc.aio.Channel], Coroutine[Any, Any, None]]], None]]:
    """Lectr's server, for talks one after the other. After them nothing is left of any, and nothing went wrong."""
    with asyncio.Runner() as runner:
        server = serving(live, sink)
        channel = runner.run(server.__aenter__())
        try:
            yield lambda talk: runner.run(talk(channel))
        finally:
            runner.run(server.__aexit__(None, None, None))
        gc.collect()
        assert [one for one in gc.get_objects() if isinstance(one, Watch)] == []
        assert [task for task in asyncio.all_tasks(runner.get_loop()) if not task.done()] == []
    ours = [record for record in caplog.records if record.name.startswith("lectr.")]
    assert [record.getMessage() for record in caplog.records if record.exc_info or record not in ours] == []
