"""What processes that share the work do: blocks of runs, each under its seed, and searches."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .machine import Tally, run
from .scenarios import LONG
from .search import Report, Search
from .server import InProcess


@dataclass
class Done:
    """A task's outcome: what was done, the violation or '', and how long it took."""

    what: str
    result: Any = None
    violation: str = ""
    seconds: float = 0


def block(given: tuple[int, int, int]) -> Done:
    """Runs of so many steps under one seed: (seed, runs, steps)."""
    seed, runs, steps = given
    return _done(f"seed {seed}", lambda: run(InProcess(), runs, steps, seed), Tally())


def search(given: tuple[str, float]) -> Done:
    """A scenario of the long form, for so many seconds: (name, seconds)."""
    name, seconds = given
    empty = Report(0, 0, 0, 0, 0, False)
    return _done(name, lambda: Search(LONG[name]).run(seconds=seconds), empty)


def _done(what: str, task: Callable[[], Any], empty: Any) -> Done:
    began = time.monotonic()
    try:
        done = Done(what, task())
    except Exception:
        done = Done(what, empty, traceback.format_exc())
    done.seconds = time.monotonic() - began
    return done
