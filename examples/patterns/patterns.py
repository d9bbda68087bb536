"""Three ways to run things side by side: fan-out and fan-in, a pipeline, a sweep."""

from __future__ import annotations

import argparse
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

from penstock import Cluster, task

NUMBERS = Path(__file__).with_name("numbers.txt")


# -- fan-out and fan-in: a file is split, its parts are summed side by side, the sums are merged


@task(mem="256M", time="00:03:00")
def split(file: str, chunks: int) -> list[dict[str, Any]]:
    lines = len(Path(file).read_text().splitlines())
    ends = [lines * n // chunks for n in range(chunks + 1)]
    return [{"file": file, "start": start, "end": end} for start, end in pairwise(ends)]


@task(mem="256M", time="00:03:00", cpus_per_task=1)
def add_up(file: str, start: int, end: int) -> dict[str, int]:
    numbers = [int(line) for line in Path(file).read_text().splitlines()[start:end]]
    return {"items": len(numbers), "sum": sum(numbers)}


@task(mem="256M", time="00:03:00")
def merge(parts: list[dict[str, int]]) -> dict[str, int]:
    return {
        "total_chunks": len(parts),
        "total_items": sum(part["items"] for part in parts),
        "total_sum": sum(part["sum"] for part in parts),
    }


def fan_out_fan_in() -> dict[str, int]:
    chunks = split(str(NUMBERS), 5).get_result()
    return merge(add_up.map(chunks)).get_result()


# -- a pipeline: three stages, each item goes on as soon as its own stage before is done


@task(time="00:03:00")
def preprocess(raw: str) -> str:
    return f"preprocessed_{raw}"


@task(time="00:03:00")
def transform(data: str, how: str) -> str:
    return f"{how}({data})"


@task(time="00:03:00")
def finish(transformed: str) -> str:
    return f"final_{transformed}"


def pipeline() -> list[str]:
    clean = preprocess.map(["data_1", "data_2", "data_3"])
    changed = transform.map([(job, f"transform_{n}") for n, job in enumerate(clean)])
    return finish.map(changed).get_results()


# -- a sweep: one training for each configuration, the best is kept


@task(mem="256M", time="00:03:00", cpus_per_task=1)
def train(lr: float, batch_size: int, seed: int) -> dict[str, Any]:
    luck = random.Random(seed).random()
    return {"lr": lr, "bs": batch_size, "seed": seed, "acc": 0.5 + 10 * lr * luck}


@task
def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return max(runs, key=lambda run: run["acc"])


def parameter_sweep() -> str:
    grid = [
        {"lr": lr, "batch_size": size, "seed": seed}
        for lr in (0.001, 0.01, 0.1)
        for size in (32, 64)
        for seed in (0, 1)
    ]
    found = best(train.map(grid, max_concurrent=4)).get_result()
    return f"Best: lr={found['lr']}, bs={found['bs']}, acc={found['acc']:.3f}"


PATTERNS = {
    "fan-out-fan-in": fan_out_fan_in,
    "pipeline": pipeline,
    "parameter-sweep": parameter_sweep,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    Cluster.add_argparse_args(parser)
    parser.add_argument("--pattern", choices=["all", *PATTERNS], default="all")
    given = parser.parse_args()
    with Cluster.from_args(given):
        for name, run in PATTERNS.items():
            if given.pattern in ("all", name):
                print(f"{name}: {run()}")


if __name__ == "__main__":
    main()
