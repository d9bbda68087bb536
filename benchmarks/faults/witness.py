"""Sees every result that is stored, by MONITOR: also those that are overwritten later."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaos.history import Journal, digest

_LINE = re.compile(rb'^\+([0-9.]+) \[[^\]]*\] (".*)$')
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')

#: The result that a command stores as a success, or None.
Reader = Callable[[list[bytes]], Any]


class Witness(threading.Thread):
    """Writes `committed` for each result of an attempt that `read` finds among the commands.

    The same attempt's result stored once more changes nothing and counts in `repeats` only.
    """

    def __init__(self, address: tuple[str, int], folder: Path, read: Reader) -> None:
        super().__init__(name="witness", daemon=True)
        self.committed: dict[tuple[str, str], list[int]] = {}
        self.repeats = 0
        self._read = read
        self._journal = Journal(folder, "system")
        self._socket = socket.create_connection(address)
        self._socket.sendall(b"MONITOR\r\n")

    def run(self) -> None:
        with suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                if found := _LINE.match(line.rstrip(b"\r\n")):
                    words = [_plain(word) for word in _WORD.findall(found[2])]
                    self._take(float(found[1]), words)
        self._journal.close()

    def _take(self, at: float, words: list[bytes]) -> None:
        result = self._read(words)
        if not isinstance(result, dict) or "unit" not in result:
            return
        key, attempt = (result["unit"], result["job"]), result["attempt"]
        known = self.committed.setdefault(key, [])
        if attempt in known:
            self.repeats += 1
            return
        known.append(attempt)
        where = {"execution": key[0], "job": key[1], "attempt": attempt}
        self._journal.write("committed", at, **where, result=digest(result))
        self._journal.flush()

    def stop(self) -> None:
        """Ends it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self._socket.close()


def _plain(word: bytes) -> bytes:
    """Undoes the quoting of MONITOR."""
    return word.decode("unicode_escape").encode("latin-1") if b"\\" in word else word


def of_rq(words: list[bytes]) -> Any:
    """A row of a job's stream of results, of type 1 (SUCCESSFUL)."""
    if words[0].upper() != b"XADD" or not words[1].startswith(b"rq:results:"):
        return None
    fields = dict(zip(words[-2::-2], words[-1::-2], strict=False))
    if fields.get(b"type") != b"1":
        return None
    return json.loads(base64.b64decode(fields[b"return_value"]))


def of_celery(words: list[bytes]) -> Any:
    """The state of a task, set to SUCCESS."""
    if words[0].upper() not in (b"SET", b"SETEX") or not words[1].startswith(b"celery-task-meta-"):
        return None
    meta = json.loads(words[-1] if words[0].upper() == b"SETEX" else words[2])
    return meta["result"] if meta["status"] == "SUCCESS" else None


def of_dramatiq(words: list[bytes]) -> Any:
    """The list of one element that holds a message's result."""
    if words[0].upper() != b"LPUSH" or not words[1].startswith(b"dramatiq-results:"):
        return None
    return json.loads(words[2])
