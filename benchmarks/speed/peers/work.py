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


def slow():
    from peer import slow_body

    return slow_body()
