"""Three plots, the same bytes for the same results, on no background: readable on a light page and on a dark one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

GREY = "#8b949e"
COLOURS = ("#58a6ff", "#3fb950", "#d29922")

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.hashsalt": "lectr",  # ids that do not change from run to run
        "svg.fonttype": "none",
        "font.size": 10,
        "text.color": GREY,
        "axes.labelcolor": GREY,
        "axes.edgecolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)

Sample = Mapping[str, Any]


def draw(samples: Sequence[Sample], names: Mapping[str, str], folder: Path) -> None:
    """What was measured of it."""
    folder.mkdir(parents=True, exist_ok=True)
    calls = [sample for sample in samples if sample["part"] == "calls"]
    chunks = [sample for sample in samples if sample["part"] == "streams" and sample["case"] == "1000"]
    if calls:
        bars(folder / "latency.svg", names, "p50 of a plain call, ms", by(calls, "p50"))
        saturated = [sample for sample in calls if sample["case"] == "64" and sample["cpu"]]
        costs = {key: [1e6 / sum(s["cpu"].values()) for s in of] for key, of in grouped(saturated).items()}
        bars(folder / "throughput.svg", names, "calls per second of CPU, 64 at a time", costs)
    if chunks:
        bars(folder / "chunks.svg", names, "p50 from provider to client of an SSE chunk, ms", by(chunks, "chunk_p50"))


def grouped(samples: Sequence[Sample]) -> dict[tuple[str, str], list[Sample]]:
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample["arm"], sample["case"]), []).append(sample)
    return groups


def by(samples: Sequence[Sample], figure: str) -> dict[tuple[str, str], list[float]]:
    return {key: [sample[figure] for sample in of] for key, of in grouped(samples).items()}


def bars(file: Path, names: Mapping[str, str], title: str, values: Mapping[tuple[str, str], Sequence[float]]) -> None:
    """A bar for each arm and case, with its median beside it and the span of the rounds on it."""
    arms = list(dict.fromkeys(arm for arm, _ in values))
    cases = list(dict.fromkeys(case for _, case in values))
    thick = 0.8 / len(cases)
    figure, axes = plt.subplots(figsize=(8, 0.6 + len(arms) * max(0.32, 0.22 * len(cases))))
    for place, case in enumerate(cases):
        for row, arm in enumerate(arms):
            if not (rounds := values.get((arm, case))):
                continue
            middle, y = median(rounds), row + (place - (len(cases) - 1) / 2) * thick
            error = [[middle - min(rounds)], [max(rounds) - middle]]
            label = f"{case} at a time" if len(cases) > 1 and row == 0 else None
            axes.barh(y, middle, thick * 0.9, xerr=error, color=COLOURS[place], ecolor=GREY, label=label)
            axes.annotate(f" {middle:,.3g}" if middle < 1000 else f" {middle:,.0f}", (max(rounds), y), va="center")
    axes.set_yticks(range(len(arms)), [names[arm].strip("*") for arm in arms])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_title(title, color=GREY)
    if len(cases) > 1:
        axes.legend(frameon=False, labelcolor=GREY)
    figure.savefig(file, transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
