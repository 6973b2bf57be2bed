"""`lectr status`: what the lectr that runs says of itself on its admin port, as people read it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx

from lectr_extproc.core.health import Health, Target
from lectr_extproc.edge.credentials import read_reference
from lectr_extproc.settings import Settings

TIMEOUT_S = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


class StatusError(Exception):
    """No lectr answers, or it does not answer this."""


def address(settings: Settings) -> str:
    """Where the admin port is asked from this machine."""
    host, _, port = settings.admin_listen.rpartition(":")
    return f"{_EVERYWHERE.get(host, host)}:{port}"


def ask(settings: Settings) -> dict[str, Any]:
    """What `/healthz` answers. The settings are read without the keys they refer to; here one is needed."""
    where = address(settings)
    try:
        token = read_reference(settings.admin_token) if settings.admin_token else None
    except ValueError as error:
        raise StatusError(f"admin.token: {error}") from None
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        # Without `verify` no file of authorities is read: there is no TLS.
        answer = httpx.get(
            f"http://{where}/healthz",
            headers=headers,
            timeout=TIMEOUT_S,
            trust_env=False,
            verify=False,  # noqa: S501
        )
        said = answer.json() if answer.status_code == 200 else None
    except (httpx.TransportError, httpx.InvalidURL, ValueError):
        raise StatusError(f"no lectr answers at {where} (admin.listen)") from None
    if not isinstance(said, dict):
        raise StatusError(f"{where} answers {answer.status_code}" + " (admin.token)" * (answer.status_code == 401))
    return said


def health_of(said: Mapping[str, Any]) -> Health:
    """How models do, as a decision reads it."""
    return Health(
        sick=_by_target(said["breakers"], "until_s"), first_token_ms=_by_target(said["first_tokens"], "first_token_ms")
    )


def _by_target(rows: Iterable[Mapping[str, Any]], figure: str) -> dict[Target, int]:
    return {_target(row): row[figure] for row in rows}


def _target(row: Mapping[str, Any]) -> Target:
    return Target(row["provider"], row["model"], row["host"])


def as_text(said: Mapping[str, Any]) -> str:
    """The same as a table."""
    return "".join(f"{name:<11} {text}".rstrip() + "\n" for name, text in _rows(said))


def _rows(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    degraded = f": {', '.join(said['degraded'])}" if said["degraded"] else ""
    yield (
        "lectr",
        f"{said['version']}, {said['status']}{degraded}; calls go on" if degraded else f"{said['version']}, ok",
    )
    yield "settings", said["settings_problem"] or f"in force, {said['orgs']} orgs, {len(said['clusters'])} addresses"
    prices = said["prices"]
    yield "prices", prices["problem"] or prices["version"]
    ledger = said["ledger"]
    yield "ledger", ledger["problem"] or f"{ledger['url']}: {_figures(ledger, 'written', 'waiting', 'dropped')}"
    export = said["export"]
    if said["telemetry"]["spans"] == "on":
        yield "outbox", export["problem"] or _figures(export, "exported", "lag", "set_aside")
    if (spool := said["spool"]) is not None:
        place = _figures(spool, "read_bytes", "unread_bytes") if spool["reads"] else "another lectr reads it"
        yield "spool", said["spool_problem"] or f"{spool['file']}: {place}"
    yield "telemetry", said["telemetry"]["problem"] or _figures(said["telemetry"], "spans", "metrics")
    if said["records_problem"]:
        yield "records", said["records_problem"]
    # Of several workers each tells what it knows.
    for one in {_target(each): each for each in said["breakers"]}.values():
        state = f"open until {one['until']}" if one["state"] == "open" else "half-open: one call tries"
        yield "breaker", f"{one['provider']}/{one['model']} at {one['host']}: {state}, {one['failures']} failures"
    if not said["breakers"]:
        yield "breakers", "all closed"
    yield "latency", f"measured of {len({_target(one) for one in said['first_tokens']})} models"


def _figures(said: Mapping[str, Any], *names: str) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {said[name]}" for name in names)
