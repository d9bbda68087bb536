"""`python -m benchmarks.sdk`, from the root, with tests on the path: see ../README.md."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from support.slurm_examples import OURS, program, results

from .. import tables
from ..environments import python, versions
from ..growth.cluster import cluster
from .slurm import Slurm

TABLE = Path(__file__).parent / "results.md"
PEER = "slurm-sdk"
SLOTS = 2
#: What is run: an example, and its options.
PATTERNS = ("fan-out-fan-in", "pipeline", "parameter-sweep", "dynamic-deps")
PARTS = [
    *((name, "parallelization_patterns", ("--pattern", name)) for name in PATTERNS),
    ("map-reduce", "map_reduce", ()),
]
_LOCAL = 'Cluster(backend_type="local", default_packaging="none", job_base_dir={folder!r})'

#: Runs an example with its options; what it printed.
Runs = Callable[[str, tuple[str, ...]], str]


def _runner(interpreter: str, folder: Path, environment: Mapping[str, str]) -> Runs:
    def run(example: str, options: tuple[str, ...]) -> str:
        command = [interpreter, str(folder / f"{example}.py"), *options]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            raise SystemExit(f"{example} {options}: {done.stderr}")
        return done.stdout

    return run


def _written(folder: Path, imports: str, connect: str) -> Path:
    folder.mkdir()
    (examples,) = python(PEER).parents[1].glob("lib/python*/site-packages/slurm/examples")
    for example in {example for _, example, _ in PARTS}:
        text = program(examples / f"{example}.py", imports, connect)
        (folder / f"{example}.py").write_text(text)
    return folder


@contextmanager
def _systems() -> Iterator[dict[str, Runs]]:
    """Everything that is measured, running; a name, and how it runs an example."""
    with tempfile.TemporaryDirectory(prefix="sdk-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        theirs = _written(folder / "theirs", "", _LOCAL.format(folder=str(folder / "jobs")))
        ours = _written(folder / "ours", OURS, "Cluster.from_args(args)")
        alone = {**os.environ, "PENSTOCK_HOME": str(folder / "home")}
        alone.pop("PENSTOCK_REDIS_URL", None)
        (folder / "slurm").mkdir()
        with closing(Slurm(folder / "slurm", SLOTS)) as slurm, cluster() as on:
            on.start(SLOTS)
            yield {
                PEER: _runner(str(python(PEER)), theirs, slurm.environment),
                "Penstock": _runner(sys.executable, ours, on.machines.environment),
                "Penstock on its own": _runner(sys.executable, ours, alone),
            }


def _measured(systems: Mapping[str, Runs], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each run, by part and system. Raises SystemExit where the results differ."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        for name, example, options in PARTS:
            printed = {}
            for system, run in systems.items():
                began = time.monotonic()
                printed[system] = results(run(example, options))
                took = time.monotonic() - began
                seconds.setdefault(name, {}).setdefault(system, []).append(took)
                print(f"round {number + 1}: {name}, {system}: {took:.2f} s", flush=True)
            for system, lines in printed.items():
                if lines != printed[PEER]:
                    raise SystemExit(f"{name}: {system} printed {lines}\nnot {printed[PEER]}")
    return seconds


def _table(seconds: Mapping[str, Mapping[str, list[float]]], rounds: int) -> str:
    systems = list(next(iter(seconds.values())))
    where = tables.machine()
    (version,) = versions(PEER).values()
    lines = [
        "# slurm-sdk's own examples",
        "",
        f"Written by `make bench-sdk`; how to read it: [README](../README.md). {where['cores']} cores, "
        f"Python {where['python']}, slurm-sdk {version} on Slurm {Slurm.version()}, redis-server "
        f"{where['redis-server']}. Seconds from the start of the program to its end: the median of {rounds} "
        "runs, lowest and highest. All printed the same results, in every run.",
        "",
        *tables.head(["example", *systems, "ratio"]),
    ]
    for name, by_system in seconds.items():
        cells = [
            f"{statistics.median(took):.2f} ({min(took):.2f}-{max(took):.2f})"
            for took in by_system.values()
        ]
        middle = [statistics.median(by_system[system]) for system in systems[:2]]
        lines.append(tables.row([name, *cells, f"{middle[0] / middle[1]:.1f}"]))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.sdk")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with _systems() as systems:
        seconds = _measured(systems, rounds)
    TABLE.write_text(_table(seconds, rounds))
    print(TABLE.read_text())


if __name__ == "__main__":
    main()
