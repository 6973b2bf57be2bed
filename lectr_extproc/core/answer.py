"""Reads one answer as it passes: bytes in, and at any moment what they have said so far.

Whatever the bytes, reading them never raises and holds a bounded number of them. A failure to read costs us the usage,
never the client the answer. Where a dialect says what is a row (`AnswerRow`, in catalog/answers.py).
"""

import json
import re
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import orjson

from lectr_extproc.core import eventstream, sse
from lectr_extproc.core.encoding import SLICE, Identity, decoder
from lectr_extproc.core.json_values import JsonValues
from lectr_extproc.core.provider_error import ProviderError, read_error
from lectr_extproc.core.quick import quick_dataclass
from lectr_extproc.core.usage import CostReading, ModelUsage, Path, Usage, UsageReader, UsageShape
from lectr_extproc.core.words import MODEL_LIMIT

Unreadable = Literal[
    "unknown_encoding", "broken_encoding", "inflated_too_large", "not_json", "too_large", "broken_frames"
]
"Why an answer could not be read to its end; what was read before still counts."

Word = Literal["model", "response_id", "tier", "speed", "region"]

FIRST = 4
"So many events are read whatever they look like: the id and the model are in one of them."
RAW_BYTES = 256 * 1024
"A document up to this size is held as it is and parsed at once; a larger one is slimmed on the way."
CHOICES = 16
"How many finish reasons are kept."
_UNDECIDED = frozenset({"", "auto", "queued", "in_progress"})
"What an answer says of its service tier and its end while neither is settled."
_NDJSON = frozenset(
    {
        "application/x-ndjson",
        "application/ndjson",
        "application/stream+json",
        "application/x-jsonl",
        "application/jsonl",
    }
)
_EVENTSTREAM = "application/vnd.amazon.eventstream"
_SSE = "text/event-stream"
_SSE_START = re.compile(rb"(?:data|event|id|retry)?:")
_WHOLE_EVENTS = re.compile(rb"(?:(?:event: (?!error)[^\r\n]*+\n)?data: \{[^\r\n]*+\n\n)++")
"The usual chunk of a stream: events of one document each, none of them cut."
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class AnswerRow:
    """Where one dialect's answers say what."""

    dialect: str
    shapes: tuple[UsageShape, ...] = ()
    "In order of trust."
    words: Mapping[Word, tuple[str, ...]] = field(default_factory=dict)
    "The last that is not empty speaks."
    finish: tuple[str, ...] = ()
    finish_each: tuple[tuple[str, str], ...] = ()
    "A list, and where in each of its members the reason stands."
    ends: tuple[tuple[str, str | bool | None], ...] = ()
    "Where a document says it is the last, and what stands there; None is anything. `[DONE]` always counts."
    text: tuple[str, ...] = ()
    "Members that hold generated text in a stream, none of it twice."

    @cached_property
    def said(self) -> tuple[tuple[Word, tuple[Path, ...]], ...]:
        """`words`, compiled."""
        return tuple((word, tuple(map(Path, places))) for word, places in self.words.items())

    @cached_property
    def finishes(self) -> tuple[tuple[Path, Path], ...]:
        """Both ways to give a finish reason: a list of members, and where it stands in each."""
        return (
            *((Path(each), Path(member)) for each, member in self.finish_each),
            *((Path(""), Path(p)) for p in self.finish),
        )

    @cached_property
    def ending(self) -> tuple[tuple[Path, str | bool | None], ...]:
        """`ends`, compiled."""
        return tuple((Path(path), wanted) for path, wanted in self.ends)

    @cached_property
    def scan(self) -> re.Pattern[bytes]:
        """Finds what in an event is worth parsing it for, and generated text (the only group), in one pass."""
        places = {place for shape in self.shapes for place in shape.places}
        roots = {member for shape in self.shapes if "" in shape.places for member in shape.members}
        paths = [
            *places,
            *self.finish,
            *(member for _, member in self.finish_each),
            *(p for p, w in self.ends if w in {None, True}),
        ]
        members = roots | {_last(path) for path in paths} - {""}
        marks = {"error", *(wanted for _, wanted in self.ends if isinstance(wanted, str))}
        text = rb'(?:%s)"\s*+:\s*+"((?:[^"\\\r\n]++|\\[^\r\n])*+)|' % _any(self.text) if self.text else b""
        return re.compile(rb'"(?:%s(?:%s)"\s*+:\s*+(?!null|false)|(?:%s)")' % (text, _any(members), _any(marks)))


def _any(words: Any) -> bytes:
    return "|".join(map(re.escape, sorted(words))).encode()


def _last(path: str) -> str:
    return path.rpartition(".")[2].partition("[")[0]


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known of an answer so far."""

    usage: Usage | None = None
    model_answered: str | None = None
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    service_tier: str | None = None
    region: str | None = None
    "Where it says it was computed, if that has a price."
    error: ProviderError | None = None
    is_complete: bool = False
    "The dialect's own end was seen."
    output_bytes: int = 0
    "Generated text seen, as escaped in JSON."
    reported_cost: Decimal | None = None
    "USD, by the provider's own account."
    helpers: tuple[ModelUsage, ...] = ()
    "Other models that worked on this answer; their usage is not in `usage`."
    unreadable: Unreadable | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of an answer may be held."""

    max_document_bytes: int = 8 * 1024 * 1024
    "Of one JSON document, after its long strings were left out."
    max_event_bytes: int = 1024 * 1024
    "Of one event, likewise. A larger one is passed over."


class AnswerReader:
    """Feed it the chunks of one answer's body; ask for the Answer whenever it is wanted."""

    def __init__(
        self,
        row: AnswerRow,
        provider: str,
        *,
        status: int = 200,
        content_type: str = "",
        content_encoding: str = "",
        headers: Mapping[str, str] | None = None,
        cost: CostReading | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        """`headers` may be all response headers, by lower-case name; Bedrock counts and names errors there."""
        self._row = row
        self._is_failure = status >= 400
        self._type = content_type.partition(";")[0].strip().lower()
        self._bounds = bounds or Bounds()
        self._cost = cost
        self._usage = UsageReader(row.shapes, provider)
        self._said: dict[Word, str] = {}
        self._finish: dict[int, str] = {}
        self._error: ProviderError | None = None
        self._is_complete = False
        self.output_bytes = 0
        "Generated text so far."
        self._events = 0
        self._unreadable: Unreadable | None = None
        self._decoder = decoder(content_encoding)
        if self._decoder is None:
            self._unreadable = "unknown_encoding"
        self._start = b""
        self._framing: _Framing | None = None
        self._is_plain = isinstance(self._decoder, Identity)
        self._known: Answer | None = None
        "The last answer given, until a document changes it."
        self._heed(headers or {})

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body, as they came from the provider."""
        if self._unreadable is not None or self._decoder is None:
            return
        for at in range(0, len(chunk), SLICE):
            for piece in self._decoder.decode(chunk[at : at + SLICE]):
                self._take(piece)
        if self._decoder.failure is not None:
            self._unreadable = self._decoder.failure

    def skim(self, chunk: bytes) -> bool:
        """Take a chunk that tells nothing but text, which most do, at a fifth of the cost; False if it is to be fed."""
        events = self._framing
        if self._events < FIRST or not self._is_plain or not isinstance(events, _Events) or not events.is_between:
            return False
        if len(chunk) > SLICE or not _WHOLE_EVENTS.fullmatch(chunk):
            return False
        written = 0
        for match in self._row.scan.finditer(chunk):
            if not match.lastindex:
                return False
            written += len(match[1])
        self.output_bytes += written
        return True

    def close(self) -> None:
        """The body has ended, or will not go on."""
        if self._framing is None and self._start and self._unreadable is None:
            self._begin(is_last=True)
        if self._framing is not None:
            self._framing.close()
            self._note_loss(self._framing)

    def answer(self) -> Answer:
        """What is known so far. Asked after each chunk, it costs little: only documents that were parsed change it."""
        if self._known is None:
            self._known = self._answer()
        if (self._known.output_bytes, self._known.unreadable) != (self.output_bytes, self._unreadable):
            self._known = replace(self._known, output_bytes=self.output_bytes, unreadable=self._unreadable)
        return self._known

    def _answer(self) -> Answer:
        tier = "fast" if self._said.get("speed") == "fast" else self._said.get("tier")
        return Answer(
            usage=self._usage.usage(),
            model_answered=self._said.get("model"),
            response_id=self._said.get("response_id"),
            finish_reasons=tuple(self._finish[index] for index in sorted(self._finish)),
            service_tier=tier,
            region=self._said.get("region"),
            error=self._error,
            is_complete=self._is_complete,
            reported_cost=self._cost(self._usage.raw) if self._cost else None,
            helpers=self._usage.helpers(),
        )

    def _heed(self, headers: Mapping[str, str]) -> None:
        numbers = {k: int(v) for k, v in headers.items() if len(v) < 16 and v.isascii() and v.isdecimal()}
        self._usage.take({"headers": numbers})
        kind = headers.get("x-amzn-errortype", "").partition(":")[0]
        if kind:
            self._error = read_error({"type": kind}, is_failure=True)

    def _take(self, piece: bytes) -> None:
        if self._framing is None:
            self._start += piece
            self._begin(is_last=False)
        else:
            self._framing.feed(piece)
            self._note_loss(self._framing)

    def _begin(self, *, is_last: bool) -> None:
        """Choose how to cut the body up: by its first bytes, and by its content type where they leave a choice."""
        start = self._start.removeprefix(_BOM).lstrip()
        if start[:1] in {b"{", b"["}:
            is_one = start[:1] == b"{" and self._type not in _NDJSON
            self._framing = _Document(self) if is_one else _Values(self)
        elif self._type == _EVENTSTREAM or self._start[:1] == b"\0":
            self._framing, start = _Messages(self), self._start
        elif self._type == _SSE or _SSE_START.match(start):
            self._framing, start = _Events(self), self._start
        elif (start and is_last) or len(start) >= 6:
            self._unreadable = "not_json"
        if self._framing is not None or self._unreadable is not None:
            self._start = b""
        elif not start:
            self._start = self._start[:3]  # white space, or part of a byte order mark
        if self._framing is not None:
            self._framing.feed(start)
            self._note_loss(self._framing)

    def _note_loss(self, framing: "_Framing") -> None:
        if framing.loss is not None and self._unreadable is None:
            self._unreadable = framing.loss

    def event(self, data: bytes, name: str = "") -> None:
        """One document of several: parsed only if it can tell something."""
        if data.strip() == b"[DONE]":
            self._is_complete, self._known = True, None
            return
        self._events += 1
        matters = self._events <= FIRST or name == "error"
        for match in self._row.scan.finditer(data):
            if match.lastindex:
                self.output_bytes += len(match.group(1))
            else:
                matters = True
        if matters:
            document = load(data)
            if isinstance(document, dict):
                if name:
                    document.setdefault("type", name)
                self.document(document)
            elif name == "error":
                self.document({"type": name})

    def document(self, document: dict[str, Any]) -> None:
        """Everything one document says."""
        self._known = None
        self._usage.take(document)
        for word, paths in self._row.said:
            for path in paths:
                for value in path(document):
                    if isinstance(value, str) and value not in _UNDECIDED:
                        self._said[word] = value[:MODEL_LIMIT]
        for each, member in self._row.finishes:
            for position, choice in enumerate(each(document)):
                index = choice.get("index", position) if isinstance(choice, dict) else position
                for reason in member(choice):
                    if isinstance(reason, str) and reason not in _UNDECIDED and index in range(CHOICES):
                        self._finish[index] = reason[:MODEL_LIMIT]
        for path, wanted in self._row.ending:
            if any(wanted is None or value == wanted for value in path(document)):
                self._is_complete = True
        error = read_error(document, is_failure=self._is_failure)
        if error is not None and (self._error is None or error != ProviderError()):
            self._error = ProviderError(error.code, error.type or (self._error.type if self._error else None))

    def whole(self, document: dict[str, Any], data: bytes) -> None:
        """The one document that is the whole answer."""
        self.document(document)
        self._is_complete = True
        if self._usage.usage() is None:
            self.output_bytes = sum(len(m.group(1)) for m in self._row.scan.finditer(data) if m.lastindex)

    @property
    def bounds(self) -> Bounds:
        """How much may be held."""
        return self._bounds


class _Framing:
    """Cuts a body up and hands the parts to the reader."""

    loss: Unreadable | None = None
    "What went wrong on the way."

    def __init__(self, reader: AnswerReader) -> None:
        self._reader = reader

    def feed(self, piece: bytes) -> None:
        """Take the next bytes, decoded."""

    def close(self) -> None:
        """Nothing is left over."""


class _Events(_Framing):
    """Server-sent events."""

    def __init__(self, reader: AnswerReader) -> None:
        super().__init__(reader)
        self._parser = sse.Parser(max_bytes=reader.bounds.max_event_bytes)

    @property
    def is_between(self) -> bool:
        """No event has begun and not ended."""
        return self._parser.is_between

    def feed(self, piece: bytes) -> None:
        for event in self._parser.feed(piece):
            self._reader.event(event.data, event.name.decode("utf-8", "replace"))

    def close(self) -> None:
        for event in self._parser.close():
            self._reader.event(event.data, event.name.decode("utf-8", "replace"))
        if self._parser.skipped:
            self.loss = "too_large"


class _Values(_Framing):
    """JSON objects: newline-delimited, or the elements of an array that streams."""

    def __init__(self, reader: AnswerReader) -> None:
        super().__init__(reader)
        self._parser = JsonValues(max_bytes=reader.bounds.max_event_bytes)

    def feed(self, piece: bytes) -> None:
        for value in self._parser.feed(piece):
            self._reader.event(value)

    def close(self) -> None:
        if self._parser.skipped:
            self.loss = "too_large"


class _Document(_Framing):
    """One JSON document: held whole while it is small, slimmed on the way when it is not."""

    def __init__(self, reader: AnswerReader) -> None:
        super().__init__(reader)
        self._raw = bytearray()
        self._large: JsonValues | None = None

    def feed(self, piece: bytes) -> None:
        if self._large is None:
            self._raw += piece
            if len(self._raw) <= RAW_BYTES:
                return
            self._large, piece = JsonValues(max_bytes=self._reader.bounds.max_document_bytes), bytes(self._raw)
            self._raw.clear()
        for value in self._large.feed(piece):
            document = load(value)
            if isinstance(document, dict):
                self._reader.whole(document, value)

    def close(self) -> None:
        raw = bytes(self._raw)
        self._raw.clear()
        document = load(raw) if raw else None
        if isinstance(document, dict):
            self._reader.whole(document, raw)
        elif raw:
            # Not one document: several of them under the wrong content type, or one that was cut.
            for value in JsonValues(max_bytes=self._reader.bounds.max_event_bytes).feed(raw):
                self._reader.event(value)
        if self._large is not None and self._large.skipped:
            self.loss = "too_large"


class _Messages(_Framing):
    """AWS event stream: documents named by a header, InvokeModel's wrapped in base64, exceptions among them."""

    def __init__(self, reader: AnswerReader) -> None:
        super().__init__(reader)
        self._parser = eventstream.Parser(max_bytes=reader.bounds.max_event_bytes)

    def feed(self, piece: bytes) -> None:
        for headers, payload in self._parser.feed(piece):
            failure = headers.get(":exception-type") or headers.get(":error-code")
            if failure:
                self._reader.document({"type": "error", "error": {"type": failure}})
            else:
                self._reader.event(_unwrapped(payload), headers.get(":event-type", ""))
        if self._parser.is_broken:
            self.loss = "broken_frames"

    def close(self) -> None:
        if self._parser.skipped:
            self.loss = "too_large"


def _unwrapped(payload: bytes) -> bytes:
    """What InvokeModel's stream wraps as `{"bytes": "<base64>"}`, or the payload as it is."""
    if not payload.startswith(b'{"bytes"'):
        return payload
    document = load(payload)
    try:
        return a2b_base64(document["bytes"])
    except (TypeError, KeyError, ValueError):
        return payload


def load(data: bytes) -> Any:
    """The JSON value, or None. Half a surrogate pair or broken UTF-8 in a text must not cost us the counts beside."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
