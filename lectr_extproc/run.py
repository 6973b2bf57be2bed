"""`lectr run`: Envoy and lectr together in the foreground, with a practice provider where a key is missing."""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Container, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lectr_extproc.app import service, stop_signal
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.credential import Form
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Provider
from lectr_extproc.edge import logs
from lectr_extproc.edge.admin import http_server
from lectr_extproc.edge.credentials import read_reference
from lectr_extproc.edge.envoy import EnvoyError, EnvoyProcess, version_of, write_files
from lectr_extproc.edge.practice import practice_app
from lectr_extproc.gateway import render_include_bootstrap, render_includes
from lectr_extproc.gateway.options import NEEDS
from lectr_extproc.keys import digest, new_key
from lectr_extproc.settings import ConfigError, Settings, load

PRACTICE_ORG = "practice"


def practice_settings(environment: Mapping[str, str], port: int, key: str, played_key: str) -> dict[str, Any]:
    """Where settings have no org: one, for which the keys in the environment are held; others' providers are played.

    `played_key` refers to the key of those that are played: what chooses a model chooses of providers with a key.
    """
    base = f"http://127.0.0.1:{port}"
    org: dict[str, Any] = {"name": PRACTICE_ORG, "keys": [{"sha256": digest(key), "label": "this run"}]}
    azure = environment.get("AZURE_OPENAI_ENDPOINT")
    org["azure"] = {"endpoint": azure or f"{base}/azure"}
    org["credentials"] = {
        row.id: f"env:{row.key_env}"
        for row in PROVIDERS.values()
        if environment.get(row.key_env or "") and (row.base_url or azure)
    }
    played = [row.id for row in PROVIDERS.values() if row.base_url and row.id not in org["credentials"]]
    org["credentials"] |= dict.fromkeys(played if azure else [*played, "azure"], played_key)
    # Its own prefix, so that paths of its own API are found beside it: the prefix of that address, too.
    addresses = {id_: f"{base}/{id_}{PROVIDERS[id_].prefix or '/v1'}" for id_ in played}
    return {"orgs": [org], "providers": [{"id": id_, "base_url": url} for id_, url in addresses.items()]}


def run_defaults(directory: Path) -> dict[str, Any]:
    """What `run` sets where the file does not: a private socket between Envoy and lectr, and files Envoy watches."""
    return {
        "grpc": {"listen": f"unix:{directory}/lectr.sock"},
        "envoy": {"directory": str(directory / "include")},
    }


async def run(text: str, file: Path | None, binary: Path, directory: Path) -> None:
    """Start everything, say how to use it, and stop it all on Ctrl-C. Settings without an org practise."""
    stop = stop_signal()
    async with contextlib.AsyncExitStack() as stack:
        key = None
        source, defaults = str(file or "lectr.yaml"), run_defaults(directory)
        settings = load(text, source, defaults, read_reference)
        if not settings.orgs:
            port = await stack.enter_async_context(http_server(practice_app(), "127.0.0.1:0"))
            key = new_key()
            played_key = directory / "practice.key"
            played_key.write_text("practice\n")
            defaults = {**practice_settings(os.environ, port, key, f"file:{played_key}"), **defaults}
            settings = load(text, source, defaults, read_reference)
        if settings.workers > 1:
            raise ConfigError(source, ["grpc.workers: `lectr run` is one process; `lectr serve` may be several"])
        logs.set_up(settings.log_level)
        _must_be_free(settings.gateway.listen, "envoy.listen")
        _must_be_free(settings.gateway.admin, "envoy.admin")
        if settings.gateway.profile == "native" and version_of(binary) < NEEDS["native"]:
            raise EnvoyError("the native profile needs Envoy 1.40; set envoy.profile to portable")

        reload = partial(load, source=source, defaults=defaults, read_reference=read_reference)
        await stack.enter_async_context(service(settings, file, reload))
        envoy = EnvoyProcess(
            binary,
            _write_envoy_files(settings, directory),
            settings.gateway.admin,
            flush_s=settings.gateway.access_log_flush_s,
        )
        stack.push_async_callback(envoy.stop)
        await envoy.start()
        print(banner(settings, key), flush=True)

        stopping = asyncio.create_task(stop.wait())
        ended = asyncio.create_task(envoy.ended())
        await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            raise EnvoyError(f"Envoy ended with code {ended.result()}")
        print("\nStopping.", file=sys.stderr, flush=True)


def _write_envoy_files(settings: Settings, directory: Path) -> Path:
    include = Path(settings.envoy_directory or directory / "include")
    write_files(include, render_includes(settings.gateway, settings.snapshot.upstreams))
    write_files(directory, {"envoy.yaml": render_include_bootstrap(settings.gateway, str(include))})
    return directory / "envoy.yaml"


@contextlib.contextmanager
def run_directory() -> Iterator[Path]:
    """A private folder for the socket and Envoy's files, gone when we are."""
    directory = Path(tempfile.mkdtemp(prefix="lectr-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def banner(settings: Settings, key: str | None) -> str:
    """What a newcomer needs: the base URL, a call to paste, and which providers have what they need."""
    base = f"http{'s' * (settings.gateway.tls is not None)}://{settings.gateway.listen}/v1"
    snapshot = settings.snapshot
    orgs = snapshot.callers
    held = set(snapshot.credentials).union(*(org.credentials for org in orgs))
    ours, named = key or "$LECTR_KEY", f'"{key or "lc_key_..."}"'
    if key or "openai" in held:  # who is played needs no key
        headers, takes = [f"Authorization: Bearer {ours}"], f"api_key={named}"
    else:
        headers = [f"X-Lectr-Key: {ours}", "Authorization: Bearer $OPENAI_API_KEY"]
        takes = f'default_headers={{"X-Lectr-Key": {named}}}'
    lines = [
        "lectr is serving.",
        "",
        f"  base URL  {base}",
        f"  console   http://{settings.admin_listen}/",
        f"  key       {key + '   (new with every run)' if key else 'one of your own; `lectr keys new` makes one'}",
        "",
        "curl:",
        "",
        f"  curl {base}/chat/completions \\",
        *(f"    -H {_quoted(header)} \\" for header in headers),
        "    -H 'Content-Type: application/json' \\",
        """    -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'""",
        "",
        "OpenAI SDK:",
        "",
        "  from openai import OpenAI",
        f'  client = OpenAI(base_url="{base}",',
        f"                  {takes})",
        '  answer = client.chat.completions.create(model="gpt-4o-mini",',
        '                                          messages=[{"role": "user", "content": "Hello"}])',
        "  print(answer.choices[0].message.content)",
        "",
        "Providers:",
        "",
    ]
    for row in snapshot.providers.values():
        sites = [snapshot.sites.get(row.id), *(org.sites.get(row.id) for org in orgs)]
        addresses = sorted({site.upstream.authority for site in sites if site})
        if not addresses:
            if row.sited_per_org:
                lines.append(f"  {row.id:<10}  no org has an endpoint for it: calls get {row.sited_per_org}")
            continue
        if key and row.key_env and all(address.startswith("127.0.0.1:") for address in addresses):
            missing = "AZURE_OPENAI_ENDPOINT" if row.sited_per_org else row.key_env
            lines.append(f"  {row.id:<10}  practice: {missing} is not set, the built-in provider answers")
        else:
            lines.append(f"  {row.id:<10}  {', '.join(addresses)}: {_whose_key(row, snapshot, held)}")
    lines += ["", "Ctrl-C stops it."]
    return "\n".join(lines)


def _whose_key(row: Provider, snapshot: Snapshot, held: Container[str]) -> str:
    if row.id in snapshot.sites and snapshot.sites[row.id].upstream.signing:
        return "Envoy signs"
    if row.key_form is Form.NONE:
        return "no key"
    return "the gateway holds a key" if row.id in held else "calls carry their own key"


def _quoted(text: str) -> str:
    """In double quotes where the shell must fill something in."""
    return f'"{text}"' if "$" in text else f"'{text}'"


def _must_be_free(address: str, setting: str) -> None:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        why = str(error.strerror).partition(" (")[0]  # behind it create_server says the address again
        raise EnvoyError(f"cannot listen on {address} ({why}): set {setting} to another port") from None
