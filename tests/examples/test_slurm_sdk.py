"""The examples of slurm-sdk's own wheel run, and end with the results that they have there."""  # S2 S3 S4

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from support.slurm_examples import EXAMPLES, OURS, program, results

#: by example, what slurm-sdk 0.4.6 prints of its results on its local backend
#: (`make bench-sdk` runs it there)
PRINTED = {
    "parallelization_patterns": (
        "  Total items: 500",
        "  Total sum:   124750",
        "  Item 0: final_transform_0(preprocessed_data_1)",
        "  Item 1: final_transform_1(preprocessed_data_2)",
        "  Item 2: final_transform_2(preprocessed_data_3)",
        "  Learning rate: 0.1",
        "  Batch size:    32",
        "  Accuracy:      1.344",
        "    Dependencies: 3 jobs",
        "  0: transform_0(preprocessed_data_a.csv)",
        "  1: transform_1(preprocessed_data_b.csv)",
        "  2: transform_2(preprocessed_data_c.csv)",
        "✓ All patterns completed successfully!",
    ),
    "map_reduce": (
        "  Total Chunks: 5",
        "  Total Items:  500",
        "  Sum:          124750",
        "  Min:          0",
        "  Max:          499",
        "  Mean:         249.50",
        "✓ Map-Reduce workflow completed successfully!",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_slurm_sdk_ends_with_its_results(machines, name):
    machines.worker("n", concurrency=2)
    source = Path(str(distribution("slurm-sdk").locate_file(f"slurm/examples/{name}.py")))
    path = machines.code / f"{name}.py"
    path.write_text(program(source, OURS, "Cluster.from_args(args)"))
    command = [sys.executable, str(path), "--redis-url", machines.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = results(done.stdout)
    assert [line for line in printed if line in PRINTED[name]] == list(PRINTED[name])
