"""Whether to ask a provider for usage on a stream whose client did not, and how: `stream_options.include_usage`.

Asking a provider that does not know the option costs the client an error, so who may be asked is a column.
"""

from collections.abc import Mapping
from enum import Enum

import orjson

from lectr_extproc.core.json_members import members, put

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
    """The same body with the option on. No other byte changes, and other options stay."""
    try:
        fields = orjson.loads(body)
        if isinstance(fields, dict) and fields and "stream_options" not in fields:  # nearly always: a tenth of the time
            return body.replace(b"{", b'{"stream_options":{"include_usage":true},', 1)
    except orjson.JSONDecodeError:
        pass
    found = members(body)
    options = next((body[place] for name, place in reversed(found) if name == "stream_options"), b"null")
    if not found or not (options == b"null" or options.startswith(b"{")):  # no object, or options that are none
        return body
    others = members(options)
    asking = put(options, others, "include_usage", b"true") if others else b'{"include_usage":true}'
    return put(body, found, "stream_options", asking)
