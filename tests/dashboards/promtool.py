"""Prometheus' own evaluation of expressions and rules, over series that a test makes up or that lectr exported."""

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PROMTOOL = Path(__file__).parents[2] / ".tools/prometheus/promtool"

Series = Mapping[str, str]
"Selectors, each with its values from minute to minute, as promtool writes them: `0+5x60` begins with 0 and adds 5."


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What it says."""
    assert PROMTOOL.exists(), "`make unit` compiles promtool into .tools"
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)


def found(folder: Path, series: Series, expressions: Iterable[str], minute: int) -> set[str]:
    """Those that have a value then: it is told that none has, and complains of each that does."""
    asked = sorted(set(expressions))
    wanted = [{"expr": each, "eval_time": f"{minute}m", "exp_samples": []} for each in asked]
    told = _test(folder, [case(series, promql_expr_test=wanted)]).stderr
    assert told.count("got: ") == told.count("    expr: "), told
    return {json.loads(quoted) for quoted in re.findall(r'^    expr: ("(?:[^"\\]|\\.)*"), time:', told, re.MULTILINE)}


def mistakes(folder: Path, rules: Path, cases: Sequence[Mapping[str, Any]], every: str = "1m") -> str:
    """How these rules do otherwise than it says in the cases, looked at so often."""
    checked = _test(folder, cases, every, rules)
    return "" if checked.returncode == 0 else checked.stdout + checked.stderr


def case(series: Series, **more: Any) -> dict[str, Any]:
    """Series of which something is expected."""
    return {"interval": "1m", "input_series": [{"series": s, "values": v} for s, v in series.items()], **more}


def _test(
    folder: Path, cases: Sequence[Mapping[str, Any]], every: str = "1m", *rules: Path
) -> subprocess.CompletedProcess[str]:
    file = folder / "test.yml"
    file.write_text(json.dumps({"rule_files": list(map(str, rules)), "evaluation_interval": every, "tests": cases}))
    return run("test", "rules", file)
