"""Results as a page: tables between two marks of docs/benchmarks.md, and plots beside it. Prose is written by hand.

`python -m tests.bench.report` makes both again from the results of the last run.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import choosing
from tests.bench.load import REPOSITORY
from tests.bench.measures import CHUNKS, CONCURRENCIES, SATURATED, SIZES

BEGIN, END = "<!-- written by make bench -->\n", "<!-- until here -->\n"
NAMES = {
    "direct": "no gateway",
    "envoy": "Envoy alone",
    "empty": "Envoy + empty ext_proc",
    "passing": "Envoy + ext_proc that only passes chunks",
    "native": "**lectr, native**",
    "native+otlp": "**lectr, native, OTLP on**",
    "native, strip": "**lectr, native, strip**",
    "portable": "**lectr, portable**",
    "litellm": "LiteLLM proxy",
    "portkey": "Portkey gateway",
}
ENVOYS = {
    "envoy": "Envoy alone",
    "envoy+hold": "Envoy that holds a request until it is whole",
    "envoy+json": "Envoy + `json_to_metadata`",
    "envoy+usage": "Envoy + `ai_protocol_manager`",
    "envoy+log": "Envoy + access log",
    "empty": "Envoy + empty ext_proc",
    "native": "**all of lectr, native**",
}
"Of envoy_parts.PARTS: in a table of its own."

Sample = Mapping[str, Any]
Results = Mapping[str, Any]


class Seen:
    """Samples by part, arm and case; each figure comes once for each round."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples: dict[tuple[str, str, str], list[Sample]] = {}
        for sample in samples:
            self._samples.setdefault((sample["part"], sample["arm"], sample["case"]), []).append(sample)

    def each(self, part: str, arm: str, case: object, figure: Callable[[Sample], float] | str) -> list[float]:
        """By round; nothing where nothing was measured."""
        of = figure if callable(figure) else lambda sample: float(sample[figure])
        return [of(sample) for sample in self._samples.get((part, arm, str(case)), ())]

    def over(
        self, part: str, arm: str, case: object, figure: Callable[[Sample], float] | str, base: str = "direct"
    ) -> list[float]:
        """How much more than another arm, round by round."""
        pairs = zip(self.each(part, arm, case, figure), self.each(part, base, case, figure), strict=False)
        return [mine - other for mine, other in pairs]

    def arms(self, part: str) -> list[str]:
        return list(dict.fromkeys(arm for of, arm, _ in self._samples if of == part))


def ratio(mine: Sequence[float], other: Sequence[float]) -> list[float]:
    """Pair by pair, within a round."""
    return [a / b for a, b in zip(mine, other, strict=False) if b]


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """The median, and what the rounds went from and to."""
    if not values:
        return "–"
    low, middle, high = (format(value, form) for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low} – {high})"


def total_cpu(sample: Sample) -> float:
    return float(sum(sample["cpu"].values()))


def per_core(sample: Sample) -> float:
    """Calls that a second of CPU pays for."""
    return 1e6 / total_cpu(sample) if total_cpu(sample) else 0.0


def python_cpu(sample: Sample) -> float:
    return float(sample["cpu"].get("Python", 0.0))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def sections(results: Results) -> Iterator[str]:
    """Each table with its heading, where it was measured."""
    seen = Seen(results["samples"])
    yield (
        f"{results['at']}, {results['machine']}. Rounds: {results['rounds']}, in {results['took_s']:.0f} s; load"
        f" average {results['load_before']:.1f} before and {results['load_after']:.1f} after. Medians, and"
        " in brackets what the rounds went from and to.\n"
    )
    yield (
        "### Held against what was promised\n\nThe last column is what no lectr changes: the same figure of an empty"
        " ext_proc in the place of lectr, or of one that only passes chunks where chunks are read.\n\n"
        + table(
            ["what", "target", "measured", "the floor"],
            [row for row in promises(results, seen) if not row[2].startswith("–")],
        )
    )
    made = (
        ("calls", calls),
        ("streams", streams),
        ("sizes", sizes),
        ("choosing", choices),
        ("growth", growth),
        ("envoy", parts_of_envoy),
    )
    for part, sections_of in made:
        if seen.arms(part):
            yield from sections_of(results, seen)
    yield from rest(results)


def promises(results: Results, seen: Seen) -> Iterator[tuple[str, str, str, str]]:
    """The numbers that the design holds itself to; those of single functions are in the last table."""

    def ratios(arm: str, other: str, figure: Callable[[Sample], float] | str, case: int) -> str:
        return spread(ratio(seen.each("calls", arm, case, figure), seen.each("calls", other, case, figure)))

    for case in (16, SATURATED):
        floor = "1.00"
        measured = ratios("native", "empty", python_cpu, case)
        yield f"Python's CPU a call ÷ empty ext_proc's, at {case}", "≤ 1.5", measured, floor
        yield "the same, OTLP export included", "≤ 2.0", ratios("native+otlp", "empty", python_cpu, case), floor
    for name, base, target in (("no gateway", "direct", "≤ 0.8 ms"), ("Envoy alone", "envoy", "")):
        measured, floor = (f"{spread(seen.over('calls', arm, 1, 'p50', base))} ms" for arm in ("native", "empty"))
        yield f"added p50 latency at 1, native, over {name}", target, measured, floor
    yield "whole p50 latency at 1 ÷ empty ext_proc's", "≤ 1.25", ratios("native", "empty", "p50", 1), "1.00"
    for name, arm, target, floor_arm in (
        ("native", "native", "≤ 0.03 ms", "empty"),
        ("strip", "native, strip", "≤ 0.25 ms", "passing"),
        ("stream", "portable", "≤ 0.25 ms", "passing"),
    ):
        measured, floor = (
            f"{spread(seen.over('streams', of, 1000, 'chunk_p50', 'envoy'), '.3f')} ms" for of in (arm, floor_arm)
        )
        yield f"added latency of an SSE chunk over Envoy alone, {name}", target, measured, floor
    for name, case, target in (("", 1, "≤ 1.5 ms"), (", after a pause of 0.2 s", 100, "")):
        measured, floor = (f"{spread(seen.over('streams', of, case, 'first_chunk'))} ms" for of in ("native", "empty"))
        yield f"added time to first token, native{name}", target, measured, floor
    for other, target in (("litellm", "≥ 15"), ("portkey", "≥ 1.5")):
        missing = results.get("missing", {}).get(other)
        measured, floor = (ratios(of, other, per_core, SATURATED) for of in ("native", "empty"))
        measured = f"missing: {missing}" if missing else measured
        yield f"throughput a core ÷ {NAMES[other]}'s", target, measured, floor
    if results.get("serving_s"):
        yield "start to serving", "≤ 1.5 s", f"{spread(results['serving_s'])} s", ""
    for crowd in results.get("crowds", ()):
        yield (
            f"{crowd['size']:,} calls in flight: lectr's memory at 0, and what they add; open ext_proc streams",
            "≤ +30 MB, 0",
            f"{crowd['before_kib'] / 1024:.0f} + {crowd['grown_kib'] / 1024:.1f} MiB, {crowd['streams']}",
            "",
        )


def calls(results: Results, seen: Seen) -> Iterator[str]:
    """Latency, then what it takes."""
    missing = [[NAMES[name], f"missing: {why}"] for name, why in results.get("missing", {}).items()]
    rows = []
    for arm in seen.arms("calls"):
        cells = []
        for case in CONCURRENCIES:
            p50, p90, p99 = (seen.over("calls", arm, case, figure) for figure in ("p50", "p90", "p99"))
            if arm == "direct":
                p50, p90, p99 = (seen.each("calls", arm, case, figure) for figure in ("p50", "p90", "p99"))
            cells.append(f"{spread(p50)} / {median(p90):.2f} / {median(p99):.2f}")
        rows.append([NAMES[arm], *cells])
    head = ["", *(f"{case} at a time" for case in CONCURRENCIES)]
    yield (
        "### Added latency of a plain call, p50 / p90 / p99, ms\n\nOver no gateway, whose own is in the first row. 16"
        " and 64 at a time are more than one core answers at once: there it is mostly waiting in line.\n\n"
        + table(head, rows + [[*line, *[""] * (len(head) - 2)] for line in missing])
        + "\n![added latency](benchmarks/latency.svg)\n"
    )
    rows = []
    for arm in (one for one in results["arms"] if one["name"] in seen.arms("calls")):
        name, at = arm["name"], (SATURATED,)
        cpu = [
            ", ".join(
                f"{process} {spread(seen.each('calls', name, case, lambda s, p=process: s['cpu'][p]), '.0f')}"  # type: ignore[misc]
                for process in arm["resident_mib"]
            )
            for case in (1, *at)
        ]
        last = {
            process: seen.each("calls", name, SATURATED, lambda s, p=process: s["resident_mib"][p])[-1:]  # type: ignore[misc]
            for process in arm["resident_mib"]
        }
        rows.append([
            NAMES[name],
            arm["version"],
            spread(seen.each("calls", name, SATURATED, "per_s"), ",.0f"),
            spread(seen.each("calls", name, SATURATED, per_core), ",.0f") if arm["resident_mib"] else "",
            *cpu,
            f"{median(seen.each('calls', name, SATURATED, 'ours')):.0%}",
            ", ".join(f"{p} {arm['resident_mib'][p]:.0f} → {v[0]:.0f}" for p, v in last.items()),
            f"{arm['ready_s']:.1f}" if arm["resident_mib"] else "",
        ])  # fmt: skip
    head = [
        "",
        "version",
        "calls/s on a core, 64 at a time",
        "calls per second of CPU",
        "CPU µs a call, 1 at a time",
        "CPU µs a call, 64 at a time",
        "generator's and provider's core busy",
        "MiB at start → after the load",
        "s from start to first answer",
    ]
    yield "### Throughput, CPU and memory\n\n" + table(head, rows) + "\n![throughput](benchmarks/throughput.svg)\n"


def streams(_: Results, seen: Seen) -> Iterator[str]:
    """First chunk, and each chunk."""
    rows = []
    for arm in seen.arms("streams"):
        own = arm == "direct"
        cells = [spread((seen.each if own else seen.over)("streams", arm, case, "first_chunk")) for case in CHUNKS[:2]]
        for case in CHUNKS[1:]:
            p50, p99 = ((seen.each if own else seen.over)("streams", arm, case, f) for f in ("chunk_p50", "chunk_p99"))
            cells.append(f"{spread(p50, '.3f')} / {median(p99):.2f}")
        python = seen.each(
            "streams", arm, CHUNKS[-1], lambda s: (python_cpu(s) or s["cpu"].get("Node", 0.0)) / CHUNKS[-1]
        )
        rows.append([NAMES[arm], *cells, spread(python, ".0f"), _envoys(seen, arm)])
    first = ["time to first token, ms", "the same after a pause"]
    head = ["", *first, *(f"a chunk of {case:,}, p50 / p99, ms" for case in CHUNKS[1:])]
    yield (
        "### Streams: added latency\n\nOver no gateway, whose own is in the first row. The provider writes a chunk"
        " every 2 ms, with the time at which it left.\n\n"
        + table([*head, "CPU µs a chunk, Python or Node", "Envoy"], rows)
        + "\n![chunks](benchmarks/chunks.svg)\n"
    )


def _envoys(seen: Seen, arm: str) -> str:
    return spread(seen.each("streams", arm, CHUNKS[-1], lambda s: s["cpu"].get("Envoy", 0.0) / CHUNKS[-1]), ".0f")


def sizes(_: Results, seen: Seen) -> Iterator[str]:
    rows = [
        [
            NAMES[arm],
            spread(seen.each("calls", arm, 1, "p50")),
            *(spread(seen.each("sizes", arm, size, "p50")) for size in SIZES),
            _python_of(seen, arm),
        ]
        for arm in seen.arms("sizes")
    ]
    yield "### Larger requests, one at a time: whole p50, ms\n\n" + table(
        ["", "1 KB", *SIZES, "CPU ms of Python or Node, 10 MiB"], rows
    )


def _python_of(seen: Seen, arm: str) -> str:
    return spread(
        seen.each("sizes", arm, "10 MiB", lambda s: (python_cpu(s) or s["cpu"].get("Node", 0.0)) / 1000), ".1f"
    )


def choices(_: Results, seen: Seen) -> Iterator[str]:
    """Each way to ask, and beside it the same lectr's pinned calls of the same round."""

    def cell(name: str, figure: Callable[[Sample], float]) -> str:
        mine, pinned = (seen.each("choosing", of, 16, figure) for of in (name, choosing.PINNED))
        return f"{spread(mine, '.0f')}; {median(ratio(mine, pinned)):.2f} ×"

    rows = [
        [
            name,
            cell(name, python_cpu),
            cell(name, _envoy_cpu),
            spread(seen.over("choosing", name, 1, "p50", choosing.PINNED)),
        ]
        for name in seen.arms("choosing")
    ]
    yield (
        "### What choosing and limits cost\n\nAsked of one lectr, native; ratios and differences are to its pinned"
        " calls. CPU is that of 16 at a time. In *one failover* the first candidate answers 503.\n\n"
        + table(["", "Python's CPU µs a call", "Envoy's CPU µs a call", "added p50 at 1, ms"], rows)
    )


def parts_of_envoy(_: Results, seen: Seen) -> Iterator[str]:
    """One part of what lectr renders each."""
    rows = [
        [
            ENVOYS[arm],
            spread(seen.each("envoy", arm, 16, _envoy_cpu), ".0f"),
            spread(seen.over("envoy", arm, 16, _envoy_cpu, "envoy"), ".0f"),
            spread(seen.each("envoy", arm, "10 MiB", "p50")),
            spread(seen.each("envoy", arm, "10 MiB", lambda s: _envoy_cpu(s) / 1000), ".1f"),
        ]
        for arm in seen.arms("envoy")
    ]
    yield "### What Envoy's share is made of\n\n" + table(
        [
            "",
            "Envoy's CPU µs a call, 16 at a time",
            "over Envoy alone",
            "10 MiB, whole p50, ms",
            "Envoy's CPU ms of it",
        ],
        rows,
    )


def growth(results: Results, seen: Seen) -> Iterator[str]:
    rows = []
    for arm in results["more"]:
        name = arm["name"]
        rows.append([
            name,
            spread(ratio(seen.each("growth", name, 16, python_cpu), seen.each("growth", "as above", 16, python_cpu))),
            spread(ratio(seen.each("growth", name, 16, _envoy_cpu), seen.each("growth", "as above", 16, _envoy_cpu))),
            f"{arm['resident_mib']['Python']:.0f}",
            f"{arm['resident_mib']['Envoy']:.0f}",
            f"{arm['ready_s']:.1f}",
        ])  # fmt: skip
    head = ["settings", "Python's CPU a call ÷", "Envoy's ÷", "MiB, Python", "MiB, Envoy", "s to first answer"]
    yield "### What grows with what is in lectr.yaml\n\n" + table(head, rows)


def _envoy_cpu(sample: Sample) -> float:
    return float(sample["cpu"]["Envoy"])


def rest(results: Results) -> Iterator[str]:
    if results.get("micro"):
        yield "### Single steps\n\n" + table(["part", "what", "takes"], results["micro"])


def write(results: Results, folder: Path) -> Path:
    """The page, whatever prose stands around the marks, and the plots it shows."""
    page = folder / "benchmarks.md"
    before, _, rest_ = (page.read_text() if page.exists() else BEGIN + END).partition(BEGIN)
    after = rest_.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(sections(results)) + f"\n{END}{after}")
    from tests.bench import plots  # noqa: PLC0415 - what it draws with is there for `make bench` alone

    plots.draw(results["samples"], NAMES, folder / "benchmarks")
    return page


if __name__ == "__main__":
    print(write(json.loads((REPOSITORY / "build/bench/results.json").read_text()), REPOSITORY / "docs"))
