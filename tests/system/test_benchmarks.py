"""The benchmarks run: Penstock and the floor, side by side, in the smallest form. # Q1 Q2"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.system


def test_the_side_by_side_run_measures_and_reports(tmp_path: Path) -> None:
    systems = ["penstock/fan-out", "penstock/jobs", "floor/script"]
    command = [sys.executable, "-m", "benchmarks.speed", "--rounds", "1"]
    options = ["--only", ",".join(systems), "--workloads", "drain,W1,W3,W5"]
    done = subprocess.run(
        [*command, *options, "--results", str(tmp_path), "--no-plots"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())["systems"]
    assert list(found) == sorted(systems)
    for title, one in found.items():
        for name, workload in one["workloads"].items():
            (figures,) = workload["rounds"]
            assert "error" not in figures, (title, name, figures, done.stdout)
    assert found["penstock/jobs"]["workloads"]["W1"]["rounds"][0]["jobs_per_s"] > 0
    report = (tmp_path / "results.md").read_text()
    assert "| W1 against the floor, jobs/s |" in report
    assert "not measured" not in next(line for line in report.splitlines() if "W3 against" in line)
