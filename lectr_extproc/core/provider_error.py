"""What an error document says went wrong, in the provider's own words for machines; never its message.

`error` may be an object or a string, `code` an int, a string or null, and some vendors put both at the root.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_WORDS = re.compile(r"[\w.:/\- ]{1,100}", re.ASCII)
"A code or a type, xAI's whole-sentence codes included; whatever looks otherwise might quote the request."


@dataclass(frozen=True, slots=True)
class ProviderError:
    """That an error was reported, and what kind, as far as the body says."""

    code: str | None = None
    type: str | None = None


def read_error(document: Mapping[str, Any], *, is_failure: bool) -> ProviderError | None:
    """The error in a document; in that of a failed call, whatever stands at its root counts too."""
    response = document.get("response")
    error = document.get("error") or (response.get("error") if isinstance(response, dict) else None)
    kind = document.get("type")
    says_so = "error" in {kind if isinstance(kind, str) else None, document.get("object") == "error" and "error"}
    if not error and not says_so and kind != "response.failed" and not is_failure:
        return None
    inner = error if isinstance(error, dict) else document
    details = inner.get("details")
    status = _word(inner.get("status")) if isinstance(inner.get("status"), str) and error is inner else None
    return ProviderError(
        code=_detail(details) or status or _word(inner.get("code")),
        type=_kind(inner.get("type")) or status or _word(inner.get("error_type")) or _word(inner.get("__type")),
    )


def _detail(details: object) -> str | None:
    """Anthropic's `details.error_code`, or the reason in one of Google's details: sharper than the status."""
    if isinstance(details, dict):
        return _word(details.get("error_code"))
    members = details if isinstance(details, list) else []
    return next(
        (_word(member.get("reason")) for member in members if isinstance(member, dict) and "reason" in member), None
    )


def _kind(value: object) -> str | None:
    return None if value in ("error", "response.failed") else _word(value)


def _word(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _WORDS.fullmatch(value) else None
