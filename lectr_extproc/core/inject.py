"""Whether to ask a provider for usage on a stream whose client did not, and how: `stream_options.include_usage`.

Asking a provider that does not know the option costs the client an error, so who may be asked is a column.
"""

from collections.abc import Mapping
from enum import Enum

import orjson

DIALECTS = frozenset({"openai.chat", "openai.completions"})
"The others report usage on their streams unasked, or have no option to ask for it."
AZURE_SINCE = "2024-09-01"
"https://learn.microsoft.com/azure/ai-foundry/openai/whats-new: 2024-09-01-preview brought stream_options."


class Asking(Enum):
    """Whether a provider may be asked."""

    YES = "yes"
    NEVER = "never"
    AZURE = "azure"
    "By api-version; and not together with `data_sources`."


def asks_for_usage(
    asking: Asking, dialect: str, *, path: str, api_version: str | None, fields: Mapping[str, object]
) -> bool:
    """Whether this call is to be asked for. `path` is the one sent to the provider, `fields` its body."""
    options = fields.get("stream_options")
    if dialect not in DIALECTS or fields.get("stream") is not True:
        return False
    if options is not None and (not isinstance(options, Mapping) or options.get("include_usage") is True):
        return False
    if asking is not Asking.AZURE:
        return asking is Asking.YES
    # `preview` and other names are versions of /openai/v1 only.
    is_recent = api_version is not None and api_version[:1].isdecimal() and api_version >= AZURE_SINCE
    return "data_sources" not in fields and (path.startswith("/openai/v1/") or is_recent)


def inject_include_usage(body: bytes) -> bytes:
    """The same body with the option on. Where there are no options yet, no other byte changes; other options stay."""
    try:
        fields = orjson.loads(body)
        if not isinstance(fields, dict) or not fields:
            return body
        if "stream_options" not in fields:
            return body.replace(b"{", b'{"stream_options":{"include_usage":true},', 1)
        options = fields["stream_options"] or {}
        return orjson.dumps({**fields, "stream_options": {**options, "include_usage": True}})
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, TypeError):  # not JSON, too deep, options that are none
        return body
