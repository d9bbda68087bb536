"""What slots print: a file a slot, read by the daemon, never larger than a few MiB.

The file has no name and is opened for appending; a slot tells from where to where
a job's output lies in it. When a job prints more than the file may hold, what the
daemon has read of it is freed on disk while the job runs.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import tempfile

#: A file that grows beyond this has its space freed, in bytes.
FILE_LIMIT = 8 * 1024 * 1024

_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_ALL = 1 << 62


class OutputFile:
    """The file that is fd 1 and 2 of a slot. Raises OSError where there is no room for it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by close()
        self.fd = self._file.fileno()
        fcntl.fcntl(self.fd, fcntl.F_SETFL, os.O_APPEND)
        self._freed = 0

    def size(self) -> int:
        """Where the file ends. A job that truncates its own stdout makes it go back."""
        return os.fstat(self.fd).st_size

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, as far as they are there."""
        return os.pread(self.fd, end - start, start) if end > start else b""

    def over_limit(self, size: int) -> bool:
        """Does the file, `size` bytes long, take more room than it may?"""
        self._freed = min(self._freed, size)
        return size - self._freed > FILE_LIMIT

    def free(self, size: int) -> None:
        """Gives the first `size` bytes back to the disk; offsets stay where that is known how."""
        libc = ctypes.CDLL(None, use_errno=True)
        start, length = ctypes.c_int64(0), ctypes.c_int64(size)
        if libc.fallocate(self.fd, _PUNCH_HOLE_KEEP_SIZE, start, length) == 0:
            self._freed = size
        else:
            self.reset()

    def reset(self) -> None:
        """Empties the file: nothing in it belongs to a running job."""
        if self.size():
            os.ftruncate(self.fd, 0)
        self._freed = 0

    def close(self) -> None:
        """Closes this end; the room is free once the slot has ended, too."""
        self._file.close()


class JobLog:
    """How much of one attempt's output was taken. `limit_bytes` is for all of it."""

    def __init__(self, start: int, limit_bytes: int) -> None:
        self._at = start
        self._cut_line = (
            f"\n[penstock: output over {limit_bytes} bytes was cut; "
            "PENSTOCK_LOG_LIMIT_BYTES sets how much is kept]\n"
        ).encode()
        self._left = max(0, limit_bytes - len(self._cut_line))
        self._cut = False

    def take(self, file: OutputFile, end: int, most: int = _ALL) -> bytes:
        """What was printed up to `end` and not taken yet, `most` bytes of it.

        What goes beyond the limit is dropped; one line, within the limit, says so.
        """
        if end < self._at:  # the job truncated its stdout
            self._at = 0
        if self._cut:
            self._at = end
            return b""
        text = file.read(self._at, min(end, self._at + min(self._left, most)))
        self._at += len(text)
        self._left -= len(text)
        if self._left == 0 and self._at < end:
            self._cut = True
            text += self._cut_line
        return text
