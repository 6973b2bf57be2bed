"""What the documentation links to is there, what it shows can be typed, and what it lists is what the code has."""

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from lectr_extproc.cli import build_parser
from lectr_extproc.core import guard, words
from lectr_extproc.core.exceeded import CODES
from lectr_extproc.core.refusal import REFUSALS
from tools.reference_pages import ADVICE, PAGES, READ, TOLD, WITHIN, pages, parsers

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
FENCED = re.compile(r"^ *```(\w*).*?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
SHELL = {"sh", "shell", "bash", "console"}
PARSERS = dict(parsers(build_parser()))
OPERATORS = set("|&;><()")


def links(document: Path) -> list[str]:
    """Where its prose leads to."""
    return LINK.findall(CODE.sub("", FENCED.sub("", document.read_text())))


def anchors(document: Path) -> set[str]:
    """Of its headings, as code hosts make them."""
    plain = FENCED.sub("", document.read_text())
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(plain)]
    slugs = [re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles]
    return {slug if (before := slugs[:at].count(slug)) == 0 else f"{slug}-{before}" for at, slug in enumerate(slugs)}


@pytest.fixture(scope="module")
def anchored() -> dict[Path, set[str]]:
    return {document: anchors(document) for document in DOCUMENTS}


def test_every_link_leads_somewhere(anchored: dict[Path, set[str]]) -> None:
    broken = []
    for document in DOCUMENTS:
        for target in links(document):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            reached = (document.parent / name).resolve() if name else document
            if not reached.exists() or (anchor and anchor not in anchored.get(reached, {anchor})):
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, to_read = set(), [ROOT / "README.md"]
    while to_read:
        document = to_read.pop()
        if document in reached or not document.exists():
            continue
        reached.add(document)
        names = [target.partition("#")[0] for target in links(document)]
        to_read += [(document.parent / name).resolve() for name in names if name.endswith(".md")]
    assert {str(document.relative_to(ROOT)) for document in set(DOCUMENTS) - reached} == set()


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `lectr ...` in a text, line by line, as far as they are lectr's."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            typed = list(lexer)
        except ValueError:  # what is shown is output, with an apostrophe in it
            continue
        end = next((at for at, word in enumerate(typed) if set(word) <= OPERATORS), len(typed))
        if typed[:1] in (["lectr"], [".venv/bin/lectr"]) and end > 1:
            yield typed[1:end]


def is_typed_right(typed: list[str]) -> bool:
    """Whether it would run, as far as its words go."""
    try:
        PARSERS["lectr"].parse_args([*typed, "--help"])
    except SystemExit as stopped:
        return not stopped.code
    return False


def is_named_right(typed: list[str]) -> bool:
    """Whether there is such a command, with such options; in a sentence their values are left out."""
    path = " ".join(["lectr", *takewhile(lambda word: not word.startswith("-"), typed)])
    named = next(
        (name for name in sorted(PARSERS, key=len, reverse=True) if f"{path} ".startswith(f"{name} ")), "lectr"
    )
    options = {word.partition("=")[0] for word in typed if word.startswith("--")}
    return (named != "lectr" or typed[0] in options) and all(
        option in PARSERS[named].format_help() for option in options
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_command_that_is_shown_is_one(document: Path) -> None:
    text = document.read_text()
    shown = [typed for kind, block in FENCED.findall(text) if kind in SHELL for typed in commands(block)]
    named = [typed for quoted in CODE.findall(FENCED.sub("", text)) for typed in commands(quoted.strip("`"))]
    mistakes = [typed for typed in shown if not is_typed_right(typed)]
    mistakes += [typed for typed in named if not is_named_right(typed)]
    assert mistakes == []


def test_the_reference_is_as_the_code_is() -> None:
    stale = {name for name, text in pages().items() if (PAGES / name).read_text() != text}
    assert stale == set(), "`make pages` writes them anew"


def test_each_code_of_an_error_is_explained() -> None:
    assert ADVICE.keys() == {*REFUSALS, *CODES.values(), guard.CODE}


def test_each_header_of_ours_is_explained() -> None:
    ours = {value for name, value in vars(words).items() if name.endswith("_HEADER")}
    assert {name for name in (*READ, *WITHIN) if name.startswith(words.OWN_PREFIX)} == ours
    rendered = (ROOT / "envoy/native/bootstrap.yaml").read_text()
    assert set(re.findall(r"key: (x-model-router-[\w-]+)", rendered)) == TOLD.keys()
