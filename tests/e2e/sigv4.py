"""AWS Signature Version 4, from the side that checks it: as AWS publishes it, with nothing of Envoy's.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from urllib.parse import quote

from tests.e2e.provider import Received

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request,"
    r" ?SignedHeaders=(?P<names>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Who signed a request, for what, and whether the signature is the one that this request and the secret give."""

    key: str
    region: str
    service: str
    names: frozenset[str]
    is_right: bool


def signed(received: Received, secret: str) -> Signed:
    """Check the one signature of a request."""
    (authorization,) = received.values("authorization")
    said = AUTHORIZATION.fullmatch(authorization)
    assert said, authorization
    (date,) = received.values("x-amz-date")
    assert date.startswith(said["day"])
    names = said["names"].split(";")
    assert names == sorted(names)
    scope = f"{said['day']}/{said['region']}/{said['service']}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, _sha256(_canonical(received, names))])
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return Signed(
        key=said["key"],
        region=said["region"],
        service=said["service"],
        names=frozenset(names),
        is_right=hmac.digest(key, text.encode(), "sha256").hex() == said["signature"],
    )


def _canonical(received: Received, names: list[str]) -> bytes:
    # The path as it is on the wire is encoded once more: so it is for every service but S3.
    path = quote(received.path, safe="/-_.~")
    query = "&".join(f"{name}={value}" for name, _, value in sorted(p.partition("=") for p in _parts(received.query)))
    headers = "".join(f"{name}:{','.join(' '.join(v.split()) for v in received.values(name))}\n" for name in names)
    lines = [received.method, path, query, headers, ";".join(names), _sha256(received.body)]
    return "\n".join(lines).encode("latin-1")


def _parts(query: str) -> list[str]:
    return query.split("&") if query else []


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
