"""What lectr writes: one JSON object per line on standard error. No body, no credential and no header at any level."""

import logging
import sys
import traceback
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import orjson

from lectr_extproc.core.record import CallRecord

calls = logging.getLogger("lectr.calls")


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            # Where and what kind, never the message: it may quote what a client sent.
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["at"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames[-6:]]
        return orjson.dumps(line, default=str).decode()


def set_up(level: str) -> None:
    """Send every logger's lines to standard error."""
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
    return {name: value for name, value in values.items() if value is not None and value is not False and value != ()}
