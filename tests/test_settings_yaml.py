"""What YAML can do to a file, and to who reads it."""

import pytest

from lectr_extproc import settings_yaml as module
from tests.test_settings import problems

NOT_A_FILE = {
    "broken YAML": ("orgs: [", "not YAML: "),
    "a tab": ("orgs:\n\t- a", "not YAML: "),
    "two documents": ("a: 1\n---\nb: 2", "not YAML: "),
    "a list": ("- orgs", "line 1: the file must be a mapping"),
    "a word": ("orgs", "line 1: the file must be a mapping"),
    "a number": ("0", "line 1: the file must be a mapping"),
    "a tag": ("!!python/object:os.system {}", "not YAML: "),
    "a control character": ("a: \x00", "not YAML: "),
    "a list in itself": ("orgs: &all [*all]", "not YAML: its aliases repeat more than 1,000,000 values"),
    "a mapping in itself": ("orgs: &all {name: *all}", "not YAML: its aliases repeat"),
    "lists in lists": ("a:\n  " + "[" * 200_000, "not YAML: line 2: more than 100 values in each other"),
    "mappings in mappings": ("{a: " * 200_000, "not YAML: line 1: more than 100 values in each other"),
    "lists in lists by their indent": ("- " * 20_000, "not YAML: line 1: more than 100 values in each other"),
    "aliases of aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)),
        "not YAML: its aliases repeat",
    ),
    "aliases merged into aliases": (
        "a0: &a0 {k: v}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)),
        "not YAML: its aliases repeat",
    ),
}


@pytest.mark.parametrize(("text", "problem"), NOT_A_FILE.values(), ids=NOT_A_FILE)
def test_what_is_no_mapping_is_told_so(text: str, problem: str) -> None:
    (told,) = problems(text)
    assert told.startswith(problem)
    assert "\n" not in told


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("2024-13-45", "timestamp"),
        ("!!timestamp secret", "timestamp"),
        ("!!bool secret", "bool"),
        ("!!int ''", "int"),
        ("!!float secret", "float"),
        ("9" * 5000, "int"),
    ],
)
def test_what_yaml_itself_stumbles_over_is_told_with_its_line_and_without_it(value: str, kind: str) -> None:
    assert problems(f"orgs:\n- name: {value}") == [f"not YAML: line 2: this is no {kind}"]


def test_more_values_than_settings_have_are_not_read_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VALUES", 10)
    assert problems("- x\n" * 10 + "- [no YAML") == ["not YAML: line 1: more than 10 values"]


def test_half_a_character_is_told_with_its_line_and_without_what_is_around_it() -> None:
    (problem,) = problems('orgs:\n- name: "secret\\ud800"')
    assert problem.startswith("not YAML: line 2: ")
    assert "secret" not in problem


def test_a_secret_where_yaml_stumbles_is_not_repeated() -> None:
    (problem,) = problems("credentials:\n  openai: sk-hunter2: x\n")
    assert problem == "not YAML: line 2: mapping values are not allowed in this context"
