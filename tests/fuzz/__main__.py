"""Fuzzes every target, or one, guided by coverage: `python -m tests.fuzz --seconds 300 [target]`.

What breaks a promise is left in build/fuzz/TARGET and ends the run with an error. With --keep, those inputs that reach
what no other one reaches become the corpus that the suite replays.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import atheris  # in .tools, see tools/atheris.lock

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "fuzz"
LONGEST_INPUT = 1024

SETTINGS = [
    "settings",
    *(f"settings_{name}" for name in ("checks", "file", "limits", "org", "providers", "types", "yaml")),
]
FOLLOWED = [f"lectr_extproc.{name}" for name in ("core", "edge", *SETTINGS)]

with atheris.instrument_imports(include=FOLLOWED):
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS


def fuzz(name: str, *flags: str) -> Any:
    """Ends the process: libFuzzer does not return."""
    os.nice(19)
    limits = [f"-max_len={LONGEST_INPUT}", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]
    again = f"{sys.executable} -m tests.fuzz {name} --"  # libFuzzer has a shell run it when it compares inputs
    atheris.Setup([again, *limits, *flags], TARGETS[name])
    atheris.Fuzz()


def run(name: str, seconds: int, *, keep: bool) -> int:
    """One target in a process of its own, from the corpus and the seeds on."""
    found, corpus = BUILD / name, HERE / "corpus" / name
    for folder in (found, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (found / f"seed-{number}").write_bytes(seed)
    own = [sys.executable, "-m", "tests.fuzz", name, "--"]
    status = subprocess.run(
        [*own, f"-max_total_time={seconds}", f"-artifact_prefix={found}/", str(found), str(corpus)], check=False
    ).returncode
    if keep:
        subprocess.run([*own, "-merge=1", f"-max_len={LONGEST_INPUT // 2}", str(corpus), str(found)], check=True)
    return status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="target", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", action="store_true", help="add to the corpus what reaches more")
    own, behind = sys.argv[1:], []
    if "--" in own:
        own, behind = own[: own.index("--")], own[own.index("--") + 1 :]
    chosen = parser.parse_args(own)
    if behind:
        fuzz(chosen.targets[0], *behind)
    failed = [name for name in chosen.targets or TARGETS if run(name, chosen.seconds, keep=chosen.keep)]
    sys.exit(f"broken: {', '.join(failed)}" if failed else 0)
