"""A reader of one answer with the catalogue's own tables, as core/watch.py makes one with those of its snapshot."""

from typing import Any

from lectr_extproc.catalog.answers import ANSWERS, REPORTED_COSTS, UNKNOWN
from lectr_extproc.core.answer import AnswerReader


def reader(dialect: str, provider: str, **more: Any) -> AnswerReader:
    """A reader of one answer; an unknown dialect is read as one of which only errors are known."""
    return AnswerReader(ANSWERS.get(dialect, UNKNOWN), provider, cost=REPORTED_COSTS.get(provider), **more)
