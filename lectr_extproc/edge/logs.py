"""What lectr writes: one JSON object per line on standard error. No body, no credential and no header at any level."""

import json
import logging
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import orjson

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.words import KEY_PREFIX

calls = logging.getLogger("lectr.calls")

_SHAPES = {KEY_PREFIX} | {shape for row in PROVIDERS.values() for shape in (*row.key_shapes, *row.stays_bearer)}
KEY = re.compile(
    # At the start of a word (`task-…` is no key), also behind an escape of JSON's; our own keys anywhere.
    rf"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt])|(?={KEY_PREFIX}))({'|'.join(sorted(map(re.escape, _SHAPES)))})[\w.-]{{16,}}",
    re.ASCII,
)
"A key that a client put where a name belongs, such as in X-Lectr-Feature."


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

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
        try:
            text = orjson.dumps(line, default=str).decode()
        except orjson.JSONEncodeError:  # numbers beyond 64 bits, halves of surrogate pairs
            text = json.dumps(line, default=str)
        return without_keys(text)


def without_keys(text: str) -> str:
    """A text without the keys that a client put where names belong; their first letters stay."""
    return KEY.sub(r"\1…", text) if any(shape in text for shape in _SHAPES) else text


def set_up(level: str) -> None:
    """Send every logger's lines to standard error."""
    logging.raiseExceptions = False  # a line that cannot be formatted would be printed with its arguments
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("lectr").setLevel(level.upper())  # ours alone: libraries log addresses and headers


def log_calls(records: Sequence[CallRecord]) -> None:
    """One line per finished call."""
    for record in records:
        calls.info("call", extra={"fields": as_fields(record)})


def as_fields(record: CallRecord) -> dict[str, Any]:
    """A record as the fields of a line: what is absent is left out, what is zero is not."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    if record.usage is not None:
        counts = {field.name: getattr(record.usage, field.name) for field in fields(record.usage)}
        values["usage"] = {name: count for name, count in counts.items() if count is not None}
    if record.cost is not None:
        values["cost"] = None if record.cost.usd is None else f"{record.cost.usd:f}"
        values["pricing_status"] = record.cost.status
        values["pricing_reason"] = record.cost.reason
    return {name: value for name, value in values.items() if value is not None and value is not False and value != ()}
