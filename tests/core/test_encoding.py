import gzip
import os
import zlib
from collections.abc import Callable

import brotli
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.encoding import FREE, PIECE, RATIO, decoder
from tests.core.cuts import cuts


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "none": ("", bytes),
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "gzip by its old name": (" X-GZIP ", gzip.compress),
    "gzip in several members": ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    "gzip with padding": ("gzip", lambda data: gzip.compress(data) + b"\0" * 20),
    "gzip with an empty member": ("gzip", lambda data: gzip.compress(b"") + gzip.compress(data)),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", raw_deflate),
    "deflate with something behind": ("deflate", lambda data: zlib.compress(data) + b"more"),
    "brotli": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
    "zstd in several frames": ("zstd", lambda data: zstd.compress(data[:9]) + zstd.compress(data[9:])),
    "zstd with an empty frame": ("zstd", lambda data: zstd.compress(b"") + zstd.compress(data)),
}
DATA = b'data: {"usage": {"prompt_tokens": 3}}\n\n' * 3 + bytes(range(256))


def decode(encoding: str, chunks: list[bytes]) -> tuple[list[bytes], str | None]:
    chosen = decoder(encoding)
    assert chosen is not None
    pieces = [piece for chunk in chunks for piece in chosen.decode(chunk)]
    return pieces, chosen.failure


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoding_is_undone_wherever_its_bytes_are_cut(name: str) -> None:
    encoding, encode = ENCODERS[name]
    for chunks in cuts(encode(DATA)):
        pieces, failure = decode(encoding, chunks)
        assert (b"".join(pieces), failure) == (DATA, None)


def test_what_was_flushed_can_be_read_before_the_rest_comes() -> None:
    compressor = zlib.compressobj(wbits=31)
    chosen = decoder("gzip")
    assert chosen is not None
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        flushed = compressor.compress(event) + compressor.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(chosen.decode(flushed)) == event


@pytest.mark.parametrize("name", ENCODERS)
def test_a_large_answer_comes_in_small_pieces(name: str) -> None:
    encoding, encode = ENCODERS[name]
    data = os.urandom(1000) * 500
    pieces, failure = decode(encoding, [encode(data)])
    assert (b"".join(pieces), failure) == (data, None)
    assert encoding in {"", "identity"} or max(map(len, pieces)) <= 2 * PIECE


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in {"none", "identity"}])
def test_an_answer_that_grows_out_of_all_proportion_is_refused_while_it_is_small(name: str) -> None:
    encoding, encode = ENCODERS[name]
    bomb = encode(bytes(FREE * 20))
    for chunks in ([bomb], [bomb[i : i + 512] for i in range(0, len(bomb), 512)]):
        pieces, failure = decode(encoding, [*chunks, bomb])
        assert failure == "inflated_too_large"
        assert sum(map(len, pieces)) <= FREE + RATIO * len(bomb) + 2 * PIECE


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_members_with_nothing_in_them_are_refused_as_if_they_were_large(name: str) -> None:
    encoding, encode = ENCODERS[name]
    for slices in ([encode(b"")] * 2000, [encode(b"x")] * 2000):
        chosen = decoder(encoding)
        assert chosen is not None
        for each in slices:
            chosen.decode(each)
        assert chosen.failure == "inflated_too_large"
    events = [encode(b"data: %d\n\n" % number + os.urandom(32)) for number in range(2000)]
    assert decode(encoding, events)[1] is None


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_bytes_that_are_not_what_they_are_said_to_be_are_reported_and_end_the_reading(encoding: str) -> None:
    assert decode(encoding, [b"\xff\xffthis is no such thing" * 50, gzip.compress(DATA)]) == ([], "broken_encoding")


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_what_came_before_a_broken_part_still_counts(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    for chunks in cuts(encode(DATA) + b"more of another kind"):
        assert (b"".join(decode(encoding, chunks)[0]), decode(encoding, chunks)[1]) == (DATA, "broken_encoding")


@pytest.mark.parametrize("encoding", ["compress", "gzip, br", "aws-chunked", "zip"])
def test_an_encoding_nobody_here_knows_has_no_decoder(encoding: str) -> None:
    assert decoder(encoding) is None


@given(st.sampled_from(["", "gzip", "deflate", "br", "zstd"]), st.lists(st.binary(max_size=64)))
def test_whatever_the_bytes_they_are_decoded_or_reported(encoding: str, chunks: list[bytes]) -> None:
    chosen = decoder(encoding)
    assert chosen is not None
    for chunk in chunks:
        chosen.decode(chunk)
    assert chosen.failure in {None, "broken_encoding"}
