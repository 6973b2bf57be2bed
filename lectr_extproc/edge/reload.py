"""New settings without a restart: the file is watched, with the files of keys it refers to, read whole, and adopted as
one snapshot, or refused as one.

Envoy and lectr change one after the other, so the order matters: a new address must be known to Envoy before lectr
sends calls there, and lectr must have stopped sending calls to an old one before Envoy forgets it.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from lectr_extproc.core.credential import Credential
from lectr_extproc.core.tables import Failover, Org
from lectr_extproc.core.upstream import Upstream
from lectr_extproc.edge.credentials import MAX_BYTES, content
from lectr_extproc.edge.envoy import knows_clusters, write_files
from lectr_extproc.edge.live import Live
from lectr_extproc.gateway import render_includes
from lectr_extproc.settings import ConfigError, Settings
from lectr_extproc.settings_yaml import is_blank

log = logging.getLogger("lectr.settings")

POLL_S = 0.25
"Reading a small file four times a second is cheaper to get right than inotify across mounts and symlinked ConfigMaps."

ENVOY_ADOPTS_WITHIN_S = 1.0

MOST_BYTES = 16 * 1024 * 1024
"Some 100,000 orgs. What is larger was not meant to be settings, and is not taken into memory."

Load = Callable[[str], Settings]


async def watch(live: Live, path: Path, load: Load) -> None:
    """Adopt the file each time its content changes, or that of a file of keys, for ever."""
    files = live.settings.secret_files
    seen = await asyncio.to_thread(_look, path, files)
    # What has changed since the start is read, and so are files of keys: nobody remembers what those said.
    done: tuple[bytes | str, ...] = (live.settings.text.encode(),) if not files else ()
    looks_until_forgotten = 0
    while True:
        await asyncio.sleep(POLL_S)
        looks_until_forgotten -= 1
        if looks_until_forgotten == 0:
            await forget(live)
        before, seen = seen, await asyncio.to_thread(_look, path, files)
        if seen == done or seen != before:  # a file that is still being written is not read half: it has fewer orgs
            continue
        done, found = seen, seen[0]
        try:
            if isinstance(found, str):
                raise ConfigError(str(path), [found])
            try:
                text = found.decode()
            except UnicodeDecodeError:
                raise ConfigError(str(path), ["the file is not UTF-8 text"]) from None
            settings = await asyncio.to_thread(load, text)  # YAML of a thousand orgs takes longer than calls may wait
            if live.settings.orgs and not settings.orgs and is_blank(text):
                raise ConfigError(str(path), ["the file is empty; if nobody shall call, write `orgs: []`"])
            files = settings.secret_files  # other ones are looked at, and all is read, once more
            if settings != live.settings and await adopt(live, settings):
                looks_until_forgotten = math.ceil(settings.gateway.message_timeout_s / POLL_S) + 1
            live.settings_problem = None
        except ConfigError as error:
            files = error.secret_files
            if live.settings_problem != str(error):
                live.settings_problem = str(error)
                log.error(
                    "settings refused, the old ones stay in force", extra={"fields": {"problems": error.problems}}
                )
        except Exception as error:  # whatever the file or the disk holds, the watch goes on, and tries again
            done = ()
            problem = str(error) if isinstance(error, OSError) else type(error).__name__
            if live.settings_problem != problem:
                live.settings_problem = problem
                log.exception("settings not adopted", extra={"fields": {"problem": problem}})


async def adopt(live: Live, settings: Settings) -> bool:
    """Put new settings in force. Whether Envoy still knows addresses that it may forget in a while."""
    old, new = live.settings, settings
    for name in needs_restart(old, new):
        log.warning("a changed setting needs a restart", extra={"fields": {"setting": name}})
    if new.gateway.relays and not old.gateway.relays:  # without the listener calls with candidates would get 503
        alone = replace(new.snapshot, failover=replace(new.snapshot.failover or Failover(), attempts_max=1))
        new = replace(new, gateway=replace(new.gateway, relays=False), snapshot=alone)
    added = {u.cluster for u in new.snapshot.upstreams} - {u.cluster for u in old.snapshot.upstreams}
    removed = {u.cluster for u in old.snapshot.upstreams} - {u.cluster for u in new.snapshot.upstreams}
    if new.envoy_directory is not None:
        live.settings = _without_what_left(old, new)
        both = tuple({u.cluster: u for u in (*old.snapshot.upstreams, *new.snapshot.upstreams)}.values())
        await asyncio.to_thread(_write, new, both)
        if added and not await knows_clusters(new.gateway.admin, added, ENVOY_ADOPTS_WITHIN_S):
            log.warning("Envoy has not reported the new clusters yet", extra={"fields": {"clusters": sorted(added)}})
    elif added or removed:
        log.warning(
            "provider addresses changed: render Envoy's configuration again, or set envoy.directory",
            extra={"fields": {"added": sorted(added), "removed": sorted(removed)}},
        )
    live.settings = new
    log.info(
        "settings adopted",
        extra={"fields": {"orgs": len(new.orgs), "added": sorted(added), "removed": sorted(removed)}},
    )
    return new.envoy_directory is not None and bool(removed)


def _without_what_left(old: Settings, new: Settings) -> Settings:
    """The old settings without the keys of clients and of providers that were taken away: these do not wait for Envoy.

    What changed or came waits: a new key of a provider belongs to the address that is in force with it.
    """
    snapshot = replace(
        old.snapshot,
        orgs_by_key=_those_left(old.snapshot.orgs_by_key, new.snapshot.orgs_by_key),
        orgs_by_workload=_those_left(old.snapshot.orgs_by_workload, new.snapshot.orgs_by_workload),
        # Nobody is believed any more whom the new settings do not believe.
        identity=old.snapshot.identity if new.snapshot.identity == old.snapshot.identity else None,
        credentials=_both(old.snapshot.credentials, new.snapshot.credentials),
    )
    return replace(old, snapshot=snapshot, admin_token=new.admin_token)


def _those_left(old: Mapping[str, Org], new: Mapping[str, Org]) -> dict[str, Org]:
    return {key: _less(org, new[key]) for key, org in old.items() if key in new}


def _less(old: Org, new: Org) -> Org:
    return replace(old, enabled=old.enabled and new.enabled, credentials=_both(old.credentials, new.credentials))


def _both(old: Mapping[str, Credential], new: Mapping[str, Credential]) -> dict[str, Credential]:
    return {id_: credential for id_, credential in old.items() if id_ in new}


async def forget(live: Live) -> None:
    """Take the addresses that left from Envoy. Before, a decision that was on its way would have met none: a 503."""
    try:
        await asyncio.to_thread(_write, live.settings, live.settings.snapshot.upstreams)
    except OSError:  # nothing is sent there; the next change tries again
        log.exception("Envoy keeps addresses that left")


def _write(settings: Settings, upstreams: Iterable[Upstream]) -> None:
    write_files(Path(settings.envoy_directory or ""), render_includes(settings.gateway, upstreams))


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """The settings that are only read at start, and differ."""
    pairs = {
        "grpc.listen": (old.grpc_listen, new.grpc_listen),
        "grpc.workers": (old.workers, new.workers),
        "grpc.tls": (old.grpc_tls, new.grpc_tls),
        "admin.listen": (old.admin_listen, new.admin_listen),
        "envoy.listen": (old.gateway.listen, new.gateway.listen),
        "envoy.admin": (old.gateway.admin, new.gateway.admin),
        "envoy.profile": (old.gateway.profile, new.gateway.profile),
        "failover.attempts_max": (old.gateway.relays, new.gateway.relays),  # beyond 1, in the portable profile
        "envoy.directory": (old.envoy_directory, new.envoy_directory),
        "limits.request_body_bytes": (old.gateway.max_body_bytes, new.gateway.max_body_bytes),
        "spool.file": (old.gateway.spool, new.gateway.spool),
        "ledger": (old.ledger, new.ledger),
        "telemetry.llm_spans": (old.llm_spans, new.llm_spans),
        "log.level": (old.log_level, new.log_level),
    }
    return [name for name, (before, after) in pairs.items() if before != after]


def _look(path: Path, files: Iterable[str]) -> tuple[bytes | str, ...]:
    """Contents and not times: a link that is swapped, as Kubernetes does, is a change too. A text says why not."""
    return (_read(path, MOST_BYTES), *(_read(file) for file in sorted(files)))


def _read(file: str | Path, most: int = MAX_BYTES) -> bytes | str:
    try:
        return content(file, most)
    except FileNotFoundError:
        return "the file is gone"
    except (OSError, ValueError) as error:
        return f"the file cannot be read: {error}"
