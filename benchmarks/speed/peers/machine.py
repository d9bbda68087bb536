"""Processes, their CPU time, and how noisy the machine is. Only the standard library."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import time
from collections.abc import Iterable
from contextlib import suppress

TICKS = os.sysconf("SC_CLK_TCK")
clock = time.monotonic


def _children() -> dict[int, list[int]]:
    tree: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError, IndexError), open(f"/proc/{entry}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
                tree.setdefault(int(fields[1]), []).append(int(entry))
    return tree


def descendants(pid: int) -> list[int]:
    """The process and all below it."""
    tree, found, todo = _children(), [], [pid]
    while todo:
        found.append(todo.pop())
        todo.extend(tree.get(found[-1], ()))
    return found


def send(pids: Iterable[int], sig: signal.Signals) -> None:
    """Signals processes, those that are gone left out."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, sig)


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes, and those of their children that ended, have used."""
    total = 0
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/stat") as file:
            total += sum(int(word) for word in file.read().rsplit(")", 1)[1].split()[11:15])
    return total / TICKS


def busy_s() -> float:
    """CPU seconds that this machine has spent on anything."""
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6] + ticks[7]) / TICKS


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * (len(ordered) - 1))))]


def ping_us(port: int, count: int = 500) -> float:
    """The median round trip of a bare PING: in which mood the machine is right now."""
    with socket.create_connection(("127.0.0.1", port), 2) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            sock.sendall(b"PING\r\n")
            sock.recv(64)
            taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6
