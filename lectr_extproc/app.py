"""The composition root: everything that runs, built in order and stopped in reverse. No logic."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry

from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.edge.admin import admin_app, http_server
from lectr_extproc.edge.console import Console
from lectr_extproc.edge.ledger import Ledger, open_store
from lectr_extproc.edge.limits import Limits, settlements
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.logs import log_calls
from lectr_extproc.edge.lookout import look_out
from lectr_extproc.edge.measure import measure
from lectr_extproc.edge.notices import Notices
from lectr_extproc.edge.outbox import CURSOR
from lectr_extproc.edge.prices import refresh
from lectr_extproc.edge.reload import Load, watch
from lectr_extproc.edge.server import GrpcServer
from lectr_extproc.edge.sharing import share
from lectr_extproc.edge.spool import Spool
from lectr_extproc.edge.telemetry import Telemetry
from lectr_extproc.edge.workers import when_input_ends
from lectr_extproc.settings import Settings

log = logging.getLogger("lectr.app")


@contextlib.asynccontextmanager
async def service(
    settings: Settings, file: Path | None, load: Load, worker: int = 0, admin: socket.socket | None = None
) -> AsyncIterator[Live]:
    """lectr itself, for as long as the block lasts; or one of several, whose admin port is another's to ask."""
    live = Live(settings)
    for warning in settings.warnings:
        log.warning(warning)
    registry = CollectorRegistry()
    telemetry = Telemetry.start(
        PrometheusMetricReader(scope_info_enabled=False, registry=registry),
        live,
        llm_spans=settings.llm_spans,
        is_known=lambda provider, model: live.snapshot.prices.row(provider, model) is not None,
    )
    live.telemetry = telemetry.health
    # First to come and last to go, so that probes and people are answered while lectr drains.
    open_reader = lambda: open_store(settings.ledger.url, os.environ, read_only=True)[0]  # noqa: E731
    console = Console(live, open_reader)
    app = admin_app(live, registry, settings.admin_listen, console.routes())
    async with http_server(app, admin or settings.admin_listen):
        readers = [CURSOR] if telemetry.outbox else []
        ledger = Ledger.start(
            settings.ledger.url, settings.ledger.retention_days, os.environ, readers, partial(settlements, live)
        )
        notices = Notices(live)
        limits = Limits(ledger, notices.put)
        live.ledger, live.export, live.limits = ledger.health, telemetry.export, limits.health
        console.begin(lambda: ledger.store)
        if telemetry.outbox:
            telemetry.outbox.start(ledger)

        def sink(records: Sequence[CallRecord], attempts: Sequence[Attempt]) -> None:
            ledger.put(records, attempts)
            telemetry.record(records)
            live.vitals.heed(records, live.snapshot)
            if live.settings.log_calls:
                log_calls(records)

        grpc_server = GrpcServer(live, sink, limits, worker)
        try:
            await grpc_server.start()
            tasks = [
                asyncio.create_task(each)
                for each in (
                    refresh(live),
                    notices.send(),
                    measure(live, ledger),
                    share(live, ledger),
                    look_out(live, ledger, notices, open_reader),
                )
            ]
            if settings.gateway.spool:
                spool = Spool(live, sink, Path(settings.gateway.spool), ledger.unkept)
                live.spool = spool.health
                tasks.append(asyncio.create_task(spool.follow()))
            if file:
                tasks.append(asyncio.create_task(watch(live, file, load)))
            try:
                yield live
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await grpc_server.stop()
            await asyncio.to_thread(limits.stop)
            await console.close()
            await notices.finish(ledger.store)
            # What is written last is sent, too.
            for stop in (ledger.finish, telemetry.shutdown, ledger.stop):
                await asyncio.to_thread(stop)


def stop_signal() -> asyncio.Event:
    """Set once by SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


async def serve(
    settings: Settings, file: Path | None, load: Load, worker: int = 0, admin: socket.socket | None = None
) -> None:
    """`lectr serve`: the service alone, until it is told to stop. One of several stops when its parent is gone, too."""
    stop = stop_signal()
    if admin:
        when_input_ends(stop.set)
    async with service(settings, file, load, worker, admin):
        await stop.wait()
