import dataclasses
import pickle

import pytest

from lectr_extproc.core.quick import quick_dataclass


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    y: int = 0


def test_a_value_is_told_apart_hashed_and_replaced_like_a_frozen_dataclass() -> None:
    point = Point(x=1)
    assert point == Point(x=1, y=0) != Point(x=2)
    assert len({point, Point(x=1), Point(x=2)}) == 2
    assert dataclasses.replace(point, y=3) == Point(x=1, y=3)
    assert pickle.loads(pickle.dumps(point)) == point
    assert str(point) == "Point(x=1, y=0)"


def test_a_value_has_the_fields_it_was_declared_with_and_no_others() -> None:
    with pytest.raises(AttributeError):
        Point(x=1).z = 2  # type: ignore[attr-defined]


def test_who_checks_the_code_lets_nobody_change_a_value() -> None:
    Point(x=1).x = 2  # type: ignore[misc]  # mypy would say of this comment that it is not needed
