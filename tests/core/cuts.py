"""The ways to cut a byte string up that every parser of bytes is held against."""

from collections.abc import Iterator


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and in two at each position."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]
