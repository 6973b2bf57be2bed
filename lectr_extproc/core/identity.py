"""Whose workload a call comes from, where a mesh says so: by a client's certificate that Envoy has verified."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from lectr_extproc.core.words import CLIENT_CERTIFICATE

XFCC = "xfcc"
"What settings call the header that Envoy writes, in the place of an attribute's name."

_PAIR = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^";,]*)(;|,|$)')
"A key and its value, which is in quotes where it has a comma, a semicolon or a quote in it."

_Org = TypeVar("_Org")


def workload_in(headers: Sequence[tuple[str, str]]) -> str | None:
    """The URI of the last certificate in X-Forwarded-Client-Cert: those before it are what others had told Envoy.

    What is not written as Envoy writes it names nobody, and neither does a certificate with several URIs.
    """
    text = ",".join(value for name, value in headers if name == CLIENT_CERTIFICATE)
    at, uris = 0, list[str]()
    while at < len(text):
        if (pair := _PAIR.match(text, at)) is None:
            return None
        name, value, end = pair.groups()
        if name.lower() == "uri" and value:
            uris.append(value.strip('"'))
        at = pair.end()
        if end == ",":
            uris.clear()
    return uris[0] if len(uris) == 1 else None


def org_of(workload: str, orgs: Mapping[str, _Org]) -> _Org | None:
    """The org that a workload is written under by its whole name, or by the longest beginning with `/*` behind it."""
    found, above = orgs.get(workload), workload
    while found is None and "/" in above:
        above = above.rpartition("/")[0]
        found = orgs.get(f"{above}/*")
    return found
