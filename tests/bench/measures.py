"""What is measured of each arm. Rounds take one arm after the other, so that what else the machine does meets all."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.bench import choosing
from tests.bench.arms import Arm, asking
from tests.bench.host import cpu_s
from tests.bench.load import Seen, request, run

CONCURRENCIES = (1, 16, 64)
SATURATED = 64
CHUNKS = (1, 100, 1000)
"One: time to first token as calls in a row have it. Those behind come after a pause, and find every cache cold."
SIZES = {"100 KB": 100 << 10, "10 MiB": 10 << 20}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of the generator against one arm. Times are in milliseconds, CPU in microseconds a call."""

    part: str
    arm: str
    case: str
    round: int
    calls: int
    per_s: float
    p50: float
    p90: float
    p99: float
    cpu: dict[str, float]
    "By process."
    ours: float
    "How much of its core the generator and the provider took."
    resident_mib: dict[str, float]
    first_chunk: float | None = None
    chunk_p50: float | None = None
    chunk_p99: float | None = None


def percentile(values: Sequence[int], percent: int) -> float:
    """In milliseconds, of microseconds."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)] / 1000


@dataclass(frozen=True, slots=True)
class Meter:
    """Measures arms against one provider."""

    provider_pid: int
    seconds: float
    "Of each run."

    def warm(self, arm: Arm) -> None:
        """Calls that count for nothing."""
        arm.settle(len(run("drive", arm.port, request(arm.port, arm.headers, asking()), self.seconds, 16).took))

    def calls(self, arms: Sequence[Arm], round_: int) -> Iterator[Sample]:
        """Plain calls of a kilobyte, by how many are made at a time."""
        for arm in arms:
            for connections in CONCURRENCIES:
                yield self._sample("calls", arm, str(connections), round_, body=asking(), connections=connections)

    def streams(self, arms: Sequence[Arm], round_: int) -> Iterator[Sample]:
        """One paced stream after the other, by its chunks. Clients ask for usage, but those of `strip`."""
        for arm in arms:
            for chunks in CHUNKS:
                body = asking(
                    size=300, stream=True, stream_options={"include_usage": True}, max_tokens=chunks, user="paced"
                )
                yield self._sample("streams", arm, str(chunks), round_, body=body)
                if arm.name == "native":
                    body = asking(size=300, stream=True, max_tokens=chunks, user="paced")
                    yield self._sample("streams", arm, str(chunks), round_, body=body, name="native, strip")

    def sizes(self, arms: Sequence[Arm], round_: int) -> Iterator[Sample]:
        """Plain calls one at a time, by the size of the request; `calls` has those of a kilobyte."""
        for arm in arms:
            for name, size in SIZES.items():
                yield self._sample("sizes", arm, name, round_, body=asking(size=size))

    def growth(self, arms: Sequence[Arm], round_: int) -> Iterator[Sample]:
        """Plain calls to lectrs with more of something in their settings."""
        for arm in arms:
            yield self._sample("growth", arm, "16", round_, body=asking(), connections=16)

    def parts_of_envoy(self, arms: Sequence[Arm], round_: int) -> Iterator[Sample]:
        """Plain calls, and large ones, to Envoys with one part of what lectr renders."""
        for arm in arms:
            yield self._sample("envoy", arm, "16", round_, body=asking(), connections=16)
            yield self._sample("envoy", arm, "10 MiB", round_, body=asking(size=SIZES["10 MiB"]))

    def choosing(self, arm: Arm, round_: int) -> Iterator[Sample]:
        """Calls that leave the choice, and some of an org with limits, beside pinned ones to the same lectr."""
        for name, case in choosing.CASES.items():
            for connections in (1, 16):
                yield self._sample(
                    "choosing",
                    arm,
                    str(connections),
                    round_,
                    body=asking(model=case.model),
                    headers=choosing.headers(arm, case),
                    connections=connections,
                    name=name,
                )

    def _sample(
        self,
        part: str,
        arm: Arm,
        case: str,
        round_: int,
        *,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        connections: int = 1,
        name: str | None = None,
    ) -> Sample:
        how = "follow" if part == "streams" else "drive"
        before, began, provider = arm.cpu_s(), time.monotonic(), cpu_s(self.provider_pid)
        seen = run(how, arm.port, request(arm.port, headers or arm.headers, body), self.seconds, connections)
        took, provider = time.monotonic() - began, cpu_s(self.provider_pid) - provider
        arm.settle(len(seen.took))
        after = arm.cpu_s()
        return Sample(
            part=part,
            arm=name or arm.name,
            case=case,
            round=round_,
            calls=len(seen.took),
            per_s=seen.per_s,
            p50=percentile(seen.took, 50),
            p90=percentile(seen.took, 90),
            p99=percentile(seen.took, 99),
            cpu={of: (after[of] - before[of]) / len(seen.took) * 1e6 for of in after},
            ours=seen.cpu_s / seen.seconds + provider / took,
            resident_mib=arm.resident_mib(),
            **_chunks(seen),
        )


def _chunks(seen: Seen) -> dict[str, float]:
    if not seen.chunks:
        return {}
    return {
        "first_chunk": percentile(seen.first_chunk, 50),
        "chunk_p50": percentile(seen.chunks, 50),
        "chunk_p99": percentile(seen.chunks, 99),
    }
