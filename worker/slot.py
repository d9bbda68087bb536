"""A slot: a warm process that runs one order after another, and knows nothing of Redis.

Started by the daemon as `python -P -m penstock.worker.slot SOCKET BELL PAGE PARENT LIMIT`,
in a session of its own, its output in a file that the daemon reads. Each result is
written to the socket at once, where it survives whatever the next order does; the
daemon looks when the bell is rung, at least every 2 ms while results come in.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO, cast

from ..common import context, values
from ..common.errors import PenstockError
from . import frames
from .functions import Functions, call
from .parentage import become_subreaper, tie_to_parent
from .results import describe_error, encode_result, error_record, metrics_of
from .shared import SharedPage
from .threads import Threads

if TYPE_CHECKING:
    from ..common.artifacts import Artifacts
    from ..common.settings import Settings

#: gives commands their configuration as text, so that what stands for a value is all that it can give
_SHELL = "penstock.worker.shell:run"
#: JSON that is known to be one object and nothing around it needs no more than this.
_decode = json.JSONDecoder().raw_decode
#: Results wait this long at most for the bell, in ns.
BELL_NS = 2_000_000


@cache
def _settings() -> Settings:
    from ..common.settings import Settings  # slow to import, and most slots do without

    return Settings.load()


@cache
def _artifacts() -> Artifacts | None:
    from ..common.artifacts import artifacts

    return artifacts(_settings())


def _with_values(order: frames.Order, config: dict[str, Any]) -> dict[str, Any]:
    from .references import filled

    config = filled(config, _artifacts)
    loaded: dict[str, Any] = config if order.run == _SHELL else values.loaded(config, _artifacts)
    return loaded


class _Keeper:
    """Writes to files what does not travel inline of a job's result."""

    def __init__(self, order: frames.Order) -> None:
        self._of = (order.execution, order.name)

    def value(self, value: Any) -> Any:
        return values.keep(value, _artifacts(), *self._of)

    def text(self, text: bytes, beside: dict[str, Any]) -> Any:
        fits = len(text) <= _settings().result_limit_bytes
        try:
            to = _artifacts()
            if fits and not (to and to.shared):
                return None
            return values.keep_json(text, beside, to, *self._of)
        except PenstockError:
            if fits:  # the place for files is away, and Redis is not
                return None
            raise


class Slot:
    """The loop of a slot. `limit` is the largest result in bytes."""

    def __init__(self, sock: socket.socket, bell: int, page: SharedPage, limit: int) -> None:
        self._sock = sock
        self._bell = bell
        self._page = page
        self._limit = limit
        self._pid = os.getpid()
        self._node = os.environ.get("PENSTOCK_NODE", "")
        self._unpacker = frames.Unpacker(frames.to_slot)
        self._buffer = memoryview(bytearray(256 * 1024))
        self._orders: deque[frames.Order] = deque()
        self._functions = Functions()
        self._threads = Threads()
        self._sending = threading.Lock()
        self._unrung_ns = 0
        self._called_ns = 0
        self._output = _Output()
        self._cwd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)

    def serve(self) -> None:
        """Runs orders until the daemon hangs up or a job leaves processes behind."""
        self._page.set_up()
        while True:
            while self._orders:
                if not self._take(self._orders.popleft()):
                    return
            self._ring()
            if not self._read():
                return

    def _read(self) -> bool:
        """Waits for the daemon's next word. False: it has gone."""
        # recv() would map and unmap memory each time, which takes longer than a short job
        count = self._sock.recv_into(self._buffer)
        for message in self._unpacker.feed(self._buffer[:count]):
            if isinstance(message, frames.Load):
                self._functions.load(message.root)
                self._keep_cwd()
            else:
                self._orders.extend(message.orders)
        return count > 0

    def _keep_cwd(self) -> None:
        """Each job begins in the folder that we are in now."""
        os.close(self._cwd)
        self._cwd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)

    def _take(self, order: frames.Order) -> bool:
        """Runs an order, unless it is revoked. False: this slot must not run another."""
        log_from = self._output.size()
        start_ns = time.monotonic_ns()
        self._page.begin(order.seq, start_ns, log_from)
        if order.seq < self._page.fence:
            self._send(frames.Skipped(order.seq))
            return True
        ended = self._run(order, start_ns, log_from)
        self._send(ended)
        if ended.dirty:
            self._ring()
            self._sock.recv(1)  # the daemon ends this process; EOF if it cannot
        return not ended.dirty

    def _run(self, order: frames.Order, start_ns: int, log_from: int) -> frames.Ended:
        started_ms = time.time_ns() // 1_000_000
        seq = order.seq
        self._threads.use(order.cpus)
        context.enter(
            lambda: self._context(order), lambda waiting: self._tell_waiting(seq, waiting)
        )
        ok, result, error, metrics = self._attempt(order)
        context.enter(None)
        if os.getpid() != self._pid:  # a child that the job forked came back in its place
            os._exit(0)
        run_us = (time.monotonic_ns() - max(start_ns, self._called_ns)) // 1000
        self._output.restore()
        os.fchdir(self._cwd)
        return frames.Ended(
            seq=seq,
            ok=ok,
            result=result,
            error=error,
            metrics=metrics,
            started_ms=started_ms,
            ended_ms=time.time_ns() // 1_000_000,
            run_us=run_us,
            log_from=log_from,
            log_to=self._output.size(),
            dirty=_has_children(),
        )

    def _context(self, order: frames.Order) -> context.Ctx:
        return context.Ctx(
            order.job, order.execution, order.name, order.attempt, self._node, order.cpus
        )

    def _attempt(self, order: frames.Order) -> tuple[bool, bytes, bytes, dict[str, float]]:
        """(ok, result, error, metrics) of the job, whatever it does to itself."""
        try:
            if self._functions.bundle:
                self._functions.unpack()
                self._keep_cwd()
            function = self._functions.find(order.run)
            self._called_ns = time.monotonic_ns()  # importing counts once, not for each run
            config, _ = _decode(order.config.decode())
            if values.MARK_BYTES in order.config:
                try:
                    config = _with_values(order, config)
                except PenstockError as error:
                    if error.__cause__ is not None:  # such as an error of a user's codec
                        raise
                    return False, b"", error_record(type(error).__name__, str(error)), {}
            value = call(function, **config)
        except BaseException as error:
            return False, b"", describe_error(error), {}
        try:
            result = encode_result(value, self._limit, _Keeper(order))
            return True, result, b"", metrics_of(value)
        except BaseException as error:
            return False, b"", error_record(type(error).__name__, str(error)), {}

    def _tell_waiting(self, seq: int, waiting: bool) -> None:
        self._send(frames.Waiting(seq, waiting))
        self._ring()

    def _send(self, message: frames.FromSlot) -> None:
        """Into the socket at once; the bell when the daemon has not looked for 2 ms."""
        data = frames.pack(message)
        with self._sending:
            try:
                sent = self._sock.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                os.eventfd_write(self._bell, 1)
                self._sock.sendall(memoryview(data)[sent:])
        now = time.monotonic_ns()
        if not self._unrung_ns:
            self._unrung_ns = now
        if now - self._unrung_ns >= BELL_NS:
            self._ring()

    def _ring(self) -> None:
        if self._unrung_ns:
            self._unrung_ns = 0
            os.eventfd_write(self._bell, 1)


class _Output:
    """The file behind fd 1 and 2: where it ends, and that jobs leave it in place."""

    def __init__(self) -> None:
        self._fd = os.dup(1)
        self._stdout, self._stderr = sys.stdout, sys.stderr
        cast(TextIO, sys.stdout).reconfigure(  # type: ignore[attr-defined]
            line_buffering=True, errors="backslashreplace"
        )

    def size(self) -> int:
        return os.lseek(self._fd, 0, os.SEEK_END)  # whatever is written is appended all the same

    def restore(self) -> None:
        """Flushes what the job printed, and undoes what it did to the streams."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                continue  # closed, or replaced by something else
        if self._stdout.closed:
            self._stdout = _stream(1)
        if self._stderr.closed:
            self._stderr = _stream(2)
        sys.stdout, sys.stderr = self._stdout, self._stderr
        for fd in (1, 2):
            os.dup2(self._fd, fd)  # unasked: to look whether it leads elsewhere takes longer


def _stream(fd: int) -> TextIO:
    return os.fdopen(fd, "w", buffering=1, errors="backslashreplace", closefd=False)


def _has_children() -> bool:
    """Does any process that the jobs started still live? Reaps those that ended.

    This process is a subreaper, so what a job's own children leave is its child too.
    """
    while True:
        try:
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is None:
                return True
        except ChildProcessError:
            return False


def main(argv: Sequence[str]) -> None:
    """The process: fds of the socket, the bell and the page, the parent's pid, a limit."""
    sock_fd, bell, page_fd, parent, limit = (int(text) for text in argv)
    tie_to_parent(parent, signal.SIGKILL)
    become_subreaper()
    for fd in (sock_fd, bell, page_fd):
        os.set_inheritable(fd, False)
    page = SharedPage(page_fd)
    gc.freeze()  # what is imported stays, and need not be looked at again by each collection
    Slot(socket.socket(fileno=sock_fd), bell, page, limit).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
