"""What can befall the data of a Redis: a restart without it, an end cut short, a full disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from .server import Server


def restart(server: Server) -> float:
    """SIGKILL, then a new server on the same data; the time of its first PONG."""
    server.kill()
    return server.start()


def forget(server: Server) -> float:
    """SIGKILL, then a new server without any of the data; the time of its first PONG."""
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    return server.start()


def aof(folder: Path) -> Path:
    """The part of a server's AOF that grows, in its folder."""
    parts = (folder / "appendonlydir").glob("*.incr.aof")
    return max(parts, key=lambda path: int(path.name.split(".")[-3]))


def cut_short(source: Path, target: Path, nbytes: int) -> None:
    """Copies an AOF into a folder, without its last bytes: what a power cut leaves."""
    shutil.rmtree(target / "appendonlydir", ignore_errors=True)
    shutil.copytree(source / "appendonlydir", target / "appendonlydir")
    grown = aof(target)
    os.truncate(grown, max(0, grown.stat().st_size - nbytes))


def listen_on(client: Any, *addresses: str) -> None:
    """The server listens on further addresses of this machine, until its end."""
    now = client.config_get("bind")["bind"].split()
    client.config_set("bind", " ".join([*now, *addresses]))


def refuses_writes(client: redis.Redis, word: str, nbytes: int = 5000) -> bool:
    """Is a write of so many bytes refused for this reason (MISCONF, OOM)?"""
    try:
        client.set("chaos:write", b"x" * nbytes)
        client.delete("chaos:write")
    except redis.ResponseError as error:
        return str(error).startswith(word)
    return False


class Tmpfs:
    """A small disk of its own, mounted on a folder; needs root. `close` unmounts it."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(folder)]
        subprocess.run(command, check=True, capture_output=True)

    def fill(self) -> Path:
        """Takes all room that is left; returns the file that does."""
        ballast = self.folder / "ballast"
        for size in (65536, 64):
            with open(ballast, "ab", buffering=0) as out, suppress(OSError):
                while True:
                    out.write(b"\0" * size)
        return ballast

    def close(self) -> None:
        """Safe twice."""
        subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)


def why_no_tmpfs(folder: Path) -> str:
    """Why no disk can be mounted here; empty when one can."""
    try:
        Tmpfs(folder, "1m").close()
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or b""
        return f"no tmpfs can be mounted: {said.decode().strip() or error}"
    return ""
