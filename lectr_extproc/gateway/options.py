"""What a gateway's Envoy configuration depends on, apart from the upstreams."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Profile = Literal["native", "portable"]

NEEDS: Mapping[Profile, tuple[int, int]] = {"native": (1, 40), "portable": (1, 36)}
"""The first Envoy that a profile runs on: 1.40's ai_protocol_manager reads token usage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LectrTls:
    """TLS from Envoy to lectr; with cert and key it is mutual."""

    ca: str
    "PEM file of the CA that signs lectr's certificate."
    server_name: str
    "The name in lectr's certificate."
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """Files of a listening port's certificate, and of who signs those of its clients."""

    cert: str
    key: str
    client_ca: str | None


def worker_address(first: str, worker: int) -> str:
    """Where one of several lectrs listens: each on the port after the last one's, or at a path with its number."""
    if not worker:
        return first
    if first.startswith("unix:"):
        return f"{first}.{worker}"
    host, _, port = first.rpartition(":")
    return f"{host}:{int(port) + worker}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """One rendering. The defaults are those of the checked-in files."""

    profile: Profile = "native"
    "`native` lets Envoy 1.40 read token usage itself; `portable` runs on 1.36 and later."
    relays: bool = False
    "`portable` goes from one candidate of a call to the next, by a listener inside Envoy; `native` needs none for it."
    listen: str = "127.0.0.1:10000"
    "Where clients call. They send keys: no more than loopback without TLS."
    tls: ServerTls | None = None
    "None: in plain text."
    admin: str = "127.0.0.1:9901"
    "Envoy's admin port. It can stop Envoy, so it stays on loopback."
    lectr: str = "127.0.0.1:9191"
    "`host:port` or `unix:/path`: where Envoy finds lectr, for decisions and for access logs."
    workers: int = 1
    "How many lectrs there are: the others are found at addresses that follow from this one."
    lectr_tls: LectrTls | None = None
    identity: str | None = None
    "Who tells lectr whose certificate a call came with: an attribute, or `xfcc`."
    max_body_bytes: int = 32 * 1024 * 1024
    "Larger requests get 413."
    message_timeout_s: float = 2.0
    "How long Envoy waits for a decision before the client gets a 503."
    stream_idle_timeout_s: float = 900
    "How long an answer may be silent."
    connect_timeout_s: float = 5.0
    "For connections to providers."
    trusted_ca: str = "/etc/ssl/certs/ca-certificates.crt"
    "PEM file of the CAs that sign providers' certificates."
    access_log_flush_s: float = 0.5
    "How long an access-log entry may wait in Envoy; a killed Envoy loses what waits."
    spool: str | None = None
    "A file beside lectr that Envoy writes finished calls to, in place of sending them."
    max_connections: int = 20_000
    "Client connections at a time; more are closed at once."
    max_heap_bytes: int = 2 * 1024 * 1024 * 1024
    "Near this heap size Envoy refuses calls instead of growing."
    include_directory: str = "/etc/envoy/lectr"
    "Where the include files lie, as Envoy sees them."

    @property
    def fails_over(self) -> bool:
        """Whether a call may have several candidates."""
        return self.relays or self.profile == "native"
