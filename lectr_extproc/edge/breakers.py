"""Which models fail, as all lectrs with one ledger know it: a row for each that has failed lately.

What each was told is folded into the rows by the same state machine, one lectr after the other. So failures add up, and
of all lectrs one tries a model that is half-open.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lectr_extproc.core.breaker import Breakers, Event, State
from lectr_extproc.core.health import Breaking, Target

if TYPE_CHECKING:
    from lectr_extproc.edge.store import Database, Transaction

FORGET_S = 3600
"A model that nobody has asked for so long since it failed is as if it had not."

_TURN = (
    "INSERT INTO breakers (provider, model, host, failures, failed_ms, is_asked) VALUES ('', '', '', 0, 0, 0)"
    " ON CONFLICT (provider, model, host) DO UPDATE SET failures = 0"
)
"The row that whoever changes others holds to the end of the transaction: one after the other, in every database."
_KEEP = (
    "INSERT INTO breakers (provider, model, host, failures, failed_ms, until_s, is_asked) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (provider, model, host) DO UPDATE SET failures = excluded.failures, failed_ms = excluded.failed_ms,"
    " until_s = excluded.until_s, is_asked = excluded.is_asked"
)
_READ = "SELECT provider, model, host, failures, failed_ms, until_s, is_asked FROM breakers WHERE provider <> ''"


class Shared(NamedTuple):
    """What all know, and what this one alone is to try."""

    states: Mapping[Target, State]
    claimed: Sequence[Target]


class SharedBreakers:
    """The rows, read by everybody and written on change."""

    def __init__(self, database: "Database") -> None:
        self._database = database

    def sync(self, events: Sequence[Event], rule: Breaking, now_s: float) -> Shared:
        """Tell the others what happened here, and be told what happened there."""
        with self._database.transaction(writes=False) as transaction:
            states = _read(transaction)
        if not events and not any(state.is_due(now_s) or _is_old(state, now_s) for state in states.values()):
            return Shared(states, ())
        with self._database.transaction(writes=True) as transaction:
            transaction.run(_TURN)
            states = _read(transaction)
            breakers = Breakers(states)
            for event in events:
                breakers.take(event, rule)
            for target in [target for target, state in breakers.states.items() if _is_old(state, now_s)]:
                breakers.keep(target, None)
            claimed = [target for target, state in breakers.states.items() if state.is_due(now_s)]
            for target in claimed:
                breakers.take(Event(target, "asked", now_s), rule)
            gone = states.keys() - breakers.states.keys()
            transaction.many("DELETE FROM breakers WHERE provider = ? AND model = ? AND host = ?", gone)
            changed = [item for item in breakers.states.items() if states.get(item[0]) != item[1]]
            transaction.many(_KEEP, [(*target, *_row(state)) for target, state in changed])
        return Shared(dict(breakers.states), claimed)


def _is_old(state: State, now_s: float) -> bool:
    return state.failed_s < now_s - FORGET_S and (state.until_s or 0) <= now_s


def _row(state: State) -> tuple[int, int, int | None, int]:
    return state.failures, round(state.failed_s * 1000), state.until_s, int(state.is_asked)


def _read(transaction: "Transaction") -> dict[Target, State]:
    return {
        Target(provider, model, host): State(failures, failed_ms / 1000, until_s, bool(is_asked))
        for provider, model, host, failures, failed_ms, until_s, is_asked in transaction.run(_READ)
    }
