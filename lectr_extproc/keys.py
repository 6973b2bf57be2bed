"""Org keys: made here, shown once, kept only as a digest."""

import hashlib
import secrets

from lectr_extproc.core.words import KEY_PREFIX


def new_key() -> str:
    """A key with 256 bits of randomness."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """What lectr.yaml keeps of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
