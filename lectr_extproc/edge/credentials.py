"""The keys that the gateway holds, behind their references: `env:NAME` and `file:/path`. They stay in memory."""

import os
import stat
from pathlib import Path

from lectr_extproc.core.words import KEY_PREFIX

MAX_BYTES = 64 * 1024
"More than any header may hold."


def read_reference(reference: str) -> str:
    """The key behind a reference; ValueError says why there is none, and never what was found."""
    kind, _, name = reference.partition(":")
    try:
        text = content(name).decode("utf-8", "replace") if kind == "file" else os.environ[name]
    except KeyError:
        raise ValueError(f"the environment has no {name}") from None
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}") from None
    key = text.rstrip("\r\n")
    if not key:
        raise ValueError(f"{name} is empty")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"what {name} holds is no key: a key is one line of ASCII without blanks")
    if KEY_PREFIX in key:
        raise ValueError(f"what {name} holds is a key of this gateway, which is a client's")
    return key


def content(path: str | Path, most: int = MAX_BYTES) -> bytes:
    """What a file holds; OSError says why there is none. No pipe is waited for, no device read for ever."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as opened:
        about = os.fstat(opened.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise OSError("it is no file")
        # Of one that is too large nothing is read, unless it grows meanwhile.
        found = opened.read(most + 1) if about.st_size <= most else None
    if found is None or len(found) > most:
        raise OSError(f"it is larger than {most:,} bytes")
    return found
