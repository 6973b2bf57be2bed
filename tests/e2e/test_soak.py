"""A minute of the soak (docs/soak.md), with a light load: every fault in turn, while calls come at a steady rate."""

from pathlib import Path

from tests.soak.run import soak


def test_a_minute_of_faults_loses_no_row_and_no_span_tells_none_twice_and_leaves_memory_and_files_as_they_were(
    tmp_path: Path,
) -> None:
    assert soak(tmp_path, minutes=1, per_s=20, fault_every_s=0.5)
