"""A reader of one answer with the catalogue's own tables, as core/watch.py makes one with those of its snapshot."""

from collections.abc import Mapping

from lectr_extproc.catalog.answers import ANSWERS, REPORTED_COSTS, UNKNOWN
from lectr_extproc.core.answer import AnswerReader, Bounds


def reader(
    dialect: str,
    provider: str,
    *,
    status: int = 200,
    content_type: str = "",
    content_encoding: str = "",
    headers: Mapping[str, str] | None = None,
    bounds: Bounds | None = None,
) -> AnswerReader:
    """A reader of one answer; an unknown dialect is read as one of which only errors are known."""
    return AnswerReader(
        ANSWERS.get(dialect, UNKNOWN),
        provider,
        status=status,
        content_type=content_type,
        content_encoding=content_encoding,
        headers=headers,
        cost=REPORTED_COSTS.get(provider),
        bounds=bounds,
    )
