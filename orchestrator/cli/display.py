"""The live display of `run` and `wait` on a terminal.

One line for the execution, one a job, a fan-out in one line with a strip of its
generated jobs; never more lines than the terminal has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from .output import clean, speaks_unicode
from .render import STYLES
from .view import ENDED, WAITING, Row, duration, rows, seconds

#: Lines kept free below the display, for the prompt and a warning.
SPARE_LINES = 2
#: Longest bar of the execution, in characters.
BAR_COLUMNS = 30
#: Columns kept for the counts beside it, so that its length changes seldom.
COUNTS_COLUMNS = 28
#: A bar shorter than this says nothing.
SHORTEST_BAR = 5
#: Widest strip of a fan-out, in characters.
STRIP_COLUMNS = 32

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_GLYPHS = {
    "finished": "✔",
    "failed": "✘",
    "canceled": "⊘",
    "stopped": "⊘",
    "queued": "○",
    "scheduled": "◷",
    "deferred": "·",
}
_ASCII = {
    "finished": "+",
    "failed": "x",
    "canceled": "-",
    "stopped": "-",
    "queued": "o",
    "scheduled": "o",
    "deferred": ".",
}
_IN_WORDS = {"deferred": "waits for others", "queued": "queued", "scheduled": "waits to retry"}
#: What is shown first when not every job has a line.
_URGENCY = ("failed", "started", "scheduled", "queued", "deferred", "finished")


class Display:
    """The display of one execution, refreshed by rich while it runs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.unicode = speaks_unicode(console.file)  # type: ignore[arg-type]
        self._execution: Mapping[str, Any] = {}
        self._note = ""
        self._live = Live(
            self,
            console=console,
            refresh_per_second=8,
            redirect_stdout=False,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Display:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, execution: Mapping[str, Any]) -> None:
        """Shows this state from now on; the last one stays on the screen."""
        self._execution = execution

    def note(self, text: str) -> None:
        """Shows a line below the jobs, such as what Ctrl-C has started; no text, no line."""
        self._note = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws the state as it is now; called by rich at each refresh."""
        if not self._execution:
            yield Text("starting…" if self.unicode else "starting...", style="dim")
            return
        now = datetime.now(UTC)
        yield self._head(options.max_width, now)
        height = max(1, console.size.height - SPARE_LINES - 1 - bool(self._note))
        shown, hidden = choose(rows(self._execution), height)
        yield from self._jobs(shown, options.max_width, now)
        if hidden:
            text = f"{_mark(self.unicode)} {_tally(hidden)}"
            yield _cut(Text(text, style="dim"), options.max_width)
        if self._note:
            yield _cut(Text(self._note, style="yellow"), options.max_width)

    def _head(self, width: int, now: datetime) -> Text:
        execution = self._execution
        progress = execution.get("progress") or {}
        total = int(progress.get("total") or 0)
        status = str(execution.get("status"))
        line = Text(clean(str(execution.get("name"))), style="bold")
        line.truncate(max(8, width // 3), overflow="ellipsis")
        line.append(f"  {execution.get('id')}  ", style="not bold dim")
        line.append(status, style=f"not bold {STYLES.get(status, 'dim')}")
        counts = Text(f"  {_ended(progress)}/{total}", style="not bold")
        for word in ("running", "failed"):
            if progress.get(word):
                counts.append(f"  {progress[word]} {word}", style=STYLES[word])
        counts.append(f"  {duration(seconds(execution, now))}", style="dim")
        room = width - line.cell_len - max(COUNTS_COLUMNS, counts.cell_len)
        line.append_text(self._bar(progress, total, room - len("  ")))
        return _cut(line.append_text(counts), width)

    def _bar(self, progress: Mapping[str, Any], total: int, width: int) -> Text:
        """Done, failed, running, waiting as lengths of one bar; nothing where it is narrow."""
        width = min(width, BAR_COLUMNS)
        if width < SHORTEST_BAR:
            return Text("")
        counts = {
            "finished": int(progress.get("done") or 0),
            "failed": int(progress.get("failed") or 0),
            "canceled": int(progress.get("canceled") or 0),
            "started": int(progress.get("running") or 0),
        }
        line = "━" if self.unicode else "="
        bar, used = Text("  "), 0
        for status, count in counts.items():
            length = round(width * count / total) if total else 0
            length = min(length, width - used)
            bar.append(line * length, style=f"not bold {STYLES[status]}")
            used += length
        bar.append(("─" if self.unicode else "-") * (width - used), style="not bold bright_black")
        return bar

    def _jobs(self, shown: Sequence[Row], width: int, now: datetime) -> Iterator[Text]:
        names = [Text(clean(row.name)) for row in shown]
        column = min(max((name.cell_len for name in names), default=0), max(12, width // 3))
        for row, name in zip(shown, names, strict=True):
            name.truncate(column, overflow="ellipsis", pad=True)
            detail = self._detail(row, width - column - len("x   "), now)
            yield _cut(Text.assemble(self._glyph(row.status, now), " ", name, "  ", detail), width)

    def _glyph(self, status: str, now: datetime) -> Text:
        if status == "started":
            frame = int(now.timestamp() * 8)
            glyph = _SPINNER[frame % len(_SPINNER)] if self.unicode else "|/-\\"[frame % 4]
        else:
            glyph = (_GLYPHS if self.unicode else _ASCII).get(status, "?")
        return Text(glyph, style=STYLES.get(status, "dim"))

    def _detail(self, row: Row, room: int, now: datetime) -> Text:
        if row.generates:
            return self._fan(row, room)
        if row.status in WAITING:
            if row.reason:
                return Text(clean(row.reason), style="yellow")
            return Text(_IN_WORDS[row.status], style="dim")
        running = row.status == "started"
        parts = [Text(duration(seconds(row.job, now if running else None)))]
        if not row.job.get("started_at"):
            parts.clear()
        if row.job.get("node"):
            parts.append(Text(f"on {clean(str(row.job['node']))}", style="dim"))
        if int(row.job.get("attempt") or 0) > 1:
            parts.append(Text(f"attempt {row.job['attempt']}", style="yellow"))
        if row.status == "failed":
            parts.append(Text(clean(row.failure), style="red"))
        elif row.status in ("canceled", "stopped"):
            parts.append(Text(row.status, style="yellow"))
        return Text("  ").join(parts)

    def _fan(self, row: Row, room: int) -> Text:
        counts = row.counts
        detail = strip(row, max(1, min(STRIP_COLUMNS, room - COUNTS_COLUMNS)), self.unicode)
        detail.append(f"  {row.ran}/{row.total}")
        for status, word in (
            ("started", "running"),
            ("failed", "failed"),
            ("canceled", "canceled"),
        ):
            if counts[status]:
                detail.append(f"  {counts[status]} {word}", style=STYLES[status])
        if row.reason:
            detail.append(f"  {clean(row.reason)}", style="yellow")
        return detail


def strip(row: Row, columns: int, unicode: bool = True) -> Text:
    """The generated jobs in a strip of at most `columns`: a character a job, or for several."""
    statuses = [str(child.get("status")) for child in row.children.values()]
    folded, total = row.folded, row.total
    width = min(columns, total)
    full, half, empty = ("■", "▪", "·") if unicode else ("#", "+", ".")
    marks = []
    for i in range(width):
        # Of a million jobs few are there: first those that were folded, last those yet to be made.
        start, stop = i * total // width, (i + 1) * total // width
        bucket = Counter(statuses[max(0, start - folded) : max(0, stop - folded)])
        bucket.update(finished=max(0, min(stop, folded) - start))
        bucket.update(deferred=max(0, stop - max(start, folded + len(statuses))))
        bucket = +bucket
        status = next((s for s in ("failed", "started", "finished") if bucket[s]), min(bucket))
        over = sum(bucket[s] for s in ENDED) == sum(bucket.values())
        mark = full if over else half if status in ("failed", "started", "finished") else empty
        marks.append((mark, STYLES.get(status, "dim")))
    text = Text()
    for (mark, style), run in groupby(marks):
        text.append(mark * len(list(run)), style=style)
    return text


def choose(every: list[Row], height: int) -> tuple[list[Row], list[Row]]:
    """The rows that get a line, in their order, and those that do not.

    What failed and what runs comes first, what is over or far off last.
    """
    if len(every) <= height:
        return every, []
    urgency = {status: rank for rank, status in enumerate(_URGENCY)}
    ranked = sorted(
        range(len(every)), key=lambda i: (urgency.get(every[i].status, len(_URGENCY)), i)
    )
    kept = set(ranked[: max(0, height - 1)])
    shown = [row for i, row in enumerate(every) if i in kept]
    return shown, [row for i, row in enumerate(every) if i not in kept]


def _cut(line: Text, width: int) -> Text:
    """The line, cut with an ellipsis where the terminal ends: it never wraps."""
    line.no_wrap = True
    line.truncate(width, overflow="ellipsis")
    return line


def _ended(progress: Mapping[str, Any]) -> int:
    return sum(int(progress.get(word) or 0) for word in ("done", "failed"))


def _tally(hidden: Sequence[Row]) -> str:
    counts = Counter(row.status for row in hidden)
    return "and " + ", ".join(f"{count} {status}" for status, count in counts.most_common())


def _mark(unicode: bool) -> str:
    return "…" if unicode else "..."
