"""Every input that fuzzing found to reach something of its own, and what it begins with, keep every promise."""

from itertools import chain
from pathlib import Path

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_found_stays_found(name: str) -> None:
    found = [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]
    assert found
    for data in chain(seeds(name), found):
        TARGETS[name](data)


def test_the_corpus_stays_small_and_has_a_target() -> None:
    files = [file for file in CORPUS.rglob("*") if file.is_file()]
    assert {file.parent.name for file in files} == TARGETS.keys()
    assert sum(file.stat().st_size for file in files) < 200_000
