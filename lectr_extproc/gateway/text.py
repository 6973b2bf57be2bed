"""YAML as text: templates keep the comments that a YAML library would lose."""

import json
import re
from ipaddress import ip_address
from textwrap import dedent, indent

_PLACE = re.compile(r"^( *)\$(\w+)\n|\$(\w+|\$)", re.MULTILINE)


def fill(template: str, **values: str) -> str:
    """Replace `$name`. Alone on its line it is a block at that indentation, or no line if empty. `$$` is a dollar."""

    def value(place: re.Match[str]) -> str:
        margin, block, word = place.groups()
        if word:
            return "$" if word == "$" else values[word]
        return indent(values[block], margin)

    return _PLACE.sub(value, dedent(template).lstrip("\n"))


def quote(value: str) -> str:
    """A YAML scalar that is a string, whatever is in it; in single quotes where double ones would need escapes."""
    if value.isprintable() and ('"' in value or "\\" in value):
        return "'" + value.replace("'", "''") + "'"
    return json.dumps(value)


def seconds(value: float) -> str:
    """A duration as Envoy reads it."""
    return f"{value:.6f}".rstrip("0").rstrip(".") + "s"


def address(text: str) -> str:
    """`host:port` or `unix:/path` as Envoy's Address."""
    if text.startswith("unix:"):
        return f"{{pipe: {{path: {quote(text.removeprefix('unix:'))}}}}}"
    host, _, port = text.rpartition(":")
    return f"{{socket_address: {{address: {quote(host.strip('[]'))}, port_value: {int(port)}}}}}"


def needs_dns(host: str) -> bool:
    """Whether a host is a name and not an IP address."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return True
    return False


def without_comments(text: str) -> str:
    """The same YAML for the second time in a file, where the reasons have been given. Comments are whole lines or
    follow two spaces; no value of ours holds that."""
    return re.sub(r"^ *#.*\n|  +# .*$", "", text, flags=re.MULTILINE)
