"""Where panels stand on a grid: from left to right, line by line."""

from collections.abc import Sequence
from typing import NamedTuple


class Place(NamedTuple):
    """From the left and from the top."""

    x: int
    y: int
    width: int
    height: int


def placed(sizes: Sequence[tuple[int, int]], width: int, top: int = 0) -> list[Place]:
    """Sizes, width and height, in their order. A line is filled: by all of it, if they are alike, else by its last."""
    lines: list[list[tuple[int, int]]] = []
    for size in sizes:
        if not lines or sum(wide for wide, _ in lines[-1]) + size[0] > width:
            lines.append([])
        lines[-1].append(size)
    places: list[Place] = []
    for line in lines:
        widths = [width // len(line)] * len(line) if len(set(line)) == 1 else [wide for wide, _ in line]
        widths[-1] = width - sum(widths[:-1])
        places += [Place(sum(widths[:place]), top, widths[place], height) for place, (_, height) in enumerate(line)]
        top += max(height for _, height in line)
    return places
