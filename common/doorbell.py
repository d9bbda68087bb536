"""A named pipe by which processes of one user ask for something of one that lives."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Doorbell:
    """The end of who is asked: `fd` can be read from a ring on. There is a file at `path` while it is open.

    It never rings, and has no file, where the file system knows no named pipes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with contextlib.suppress(FileExistsError):
                os.mkfifo(path, 0o600)
            # For writing as well: without a writer a pipe can be read for good, at its end.
            self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.fd = os.eventfd(0, os.EFD_CLOEXEC)

    def close(self) -> None:
        """Rings are no longer heard."""
        self.path.unlink(missing_ok=True)
        os.close(self.fd)


def ring(path: Path) -> bool:
    """Rings; is anyone there to hear it?"""
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with contextlib.suppress(OSError):
        os.write(pipe, b".")
    os.close(pipe)
    return True
