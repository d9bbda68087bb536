"""In a notebook: how an execution stands, below the cell that waits for it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from html import escape
from typing import Any

import redis

#: what is shown is read again this often, seconds
_PERIOD_S = 0.5
_LINE = (
    '<div><progress max="{total}" value="{ended}" style="vertical-align: middle"></progress> '
    "{text} <small>{id}</small></div>"
)

Read = Callable[[], Mapping[str, str]]


class _Display:
    """One line of the cell that runs. `read` gives the fields of the execution."""

    def __init__(self, id_: str, read: Read, arrays: int):
        display: Any = sys.modules["IPython.display"].display
        self._id, self._read, self._arrays = id_, read, arrays
        self._began = time.monotonic()
        self._handle: Any = display(self._now(), raw=True, display_id=True)

    def update(self, arrays: int) -> None:
        """Shows how it stands now; `arrays` of its jobs are none of their own, but arrays."""
        self._arrays = arrays
        self._handle.update(self._now(), raw=True)

    def _now(self) -> dict[str, str]:
        counts = {}
        with suppress(redis.exceptions.RedisError):
            counts = {name: int(n) for name, n in self._read().items() if n.isdecimal()}
        total = max(0, counts.get("jobs", 0) - self._arrays)
        failed, canceled = counts.get("failed", 0), counts.get("canceled", 0)
        ended = min(total, failed + canceled + counts.get("finished", 0) + counts.get("stopped", 0))
        said = [f"{ended} of {total} jobs ended"]
        for what, count in (
            ("running", counts.get("running", 0)), ("failed", failed), ("canceled", canceled),
        ):  # fmt: skip
            said += [f"{count} {what}"] if count else []
        text = f"{', '.join(said)}, {time.monotonic() - self._began:.1f} s"
        line = _LINE.format(total=max(1, total), ended=ended, text=text, id=escape(self._id))
        return {"text/plain": f"{text} ({self._id})", "text/html": line}


#: the lines of the cell with this number, by execution
_lines: dict[str, _Display] = {}
_cell = -1


@contextmanager
def shown(id_: str, read: Read, arrays: int = 0) -> Iterator[None]:
    """Shows how an execution stands while the block waits for it: in the main thread of a notebook, and
    nowhere else. Those of one cell share a line for each execution."""
    cell = _running_cell()
    if cell is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    global _cell  # noqa: PLW0603
    if cell != _cell:
        _cell = cell
        _lines.clear()
    if id_ not in _lines:
        _lines[id_] = _Display(id_, read, arrays)
    line, over = _lines[id_], threading.Event()

    def keep_up() -> None:
        while not over.wait(_PERIOD_S):
            line.update(arrays)

    thread = threading.Thread(target=keep_up, name="penstock-notebook", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        line.update(arrays)


def _running_cell() -> int | None:
    """The number of the notebook's cell that runs; None outside of notebooks."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return int(shell.execution_count) if shell and hasattr(shell, "kernel") else None
