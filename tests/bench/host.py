"""What the operating system says of processes: the CPU they took, the memory they hold; which cores they may use."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
OURS, THEIRS = {CORES[0]}, {CORES[-1]}
"The load generator and the provider share one core; an arm, all its processes together, has another."


@contextlib.contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """What is started meanwhile stays on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """A process and everything it started."""
    try:
        tasks = [task.joinpath("children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:
        return []
    return [pid, *(one for children in tasks for child in children for one in family(int(child)))]


def cpu_s(pid: int) -> float:
    """Time on a core so far, as the scheduler counts it: /proc/PID/stat does so in hundredths of a second."""
    spent_ns = 0
    for one in family(pid):
        for task in Path(f"/proc/{one}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
                spent_ns += int((task / "schedstat").read_text().split()[0])
    return spent_ns / 1e9


def resident_mib(pid: int) -> float:
    """Shared pages are counted for each process."""
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def machine() -> str:
    """In one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{len(CORES)} cores, {model}, Linux {platform.release()}, Python {platform.python_version()}"
