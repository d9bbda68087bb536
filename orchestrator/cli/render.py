"""Values as people read them: tables, keys and values, text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .output import clean, console, show
from .view import shorten

#: Rows of a table and lines of a text that a summary shows at most.
SHORT_ROWS = 40
#: Longest list of texts that is written on one line, in characters.
SHORT_LIST = 100
#: Characters of one cell that a summary shows at most.
SHORT_CELL = 60

STYLES = {
    "finished": "green",
    "succeeded": "green",
    "started": "cyan",
    "running": "cyan",
    "failed": "red",
    "canceled": "yellow",
    "stopped": "yellow",
    "paused": "yellow",
}


def status_text(status: str) -> Text:
    """A status in its colour."""
    return Text(status, style=STYLES.get(status, "dim"))


def table(columns: Sequence[str], lines: Sequence[Sequence[Any]], *, right: str = "") -> Table:
    """A plain table; `right` names the columns of numbers, separated by spaces."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    numbers = right.split()
    for column in columns:
        made.add_column(
            column.upper(),
            justify="right" if column in numbers else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for line in lines:
        made.add_row(*(cell if isinstance(cell, Text) else Text(scalar(cell)) for cell in line))
    return made


def scalar(value: Any) -> str:
    """One value in a few characters: floats to six digits, nested ones as JSON."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return f"{value:.1f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    if isinstance(value, bool | int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return clean(json.dumps(value, ensure_ascii=False, default=str))


class Renderer:
    """Renders results; where something is cut it says which command shows all.

    `more` is that command; without it nothing is cut.
    """

    def __init__(self, width: int, more: str = "") -> None:
        self.width = width
        self.more = more
        self.cut = False

    def render(self, value: Any) -> RenderableType:
        """`value` as something a console prints, with the hint below where it was cut."""
        body = self._render(value, self.width)
        if not self.cut:
            return body
        return Group(body, Text(f"shortened; all of it: {self.more}", style="dim"))

    def _render(self, value: Any, width: int) -> RenderableType:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping) and value:
            return self._mapping(value, width)
        if _is_table(value):
            return self._rows(value, width)
        if isinstance(value, list) and value:
            return self._items(value, width)
        return Text(scalar(value))

    def _text(self, value: str) -> Text:
        lines = clean(value).splitlines() or [""]
        shown = self._head(lines, SHORT_ROWS)
        return Text("\n".join(shown), overflow="fold")

    def _mapping(self, value: Mapping[str, Any], width: int) -> RenderableType:
        parts: list[RenderableType] = []
        flat: list[tuple[str, Any]] = []
        for key, item in self._head(list(value.items()), SHORT_ROWS):
            if _is_flat(item) or self._is_short(item, width - len(str(key)) - 2):
                flat.append((str(key), item))
                continue
            parts.extend(self._pairs(flat))
            flat = []
            parts.append(Text(f"{clean(str(key))}:"))
            parts.append(Padding(self._render(item, width - 2), (0, 0, 0, 2)))
        parts.extend(self._pairs(flat))
        return Group(*parts)

    def _is_short(self, value: Any, width: int) -> bool:
        """Whether a list of plain values fits one line of `width`, or can only be that."""
        if not isinstance(value, list) or not all(map(_is_flat, value)):
            return False
        texts = any(isinstance(item, str) for item in value)
        return not texts or cell_len(scalar(value)) <= min(width, SHORT_LIST)

    def _pairs(self, flat: list[tuple[str, Any]]) -> list[RenderableType]:
        if not flat:
            return []
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="dim")
        grid.add_column(overflow="fold")
        for key, item in flat:
            grid.add_row(Text(f"{clean(key)}"), Text(self._cell(item, 4 * SHORT_CELL)))
        return [grid]

    def _rows(self, value: list[Mapping[str, Any]], width: int) -> RenderableType:
        columns = list(dict.fromkeys(key for line in value for key in line))
        shown = self._head(value, SHORT_ROWS)
        cells = [[self._cell(line.get(column), SHORT_CELL) for column in columns] for line in shown]
        widths = [
            max(cell_len(column), *(cell_len(line[i]) for line in cells)) + 2
            for i, column in enumerate(columns)
        ]
        fitting = _fitting(widths, width)
        if self.more and fitting < len(columns):
            self.cut = True
            columns, cells = columns[:fitting], [line[:fitting] for line in cells]
        numbers = " ".join(
            column for column in columns if all(_is_number(line.get(column)) for line in shown)
        )
        made = table(columns, cells, right=numbers)
        for column, name in zip(made.columns, columns, strict=True):
            column.header = clean(str(name))
        return made

    def _items(self, value: list[Any], width: int) -> RenderableType:
        if all(isinstance(item, str) for item in value) and not self._is_short(value, width):
            return self._text("\n".join(value))
        if all(map(_is_flat, value)):
            return Text(self._cell(value, 10 * SHORT_CELL), overflow="fold")
        parts: list[RenderableType] = []
        for item in self._head(value, SHORT_ROWS):
            grid = Table.grid(padding=(0, 1, 0, 0))
            grid.add_row(Text("-", style="dim"), self._render(item, width - 2))
            parts.append(grid)
        return Group(*parts)

    def _cell(self, value: Any, limit: int) -> str:
        text = scalar(value)
        if not self.more:
            return text
        short = shorten(text, limit)
        self.cut = self.cut or len(short) < len(text.rstrip())
        return short

    def _head(self, items: list[Any], limit: int) -> list[Any]:
        if not self.more or len(items) <= limit:
            return items
        self.cut = True
        return items[:limit]


def print_result(value: Any, more: str = "") -> None:
    """Prints a result on stdout; with `more` long ones are cut, and `more` is named."""
    show(Renderer(console().width, more).render(value))


def _is_flat(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_table(value: Any) -> bool:
    """Whether `value` is a list of flat objects that share their first key."""
    if not isinstance(value, list) or not value:
        return False
    return all(
        isinstance(line, Mapping) and line and all(map(_is_flat, line.values())) for line in value
    )


def _fitting(widths: Sequence[int], width: int) -> int:
    """How many of the columns fit `width`; one at least."""
    used = 0
    for count, column in enumerate(widths):
        used += column
        if used > width + 2 and count:
            return count
    return len(widths)
