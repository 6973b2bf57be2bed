from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from tools.dashboards.layout import Place, placed

SIZES = st.lists(st.tuples(st.integers(1, 24), st.integers(1, 9)), max_size=12)


def test_panels_that_are_alike_share_their_line_and_else_the_last_has_the_rest() -> None:
    assert placed([(4, 4), (4, 4), (12, 8), (12, 8), (12, 8)], 24, top=1) == [
        Place(0, 1, 4, 4),
        Place(4, 1, 4, 4),
        Place(8, 1, 16, 8),
        Place(0, 9, 12, 8),
        Place(12, 9, 12, 8),
    ]
    assert placed([(4, 4)] * 4, 24) == [Place(x, 0, 6, 4) for x in (0, 6, 12, 18)]


@given(SIZES)
def test_no_panel_stands_on_another_or_beyond_the_grid(sizes: list[tuple[int, int]]) -> None:
    places = placed(sizes, 24)
    assert [place.height for place in places] == [height for _, height in sizes]
    assert all(at.width >= wide and at.x + at.width <= 24 for at, (wide, _) in zip(places, sizes, strict=True))
    for one, other in combinations(places, 2):
        beside = one.x + one.width <= other.x or other.x + other.width <= one.x
        assert beside or one.y + one.height <= other.y
