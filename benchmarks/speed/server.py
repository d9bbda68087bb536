"""A redis-server of its own for each system and round."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from penstock.common.tied import tied

ROOT = Path(__file__).resolve().parents[2]
#: As we recommend it to users, with AOF everysec, and without any persistence.
RECOMMENDED = (str(ROOT / "deploy" / "redis.conf"),)
STOCK = ("--save", "", "--appendonly", "no")


class Server:
    """Runs from its making until `stop`. Its data lie in `folder`; `under` is a command that runs it."""

    def __init__(self, folder: Path, flags: tuple[str, ...], under: tuple[str, ...] = ()) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        first, rest = ((flags[0],), flags[1:]) if flags == RECOMMENDED else ((), flags)
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        with open(folder / "redis.log", "wb") as log:
            self.process = subprocess.Popen(
                tied([*under, "redis-server", *first, *where, *rest]), stdout=log, stderr=log
            )
        deadline = time.monotonic() + (60.0 if under else 10.0)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.5).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.01)

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait()
