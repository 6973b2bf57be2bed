"""What lectr writes: one JSON object per line on standard error. No body, no credential and no header at any level."""

import json
import logging
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import orjson

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.record import CallRecord
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


TOGETHER = 4
"So many calls are written at once: of more, lines could be torn apart where Envoy writes to the same pipe (PIPE_BUF)."


class JsonLines(logging.Formatter):
    """A log record as one line of JSON; one about several calls as a line for each."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage().partition("\n")[0],  # asyncio puts the text of exceptions on further lines
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            # Where and what kind, never the message: it may quote what a client sent.
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["at"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames[-6:]]
        each = getattr(record, "each", None)
        return without_keys("\n".join([_json({**line, **fields}) for fields in each]) if each else _json(line))


def _json(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except orjson.JSONEncodeError:  # numbers beyond 64 bits, halves of surrogate pairs
        return json.dumps(line, default=str)


def without_keys(text: str) -> str:
    """A text without the keys that a client put where names belong; their first letters stay."""
    return KEY.sub(r"\1…", text) if any(mark in text for mark in _MARKS) else text


def set_up(level: str) -> None:
    """Send every logger's lines to standard error."""
    logging.raiseExceptions = False  # a line that cannot be formatted would be printed with its arguments
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("lectr").setLevel(level.upper())  # ours alone: libraries log addresses and headers


def log_calls(records: Sequence[CallRecord]) -> None:
    """One line per finished call."""
    if calls.isEnabledFor(logging.INFO):
        for first in range(0, len(records), TOGETHER):
            calls.info("call", extra={"each": [as_fields(record) for record in records[first : first + TOGETHER]]})


def as_fields(record: CallRecord) -> dict[str, Any]:
    """A record as the fields of a line: what is absent is left out, what is zero is not."""
    values = _known(_FIELDS, _read(record))
    if record.usage is not None:
        values["usage"] = _known(COUNTS, _read_counts(record.usage))
    if record.cost is not None:
        usd = record.cost.usd
        del values["cost"]
        values |= _known(
            ("cost", "pricing_status", "pricing_reason"),
            (None if usd is None else f"{usd:f}", record.cost.status, record.cost.reason),
        )
    return values


_FIELDS = tuple(field.name for field in fields(CallRecord))
_read, _read_counts = attrgetter(*_FIELDS), attrgetter(*COUNTS)


def _known(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in zip(names, values, strict=True)
        if value is not None and value is not False and value != ()
    }
