"""Where words go: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

#: Columns for a table that goes to a file or a pipe: nothing is cut there.
PIPE_COLUMNS = 4000

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?")


def strict(value: Any) -> Any:
    """`value` as strict JSON can hold it: NaN and infinities become None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value


def emit(value: Any) -> None:
    """Prints the one JSON value of a command with --json."""
    text = json.dumps(strict(value), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    write(text)


def write(text: str) -> None:
    """Prints a line on stdout, with what its encoding lacks replaced."""
    _put(sys.stdout, text)


def say(text: str) -> None:
    """Prints a line on stderr: progress, hints, errors."""
    _put(sys.stderr, text)


def _put(stream: TextIO, text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()


def clean(text: str) -> str:
    """`text` without terminal escapes and control characters (tabs and lines stay)."""
    return _CONTROL.sub("", _ESCAPE.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


def console(*, stderr: bool = False) -> Console:
    """A rich console that never guesses at markup, and never cuts what is piped."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_COLUMNS
    return Console(
        file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False
    )


def show(renderable: RenderableType) -> None:
    """Prints a table or the like on stdout, without the blanks that would end its lines."""
    out = console()
    with out.capture() as captured:
        out.print(renderable)
    for line in captured.get().splitlines():
        write(line.rstrip())


def speaks_unicode(stream: TextIO) -> bool:
    """Whether glyphs and bars of the display can be written to `stream`."""
    try:
        "✔━…".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


@contextmanager
def quiet_pipe() -> Iterator[None]:
    """Lets a reader go away (`| head`) without a word and without changing the exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()


def silence_stdout() -> None:
    """Sends what may still come to nowhere, so that the interpreter's last flush is quiet."""
    try:
        fd = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, fd)
    os.close(null)
