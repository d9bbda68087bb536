"""A node of a lab: its processes, and what can be done to them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import psutil

from penstock.common.state import keys
from penstock.worker.isolation import children, descendants, is_alive
from support.processes import until


class Node:
    """A supervisor and all below it. `again` starts it anew."""

    def __init__(
        self, name: str, client: Any, spawn: Callable[[], subprocess.Popen[bytes]]
    ) -> None:
        self.name = name
        self._client = client
        self._spawn = spawn
        self.supervisor = spawn()
        self._daemon: int | None = None

    def again(self) -> None:
        """Starts it after its supervisor has ended."""
        self.supervisor = self._spawn()
        self._daemon = None

    def registered(self) -> str:
        """Its incarnation in Redis; empty while there is none."""
        value = self._client.hget(keys.node(self.name), "incarnation")
        return value.decode() if value else ""

    def ready(self, but: str = "", timeout_s: float = 60.0) -> str:
        """Waits until it is registered, under another incarnation than `but`; returns that."""

        def found() -> str:
            assert self.supervisor.poll() is None, f"node {self.name} has ended"
            now = self.registered()
            return now if now != but else ""

        return str(until(found, timeout_s, f"node {self.name} registers"))

    @property
    def daemon(self) -> int:
        """The pid of the daemon that runs now; waits for it."""
        return int(until(self._find_daemon, 60.0, f"a daemon of {self.name}"))

    def _find_daemon(self) -> int:
        if self._daemon is not None and is_alive(self._daemon):
            return self._daemon
        self._daemon = None
        for pid in children(self.supervisor.pid):
            with contextlib.suppress(psutil.Error):
                if "penstock.worker.daemon" in psutil.Process(pid).cmdline():
                    self._daemon = pid
                    return pid
        return 0

    def is_up(self) -> bool:
        """Does its daemon run, and is it registered?"""
        ended = self.supervisor.poll() is not None
        return not ended and self._find_daemon() != 0 and bool(self.registered())

    def slots(self) -> list[int]:
        """The slots that run now."""
        return [pid for pid in children(self.daemon) if is_alive(pid)]

    def tree(self) -> list[int]:
        """The supervisor and all below it."""
        return [self.supervisor.pid, *descendants(self.supervisor.pid)]

    def kill_daemon(self) -> None:
        """SIGKILL of the daemon alone."""
        _signal([self.daemon], signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL of supervisor, daemon and slots at once; what jobs started themselves lives on."""
        daemon = self.daemon
        _signal([self.supervisor.pid, daemon, *children(daemon)], signal.SIGKILL)
        self.supervisor.wait(10)

    def stop(self) -> list[int]:
        """SIGSTOP of the daemon and all below it; returns them, for `go_on`."""
        pids = [self.daemon, *descendants(self.daemon)]
        _signal(pids, signal.SIGSTOP)
        return pids

    @staticmethod
    def go_on(pids: list[int]) -> None:
        """SIGCONT, the daemon's last: its slots come with what they have to tell."""
        _signal([*pids[1:], *pids[:1]], signal.SIGCONT)

    def held(self) -> list[dict[str, Any]]:
        """The attempts that it holds by Redis, as a fault names them."""
        out = []
        for raw, lease in self._client.hgetall(keys.node_leases(self.name)).items():
            execution, _, job = raw.decode().partition("-")
            out.append({"execution": execution, "job": job, "attempt": int(lease.split()[0])})
        return out


def _signal(pids: list[int], sig: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)
