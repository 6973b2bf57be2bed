"""What is wrong with an Envoy, in words that say what to do."""

from dataclasses import dataclass
from typing import Any, Literal

import yaml

Severity = Literal["error", "warning"]
"An error breaks calls, loses records or opens a door; a warning costs something, or will."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is missing or wrong."""

    severity: Severity
    what: str
    "And where."
    why: str
    "What breaks."
    do: str
    "Lines of YAML, a command, or words."
    see: str
    "Where the docs tell more."


def error(what: str, why: str, do: str, see: str) -> Finding:
    """A finding that must be mended."""
    return Finding(severity="error", what=what, why=why, do=do, see=see)


def warning(what: str, why: str, do: str, see: str) -> Finding:
    """A finding that one may live with."""
    return Finding(severity="warning", what=what, why=why, do=do, see=see)


def lines(value: Any, *path: str) -> str:
    """A piece of configuration as the YAML to write, below the names of what it is in."""
    for name in reversed(path):
        value = {name: value}
    return yaml.safe_dump(value, sort_keys=False, width=100, allow_unicode=True).rstrip()


def some(names: list[str], most: int = 4) -> str:
    """Names for a line: all, or the first of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
