"""The parts of docs/dashboards.md that follow from the views and the rules."""

from collections.abc import Iterator
from pathlib import Path

from tools.dashboards.rules import RULES
from tools.dashboards.views import VIEWS

PAGE = Path(__file__).parents[2] / "docs/dashboards.md"


def page() -> str:
    """The page, with those parts anew; what stands around them is written by hand."""
    text = PAGE.read_text()
    for part, lines in (("panels", _panels()), ("alerts", _alerts())):
        before, mark, rest = text.partition(f"<!-- {part} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        text = "".join([before, mark, *(f"{line}\n" for line in lines), end, after])
    return text


def _panels() -> Iterator[str]:
    yield "| view | panel | what it answers |"
    yield "| --- | --- | --- |"
    for view in VIEWS:
        for panel in view.panels:
            yield f"| {view.title} | {panel.title} | {panel.text} |"


def _alerts() -> Iterator[str]:
    for rule in RULES:
        lasts = f", for {rule.lasts} minutes" if rule.lasts > 1 else ""
        yield f"### {rule.name}\n\n{rule.summary}{lasts} ({rule.severity}). {rule.do}\n"
