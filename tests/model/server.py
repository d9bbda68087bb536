"""Where the scripts run: in this process, on the part of Redis that they use (redis/), or on a
real Redis. Both stand where a Store expects a redis-py client."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import hiredis
from redis.exceptions import ResponseError

from penstock.common.datafolder import ping
from penstock.common.state import keys
from penstock.common.tied import tied

CLOCK_KEY = "penstock:test:clock"

#: lib/now.lua without the server's clock: the time is what the last request said
FROZEN_NOW = f"""
local NOW_MS, NOW_US
each_call(function()
  NOW_MS, NOW_US = string.match(redis.call('GET', '{CLOCK_KEY}'), '(%d+) (%d+)')
  NOW_MS, NOW_US = tonumber(NOW_MS), tonumber(NOW_US)
end)
"""

#: the files of redis/, in their order
PARTS = ("keyspace", "collections", "sorted", "scripts")

Command = tuple[Any, ...]


class Server(ABC):
    """`now` is the time of the next request, in ms and microseconds beyond; `seen` is what `look`, a command that only
    reads, said right after the last one."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(encoding="utf-8", errors="replace")
        self.now = (0, 0)
        self.look: Command | None = None
        self.seen: Any = None

    def execute_command(self, *command: Any) -> Any:
        """Sets the time, runs the command, and looks, at once."""
        commands: list[Command] = [("SET", CLOCK_KEY, f"{self.now[0]} {self.now[1]}"), command]
        if self.look:
            commands.append(self.look)
        _, reply, *seen = self.ask(*commands)
        if isinstance(reply, hiredis.ReplyError):
            raise ResponseError(str(reply))
        if seen:
            self.seen = seen[0]
        return reply

    @abstractmethod
    def ask(self, *commands: Command) -> list[Any]:
        """The replies; errors among them as values."""

    @abstractmethod
    def load(self, text: str) -> str:
        """The SHA-1 of a script, which is known from now on."""

    @abstractmethod
    def restart(self, run_id: int) -> None:
        """As if the server had been started again: another run id, the same keys."""


class InProcess(Server):
    """redis/. `save` and `restore` keep and put back its whole state."""

    def __init__(self) -> None:
        super().__init__()
        # bytes in and out
        self._lua = _lua().LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._redis = self._lua.execute(_program())
        self._run, self._load = self._redis[b"run"], self._redis[b"load"]
        self.save, self.restore = self._redis[b"save"], self._redis[b"restore"]
        self._describe = self._redis[b"describe"]

    def ask(self, *commands: Command) -> list[Any]:
        replies = []
        for given in commands:
            self._reader.feed(self._run(*[_as_bytes(word) for word in given]))
            replies.append(self._reader.gets())
        return replies

    def load(self, text: str) -> str:
        sha = hashlib.sha1(text.encode()).hexdigest()
        self._load(sha.encode(), text.encode())
        return sha

    def describe(self, no_keys: str, no_fields: str, while_started: str) -> str:
        """The whole state as text, without these keys (Lua patterns) and fields of hashes, some of
        which are shown of running jobs only."""
        words = (no_keys, no_fields, while_started)
        return str(self._describe(*[one.encode() for one in words]).decode())

    def restart(self, run_id: int) -> None:
        self._redis[b"run_id"] = f"{run_id:040x}".encode()


def _program() -> bytes:
    folder = Path(__file__).with_name("redis")
    return b"\n".join((folder / f"{name}.lua").read_bytes() for name in PARTS)


def _lua() -> Any:
    """LuaJIT, as an interpreter twice as quick as Lua 5.1; but fakeredis loads the latter so that
    its symbols stand before all others', and then only that may be used."""
    if "lupa.lua51" in sys.modules:
        from lupa import lua51

        return lua51
    from lupa import luajit21

    return luajit21


class Wire(Server):
    """A real server, over its socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)

    def ask(self, *commands: Command) -> list[Any]:
        self._socket.sendall(b"".join([hiredis.pack_command(one) for one in commands]))
        return [self._reply() for _ in commands]

    def _reply(self) -> Any:
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionError("the server is gone")
            self._reader.feed(data)
        return reply

    def load(self, text: str) -> str:
        (sha,) = self.ask(("SCRIPT", "LOAD", text))
        if isinstance(sha, hiredis.ReplyError):
            raise ResponseError(str(sha))
        return str(sha)

    def restart(self, run_id: int) -> None:
        """A real one keeps its run id, so what the scripts know of it becomes another."""
        if self.ask(("EXISTS", keys.maintenance())) == [1]:
            self.ask(("HSET", keys.maintenance(), "run_id", f"{run_id:040x}"))

    def close(self) -> None:
        """Leaves the server as it is."""
        self._socket.close()


@cache
def _encoded(word: str) -> bytes:
    return word.encode()


def _as_bytes(word: Any) -> bytes:
    if isinstance(word, bytes):
        return word
    return _encoded(word) if isinstance(word, str) and len(word) < 16 else str(word).encode()


@contextmanager
def own_server(binary: str = "redis-server") -> Iterator[str]:
    """The path of the socket of a Redis that writes nothing to disk, and ends with this block."""
    with tempfile.TemporaryDirectory(prefix="ps-") as folder:
        path = f"{folder}/redis.sock"
        given = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
        command = tied([binary, *given, "--dir", folder, "--loglevel", "warning"])
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while ping(path) != "PONG":
                if process.poll() is not None:
                    raise RuntimeError(f"{binary} ended with {process.returncode}")
            yield path
        finally:
            process.terminate()
            process.wait(10)
