"""A Redis of a scenario's own: with our configuration, an AOF, a socket and a port."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.common.datafolder import ping, socket_url
from penstock.common.tied import tied

REDIS_CONF = Path(__file__).resolve().parents[2] / "deploy" / "redis.conf"


class Server:
    """A redis-server in `folder`, which must exist and have a short path (a socket lies in it).

    `options` are further lines of its configuration (`("--maxmemory", "50mb")`), `prefix` goes
    before its command, `environment` is its own. `bind` are the addresses of its port.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        *,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        bind: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.options = list(options)
        self.prefix = list(prefix)
        self.environment = environment
        self.bind = bind
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self.log = folder / "redis.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """By its socket."""
        return socket_url(self.socket)

    @property
    def tcp_url(self) -> str:
        """By its port."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, timeout_s: float = 120.0) -> float:
        """Starts it (again, on the same data), and returns the time of its first PONG."""
        self.spawn()
        deadline = time.monotonic() + timeout_s
        while ping(str(self.socket)) != "PONG":
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis-server did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.005)
        return time.time()

    def spawn(self) -> None:
        """Starts it without waiting for its answer."""
        binary = shutil.which("redis-server")
        if binary is None:
            raise RuntimeError("there is no redis-server; `make redis` installs it")
        places = ["--port", str(self.port), "--bind", self.bind, "--protected-mode", "no"]
        places += ["--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        places += ["--dir", str(self.folder), *self.options]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                tied([*self.prefix, binary, str(REDIS_CONF), *places]),
                stdout=log,
                stderr=log,
                env=dict(self.environment) if self.environment is not None else None,
            )

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Ends it (or stops it, by SIGSTOP; or goes on, by SIGCONT)."""
        assert self.process is not None
        self.process.send_signal(sig)
        if sig not in (signal.SIGSTOP, signal.SIGCONT):
            self.process.wait(20)

    def close(self) -> None:
        """Ends it if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
