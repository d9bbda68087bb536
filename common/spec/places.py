"""Where in a file a fault lies: paths into a workflow, and the lines that they came from."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from ..errors import Fault
from .spelling import spellings_of

#: A way into a workflow's data: `("jobs", "train", "parameters", 0, "values")`.
Path = tuple[str | int, ...]
#: A fault before it is given a place in a file.
Problem = tuple[Path, str]

#: Faults that are reported of one workflow; a broken megabyte could have half a million.
MOST_FAULTS = 10_000


class Mark:
    """The line (from 1) at which a piece of data stands, and the marks of what is inside it."""

    __slots__ = ("children", "line")

    def __init__(self, line: int, children: "dict[str | int, Mark] | None" = None) -> None:
        self.line = line
        self.children = children


class Places:
    """Turns paths into places. All are equal, so that a workflow is equal to its stored copy."""

    def __init__(self, source: str = "", root: Mark | None = None) -> None:
        self.source = source
        self.root = root

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places)

    __hash__ = None  # type: ignore[assignment]

    def line(self, path: Path) -> int | None:
        """The line of the deepest part of the path that the file holds; None without a file."""
        return self._follow(path)[1]

    def fault(self, problem: Problem) -> Fault:
        """The fault with its place, as `flow.yaml:12: jobs.train.priority`."""
        path, message = problem
        written, line = self._follow(path)
        file = f"{self.source}:{line}" if self.source and line else self.source
        return Fault(": ".join(part for part in (file, dotted(written)) if part), message)

    def _follow(self, path: Path) -> tuple[Path, int | None]:
        """The path in the file's own spelling, and the line that it leads to."""
        written: list[str | int] = []
        mark = deepest = self.root
        for step in path:
            key, mark = _inner(mark, step)
            deepest = mark or deepest
            written.append(key)
        return tuple(written), deepest.line if deepest else None

    def faults(self, problems: Iterable[Problem]) -> list[Fault]:
        """The faults in the order of their lines, each once."""
        first = islice(dict.fromkeys(problems), MOST_FAULTS)
        ordered = sorted(first, key=lambda problem: self.line(problem[0]) or 0)
        return [self.fault(problem) for problem in ordered]


def dotted(path: Path) -> str:
    """`("jobs", "a", "values", 0)` -> `jobs.a.values[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _inner(mark: Mark | None, step: str | int) -> tuple[str | int, Mark | None]:
    """The key of one step, in whichever spelling the file uses, and its mark."""
    children: dict[Any, Mark] = (mark.children if mark else None) or {}
    if step not in children and isinstance(step, str):
        step = next((name for name in spellings_of(step) if name in children), step)
    return step, children.get(step)
