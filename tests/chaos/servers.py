"""A Redis of a scenario's own: killed, paused, restarted, cut short, on any disk and clock."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from penstock.common.state.connection import connect
from penstock.common.tied import tied

#: the configuration that we recommend, which is thereby tried
REDIS_CONF = Path(__file__).resolve().parents[2] / "deploy" / "redis.conf"


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def binary() -> str | None:
    """The system's redis-server; None without one."""
    return shutil.which("redis-server")


class RedisServer:
    """One server on one folder and one port, through all its restarts.

    `options` are further options of redis-server (`--maxmemory 50mb`), `environment` what it
    gets besides ours. Start it from a thread that lives as long as it shall.
    """

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.options = list(options)
        self.environment = environment
        #: further addresses to listen on: a namespace's side of the host
        self.addresses = ["127.0.0.1"]
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "redis.log"
        self.client: redis.Redis = connect(self.url, name="scenario")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, timeout_s: float = 30.0) -> float:
        """Starts it, and returns when it answers PONG: the monotonic time of that."""
        assert self.process is None, "it runs already"
        command = [str(binary()), str(REDIS_CONF), "--port", str(self.port), "--dir"]
        command += [str(self.folder), "--protected-mode", "no", "--bind", *self.addresses]
        command += self.options
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                tied(command, signal.SIGKILL),
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        return self.await_pong(timeout_s)

    def await_pong(self, timeout_s: float = 30.0) -> float:
        """Returns when it answers and has loaded its data: the monotonic time of that."""
        deadline = time.monotonic() + timeout_s
        while True:
            with suppress(redis.RedisError):
                if self.client.ping():
                    return time.monotonic()
            assert self.process is not None
            assert self.process.poll() is None, f"redis-server ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"no PONG within {timeout_s:g} s"
            time.sleep(0.005)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self) -> float:
        """SIGKILL, then a new server on the same folder; the time of its PONG."""
        self.kill()
        return self.start()

    def forget(self) -> None:
        """SIGKILL, then a new server without any of the data."""
        self.kill()
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        self.start()

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def listen_on(self, address: str) -> None:
        """Listens on a further address, now and after restarts."""
        self.addresses.append(address)
        if self.process is not None:
            self.client.config_set("bind", " ".join(self.addresses))

    def info(self, name: str) -> Any:
        """One line of INFO."""
        found: Any = self.client.info("everything")
        return found.get(name)

    def aof(self) -> Path:
        """The file that grows: the last increment of the AOF."""
        files = sorted(
            (self.folder / "appendonlydir").glob("*.incr.aof"),
            key=lambda path: int(path.name.split(".")[-3]),
        )
        return files[-1]

    def copy_cut_short(self, target: Path, nbytes: int) -> None:
        """Copies the AOF into an empty folder, without its last bytes: a power cut."""
        shutil.copytree(self.folder / "appendonlydir", target / "appendonlydir")
        cut = target / "appendonlydir" / self.aof().name
        os.truncate(cut, max(0, cut.stat().st_size - nbytes))

    def close(self) -> None:
        """Ends it. Safe twice, and while it is stopped."""
        self.client.close()
        if self.process is not None:
            self.kill()


class Tmpfs:
    """A small disk of its own, mounted on a folder; needs root. `close` unmounts it."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(folder)],
            check=True,
            capture_output=True,
        )

    def fill(self) -> Path:
        """Takes all room that is left; returns the file that does."""
        ballast = self.folder / "ballast"
        with open(ballast, "wb", buffering=0) as out, suppress(OSError):
            while True:
                out.write(b"\0" * 65536)
        with open(ballast, "ab", buffering=0) as out, suppress(OSError):
            while True:
                out.write(b"\0" * 64)
        return ballast

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)
