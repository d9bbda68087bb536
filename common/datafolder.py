"""The data folder of a private server: what lies where, and what is known of the server."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

#: The kernel takes 107 bytes for a socket's path; some clients count worse.
MAX_SOCKET_PATH = 100
#: A log larger than this starts anew when its process does.
MAX_LOG_BYTES = 1024 * 1024
#: Longest wait for one answer of the server, in seconds.
PING_S = 1.0


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """`server.json`: the server that its keeper has seen ready."""

    pid: int
    keeper_pid: int
    url: str
    socket: str

    @property
    def redis_cli(self) -> str:
        """The shell command that reaches the server."""
        return shlex.join(["redis-cli", "-s", self.socket])


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The files of one data folder. The locks, and who holds each of them while it lives:

    users.lock   every process that uses the server, shared; the keeper, to end it, alone
    start.lock   whoever looks whether the server runs, and starts it
    keeper.lock  the keeper
    data.lock    the server itself (inherited), so that no two ever write the same data
    host.lock    the process that runs this folder's orchestrator and worker
    up.lock      the host that `up` left running
    upstart.lock whoever starts or ends that one
    """

    home: Path

    @classmethod
    def at(cls, home: Path) -> DataFolder:
        """The folder, made (mode 700) if missing. Raises OSError if that fails."""
        folder = cls(Path(os.path.abspath(home)))
        folder.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.data.mkdir(exist_ok=True, mode=0o700)
        folder.logs.mkdir(exist_ok=True, mode=0o700)
        return folder

    @property
    def data(self) -> Path:
        """Where the server writes."""
        return self.home / "data"

    @property
    def logs(self) -> Path:
        """Where orchestrator and worker log."""
        return self.home / "log"

    @property
    def keeper_log(self) -> Path:
        """What keeper and server say."""
        return self.home / "keeper.log"

    @property
    def socket(self) -> Path:
        """The server's socket, where its path is short enough."""
        return self.home / "valkey.sock"

    @property
    def socket_fits(self) -> bool:
        """True if the socket can lie in the data folder."""
        return len(os.fsencode(self.socket)) <= MAX_SOCKET_PATH

    @property
    def wanted(self) -> Path:
        """The pipe that asks the host for another worker; there while its own was drained and has ended."""
        return self.home / "wanted"

    def lock(self, name: str) -> Path:
        """The lock file of that name, see above."""
        return self.home / f"{name}.lock"

    def read(self, name: str) -> dict[str, Any]:
        """What `NAME.json` says, {} if it is missing or no JSON object."""
        try:
            found = json.loads((self.home / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Writes `NAME.json` in one step; it may hold a password, so only its user reads it."""
        draft = self.home / f"{name}.json.new"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(json.dumps(value) + "\n")
        draft.replace(self.home / f"{name}.json")

    def forget(self, name: str) -> None:
        """Removes `NAME.json`."""
        (self.home / f"{name}.json").unlink(missing_ok=True)

    def read_server(self) -> ServerInfo | None:
        """What `server.json` says, None if there is none; it may be out of date."""
        try:
            return ServerInfo(**self.read("server"))
        except TypeError:
            return None

    def forget_server(self) -> None:
        """Removes `server.json` and the socket it names, and that one's folder if outside."""
        info = self.read_server()
        if info is not None:
            path = Path(info.socket)
            path.unlink(missing_ok=True)
            if path.parent != self.home:
                with contextlib.suppress(OSError):
                    path.parent.rmdir()
        self.forget("server")


def socket_url(path: Path) -> str:
    """The Redis URL of a Unix socket."""
    return f"unix://{quote(str(path))}"


def ping(path: str) -> str:
    """What the server behind a socket says to PING: `PONG`, `LOADING ...`, or "" if nothing."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PING_S)
            connection.connect(path)
            connection.sendall(b"PING\r\n")
            return connection.recv(512).decode(errors="replace").strip().lstrip("+-")
    except OSError:
        return ""


def open_log(path: Path) -> int:
    """A descriptor that appends to a log; a long one starts anew. The caller closes it."""
    fresh = path.exists() and path.stat().st_size > MAX_LOG_BYTES
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    return os.open(path, flags | (os.O_TRUNC if fresh else 0), 0o600)


def tail(path: Path, lines: int = 10) -> str:
    """The last lines of a log, indented; a word in their place if there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        text = ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (empty)"
