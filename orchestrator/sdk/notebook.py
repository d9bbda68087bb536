"""In a notebook: how an execution stands, below the cell that waits for it."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from html import escape
from typing import Any

from ...common.state.states import EXECUTION_TERMINAL
from ...common.state.store import Store

#: what is shown is read again this often, and after a wait beside others if it is as old as that, seconds
_PERIOD_S, _OLD_S = 0.5, 0.1
_ENDS = ("finished", "failed", "canceled", "stopped")
_COUNTS = ("jobs", "running", *_ENDS)
_LINE = (
    '<div><progress max="{total}" value="{ended}" style="vertical-align: middle"></progress> '
    "{text} <small>{id}</small></div>"
)


class _Line:
    """What a cell shows of an execution; kept up until that has ended or the next cell runs.

    `arrays` are those of its jobs that stand for others, and are not counted.
    """

    def __init__(self, store: Store, id_: str, arrays: Sequence[str]):
        display: Any = sys.modules["IPython.display"].display
        self._store, self._id, self._arrays = store, id_, arrays
        self._began = self._drawn_at = time.monotonic()
        self._status = ""
        #: how many wait for it now, in the main thread
        self.waiters = 0
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        with suppress(Exception):  # as in `draw`
            self._read()
        self._handle: Any = display(self._shown(), raw=True, display_id=True)

    def draw(self, *, if_older_s: float = 0.0) -> None:
        """Shows how it stands now. Whatever keeps it from that is not what the cell is about."""
        with self._lock, suppress(Exception):
            if time.monotonic() - self._drawn_at < if_older_s:
                return
            self._drawn_at = time.monotonic()
            self._read()
            self._handle.update(self._shown(), raw=True)

    def keep_up(self) -> None:
        """Draws until it has ended or the next cell runs."""
        while _lines.get(self._id) is self and self._status not in EXECUTION_TERMINAL:
            time.sleep(_PERIOD_S)
            self.draw(if_older_s=_PERIOD_S / 2)

    def _read(self) -> None:
        fields = self._store.execution(self._id)
        counts = Counter({name: int(fields.get(name) or 0) for name in _COUNTS})
        arrays = self._store.jobs(self._id, list(self._arrays), ("status",))
        counts.subtract(row["status"] for row in arrays if row["status"] in _ENDS)
        counts["jobs"] -= len(arrays)
        self._counts, self._status = counts, fields.get("status", "")

    def _shown(self) -> dict[str, str]:
        counts = self._counts
        ended = sum(counts[status] for status in _ENDS)
        said = [f"{ended} of {counts['jobs']} jobs ended"]
        said += [f"{counts[one]} {one}" for one in ("running", "failed", "canceled") if counts[one]]
        text = f"{', '.join(said)}, {time.monotonic() - self._began:.1f} s"
        line = _LINE.format(total=counts["jobs"], ended=ended, text=text, id=escape(self._id))
        return {"text/plain": f"{text} ({self._id})", "text/html": line}


#: the lines of the cell that runs, by execution, and its number
_lines: dict[str, _Line] = {}
_cell = -1


@contextmanager
def shown(store: Store, id_: str, arrays: Sequence[str] = ()) -> Iterator[None]:
    """An execution is waited for in this block: in the main thread of a notebook its cell shows how it
    stands, a line for each execution."""
    line = _line_of(store, id_, arrays)
    if line is None:
        yield
        return
    line.waiters += 1
    try:
        yield
    finally:
        line.waiters -= 1
        line.draw(if_older_s=_OLD_S if line.waiters else 0.0)


def redraw(id_: str) -> None:
    """Shows how an execution stands now, if the cell has a line of it."""
    if line := _lines.get(id_):
        line.draw()


def _line_of(store: Store, id_: str, arrays: Sequence[str]) -> _Line | None:
    """The line that the cell has, from now on if it had none; None where nothing is to be shown."""
    global _cell  # noqa: PLW0603
    ipython: Any = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    if not hasattr(shell, "kernel") or threading.current_thread() is not threading.main_thread():
        return None
    if shell.execution_count != _cell:
        _cell = shell.execution_count
        _lines.clear()
    if id_ not in _lines:
        line = _lines[id_] = _Line(store, id_, arrays)
        threading.Thread(target=line.keep_up, name="penstock-notebook", daemon=True).start()
    return _lines[id_]
