import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.multipart import (
    DELIMITER_LIMIT,
    HEAD_LIMIT,
    VALUE_LIMIT,
    boundary_of,
    find_field,
    read_field,
    replace_field,
)
from tests.core.cuts import cuts

BOUNDARY = b"----fjord"


def part(head: bytes, content: bytes) -> bytes:
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def field(name: bytes, content: bytes) -> bytes:
    return part(b'Content-Disposition: form-data; name="' + name + b'"', content)


def file(content: bytes, name: bytes = b"file", filename: bytes = b"a.mp3") -> bytes:
    head = b'Content-Disposition: form-data; name="' + name + b'"; filename="' + filename + b'"\r\nContent-Type: a/b'
    return part(head, content)


END = b"--" + BOUNDARY + b"--\r\n"
MODEL = field(b"model", b"whisper-1")
NOISE = bytes(range(256)) + b'\r\n\r\nContent-Disposition: form-data; name="model"\r\n\r\nno\r\n'

BOUNDARIES: dict[str, tuple[str, bytes | None]] = {
    "a token": ("multipart/form-data; boundary=----fjord", b"----fjord"),
    "quoted": ('multipart/form-data; boundary="a b=;c"', b"a b=;c"),
    "quoted with an escape": (r'multipart/form-data; boundary="a\"b"', b'a"b'),
    "capitals": ("Multipart/Form-Data;Boundary=AbC", b"AbC"),
    "among others": ("multipart/form-data; charset=utf-8 ; boundary = x ; more=1", b"x"),
    "inside another parameter": ('multipart/form-data; note="; boundary=no"; boundary=yes', b"yes"),
    "twice": ("multipart/form-data; boundary=first; boundary=second", b"first"),
    "as long as may be": (f"multipart/form-data; boundary={'b' * 70}", b"b" * 70),
    "longer": (f"multipart/form-data; boundary={'b' * 71}", None),
    "empty": ("multipart/form-data; boundary=", None),
    "empty in quotes": ('multipart/form-data; boundary=""', None),
    "none": ("multipart/form-data", None),
    "another multipart": ("multipart/mixed; boundary=x", None),
    "JSON": ("application/json; boundary=x", None),
    "nothing": ("", None),
    "bytes that are no text": ("multipart/form-data; boundary=\udcff", b"\xff"),
}


@pytest.mark.parametrize(("content_type", "boundary"), BOUNDARIES.values(), ids=BOUNDARIES)
def test_the_boundary_is_read_from_the_content_type(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary


FORMS: dict[str, tuple[bytes, str | None]] = {
    "the field alone": (MODEL + END, "whisper-1"),
    "before a file": (MODEL + file(NOISE) + END, "whisper-1"),
    "after a file": (file(NOISE) + MODEL + END, "whisper-1"),
    "between others": (field(b"language", b"no") + MODEL + field(b"stream", b"true") + END, "whisper-1"),
    "a name without quotes": (part(b"content-disposition:form-data;name=model", b"m") + END, "m"),
    "another order of parameters": (part(b'Content-Disposition: form-data; x=1 ; NAME = "model"', b"m") + END, "m"),
    "more headers": (
        part(b'Content-Type: text/plain\r\nContent-Disposition: form-data; name="model"\r\nX: y', b"m") + END,
        "m",
    ),
    "an escaped name": (part(rb'Content-Disposition: form-data; name="mo\del"', b"m") + END, "m"),
    "a value in UTF-8": (field(b"model", "ørret".encode()) + END, "ørret"),
    "a value with line ends": (field(b"model", b"a\r\n\r\nb") + END, "a\r\n\r\nb"),
    "an empty value": (field(b"model", b"") + END, ""),
    "two, the first counts": (field(b"model", b"1") + field(b"model", b"2") + END, "1"),
    "a preamble": (b"ignored\r\n" + MODEL + END, "whisper-1"),
    "an epilogue": (MODEL + END + b"ignored", "whisper-1"),
    "no line end at the end": (MODEL + END[:-2], "whisper-1"),
    "blanks behind a delimiter": (
        MODEL.replace(BOUNDARY, BOUNDARY + b" \t") + b"--" + BOUNDARY + b"-- \r\n",
        "whisper-1",
    ),
    "the boundary in a file, with more behind it": (file(b"\r\n--" + BOUNDARY + b"x\r\n") + MODEL + END, "whisper-1"),
    "the boundary in a file, not at the start of a line": (
        file(b"a--" + BOUNDARY + b"\r\n") + MODEL + END,
        "whisper-1",
    ),
    "the boundary in the value": (field(b"model", b"a--" + BOUNDARY + b"--") + END, "a------fjord--"),
    "a value as long as a model's name may be": (field(b"model", b"m" * VALUE_LIMIT) + END, "m" * VALUE_LIMIT),
    "a longer value": (field(b"model", b"m" * (VALUE_LIMIT + 1)) + END, None),
    "a value that is no text": (field(b"model", b"\xff") + END, None),
    "a file of that name": (file(b"m", b"model") + END, None),
    "a file whose name is empty": (file(b"m", b"model", b"") + END, None),
    "a lookalike in a file's name": (file(b"m", b"file", b'x\\"; name=model; y="') + END, None),
    "a lookalike in a file's content": (file(NOISE) + END, None),
    "a lookalike in a field's content": (field(b"prompt", NOISE) + END, None),
    "a lookalike in capitals": (field(b"Model", b"m") + END, None),
    "a name that begins so": (field(b"models", b"m") + END, None),
    "a quote that never closes": (part(b'Content-Disposition: form-data; x="; name=model', b"m") + END, None),
    "an attachment": (part(b'Content-Disposition: attachment; name="model"', b"m") + END, None),
    "no disposition": (part(b'Content-Type: text/plain; name="model"', b"m") + END, None),
    "a part without a head": (b"--" + BOUNDARY + b"\r\n\r\nm\r\n" + END, None),
    "a part without a head before it": (b"--" + BOUNDARY + b"\r\n\r\nm\r\n" + MODEL + END, "whisper-1"),
    "a part of nothing before it": (b"--" + BOUNDARY + b"\r\n" + MODEL + END, "whisper-1"),
    "a part that has no empty line": (b"--" + BOUNDARY + b"\r\nx: y\r\n" + MODEL + END, "whisper-1"),
    "a head that is too long": (
        part(b"x: " + b"y" * HEAD_LIMIT + b'\r\nContent-Disposition: form-data; name="model"', b"m") + END,
        None,
    ),
    "line feeds alone": ((MODEL + END).replace(b"\r\n", b"\n"), None),
    "behind the end": (END + MODEL + END, None),
    "another boundary": ((MODEL + END).replace(BOUNDARY, b"other"), None),
    "JSON": (b'{"model": "whisper-1"}', None),
    "no byte": (b"", None),
    "as many parts as are looked at": (field(b"x", b"") * (DELIMITER_LIMIT - 2) + MODEL + END, "whisper-1"),
    "one part more": (field(b"x", b"") * (DELIMITER_LIMIT - 1) + MODEL + END, None),
}


@pytest.mark.parametrize(("body", "value"), FORMS.values(), ids=FORMS)
def test_the_field_is_found_and_nothing_that_looks_like_it(body: bytes, value: str | None) -> None:
    assert read_field(body, BOUNDARY, b"model") == value


def test_a_form_cut_anywhere_before_the_value_ends_has_no_value() -> None:
    body = file(b"\x00\xff") + MODEL + END
    complete = body.index(b"whisper-1") + len(b"whisper-1\r\n--" + BOUNDARY + b"--")
    for pieces in cuts(body):
        start = pieces[0]
        assert read_field(start, BOUNDARY, b"model") == ("whisper-1" if len(start) >= complete else None), len(start)


def test_a_replaced_value_changes_no_other_byte() -> None:
    before, after = field(b"prompt", NOISE), file(NOISE)
    changed = replace_field(before + MODEL + after + MODEL + END, BOUNDARY, b"model", "ørret")
    assert changed == before + field(b"model", "ørret".encode()) + after + MODEL + END


def test_a_form_without_the_field_stays_as_it_is() -> None:
    body = file(NOISE) + END
    assert replace_field(body, BOUNDARY, b"model", "m") is body


HOSTILE = {
    "delimiters": b"--" + BOUNDARY + b"\r\n",
    "half delimiters": b"\r\n--" + BOUNDARY,
    "almost delimiters": b"\r\n--" + BOUNDARY[:-1],
    "line ends": b"\r\n",
    "dashes": b"-",
    "quotes": field(b'a";b="' * (HEAD_LIMIT // 8), b""),
    "open quotes": part(b"Content-Disposition: form-data" + b';a="\\' * (HEAD_LIMIT // 8), b""),
    "semicolons": part(b"Content-Disposition: form-data; " + b"; " * (HEAD_LIMIT // 3), b""),
    "heads": part(b"Content-Disposition: form-data\r\n" * (HEAD_LIMIT // 40), b""),
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_no_form_of_25_megabytes_takes_longer_than_a_bound(unit: bytes) -> None:
    body = b"--" + BOUNDARY + b"\r\n" + unit * (25_000_000 // len(unit))
    began = time.process_time()
    assert read_field(body, BOUNDARY, b"model") is None
    assert time.process_time() - began < 1.0  # a tenth at most, on a machine that does nothing else


@given(st.binary(), st.binary(min_size=1, max_size=70))
def test_whatever_the_bytes_reading_and_replacing_raise_nothing(body: bytes, boundary: bytes) -> None:
    read_field(body, boundary, b"model")
    replace_field(body, boundary, b"model", "m")


LIKELY = st.lists(
    st.sampled_from(
        [
            b"\r\n",
            b"--",
            b"-",
            b"b",
            b"--b",
            b"\r\n--b",
            b'Content-Disposition: form-data; name="',
            b"model",
            b'"',
            b";",
        ]
    )
).map(b"".join)


@given(LIKELY)
def test_what_is_found_ends_at_a_delimiter_and_reads_back_after_a_change(body: bytes) -> None:
    found = find_field(body, b"b", b"model")
    if found is not None:
        assert body[found.stop :].startswith(b"\r\n--b")
        assert read_field(replace_field(body, b"b", b"model", "other"), b"b", b"model") == "other"


@given(st.text(max_size=100))
def test_every_content_type_has_a_boundary_or_none(content_type: str) -> None:
    boundary_of(content_type)
    boundary_of(f"multipart/form-data; {content_type}")
