"""What lectr writes: one JSON object per line on standard error. No body, no credential and no header at any level."""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from select import PIPE_BUF
from typing import Any, TextIO

import orjson

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.pricing import PICO
from lectr_extproc.core.record import OWN, SHARED, CallRecord, shared_of
from lectr_extproc.core.usage import COUNTS
from lectr_extproc.core.words import KEY_PREFIX

calls = logging.getLogger("lectr.calls")

_SHAPES = {KEY_PREFIX} | {shape for row in PROVIDERS.values() for shape in (*row.key_shapes, *row.stays_bearer)}
_MARKS = tuple(shape for shape in _SHAPES if not any(other in shape for other in _SHAPES - {shape}))
"One of these is in every text that has a shape in it."
KEY = re.compile(
    # At the start of a word (`task-…` is no key), also behind an escape of JSON's; our own keys anywhere.
    rf"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt])|(?={KEY_PREFIX}))({'|'.join(sorted(map(re.escape, _SHAPES)))})[\w.-]{{16,}}",
    re.ASCII,
)
"A key that a client put where a name belongs, such as in X-Lectr-Feature."


class JsonLines(logging.Formatter):
    """A log record as one line of JSON; one about several calls as a line for each."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage().partition("\n")[0],  # asyncio puts the text of exceptions on further lines
            **getattr(record, "fields", {}),
        }
        if each := getattr(record, "calls", None):
            begins = _json(line)[:-1]
            return "\n".join([begins + "," + call for call in each])
        if record.exc_info and record.exc_info[0] is not None:
            # Where and what kind, never the message: it may quote what a client sent.
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["at"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames[-6:]]
        return without_keys(_json(line))


class _InPieces:
    """A stream that gets as many lines at once as a pipe takes whole: Envoy may write to the same one in between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        for piece in pieces(text):
            self._stream.write(piece)
            self._stream.flush()


def pieces(text: str) -> Iterator[str]:
    """Its lines, together in pieces of PIPE_BUF bytes at most; a longer line is a piece of its own."""
    piece, size = "", 0
    for line in text.removesuffix("\n").split("\n"):
        length = len(line.encode()) + 1
        if piece and size + length > PIPE_BUF:
            yield piece
            piece, size = "", 0
        piece += line + "\n"
        size += length
    yield piece


def _json(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except orjson.JSONEncodeError:  # numbers beyond 64 bits, halves of surrogate pairs
        return json.dumps(line, default=str)


def without_keys(text: str) -> str:
    """A text without the keys that a client put where names belong; their first letters stay."""
    for mark in _MARKS:
        if mark in text:
            return KEY.sub(r"\1…", text)
    return text


def set_up(level: str) -> None:
    """Send every logger's lines to standard error."""
    logging.raiseExceptions = False  # a line that cannot be formatted would be printed with its arguments
    handler = logging.StreamHandler(_InPieces(sys.stderr))
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("lectr").setLevel(level.upper())  # ours alone: libraries log addresses and headers


def log_calls(records: Sequence[CallRecord]) -> None:
    """One line per finished call."""
    if records and calls.isEnabledFor(logging.INFO):
        calls.info("call", extra={"calls": [_members(record) for record in records]})


def as_fields(record: CallRecord) -> dict[str, Any]:
    """A record as the fields of a line: what is absent is left out, what is zero is not."""
    cost = record.cost
    return _shared_fields(shared_of(record), cost and cost[:2]) | _own_fields(record)


def _members(record: CallRecord) -> str:
    """The same as JSON, without its opening brace."""
    cost = record.cost
    own = without_keys(_json(_own_fields(record)))
    return _shared_members(shared_of(record), cost and cost[:2]) + own[1:]


def _own_fields(record: CallRecord) -> dict[str, Any]:
    values = _known(_OWN, _read_own(record))
    if record.usage is not None:
        values["usage"] = _known(COUNTS, _read_counts(record.usage))
    if record.cost is not None:
        del values["cost"]
        if (pico := record.cost.total) is not None:
            values["cost"] = f"{pico // PICO}.{pico % PICO:012d}"
    return values


def _shared_fields(values: tuple[Any, ...], pricing: tuple[str, str | None] | None) -> dict[str, Any]:
    fields = _known(SHARED, values) | _known(("pricing_status", "pricing_reason"), pricing or (None, None))
    return {name: value for name, value in fields.items() if value is not False and value != ()}


@lru_cache(1024)
def _shared_members(values: tuple[Any, ...], pricing: tuple[str, str | None] | None) -> str:
    """Made once of what many calls share. A comma follows: each call has fields of its own."""
    return without_keys(_json(_shared_fields(values, pricing)))[1:-1] + ","


_OWN = tuple(field.name for field in fields(CallRecord) if field.name in OWN)
_read_own, _read_counts = attrgetter(*_OWN), attrgetter(*COUNTS)


def _known(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}
