"""A stream that breaks off says so: for calls whose model the gateway chose, whoever's it was.

An error that the provider writes into its stream, and an end before the dialect's own, become an error that the
client's SDK raises. Nothing follows it. Of a connection that breaks off the client hears by that, and no byte of ours.
"""

import re

import orjson

from lectr_extproc.core.answer import load
from lectr_extproc.core.provider_error import ProviderError, read_error
from lectr_extproc.core.refusal import Refusal
from lectr_extproc.core.sse import parse
from lectr_extproc.core.strip import LONGEST, UsageStripper

CODE = "stream_interrupted"
_MAY_BE_ERROR = re.compile(rb'"error"|event:[ \t]*error')
_COMMENTS = re.compile(rb"(?::[^\r\n]*\n)+")


class Guard(UsageStripper):
    """Feed it chunks, pass on what it returns. Bytes wait until their event is complete, for it may be an error."""

    def __init__(self, dialect: str, *, strips: bool) -> None:
        """`strips`: the usage chunk goes, too."""
        super().__init__()
        self._dialect = dialect
        self._strips = strips

    def would_pass(self, whole_events: bytes) -> bool:
        return not self.is_over and super().would_pass(whole_events) and not _MAY_BE_ERROR.search(whole_events)

    def break_off(self) -> bytes:
        """The stream has ended before the dialect's own end: half an event goes, and an error comes."""
        if self.is_over:
            return b""
        event = parse(bytes(self._held))
        is_event = event is not None and load(event.data) is not None
        last = bytes(self._held).rstrip(b"\r\n") + b"\n\n" if is_event else b"\n\n" if self._is_passing else b""
        self._held.clear()
        self.is_over = True
        return last + error_event(self._dialect, None)

    def _wait(self, piece: bytes, out: bytearray) -> None:
        if self.is_over:
            return
        super()._wait(piece, out)
        # A provider that thinks sends comments, to be passed on at once.
        if comments := _COMMENTS.match(self._held):
            out += comments[0]
            del self._held[: comments.end()]

    def _is_settled(self, block: bytes | bytearray) -> bool:
        return len(block) > LONGEST

    def _instead(self, block: bytes) -> bytes | None:
        if self.is_over:
            return b""
        if _MAY_BE_ERROR.search(block) and (error := _error_in(block)):
            self.is_over = True
            return error_event(self._dialect, error)
        return super()._instead(block) if self._strips else None


def _error_in(block: bytes) -> ProviderError | None:
    event = parse(block)
    document = load(event.data) if event else None
    if not isinstance(document, dict):
        return ProviderError() if event and event.name == b"error" else None
    if event and event.name:
        document.setdefault("type", event.name.decode(errors="replace"))
    # What failed as the Responses API has it is its own end, with all that is known in it.
    return None if document.get("type") == "response.failed" else read_error(document, is_failure=False)


def error_event(dialect: str, error: ProviderError | None) -> bytes:
    """What the SDKs of a dialect raise, and the dialect's end behind it."""
    said = error and (error.code or error.type)
    message = "The provider broke its answer off" + (f": {said}" if said else ".")
    refusal = Refusal(200, CODE, "server_error", message)
    if dialect.startswith("anthropic."):
        return b"event: error\ndata: %b\n\n" % Refusal(200, CODE, "api_error", message).body("anthropic")
    if dialect.startswith("gemini."):
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": CODE.upper(), "domain": "lectr"}]
        google = {"error": {"code": 503, "message": message, "status": "UNAVAILABLE", "details": details}}
        return b"data: %b\n\n" % orjson.dumps(google)
    if dialect == "openai.responses":  # its own fields, and the object for which OpenAI's SDK raises
        own = {"type": "error", "code": CODE, "message": message, "param": None}
        return b"event: error\ndata: %b\n\n" % orjson.dumps({**own, **orjson.loads(refusal.body("openai"))})
    return b"data: %b\n\ndata: [DONE]\n\n" % refusal.body("openai")
