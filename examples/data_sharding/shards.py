"""The jobs of workflow.yaml: the last row of each size in a table of 569, found shard by shard."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

#: The number of a row by the radius in it, a whole number as text, since keys of JSON are text.
Rows = dict[str, int]


def table() -> list[list[str]]:
    """The measurements of tumours that scikit-learn brings, a row each; its first line is a title."""
    package = find_spec("sklearn")  # finds the file without importing scikit-learn
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "datasets/data/breast_cancer.csv"
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def process(shard: int, shards: int) -> Rows:
    """The last row of each size among the rows of one shard, of which there are `shards`."""
    rows = table()
    first, end = len(rows) * shard // shards, len(rows) * (shard + 1) // shards
    found: Rows = {}
    for number in range(first, end):
        found[str(int(float(rows[number][0])))] = number
    print(f"shard {shard}: rows {first} to {end - 1}, {len(found)} sizes")
    return found


def merge(parts: list[Rows]) -> Rows:
    """One mapping of many; where two have the same key, that of the later shard stays."""
    merged = {key: row for part in parts for key, row in part.items()}
    print(f"{sum(map(len, parts))} sizes in {len(parts)} shards, {len(merged)} merged")
    return merged
