"""What sections of lectr.yaml are made of."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    WithJsonSchema,
    model_validator,
)

from lectr_extproc.core.facts import label
from lectr_extproc.core.upstream import Upstream


def without_blanks(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A name with nothing after it, as a commented-out section leaves it, is not a setting."""
    return {name: value for name, value in raw.items() if value is not None}


PORT = re.compile("[0-9]{1,5}")
LAST_PORT = 65_535


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not PORT.fullmatch(port) or int(port) >= 65536:
        raise ValueError("write it as host:port, for example 127.0.0.1:10000")
    return value


def is_loopback(address: str) -> bool:
    """Whether host:port, or a host alone, is this machine's own; IPv6 is in brackets."""
    host, _, port = address.rpartition(":")
    host = (host if port.isdigit() else address).strip("[]").lower()
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _socket(value: str) -> str:
    return value if value.startswith("unix:/") else _address(value)


def _url(value: str) -> str:
    Upstream.parse("url", value)
    return value


def unknown(provider: str, known: Iterable[str]) -> str:
    return f"{provider!r} is not a provider; known are {', '.join(known)}"


def _label(value: str) -> str:
    if (kept := label(value)) is None:
        raise ValueError("there is nothing printable in it")
    return kept


REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+")
Address = Annotated[str, AfterValidator(_address)]
SocketAddress = Annotated[str, AfterValidator(_socket)]
Url = Annotated[str, AfterValidator(_url)]
Label = Annotated[str, AfterValidator(_label)]
Reference = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^({REFERENCE.pattern})$"})]
Credentials = dict[str, Reference]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_written_is_the_default(cls, raw: Any) -> Any:
        return without_blanks(raw) if isinstance(raw, dict) else raw
