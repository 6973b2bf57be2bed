"""Settings as whoever runs lectr may see them in a browser: all of them, defaults included, and nothing that is secret.

References stand as they are written (`env:NAME`); what could be a secret in a place of its own is cut.
"""

from typing import Any
from urllib.parse import urlsplit

from lectr_extproc.settings import Settings, file_of

MOST_ORGS = 100
_DIGITS = 8
"Of a digest: enough to tell a key by."


def shown(settings: Settings) -> dict[str, Any]:
    """What is in force, as lectr.yaml would say it."""
    tree: dict[str, Any] = file_of(settings).model_dump(mode="json", by_alias=True)
    beyond = len(tree["orgs"]) - MOST_ORGS
    tree["orgs"] = tree["orgs"][:MOST_ORGS]
    if tree["webhook"]:
        tree["webhook"]["url"] = urlsplit(tree["webhook"]["url"]).hostname  # the path of some is their password
    return _plain(tree) | {"orgs_more": max(0, beyond)}  # type: ignore[no-any-return]


def _plain(value: Any, name: str = "") -> Any:
    match value:
        case dict():
            return {key: _plain(inner, key) for key, inner in value.items()}
        case list():
            return [_plain(inner, name) for inner in value]
        case str() if name == "sha256":
            return value[:_DIGITS]
        case str() if "://" in value:
            return _address(value)
        case _:
            return value


def _address(url: str) -> str:
    """Without a user, a password, or what follows a question mark."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
