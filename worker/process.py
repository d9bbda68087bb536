"""A slot as the daemon holds it: the process, its socket, its bell, its page, its output."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from . import frames
from .output import OutputFile
from .shared import SharedPage

_READ = 256 * 1024


class SlotProcess:
    """Starts a slot, and speaks with it without ever blocking.

    `environment` is the slot's, whole. Raises OSError when no process can be started.
    """

    def __init__(
        self, environment: Mapping[str, str], result_limit: int, devices: tuple[str, ...] = ()
    ) -> None:
        #: When it was last given something, and when it last said something.
        self.told = self.heard = time.monotonic()
        self.devices = devices
        self.binding: tuple[str, str] | None = None
        self.last_seq = 0
        self._unpacker = frames.Unpacker(frames.from_slot)
        self._unsent = bytearray()
        self.output = OutputFile()
        self.page, page_fd = SharedPage.create()
        self.sock, theirs = socket.socketpair()
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        fds = (theirs.fileno(), self.bell, page_fd)
        arguments = (*fds, os.getpid(), result_limit)
        command = [sys.executable, "-P", "-m", "penstock.worker.slot", *map(str, arguments)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self.output.fd,
                stderr=self.output.fd,
                pass_fds=fds,
                start_new_session=True,
                env=dict(environment),
            )
        finally:
            theirs.close()
            os.close(page_fd)
        self.pid = self._process.pid
        self.exited = os.pidfd_open(self.pid)
        self.sock.setblocking(False)

    @property
    def unsent(self) -> bool:
        """The socket would not take all: call `flush` when it is writable."""
        return bool(self._unsent)

    @property
    def partial(self) -> bool:
        """A message is here in part: call `receive` when the socket is readable."""
        return self._unpacker.partial

    def send(self, message: frames.ToSlot) -> None:
        """Sends a message, or as much of it as the socket takes now."""
        self.told = time.monotonic()
        self._unsent += frames.pack(message)
        self.flush()

    def flush(self) -> None:
        """Sends what is left. What a dead slot does not read is lost with it."""
        while self._unsent:
            try:
                sent = self.sock.send(self._unsent)
            except BlockingIOError:
                return
            except OSError:  # its end is told by `exited`
                self._unsent.clear()
                return
            del self._unsent[:sent]

    def quiet_bell(self) -> None:
        """Takes the ring off the bell, before `receive`."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.bell)

    def receive(self) -> list[frames.FromSlot]:
        """All that the slot has sent so far."""
        messages: list[frames.FromSlot] = []
        while True:
            try:
                data = self.sock.recv(_READ)
            except BlockingIOError:
                return messages
            except OSError:
                data = b""
            if not data:
                return messages
            self.heard = time.monotonic()
            messages += self._unpacker.feed(data)
            if len(data) < _READ:
                return messages

    def exit_code(self) -> int | None:
        """How it ended, reaping it; negative for a signal. None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL to the process alone."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.exited, signal.SIGKILL)

    def close(self) -> None:
        """Lets go of everything; call when the process was reaped."""
        self.sock.close()
        os.close(self.bell)
        os.close(self.exited)
        self.page.close()
        self.output.close()


def describe_exit(code: int) -> str:
    """How a process ended, in words: its exit code, or the signal and its likely cause."""
    if code >= 0:
        return f"the job's process ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hints = {
        "SIGKILL": "; nobody here sent it, so most likely the machine ran out of memory: "
        "ask for more with `resources: {ram: ...}` or use less",
        "SIGSEGV": "; an extension module broke",
        "SIGABRT": "; a library gave up",
    }
    return f"the job's process was killed by {name}{hints.get(name, '')}"
