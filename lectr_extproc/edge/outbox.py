"""The outbox: spans leave from the ledger, by a cursor that advances when the collector has them.

A collector that is down costs nothing but time: calls wait in the ledger. What it refuses for good is set aside there,
to be sent again once the mistake is mended, and holds nothing up. Of the lectrs that share a ledger one sends at a
time. A lectr killed between sending and advancing sends a batch twice, as the same spans.
"""

import contextlib
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.otlp import Outcome, Sender
from lectr_extproc.edge.spans import Spans, asks_a_model, ended_ns, failures_among
from lectr_extproc.edge.store import SetAside, Store, Totals, Unavailable, Unusable

log = logging.getLogger("lectr.outbox")

CURSOR = "otlp"
THREAD = "outbox"
BATCH_SIZE = 512
"The SDK's."
DELAY_S = 0.2
"How long calls wait for others to go with; the SDK's 5 s would be most of what it takes to see one."
LEASE_S = 15.0
"After so long another lectr goes on in the place of one that died."
POLL_S = 1.0
"How often others' calls, and wishes of `lectr outbox retry`, are looked for: nobody says when these are written."
BACKOFF_S = (0.5, 30.0)
ATTEMPTS_WITHIN_S = 3.0
"Envoy tells of failed attempts apart from their call, each within its flush interval: at most so long after the end."
ATTEMPTS_POLL_S = 0.25
STALLED_S = 60.0
"Calls that nobody's sending gets on with for so long are a problem, whatever the reason: a batch takes seconds."
MOST_RANGES = 10_000
"Set aside; calls in a row that are refused for one reason are one range. What is older is forgotten and counted."
QUIET_S = 60.0
"A refusal is over when nothing has been refused for so long: of several replicas of a collector one may be wrong."


class Item(NamedTuple):
    """A call that is to be sent."""

    seq: int
    spans: list[ReadableSpan]


class _Later(Exception):  # noqa: N818 - no error
    """Not now: the collector cannot be reached or has no time."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.after_s = outcome.after_s


class _Lost(Exception):  # noqa: N818
    """Another lectr sends now."""


class Outbox:
    """One per process that has an endpoint. `start` once; `wake` after each batch; `health` and `stop` at any time."""

    def __init__(self, sender: Sender, spans: Spans, *, batch_size: int, delay_s: float, timeout_s: float) -> None:
        self._sender, self._spans = sender, spans
        self._batch_size, self._delay_s = batch_size, delay_s
        self._lease_s = max(LEASE_S, 3 * timeout_s)
        self._stalled_s = max(STALLED_S, 3 * timeout_s)
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._counts = dict.fromkeys((*_SETTLED, "set_aside_lost"), 0)
        self._problem: str | None = None
        self._trouble: str | None = None
        self._refused_at = 0.0
        self._seq = 0
        self._leased_at: float | None = None
        self._leased_of: Store | None = None
        self._unripe = (0, 0.0)
        "The call whose attempts are waited for, and since when."
        self._lag: tuple[int, int | None] = (0, None)
        self._set_aside = Totals(0, 0, 0)
        self._looked_at = float("-inf")
        self._reached = 0
        "By whichever lectr sends, when last looked."
        self._moved_at = self._turned_at = time.monotonic()
        "When calls were last done with by anybody, and when our own thread last was at its work."
        self._woken, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send_on, name=THREAD, daemon=True)

    def start(self, ledger: Ledger) -> None:
        """Read a ledger, which has had this cursor among its readers from its start."""
        self._ledger = ledger
        ledger.on_written = self._woken.set
        self._thread.start()

    def health(self) -> dict[str, Any]:
        """What `/healthz` shows: read = exported + refused + not_sampled + without_span + span_errors.

        The first calls of a batch may be settled when the last are not: these are read again.
        """
        behind, oldest_ns = self._lag
        return {
            "read": sum(self._counts[name] for name in _SETTLED),
            **self._counts,
            "set_aside": self._set_aside.calls,
            "lag": behind,
            "oldest_unexported_s": None if oldest_ns is None else max(0.0, round(time.time() - oldest_ns / 1e9, 1)),
            "sends": self._leased_at is not None,
            "problem": self._problem or self._stall(),
        }

    def _stall(self) -> str | None:
        """What raises nothing is known by its time: an export or a ledger that never answers, a lease nobody takes."""
        still_s = time.monotonic() - (min(self._moved_at, self._turned_at) if self._lag[0] else self._turned_at)
        if self._thread.ident is None or still_s < self._stalled_s:
            return None
        return f"no span leaves, for {still_s:.0f} s by now: no answer of the ledger or the collector, or nobody sends"

    def stop(self, within_s: float = 5.0) -> None:
        """Send what was written, for this long at most. What is left stays in the ledger."""
        self._stopping.set()
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)
        self._sender.shutdown()

    # --- the outbox's thread ------------------------------------------------------------------------------------------

    def _send_on(self) -> None:
        failures = 0
        while True:
            self._turned_at = time.monotonic()
            self._woken.clear()  # before the look: a stop that comes between the two would be forgotten
            is_last = self._stopping.is_set()
            try:
                pause_s = self._turn()
                failures = 0
                if self._trouble == "reading":
                    self._state(None, None)
            except _Later as later:
                self._state("waiting", f"spans wait in the ledger: {later}")
                failures += 1
                pause_s = max(later.after_s, _backoff_s(failures))
            except _Lost:
                self._leased_at, pause_s = None, POLL_S
            except Exception as error:  # whatever it is, the thread goes on
                is_ours = isinstance(error, (Unavailable, Unusable))  # another's message may quote what a client sent
                if not is_ours and self._trouble != "reading":
                    log.exception("spans cannot be read or sent")
                self._state("reading", f"the ledger cannot be read: {error if is_ours else type(error).__name__}")
                self._leased_at = None
                failures += 1
                pause_s = _backoff_s(failures)
            self._look()
            if pause_s == 0:
                continue
            if is_last:
                break
            if failures:
                self._stopping.wait(pause_s)
            elif self._woken.wait(pause_s):
                self._stopping.wait(self._delay_s)
        self._give_back()

    def _turn(self) -> float:
        """One batch of each kind; how long to wait before the next turn, if nothing wakes us."""
        store = self._ledger.store
        if not self._holds(store):
            return POLL_S
        is_retrying = self._send_again(store)
        calls = store.read_after(self._seq, self._batch_size)
        attempts = self._attempts_of(store, [record for _, record in calls])
        ripe = self._ripe(calls, attempts)
        if ripe:
            progress = _Progress(self._counts, store, self._holder, self._seq + 1)
            try:
                self._deliver(progress, ripe, attempts, ripe[-1][0])
            finally:
                self._seq = progress.begins - 1
        if len(ripe) < len(calls):
            return ATTEMPTS_POLL_S
        return 0.0 if is_retrying or len(calls) == self._batch_size else POLL_S

    def _holds(self, store: Store) -> bool:
        """Whether we are the one who sends; renewed in time, for a third of the lease at most."""
        now = time.monotonic()
        if store is not self._leased_of:  # what memory held is in a ledger now, under other numbers
            self._leased_of, self._leased_at = store, None
        if self._leased_at is None or now > self._leased_at + self._lease_s / 3:
            seq = store.lease(CURSOR, self._holder, self._lease_s)
            self._leased_at = None if seq is None else now
            self._seq = seq or 0
        return self._leased_at is not None

    def _give_back(self) -> None:
        if self._leased_at is not None:
            with contextlib.suppress(Unavailable, Unusable):  # it ends by itself
                self._ledger.store.lease(CURSOR, self._holder, 0)
            self._leased_at = None

    def _attempts_of(self, store: Store, calls: Sequence[CallRecord]) -> Mapping[str, list[Attempt]]:
        """The failed attempts at each call that had several, by its id."""
        several = [call for call in calls if (call.attempts or 0) > 1 and call.request_id and asks_a_model(call)]
        if not several:
            return {}
        since, until = min(call.started_ns for call in several), max(map(ended_ns, several))
        found = store.attempts_of([call.request_id or "" for call in several], since, until)
        return {
            call.call_id: [
                attempt
                for attempt in found
                if attempt.request_id == call.request_id and call.started_ns <= attempt.started_ns <= ended_ns(call)
            ]
            for call in several
        }

    def _ripe(
        self, calls: Sequence[tuple[int, CallRecord]], attempts: Mapping[str, list[Attempt]]
    ) -> Sequence[tuple[int, CallRecord]]:
        """The calls before the first one whose attempts may still come. By two clocks: Envoy's may be wrong."""
        for index, (seq, call) in enumerate(calls):
            missing = failures_among(call) > len(attempts[call.call_id]) if call.call_id in attempts else False
            if not missing or self._stopping.is_set() or time.time_ns() - ended_ns(call) > ATTEMPTS_WITHIN_S * 1e9:
                continue
            if self._unripe[0] != seq:
                self._unripe = seq, time.monotonic()
            if time.monotonic() - self._unripe[1] < ATTEMPTS_WITHIN_S:
                return calls[:index]
        return calls

    def _deliver(
        self,
        progress: "_Progress",
        calls: Sequence[tuple[int, CallRecord]],
        attempts: Mapping[str, list[Attempt]],
        last: int,
    ) -> None:
        """Send these calls. `last` is the number that all are done with afterwards."""
        items = []
        for seq, call in calls:
            spans: list[ReadableSpan] = []
            if not asks_a_model(call):
                progress.skipped.append((seq, "without_span"))
                continue
            try:
                spans = self._spans.of(call, attempts.get(call.call_id, ()))
            except Exception:  # one odd record must not cost the others theirs
                progress.skipped.append((seq, "span_errors"))
                log.exception("the span of a call was lost")
                continue
            if spans:
                items.append(Item(seq, spans))
            else:
                progress.skipped.append((seq, "not_sampled"))
        if items:
            self._send(progress, items, last)
        else:
            progress.settle(last)

    def _send(self, progress: "_Progress", items: Sequence[Item], last: int) -> None:
        """In halves, if it is too much at once."""
        outcome = self._sender.send([span for item in items for span in item.spans])
        if outcome.verdict == "later":
            raise _Later(outcome)
        if outcome.is_too_much and len(items) > 1:
            half = len(items) // 2
            self._send(progress, items[:half], items[half - 1].seq)
            self._send(progress, items[half:], last)
            return
        refused = len(items) if outcome.verdict == "refused" else min(outcome.rejected, len(items))
        progress.settle(last, len(items) - refused, refused, outcome.reason)
        self._moved_at = self._turned_at = time.monotonic()
        if refused:
            self._refused_at = time.monotonic()
            self._state("refused", f"the collector refuses spans, which are set aside: {outcome.reason}")
        elif self._trouble != "refused" or time.monotonic() > self._refused_at + QUIET_S:
            self._state(None, None)

    def _send_again(self, store: Store) -> bool:
        """One batch of what was set aside and is to be tried again; whether there was any."""
        part = store.next_again(CURSOR) if self._set_aside.again else None
        if part is None:
            return False
        calls = [(seq, call) for seq, call in store.read_after(part.first - 1, self._batch_size) if seq <= part.last]
        last = calls[-1][0] if len(calls) == self._batch_size else part.last
        attempts = self._attempts_of(store, [call for _, call in calls])
        self._deliver(_Again(self._counts, store, self._holder, part), calls, attempts, last)
        return True

    def _state(self, trouble: str | None, problem: str | None) -> None:
        """Said once, when it changes; the reason may differ from batch to batch."""
        if trouble != self._trouble:
            log.error("%s", problem) if problem else log.warning("spans are sent again")
        self._trouble, self._problem = trouble, problem

    def _look(self) -> None:
        """What health shows of the ledger; once a second, because it costs reads."""
        if time.monotonic() < self._looked_at + POLL_S and not self._stopping.is_set():
            return
        self._looked_at = time.monotonic()
        with contextlib.suppress(Exception):  # the next turn says what is wrong
            store = self._ledger.store
            self._lag, cursor = store.lag(CURSOR), store.cursor(CURSOR)
            if not self._lag[0] or (cursor and cursor.seq != self._reached):
                self._moved_at = time.monotonic()
            self._reached = cursor.seq if cursor else 0
            if (totals := store.set_aside_totals(CURSOR)).ranges > MOST_RANGES:
                self._counts["set_aside_lost"] += store.trim(CURSOR, MOST_RANGES)
                totals = store.set_aside_totals(CURSOR)
            self._set_aside = totals


class _Progress:
    """How far the cursor is, and what became of the calls before it."""

    def __init__(self, counts: dict[str, int], store: Store, holder: str, begins: int) -> None:
        self._counts, self._store, self._holder = counts, store, holder
        self.begins = begins
        self.skipped: list[tuple[int, str]] = []
        "What is not sent, and why."

    def settle(self, last: int, exported: int = 0, refused: int = 0, reason: str = "") -> None:
        """Calls up to this number are done with; those that were refused are kept as one stretch."""
        if not self._settle(
            last, SetAside(self.begins, last, refused, reason) if refused else None, exported + refused
        ):
            raise _Lost
        self.begins = last + 1
        self._counts["exported"] += exported
        self._counts["refused"] += refused
        while self.skipped and self.skipped[0][0] <= last:
            self._counts[self.skipped.pop(0)[1]] += 1

    def _settle(self, last: int, refused: SetAside | None, _tried: int) -> bool:
        return self._store.advance(CURSOR, self._holder, last, refused)


class _Again(_Progress):
    """How far a stretch is that is tried again."""

    def __init__(self, counts: dict[str, int], store: Store, holder: str, part: SetAside) -> None:
        super().__init__(counts, store, holder, part.first)
        self._part = part

    def _settle(self, last: int, refused: SetAside | None, tried: int) -> bool:
        was, left = self._part, max(0, self._part.calls - tried)
        self._part = was._replace(first=last + 1, calls=left)
        return self._store.tried_again(CURSOR, self._holder, was, refused, self._part if last < was.last else None)


def _backoff_s(failures: int) -> float:
    """Longer from time to time, and not for all lectrs at once."""
    shortest, longest = BACKOFF_S
    return min(longest, shortest * 2.0 ** min(failures - 1, 16)) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret


_SETTLED = ("exported", "refused", "not_sampled", "without_span", "span_errors")
