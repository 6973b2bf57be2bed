"""Which refusals of a provider are worth another candidate. The rows are in `catalog/declared.py`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Why = Literal["context", "quota", "key"]

LOOKED_INTO = frozenset({400, 401, 402, 403, 404, 413, 422})
"The statuses that are final unless a row says otherwise; Envoy goes on after the rest of the failures by itself."

LONGEST = 64 * 1024
"Of an error document. Where a filter below the router holds an answer beyond its buffer, Envoy 1.40 crashes."


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What one kind of refusal looks like."""

    why: Why
    source: str
    provider: str = ""
    "By kind; empty: anybody's."
    statuses: frozenset[int] = frozenset()
    "Empty: any that is looked into."
    says: re.Pattern[bytes] | None = None
    "What is in its document. None: the status says enough."

    def fits(self, provider: str, status: int, document: bytes | None) -> bool:
        """Whether this is the refusal; without its document only the status counts."""
        if self.provider not in {"", provider} or (self.statuses and status not in self.statuses):
            return False
        return self.says is None or (document is not None and self.says.search(document) is not None)


def declared(
    rows: Iterable[Declared], provider: str, status: int, document: bytes | None, *, key_is_held: bool
) -> Why | None:
    """Why the call is worth another candidate. A client's own bad key is the client's to hear of."""
    found = (row.why for row in rows if row.fits(provider, status, document)) if status in LOOKED_INTO else iter(())
    return next((why for why in found if why != "key" or key_is_held), None)
