"""The members of a JSON object, found in its bytes: to change one leaves every other byte as the client wrote it.

More is taken for JSON here than elsewhere: NaN, numbers beyond any limit and halves of surrogate pairs are what clients
do send. The work is bounded: what is nested beyond reason is no object.
"""

import json
import re
from collections.abc import Container, Sequence

STEPS = 50_000
"How many members and brackets are looked at one by one; a long conversation has a few thousand members."
_LEVELS = 6
"How deep a value is passed over in one search; what is deeper is entered bracket by bracket."

_SPACE = rb"[ \t\r\n]*+"
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_INNER = rb'[^"{}\[\]]++|' + _STRING
for _ in range(_LEVELS):
    _INNER = rb'[^"{}\[\]]++|' + _STRING + rb"|[{\[](?:" + _INNER + rb")*+[}\]]"

_NAME = rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE
_FIRST = re.compile(_SPACE + rb"\{" + _SPACE + _NAME, re.DOTALL)
_NEXT = re.compile(_SPACE + rb"," + _SPACE + _NAME, re.DOTALL)
_LAST = re.compile(_SPACE + rb"\}" + _SPACE + rb"\Z")
_PLAIN = re.compile(_STRING + rb"|[^\"{}\[\]:, \t\r\n]++", re.DOTALL)
_INSIDE = re.compile(rb"(?:" + _INNER + rb")*+([{}\[\]])", re.DOTALL)
_DECODER = json.JSONDecoder(parse_int=float)  # an int has an end to its digits

Members = Sequence[tuple[object, slice]]
"Names and where their values are, in order; a name may come twice."


def members(body: bytes) -> Members:
    """What the outermost object has; nothing where the bytes are no object, or none that can be read to its end."""
    found: list[tuple[object, slice]] = []
    steps = iter(range(STEPS))
    end, name = 0, _FIRST.match(body)
    while name and next(steps, None) is not None:
        start, end = name.end(), len(body)
        if plain := _PLAIN.match(body, start):
            end = plain.end()
        elif body[start : start + 1] in (b"{", b"["):
            at, depth = start + 1, 1
            for _ in steps:
                if not (bracket := _INSIDE.match(body, at)):
                    return ()
                at, depth = bracket.end(), depth + (1 if bracket[1] in b"{[" else -1)
                if not depth:
                    end = at
                    break
        found.append((_value(name[1]), slice(start, end)))
        name = _NEXT.match(body, end)
    return found if _LAST.match(body, end) else ()


def read(body: bytes, names: Container[object] | None = None) -> dict[object, object]:
    """The members of these names, or all; of two the last counts. A value that cannot be read is None."""
    return {name: _value(body[value]) for name, value in members(body) if names is None or name in names}


def put(body: bytes, found: Members, name: str, value: bytes) -> bytes:
    """The object with another value, wherever it has that name; one that has it nowhere gets it as its first."""
    places = [place for known, place in found if known == name]
    if not places:
        return body.replace(b"{", b'{"%b":%b,' % (name.encode(), value), 1)
    whole = memoryview(body)  # slices of the bytes would be copies of a whole conversation
    parts: list[bytes | memoryview] = []
    at = 0
    for place in places:
        parts += (whole[at : place.start], value)
        at = place.stop
    return b"".join((*parts, whole[at:]))


def without(body: bytes, names: Container[object]) -> bytes:
    """The object without the members of these names, each gone with a comma."""
    found = members(body)
    if not any(name in names for name, _ in found):
        return body
    start = at = body.index(b"{") + 1
    kept: list[bytes] = []
    for name, value in found:
        if name not in names:
            kept.append(body[at : value.stop])
        at = value.stop
    if kept and found[0][0] in names:
        kept[0] = kept[0].partition(b",")[2]
    return b"".join((body[:start], *kept, body[at:]))


def _value(text: bytes) -> object:
    try:
        return _DECODER.decode(text.decode())
    except (ValueError, RecursionError):
        return None
