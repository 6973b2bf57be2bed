"""Dataclasses that are made for every call: frozen to whoever reads and checks the code, and quick to make.

A frozen one sets each field through object.__setattr__: of forty fields it takes 4.7 µs to make, and 1.3 so.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

__all__ = ["quick_dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass as quick_dataclass
else:

    def quick_dataclass(*, frozen: bool, **options: bool) -> Callable[[type], type]:
        """A dataclass that mypy takes for what its arguments say."""
        return dataclasses.dataclass(unsafe_hash=frozen, **options)
