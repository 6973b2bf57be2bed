"""SECURITY.md says what is proven, and by what."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
CLAIMS = re.findall(r"^- \*\*Cannot\*\* .*?(?=^- |^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)


def test_every_test_that_it_names_exists() -> None:
    missing = [
        name
        for file, name in NAMED
        if not re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_everything_that_an_attacker_cannot_do_has_a_test() -> None:
    assert len(CLAIMS) > 20
    assert [claim for claim in CLAIMS if "::" not in claim] == []


def test_every_test_is_named_in_a_form_that_is_looked_up() -> None:
    assert TEXT.count("::") == len(re.findall(r"`tests/[\w/]+\.py::\w+`", TEXT))
