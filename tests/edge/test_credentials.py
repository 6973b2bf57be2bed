import os
import tracemalloc
from pathlib import Path

import pytest

from lectr_extproc.edge.credentials import MAX_BYTES, content, read_reference


@pytest.fixture(name="secret")
def _secret(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def why_not(reference: str) -> str:
    try:
        return f"there is {read_reference(reference)}"
    except ValueError as error:
        return str(error)


def test_a_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELD", "sk-1")
    assert read_reference("env:HELD") == "sk-1"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
def test_a_key_is_read_from_a_file_without_the_end_of_its_line(secret: Path, end: bytes) -> None:
    secret.write_bytes(b"sk-1" + end)
    assert read_reference(f"file:{secret}") == "sk-1"


NO_KEY = {
    "nothing": (b"", "is empty"),
    "an empty line": (b"\n", "is empty"),
    "two lines": (b"hunter2\nhunter2\n", "is no key"),
    "a scheme before it": (b"Bearer hunter2", "is no key"),
    "a blank": (b" hunter2", "is no key"),
    "a letter beyond ASCII": ("hunter2é".encode(), "is no key"),
    "bytes that are no text": (b"hunter2\xff", "is no key"),
    "a control character": (b"hunter2\x00", "is no key"),
    "more than any header holds": (b"hunter2" * MAX_BYTES, "it is larger than 65,536 bytes"),
    "one of our own": (b"lc_key_hunter2", "a key of this gateway"),
}


@pytest.mark.parametrize(("written", "told"), NO_KEY.values(), ids=NO_KEY)
def test_what_no_header_may_hold_is_no_key_and_is_not_repeated(secret: Path, written: bytes, told: str) -> None:
    secret.write_bytes(written)
    why = why_not(f"file:{secret}")
    assert told in why
    assert str(secret) in why
    assert "hunter2" not in why


def test_what_is_not_there_is_named(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HELD", raising=False)
    assert why_not("env:HELD") == "the environment has no HELD"
    monkeypatch.setenv("HELD", "")
    assert why_not("env:HELD") == "HELD is empty"
    assert why_not(f"file:{secret}") == f"{secret} cannot be read: No such file or directory"


def test_neither_a_folder_nor_a_pipe_nor_a_device_is_waited_for(secret: Path) -> None:
    os.mkfifo(secret)
    for odd, why in (
        (secret, "it is no file"),
        (secret.parent, "Is a directory"),
        (Path("/dev/zero"), "it is no file"),
    ):
        assert why_not(f"file:{odd}") == f"{odd} cannot be read: {why}"
        with pytest.raises(OSError, match=why):
            content(odd)


def test_no_more_is_read_of_a_file_than_it_may_be_long(secret: Path) -> None:
    secret.write_bytes(b"12345")
    assert content(secret, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        content(secret, 4)
    os.truncate(secret, 1 << 40)
    tracemalloc.start()
    with pytest.raises(OSError, match="larger than"):
        content(secret, 1 << 26)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_path_that_no_file_can_have_is_told() -> None:
    assert "null byte" in why_not("file:/a\0b")
