"""Where a call can be sent: the address of a provider, as Envoy will know it.

An upstream becomes one Envoy cluster. Its name carries a hash of the address and of how calls to it are signed, so that
what is changed is one cluster added and another removed, and no call ever meets a half-changed one.
"""

import hashlib
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

UPGRADE_SUFFIX = ".h1"
"Behind a cluster's name: the same address over HTTP/1.1 only, which connections that are upgraded need."

ATTEMPT_SUFFIX = ".attempt"
"Behind a cluster's name: the same address for calls with several candidates, where lectr makes each attempt ready."

RELAY = "lectr_attempts"
"The cluster of every attempt in an Envoy that takes no order of clusters (gateway/relay.py)."

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
        """Read a base URL; ValueError says what is wrong with it, and repeats none of it: a password may be in it."""
        base_url = base_url.strip()
        try:
            url = urlsplit(base_url)
        except ValueError:  # its own words quote
            url = None
        if url is None or not base_url.isprintable():  # urlsplit drops tabs and line ends without a word
            raise ValueError("it is no URL")
        if url.scheme not in ("http", "https"):
            raise ValueError("it must start with https:// or http://")
        if url.username is not None or url.password is not None or url.query or url.fragment:
            raise ValueError("it may hold a scheme, host, port and path, nothing else")
        if not url.hostname:
            raise ValueError("it names no host")
        try:
            port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
        except ValueError:
            port = 0
        if port == 0:
            raise ValueError("a port is a number from 1 to 65535")
        if not _is_host(url.hostname):
            raise ValueError(
                "a host is an IP address or a DNS name: letters, digits, -, and at most 63 between two dots"
            )
        if not _PATH.fullmatch(url.path):
            raise ValueError("a path may hold letters, digits, and /-._~:+=, and others as %XX")
        return cls(
            provider=provider,
            scheme="http" if url.scheme == "http" else "https",
            host=url.hostname,
            port=port,
            prefix=url.path.rstrip("/"),
        )


_LABEL = (
    "(?!-)[a-z0-9_-]{1,63}(?<!-)"  # the underscore is no host's by the book, but Docker's and Kubernetes' DNS have it
)
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
_PATH = re.compile(r"(?:[A-Za-z0-9/._~:+=-]|%[0-9A-Fa-f]{2})*")


def _is_host(host: str) -> bool:
    """A name that ends in a number is read as an address, by Envoy too."""
    if ":" not in host and not host.rpartition(".")[2].isdigit():
        return _NAME.fullmatch(host) is not None
    try:
        return "%" not in str(ip_address(host))  # a zone is one machine's own
    except ValueError:
        return False
