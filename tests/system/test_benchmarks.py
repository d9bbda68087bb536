"""The benchmarks run: Penstock and the floor, side by side, in a small form. # Q1 Q2"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import missing

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ["floor/script", "penstock/fan-out", "penstock/jobs"]
pytestmark = pytest.mark.system


def test_the_side_by_side_run_measures_and_reports(tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        missing("there is no redis-server")
    command = [sys.executable, "-m", "benchmarks.speed", "--rounds", "1", "--scale", "0.1"]
    command += ["--only", ",".join(SYSTEMS), "--workloads", "drain,W1,W3,W5"]
    command += ["--results", str(tmp_path), "--no-plots"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        try:
            said, _ = running.communicate(timeout=110)
        finally:
            running.terminate()  # it ends what it started
    assert running.returncode == 0, said
    found = json.loads((tmp_path / "results.json").read_text())["systems"]
    assert list(found) == SYSTEMS
    for title, one in found.items():
        for name, workload in one["workloads"].items():
            (figures,) = workload["rounds"]
            assert "error" not in figures, (title, name, figures)
    assert found["penstock/jobs"]["workloads"]["W1"]["rounds"][0]["jobs_per_s"] > 0
    report = (tmp_path / "results.md").read_text().splitlines()
    assert "not measured" not in next(line for line in report if "W3 against the floor" in line)
