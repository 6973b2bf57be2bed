"""What the console reads of the ledger: the questions of core/views.py, asked of whichever database it is.

Each reads a bounded number of calls, by index, in one transaction of its own, and leaves others alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lectr_extproc.core import ledger as rows
from lectr_extproc.core.explanation import call_as_json
from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.core.report import Filters
from lectr_extproc.core.views import (
    BEYOND,
    CALLS,
    By,
    Question,
    choices_of,
    choices_statement,
    groups_statement,
    overview,
    trend_statement,
    view,
)

if TYPE_CHECKING:
    from lectr_extproc.edge.store import Database, Transaction


LAST_SEQ = 2**63 - 1


class Views:
    """One, for who reads."""

    def __init__(self, database: "Database") -> None:
        self._database = database

    def overview(self, asked: Question) -> dict[str, Any]:
        """All calls, and their trend."""
        with self._database.transaction(writes=False) as transaction:
            asked = _within(transaction, asked)
            return overview(asked, transaction.run(*trend_statement(asked)))

    def groups(self, by: By, asked: Question) -> dict[str, Any]:
        """Calls by one thing."""
        with self._database.transaction(writes=False) as transaction:
            asked = _within(transaction, asked)
            return view(by, asked, transaction.run(*groups_statement(by, asked.filters)))

    def choices(self, asked: Question) -> dict[str, Any]:
        """What calls can be chosen by."""
        with self._database.transaction(writes=False) as transaction:
            asked = _within(transaction, asked)
            return choices_of(asked, transaction.run(*choices_statement(asked.filters)))

    def calls(self, filters: Filters, limit: int, before: int = LAST_SEQ, after: int = 0) -> dict[str, Any]:
        """The newest calls, each whole; of so many that were written before one, or since another."""
        where, values = filters.where()
        with self._database.transaction(writes=False) as transaction:
            # Of both in one question SQLite reads the whole index.
            ((oldest,),) = transaction.run("SELECT min(seq) FROM calls")
            ((newest,),) = transaction.run("SELECT max(seq) FROM calls")
            upto = min(newest or 0, before - 1)
            down = max(after, upto - CALLS)  # where few calls are like that, what is looked through has an end, too
            found = transaction.run(
                f"SELECT seq, {rows.CALL_NAMES} FROM calls"  # noqa: S608 - our own names
                f" WHERE seq > ? AND seq <= ? AND {where} ORDER BY seq DESC LIMIT ?",
                [down, upto, *values, limit],
            )
            calls = [(row[0], rows.record_of(row[1:])) for row in found]
            attempts = _attempts(transaction, [call for _, call in calls])
        looked_to = calls[-1][0] if len(calls) == limit else down + 1
        return {
            "calls": [call_as_json(seq, call, attempts.get(call.call_id, ())) for seq, call in calls],
            "newest": newest,
            "oldest": looked_to if oldest is not None and looked_to > oldest else None,
        }


def _within(transaction: "Transaction", asked: Question) -> Question:
    found = transaction.run(BEYOND, [asked.since_s * 10**9, asked.until_s * 10**9, asked.calls])
    return asked.within(found[0][0] if found else None)


def _attempts(transaction: "Transaction", calls: Sequence[CallRecord]) -> dict[str, list[Attempt]]:
    """The failed ones at each call that had some. A request id is the client's, and may be another call's, too."""
    ends = {call.request_id: call for call in calls if call.request_id and (call.attempts or 0) > 0}
    marks = ", ".join("?" for _ in ends)
    if not ends:
        return {}
    since = min(call.started_ns for call in ends.values())
    sql = (
        f"SELECT {rows.ATTEMPT_NAMES} FROM attempts WHERE request_id IN ({marks})"  # noqa: S608 - marks alone
        " AND started_ns >= ? ORDER BY started_ns"
    )
    found: dict[str, list[Attempt]] = {}
    for row in transaction.run(sql, [*ends, since]):
        attempt = rows.attempt_of(row)
        call = ends[attempt.request_id]
        if 0 <= attempt.started_ns - call.started_ns <= (call.duration_ms or 0) * 1e6:
            found.setdefault(call.call_id, []).append(attempt)
    return found
