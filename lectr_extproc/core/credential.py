"""Keys for providers: taken from wherever a client may put one, written in the one form its provider understands.

Exactly one form leaves. Every other place a key can be in is cleared, so that no provider ever sees another's header.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lectr_extproc.core.words import KEY_PREFIX


class Form(StrEnum):
    """How a key is carried; the value is the header's (or query parameter's) name."""

    BEARER = "authorization"
    X_API_KEY = "x-api-key"
    API_KEY = "api-key"
    X_GOOG_API_KEY = "x-goog-api-key"
    QUERY = "key"
    NONE = ""


HEADERS = (Form.BEARER, Form.X_API_KEY, Form.API_KEY, Form.X_GOOG_API_KEY)
"Where a key is looked for, in this order, before the query."


@dataclass(frozen=True, slots=True)
class Credential:
    """A client's key for a provider. Its repr never shows it."""

    form: Form
    secret: str = field(repr=False)


def take(headers: Mapping[str, Sequence[str]], query_key: str | None) -> tuple[Credential | None, tuple[str, ...]]:
    """The client's key for a provider; and keys of ours in such a key's place, by which a client with one key calls.

    Of each header every value, cut at commas: Envoy joins two Authorization headers with one, and no key has one in it.
    """
    theirs: Credential | None = None
    ours: list[str] = []
    for form in HEADERS:
        for part in headers.get(form.value, ()):
            secret = part.strip()
            if form is Form.BEARER:
                scheme, _, secret = secret.partition(" ")
                secret = secret.strip() if scheme.lower() == "bearer" else ""
            if secret.startswith(KEY_PREFIX):
                ours.append(secret)
            elif secret and KEY_PREFIX not in secret and theirs is None:
                theirs = Credential(form, secret)
    secret = (query_key or "").strip()
    # Percent-decoding can make bytes that no header may hold; Envoy would drop our whole reply.
    if theirs is None and secret and KEY_PREFIX not in secret and secret.isascii() and secret.isprintable():
        theirs = Credential(Form.QUERY, secret)
    return theirs, tuple(ours)


def present(credential: Credential | None, form: Form, stays_bearer: Sequence[str]) -> tuple[str, str] | None:
    """The header that carries the key to its provider; OAuth tokens and JWTs keep the Bearer form they came in."""
    if credential is None or form is Form.NONE:
        return None
    if form is Form.BEARER or credential.secret.startswith(tuple(stays_bearer)):
        return Form.BEARER.value, f"Bearer {credential.secret}"
    return form.value, credential.secret
