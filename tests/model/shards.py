"""Blocks of runs, each under its seed, for processes that share the work."""

from __future__ import annotations

import traceback

from .machine import Tally, run
from .server import InProcess

#: runs under one seed
BLOCK = 250


def block(given: tuple[int, int, int]) -> tuple[int, Tally, str]:
    """(seed, what was done, the violation or '')."""
    seed, runs, steps = given
    try:
        return seed, run(InProcess(), runs, steps, seed), ""
    except BaseException:
        return seed, Tally(), traceback.format_exc()
