"""SECURITY.md says what is proven, and by what."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
CLAIMS = re.findall(r"^- \*\*Cannot\*\* .*?(?=^- |^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_every_test_that_it_names_exists(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_everything_that_an_attacker_cannot_do_has_a_test() -> None:
    assert len(CLAIMS) > 20
    assert [claim for claim in CLAIMS if "::" not in claim] == []


def test_every_test_is_named_in_a_form_that_is_looked_up() -> None:
    assert TEXT.count("::") == len(re.findall(r"`tests/[\w/]+\.py::\w+`", TEXT))
