"""What an Envoy that runs says of itself on its admin port."""

from typing import Any

import httpx

from lectr_extproc.edge.envoy import EnvoyError
from lectr_extproc.gateway.running import Running

TIMEOUT_S = 10.0


def look_at(admin: str) -> Running:
    """All that is judged, asked one after the other. `admin` is `host:port`, with or without `http://`."""
    base = admin.rstrip("/") if "://" in admin else f"http://{admin}"
    try:
        with httpx.Client(base_url=base, timeout=TIMEOUT_S, trust_env=False, verify=False) as client:  # noqa: S501 - as in envoy.py

            def asked(path: str) -> httpx.Response:
                return client.get(path).raise_for_status()

            server = _mapping(asked("/server_info"))
            return Running(
                version=_version(str(server.get("version"))),
                server=server,
                dump=_mapping(asked("/config_dump")),
                clusters=_mapping(asked("/clusters?format=json")),
                counters=_counted(asked("/stats?usedonly").text),
            )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError):
        raise EnvoyError(f"no Envoy answers at {base}: name its admin port with --envoy-admin") from None


def _mapping(answer: httpx.Response) -> dict[str, Any]:
    said = answer.json()
    if not isinstance(said, dict):
        raise ValueError("no Envoy")
    return said


def _version(text: str) -> tuple[int, ...]:
    """Of `9e55809/1.40.0/Clean/RELEASE/BoringSSL` the second part."""
    return tuple(map(int, text.split("/")[1].partition("-")[0].split(".")))


def _counted(text: str) -> dict[str, int]:
    """Counters and gauges; histograms and texts are left out."""
    pairs = (line.rpartition(": ") for line in text.splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdigit()}
