"""Where a call can be sent: the address of a provider, as Envoy will know it.

An upstream becomes one Envoy cluster. Its name carries a hash of the address and of how calls to it are signed, so that
what is changed is one cluster added and another removed, and no call ever meets a half-changed one.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

UPGRADE_SUFFIX = ".h1"
"Behind a cluster's name: the same address over HTTP/1.1 only, which connections that are upgraded need."

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """How Envoy signs the calls to an address: AWS Signature Version 4, with credentials that only Envoy knows."""

    service: str
    region: str
    credentials_file: str | None = None
    "In AWS's own format, as Envoy sees it. None: what Envoy finds by itself, as AWS's SDKs do."
    profile: str | None = None
    "The section of that file."


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One address of one provider."""

    provider: str
    scheme: Literal["http", "https"]
    host: str
    port: int
    prefix: str
    "What replaces the client's `/v1`: `/v1`, `/openai/v1`, or empty. No slash at the end."
    signing: Signing | None = None
    "Envoy signs what it sends there. None: the client's key, or nothing."
    authority: str = field(init=False)
    "The value of the Host header: the port only where it is not the scheme's own."
    cluster: str = field(init=False)
    "The name of its Envoy cluster."

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        address = f"{self.scheme}://{self.host}:{self.port}{self.signing or ''}"
        is_usual = self.port == DEFAULT_PORTS[self.scheme]
        object.__setattr__(self, "authority", host if is_usual else f"{host}:{self.port}")
        object.__setattr__(self, "cluster", f"{self.provider}-{hashlib.sha256(address.encode()).hexdigest()[:8]}")

    @classmethod
    def parse(cls, provider: str, base_url: str) -> "Upstream":
        """Read a base URL; ValueError says what is wrong with it."""
        url = urlsplit(base_url.strip())
        if url.scheme not in ("http", "https"):
            raise ValueError(f"{base_url.rpartition('@')[2]!r} must start with https:// or http://")
        if not url.hostname:
            raise ValueError(f"{base_url!r} names no host")
        if url.username or url.password or url.query or url.fragment:
            # Not repeated: what is too much here may be a password.
            raise ValueError(f"the URL of {url.hostname} may hold a scheme, host, port and path, nothing else")
        return cls(
            provider=provider,
            scheme="http" if url.scheme == "http" else "https",
            host=url.hostname,
            port=url.port or DEFAULT_PORTS[url.scheme],
            prefix=url.path.rstrip("/"),
        )
