"""What Penstock's jobs run."""

from __future__ import annotations

import time


def noop(i):
    return i


def wait(i):
    time.sleep(0.005)
    return i


def merge(values):
    return sum(values)


def measured(i, j):
    """A metric of which many are alike, and whose plain sum depends on the order of adding."""
    if i == 0:
        return {"x": (1e16, 1.0, -1e16)[j % 3]}
    return {"x": (i * 7919 + j * 104729) % 65536 / 7}


def slow():
    from peer import slow_body

    return slow_body()
