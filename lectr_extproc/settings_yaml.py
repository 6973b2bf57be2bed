"""YAML to plain values, with the line of each: bounded in size and depth, and nothing of the file in what it says."""

from itertools import chain
from typing import Any

import yaml

from lectr_extproc.settings_checks import Path, Problem

MOST_VALUES = 1_000_000
"A thousand orgs have some twenty thousand; a few lines of aliases can stand for more than there is time."

DEEPEST = 100
"libyaml composes by recursion in C, where a list in a list in a list would end the process. Settings have some seven."


class _Composer(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Text to nodes, with libyaml where PyYAML has it, which takes a quarter of the time.

    Both composers call these two methods around each node, whatever is in it.
    """

    _depth = _values = 0

    def descend_resolver(self, parent: yaml.Node | None, _: object) -> None:
        self._depth += 1
        self._values += 1
        if self._depth > DEEPEST or self._values > MOST_VALUES:
            much = f"{DEEPEST} values in each other" if self._depth > DEEPEST else f"{MOST_VALUES:,} values"
            raise yaml.MarkedYAMLError(problem=f"more than {much}", problem_mark=parent.start_mark if parent else None)

    def ascend_resolver(self) -> None:
        self._depth -= 1


class _Constructor(yaml.constructor.SafeConstructor):
    """Tells with its line what YAML's own constructors stumble over: `2024-13-45`, `!!bool x`, half a character."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            if isinstance(node, yaml.ScalarNode):
                node.value.encode()
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(problem=f"this is no {kind}", problem_mark=node.start_mark) from None


class YamlError(Exception):
    """What YAML stumbled over and where, without the piece of the file that it quotes: a key may be in it."""


def read(text: str) -> tuple[Any, dict[Path, int], list[Problem]]:
    """What is in a document, where each value of it begins, and the names that are written twice."""
    try:
        root = yaml.compose(text, Loader=_Composer)
        if _size(root, {}) > MOST_VALUES:
            raise ValueError(f"its aliases repeat more than {MOST_VALUES:,} values")
        raw = _Constructor().construct_document(root) if root else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise YamlError(f"line {mark.line + 1}: {error.problem}" if mark else _in_a_line(error)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the last: aliases of aliases of aliases
        raise YamlError(_in_a_line(error)) from None
    return raw, *_read_lines(root)


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())


def is_blank(text: str) -> bool:
    """Whether a file that is YAML says nothing, as one does that was emptied to be written anew."""
    return yaml.safe_load(text) is None


def _size(node: yaml.Node | None, known: dict[yaml.Node, int]) -> int:
    """How many values a document has, each as often as aliases repeat it; of one that holds itself, too many."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if node not in known:
        known[node] = MOST_VALUES
        below = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[node] = 1 + sum(_size(each, known) for each in below)
    return known[node]


def _read_lines(root: yaml.Node | None) -> tuple[dict[Path, int], list[Problem]]:
    """Where each value of a YAML document begins; and the names written twice, of which YAML forgets the first."""
    found: dict[Path, int] = {}
    twice: list[Problem] = []

    def walk(node: yaml.Node | None, path: Path) -> None:
        if node is None:
            return
        found.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = (*path, key.value)
                if below in found:
                    twice.append((below, f"written twice, on line {found[below]} too"))
                found[below] = key.start_mark.line + 1
                walk(value, below)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                walk(value, (*path, i))

    walk(root, ())
    return found, twice
