"""The commands that read the ledger."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from lectr_extproc import limits
from lectr_extproc.cli_settings import EXIT_FAILED, file_of, price_table_of, read, to_json
from lectr_extproc.core import anomalies, recommend
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.report import Filters, as_json, as_text, call_text
from lectr_extproc.edge import logs
from lectr_extproc.edge.ledger import open_store
from lectr_extproc.edge.outbox import CURSOR
from lectr_extproc.edge.store import Store, Unavailable

POLL_S = 0.5
TAIL_AT_ONCE = 500
RANGES_SHOWN = 20


def show_report(chosen: argparse.Namespace) -> None:
    """Say what the calls in the ledger add up to: per model, feature, task, day and org."""
    store = ledger_of(chosen)
    try:
        report = store.report(_filters(chosen))
    finally:
        store.close()
    print(json.dumps(as_json(report), indent=2) if chosen.json else as_text(report))


def show_recommendations(chosen: argparse.Namespace) -> None:
    """Suggest cheaper models of the same provider, with what they would save and what that rests on."""
    settings = read(file_of(chosen))
    rule = replace(settings.recommend, **({"days": chosen.days} if chosen.days else {}))
    now_s = int(time.time())
    store = ledger_of(chosen)
    try:
        traffic = store.traffic(Filters(since_s=now_s - rule.days * 86400, org=chosen.org), rule)
    finally:
        store.close()
    snapshot = settings.snapshot
    market = recommend.Market(
        prices=price_table_of(settings),
        lineup=snapshot.lineup,
        orgs=snapshot.orgs,
        at_s=now_s,
    )
    found = [
        one for one in recommend.recommend(traffic, market, rule) if chosen.feature in {None, one.feature}
    ]  # what other features have seen of a model is evidence for this one, too
    print(to_json(recommend.as_json(found)) if chosen.json else recommend.as_text(found))


def show_anomalies(chosen: argparse.Namespace) -> int:
    """Tell hours that are unlike those of the week before: cost, latency, errors, traffic, models."""
    settings = read(file_of(chosen))
    rule = replace(settings.anomalies, **({"days": chosen.days} if chosen.days else {}))
    now_s = int(time.time())
    store = ledger_of(chosen, read_only=chosen.what == "show")
    try:
        since_s = anomalies.since_s(now_s, rule)
        hours = store.hours(Filters(since_s=since_s, org=chosen.org, feature=chosen.feature))
        found = anomalies.find(hours, store.dismissals(), now_s, rule)
        if chosen.what == "dismiss":
            one = next((one for one in found if one.id == chosen.id), None)
            if one is None:
                print(f"lectr: there is no anomaly {chosen.id or '-'} in the last {rule.days} days", file=sys.stderr)
                return EXIT_FAILED
            store.dismiss(one.dismissal())
            print(f"{one.id} is dismissed")
            return 0
    finally:
        store.close()
    shown = [one for one in found if chosen.all or not one.dismissed]
    new = anomalies.learning(hours, now_s, rule)
    print(to_json(anomalies.as_json(shown, new)) if chosen.json else anomalies.as_text(shown, new))
    return 0


def show_tail(chosen: argparse.Namespace) -> None:
    """Follow calls as they are written to the ledger."""
    store = ledger_of(chosen)
    try:
        for record in follow(store, _filters(chosen), chosen.lines, wait=lambda: time.sleep(POLL_S)):
            print(json.dumps(logs.as_fields(record), default=str) if chosen.json else call_text(record), flush=True)
    except KeyboardInterrupt:
        pass  # the usual way to end it
    finally:
        store.close()


def show_outbox(chosen: argparse.Namespace) -> None:
    """Show how far spans have been sent, and what the collector refused."""
    store = ledger_of(chosen, read_only=chosen.what == "show")
    try:
        if chosen.what == "retry":
            count = store.ask_again(CURSOR)
            print(f"{count} {'range' if count == 1 else 'ranges'} will be sent again by the lectr that sends")
            return
        cursor, (behind, oldest_ns) = store.cursor(CURSOR), store.lag(CURSOR)
        parts, totals = store.set_aside(CURSOR, RANGES_SHOWN), store.set_aside_totals(CURSOR)
    finally:
        store.close()
    if cursor is None:
        print("nothing is sent: no lectr with this ledger has had an OTLP endpoint")
        return
    is_sent = cursor.holder is not None and cursor.until_ms > time.time() * 1000
    print(f"done with     {cursor.seq}")
    print(f"sent by       {cursor.holder if is_sent else 'nobody now'}")
    oldest = f", the first began {datetime.fromtimestamp(oldest_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S}" if oldest_ns else ""
    print(f"not sent yet  {behind if oldest_ns else 0}{oldest}")
    print(f"set aside     {totals.calls}")
    if totals.ranges > len(parts):
        print(f"  the last {len(parts)} of {totals.ranges} ranges:")
    for part in parts:
        state = ", is sent again" if part.again else ""
        print(f"  {part.first} to {part.last}: {part.calls} calls, {part.reason}{state}")


def show_limits(chosen: argparse.Namespace) -> None:
    """Show how far the limits of orgs are used."""
    rows = limits.limits_of(read(file_of(chosen)).snapshot, chosen.org)
    now_ns = time.time_ns()
    with contextlib.closing(ledger_of(chosen)) as store:
        lines = limits.report(rows, partial(store.counters.read, now_ns=now_ns), now_ns)
    print(json.dumps(lines, indent=2) if chosen.json else limits.as_text(lines), end="\n" if chosen.json else "")


def follow(store: Store, filters: Filters, last: int, wait: Callable[[], None]) -> Iterator[CallRecord]:
    """The last calls that are there already, then every new one, whatever becomes of the database meanwhile."""
    seq, is_away = store.seq_before_last(last, filters), False
    while True:
        try:
            calls = store.read_after(seq, TAIL_AT_ONCE, filters)
        except Unavailable as error:
            if not is_away:
                print(f"lectr: the ledger cannot be read now: {error}", file=sys.stderr)
            is_away = True
            wait()
            continue
        if is_away:
            print("lectr: the ledger is read again", file=sys.stderr)
        is_away = False
        yield from (record for _, record in calls)
        if calls:
            seq = calls[-1][0]
        else:
            wait()


def ledger_of(chosen: argparse.Namespace, *, read_only: bool = True) -> Store:
    url = read(file_of(chosen)).ledger.url
    if not read_only:
        open_store(url, os.environ, read_only=True)  # refuses where there is nothing, which writing would make
    store, _ = open_store(url, os.environ, read_only=read_only)
    store.check()
    return store


def _filters(chosen: argparse.Namespace) -> Filters:
    return Filters(
        since_s=chosen.since,
        until_s=chosen.until,
        org=chosen.org,
        provider=chosen.provider,
        model=chosen.model,
        feature=chosen.feature,
        task=chosen.task,
        rule=chosen.rule,
    )
