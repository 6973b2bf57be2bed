"""The counters of limits in the ledger's database, in statements that SQLite and PostgreSQL both understand.

What is held for a call is in its counters already, so that a limit is one comparison; beside them each call has a row
that says how much that is, until its record settles it or it has been forgotten by whoever was to tell of it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lectr_extproc.core.limits import Ask, Exceeded, Limit, Warned, judge, used_now
from lectr_extproc.core.spending import Settlement

if TYPE_CHECKING:
    from lectr_extproc.edge.store import Database, Transaction

EXPIRES_S = 900
"""A call that nobody has told of by then gives back what was held for it: as long as an answer may be silent. One that
takes longer is settled none the less."""
KEPT_S = 63 * 86_400
"Two months, so that a report has the last one."

Buckets = dict[str, dict[int, int]]
"By name, and by the bucket's first second."

_ADD = (
    "INSERT INTO limit_counters (name, starts, used) VALUES (?, ?, ?)"
    " ON CONFLICT (name, starts) DO UPDATE SET used = limit_counters.used + excluded.used"
)
_TURN = ("", 0, 1)
"The row that whoever changes counters holds to the end of the transaction: one after the other, in every database."
_HOLD = (
    "INSERT INTO limit_holds (call_id, name, starts, unit, amount, step_ns, expires_s) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)

_WARN = "INSERT INTO limit_warnings (name, starts, most, per_cent) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_UNWARN = "DELETE FROM limit_warnings WHERE name = ? AND starts = ? AND most = ? AND per_cent = ?"
_MOST = 10**17
"What one call changes at most, whatever a provider says: 100,000 USD, or three years of a minute's bucket."


class Used(NamedTuple):
    """How much of a limit was used when it was looked at last."""

    limit: Limit
    used: int
    resets_s: int | None


class Reserved(NamedTuple):
    """What became of some calls, in their order, and what there is to warn of."""

    verdicts: list[Exceeded | None]
    warned: list[Warned]


class Counters:
    """What is used of limits and what is held of them, on a connection of their own if others would be waited for."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._warned: set[tuple[str, int, int, int]] = set()
        self.used: dict[str, Used] = {}
        "Of the limits of money that calls were held to here, by name."

    def reserve(self, asks: Sequence[Ask], now_ns: int) -> Reserved:
        """Hold for each call what it asks for, or say of one that does not fit why; in order, in one transaction."""
        now_s = now_ns // 10**9
        with self._database.transaction(writes=True) as transaction:
            transaction.run(_ADD, _TURN)
            limits = {id(hold.limit): hold.limit for ask in asks for hold in ask.holds}
            counters = _read(transaction, limits.values(), now_s)
            verdicts: list[Exceeded | None] = []
            added: defaultdict[tuple[str, int], int] = defaultdict(int)
            held = []
            for ask in asks:
                found, changes = _fits(ask, counters, now_ns)
                verdicts.append(found)
                if found is not None:
                    continue
                for (name, starts), change in changes.items():
                    counters[name][starts] = counters[name].get(starts, 0) + change
                    added[name, starts] += change
                holds = {hold.limit.name: hold for hold in ask.holds}
                held += [
                    (
                        ask.call_id,
                        name,
                        of.limit.starts(now_s),
                        of.limit.unit,
                        of.amount,
                        of.limit.step_ns,
                        now_s + EXPIRES_S,
                    )
                    for name, of in holds.items()
                ]
            _add(transaction, added)
            if held:
                transaction.many(_HOLD, held)
            refused = {found.hold.limit.name for found in verdicts if found}
            # One that is larger than all of a limit says nothing about the limit.
            full = {found.hold.limit.name for found in verdicts if found and found.hold.amount <= found.hold.limit.most}
            held_of = {name: _held(transaction, name) for name in refused}
            verdicts = [found and found.less(held_of[found.hold.limit.name], now_ns) for found in verdicts]
            warned = [
                warning
                for limit in limits.values()
                if limit.warn_at
                for warning in self._warn(transaction, limit, counters[limit.name], now_ns, limit.name in full)
            ]
        return Reserved(verdicts, warned)

    def _warn(
        self, transaction: "Transaction", limit: Limit, buckets: Mapping[int, int], now_ns: int, is_full: bool
    ) -> Iterator[Warned]:
        """The thresholds that nobody was told of in this window, by whichever process. All of it is a refusal, too."""
        used, resets_s = used_now(limit, buckets, now_ns)
        self.used[limit.name] = Used(limit, used, resets_s)
        now_s = now_ns // 10**9
        starts = now_s - now_s % limit.window_s if limit.window_s else limit.starts(now_s)
        for per_cent in limit.warn_at:
            place = (limit.name, starts, limit.most, per_cent)
            if (100 * used < per_cent * limit.most and not (is_full and per_cent == 100)) or place in self._warned:
                continue
            self._warned.add(place)
            if transaction.many(_WARN, [place]):
                yield Warned(limit, per_cent, used, resets_s, _held(transaction, limit.name), place)

    def tell_again(self, warned: Warned) -> None:
        """Whoever finds this threshold reached next is to tell of it: nobody heard."""
        with self._database.transaction(writes=True) as transaction:
            transaction.run(_UNWARN, warned.place)
        self._warned.discard(warned.place)

    def read(self, limits: Sequence[Limit], now_ns: int) -> Buckets:
        """What is used of these limits."""
        with self._database.transaction(writes=False) as transaction:
            return _read(transaction, limits, now_ns // 10**9)

    def give_back(self, call_ids: Sequence[str], now_s: int) -> int:
        """Let go of what is held for these calls, and for all that are overdue: how many holds that is."""
        marks = ", ".join("?" for _ in call_ids) or "NULL"
        gone = f"expires_s <= ? OR call_id IN ({marks})"
        with self._database.transaction(writes=True) as transaction:
            transaction.run(_ADD, _TURN)
            sql = f"SELECT name, starts, amount * step_ns FROM limit_holds WHERE {gone}"  # noqa: S608 - marks alone
            holds = transaction.run(sql, [now_s, *call_ids])
            added: defaultdict[tuple[str, int], int] = defaultdict(int)
            for name, starts, amount in holds:
                added[name, starts] -= amount
            if added:
                _add(transaction, added)
                transaction.run(f"DELETE FROM limit_holds WHERE {gone}", [now_s, *call_ids])  # noqa: S608
            for table in ("limit_counters", "limit_warnings"):
                transaction.run(f"DELETE FROM {table} WHERE starts > 0 AND starts < ?", [now_s - KEPT_S])  # noqa: S608
            self._warned = {place for place in self._warned if place[1] >= now_s - KEPT_S}
        return len(holds)


def settle(transaction: "Transaction", settlements: Sequence[Settlement], kept: Iterable[str]) -> None:
    """Count what calls took in the place of what was held for them. Of those that were kept already nothing is new."""
    transaction.run(_ADD, _TURN)
    done = set(kept)
    marks = ", ".join("?" for _ in settlements)
    ids = [one.call_id for one in settlements]
    found = transaction.run(
        f"SELECT call_id, name, starts, unit, amount, step_ns FROM limit_holds WHERE call_id IN ({marks})",  # noqa: S608
        ids,
    )
    holds = defaultdict(list)
    for call_id, *hold in found:
        holds[call_id].append(hold)
    added: defaultdict[tuple[str, int], int] = defaultdict(int)
    for one in settlements:
        counted = set()
        for name, starts, unit, amount, step_ns in holds.pop(one.call_id, ()):
            used = 0 if name in one.others else one.used[unit]
            counted.add(name)
            added[name, starts] += 0 if used is None else _bounded((used - amount) * step_ns)
        if one.call_id not in done:
            missed = {hold.limit.name: hold for hold in one.holds if hold.limit.name not in counted}
            for name, (limit, amount, starts) in missed.items():
                added[name, starts] += _bounded(amount * limit.step_ns)
        done.add(one.call_id)
    _add(transaction, added)
    if found:
        transaction.run(f"DELETE FROM limit_holds WHERE call_id IN ({marks})", ids)  # noqa: S608


def _bounded(amount: int) -> int:
    return max(-_MOST, min(amount, _MOST))


def _fits(ask: Ask, counters: Buckets, now_ns: int) -> tuple[Exceeded | None, Mapping[tuple[str, int], int]]:
    """What a call changes if it fits. Limits of one name are one counter with several bounds."""
    changes: dict[tuple[str, int], int] = {}
    for hold in ask.holds:
        limit = hold.limit
        found = judge(hold, counters[limit.name], now_ns)
        if isinstance(found, Exceeded):
            if not (ask.is_cheaper and limit.over):
                return found, {}
            found = hold.amount * limit.step_ns
        # Where it is judged: a call whose body came after midnight is no longer yesterday's.
        changes[limit.name, limit.starts(now_ns // 10**9)] = found
    return None, changes


def _read(transaction: "Transaction", limits: Iterable[Limit], now_s: int) -> Buckets:
    counted = {limit.name: limit.since(now_s) for limit in limits}
    found: Buckets = {name: {} for name in counted}
    if found:
        where = " OR ".join("(name = ? AND starts >= ?)" for _ in found)
        for name, starts, used in transaction.run(
            f"SELECT name, starts, used FROM limit_counters WHERE {where}",  # noqa: S608
            [value for pair in counted.items() for value in pair],
        ):
            found[name][starts] = used
    return found


def _held(transaction: "Transaction", name: str) -> int:
    """How much money of a limit is not spent: what is held of others is settled with nothing, or not of that kind."""
    sql = "SELECT coalesce(sum(amount), 0) FROM limit_holds WHERE name = ? AND unit = 'usd'"
    return int(transaction.run(sql, [name])[0][0])


def _add(transaction: "Transaction", amounts: Mapping[tuple[str, int], int]) -> None:
    rows = [(*place, amount) for place, amount in amounts.items() if amount]
    if rows:
        transaction.many(_ADD, rows)
