"""A machine of its own on this one: a network namespace with one cable to the host."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from penstock.common.tied import tied

_NUMBERS = count()


def why_not() -> str:
    """Why there can be no namespaces here; empty when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "unshare", "nsenter"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    tried = subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True)
    return "" if tried.returncode == 0 else f"unshare --net: {tried.stderr.decode().strip()}"


class Island:
    """A network namespace. `host` is its peer's address on our side, `inside(...)` the command
    that runs in it. It lasts until `close`, or until this process ends."""

    def __init__(self) -> None:
        number = next(_NUMBERS)
        name = f"{os.getpid() % 100000}x{number}"
        self._cable = f"ps{name}"
        # A /30 that hardly collides with that of another run on this machine.
        third, fourth = os.getpid() % 250, number % 62
        self.host = f"10.213.{third}.{4 * fourth + 1}"
        self.address = f"10.213.{third}.{4 * fourth + 2}"
        self._holder = subprocess.Popen(tied(["unshare", "--net", "sleep", "infinity"]))
        try:
            self._lay_cable()
        except BaseException:
            self.close()
            raise

    def _lay_cable(self) -> None:
        pid, inner = str(self._holder.pid), f"{self._cable}i"
        ours, deadline = os.readlink("/proc/self/ns/net"), time.monotonic() + 5
        while True:
            with suppress(OSError):
                theirs = os.readlink(f"/proc/{pid}/ns/net")
                if theirs != ours and Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                    break
            assert time.monotonic() < deadline, "no network namespace within 5 s"
            time.sleep(0.002)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", inner, "netns", pid)
        _ip("address", "add", f"{self.host}/30", "dev", self._cable)
        _ip("link", "set", self._cable, "up")
        for line in (
            f"address add {self.address}/30 dev {inner}",
            f"link set {inner} up",
            "link set lo up",
        ):
            subprocess.run(self.inside("ip", *line.split()), check=True, capture_output=True)

    def inside(self, *command: str) -> list[str]:
        """The command line that runs `command` in the namespace, under the same pid."""
        return ["nsenter", "--net", f"--target={self._holder.pid}", *command]

    def down(self) -> None:
        """The cable is out."""
        _ip("link", "set", self._cable, "down")

    def up(self) -> None:
        """The cable is in again."""
        _ip("link", "set", self._cable, "up")

    def close(self) -> None:
        """Ends it; the cable goes with it. What still runs in it keeps its namespace, cut off."""
        with suppress(subprocess.CalledProcessError):
            _ip("link", "delete", self._cable)
        self._holder.kill()
        self._holder.wait()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
