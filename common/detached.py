"""Processes that outlive the one that starts them, and how they say that they are ready.

The child gets the number of a pipe as its last argument and writes lines to it:
`loading` as often as it likes, then `ready` or `failed REASON`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from .datafolder import open_log, tail
from .waiting import readable

#: How long a process that did not get ready may take to end, in seconds.
DISMISS_S = 10.0


class NotReady(Exception):
    """The process did not become ready; the message says why, with the end of its log."""


class Report:
    """The child's end of the pipe. What nobody hears is lost, and that is all."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)

    def loading(self) -> None:
        """Not ready yet, but at work."""
        self._say("loading")

    def ready(self) -> None:
        """Ready; nothing else is said after this."""
        self._say("ready")
        self._close()

    def failed(self, reason: object) -> None:
        """Given up."""
        self._say(f"failed {reason}")
        self._close()

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._fd, f"{line}\n".encode())

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1


def start_detached(
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    patience_s: float,
    env: Mapping[str, str] | None = None,
) -> None:
    """Runs a module in a session of its own, its output in `log`; returns when it is ready.

    Raises NotReady if it fails, ends, or says nothing for `patience_s`.
    """
    heard, pipe = os.pipe()
    output = open_log(log)
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments, str(pipe)],
            cwd="/",
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(pipe,),
            start_new_session=True,
        )
    finally:
        os.close(pipe)
        os.close(output)
    try:
        fault = _hear(heard, patience_s)
        if fault:
            raise NotReady(f"{fault}\nThe end of {log}:\n{tail(log)}")
    except BaseException:
        _dismiss(child)
        raise
    finally:
        os.close(heard)
    # Reaped if it ends before us; otherwise it outlives us, as nobody's child.
    threading.Thread(target=child.wait, daemon=True).start()


def _dismiss(child: subprocess.Popen[bytes]) -> None:
    """Ends a process that did not get ready, in order if it can."""
    child.terminate()
    try:
        child.wait(DISMISS_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _hear(heard: int, patience_s: float) -> str:
    """What went wrong, "" once the child is ready."""
    said = b""
    while not said.endswith(b"ready\n"):
        if not readable([heard], patience_s):
            return f"it said nothing for {patience_s:g} s"
        more = os.read(heard, 4096)
        said = said[-4096:] + more
        if not more:
            reason = said.partition(b"failed ")[2].decode(errors="replace").strip()
            return reason or "it ended"
    return ""
