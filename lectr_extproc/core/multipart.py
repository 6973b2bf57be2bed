"""Forms as RFC 7578 has them: where in the bytes a field's value is. Whatever the bytes, nothing is raised.

The files in a form are large and are not looked into: each part costs one search for the boundary, and there is an end
to how many are looked at.
"""

import re
from collections.abc import Iterator

BOUNDARY_LIMIT = 70
"RFC 2046, 5.1.1."
HEAD_LIMIT = 4096
"Longest head of a part that is read; file names may be long."
VALUE_LIMIT = 1024
"Longest value that is taken for a model's name."
DELIMITER_LIMIT = 128
"How many delimiters, and what only begins like one, are looked at: the sixteen pictures of an edit need far fewer."

_PARAMETER = re.compile(
    # A quote that never closes reaches to the end, so that no byte is looked at twice.
    rb';[ \t]*([^=;\s"]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.?)*)(?:"|\Z)|([^;]*))',
    re.DOTALL,
)
_DISPOSITION = re.compile(rb"content-disposition[ \t]*:[ \t]*form-data[ \t]*(;.*)", re.IGNORECASE)
_AFTER_DELIMITER = re.compile(rb"(--)[ \t]{0,64}(?:\r|\Z)|[ \t]{0,64}\r\n")


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of `multipart/form-data`; None where that is not the type, or there is none that can be."""
    type_, semicolon, parameters = content_type.partition(";")
    if type_.strip().lower() != "multipart/form-data":
        return None
    boundary = _parameters((semicolon + parameters).encode("utf-8", "surrogateescape")).get(b"boundary", b"")
    return boundary if 0 < len(boundary) <= BOUNDARY_LIMIT else None


def find_field(body: bytes, boundary: bytes, name: bytes) -> slice | None:
    """Where the value of the first field of this name is; a file is no field."""
    for head, value in _parts(body, boundary):
        said = _parameters(head)
        if said.get(b"name") == name and b"filename" not in said:
            return value
    return None


def read_field(body: bytes, boundary: bytes, name: bytes) -> str | None:
    """The text of a field, where it is a short one."""
    found = find_field(body, boundary, name)
    if found is None or found.stop - found.start > VALUE_LIMIT:
        return None
    try:
        return body[found].decode()
    except UnicodeDecodeError:
        return None


def replace_field(body: bytes, boundary: bytes, name: bytes, value: str) -> bytes:
    """The same form with another value in a field, and no other byte changed."""
    found = find_field(body, boundary, name)
    if found is None:
        return body
    whole = memoryview(body)  # each slice of the bytes would be a copy of a whole recording
    return b"".join((whole[: found.start], value.encode(), whole[found.stop :]))


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[bytes, slice]]:
    """What `content-disposition` says of each part, and where its content is. A part without an end is none."""
    delimiter = b"\r\n--" + boundary
    # The first one may begin the body, without the line end that the others begin with.
    at = -2 if body.startswith(delimiter[2:]) else body.find(delimiter)
    start = None
    for _ in range(DELIMITER_LIMIT):
        if at == -1:
            return
        after = at + len(delimiter)
        if line := _AFTER_DELIMITER.match(body, after):  # else content that begins like a delimiter
            if start is not None:
                # A part without a head begins with the empty line, whose first half ends the delimiter.
                blank = body.find(b"\r\n\r\n", start - 2, min(at, start + HEAD_LIMIT))
                if blank != -1:
                    yield _disposition(body[start:blank]), slice(blank + 4, at)
            if line[1]:
                return
            start = line.end()
        at = body.find(delimiter, after)


def _disposition(head: bytes) -> bytes:
    matches = (_DISPOSITION.fullmatch(line) for line in head.split(b"\r\n"))
    return next((match[1] for match in matches if match), b"")


def _parameters(text: bytes) -> dict[bytes, bytes]:
    """`; name="value"; name=value`: names in lower case, the first of several wins."""
    found: dict[bytes, bytes] = {}
    for name, quoted, token in _PARAMETER.findall(text):
        found.setdefault(name.lower(), re.sub(rb"\\(.)", rb"\1", quoted) or token.strip())
    return found
