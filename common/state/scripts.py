"""The Lua scripts: one library of functions that Redis keeps, and how to call them.

Each file in lua/ is a function, and those in lua/lib/ are the parts that they share (`-- requires:` in a
header names them). Redis makes all of it once, when the library is loaded; a part says with `each_call` what
belongs to one call alone. A function that only reads, or that keeps, ends or takes away and so may run where
Redis is over its maxmemory, says so (`-- FLAGS`); the others are refused there before they begin.

The library's name holds the digest of its text: processes of different versions or limits call their own, and
a server that does not know it (a new one, or after FUNCTION FLUSH) is given it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, Self

from .. import retry
from . import keys
from .replies import as_text

if TYPE_CHECKING:
    from ..settings import Settings

_REQUIRES = re.compile(r"^-- requires:(.*)$", re.MULTILINE)
_FLAGS = re.compile(r"^-- FLAGS (.*)$", re.MULTILINE)
#: what Redis says to a call of a library that it does not have, and to one that it is given again
NOT_FOUND, IS_THERE = "Function not found", "already exists"
#: so many libraries of other versions and limits stay beside the one that is loaded
OTHERS_KEPT = 8
#: stands for the library's name
_NAME = "$LIBRARY"
_PRELUDE = f"""
local RQ, PS = '{keys.RQ}', '{keys.PENSTOCK}'
local EACH = {{}}
local function each_call(set) EACH[#EACH + 1] = set end
local function register(name, flags, run)
  local function call(_, given)
    for i = 1, #EACH do EACH[i]() end
    return run(given)
  end
  redis.register_function({{ function_name = '{_NAME}_' .. name, flags = flags, callback = call }})
end
"""


@dataclass(frozen=True)
class Limits:
    """What the scripts enforce; every process of a cluster should have the same."""

    #: times a job may take its process down before it is dead-lettered
    max_crashes: int = 3
    #: times a job may lose its node before it is dead-lettered
    max_losses: int = 10
    #: captured output kept for a job, bytes
    log_limit_bytes: int = 1_048_576
    #: a silent node keeps an attempt for this share of its run time, and at most so long (ms)
    patience_share: float = 0.02
    patience_max_ms: int = 25_000

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits as they are set."""
        return cls(
            max_crashes=settings.max_crashes,
            max_losses=settings.max_losses,
            log_limit_bytes=int(settings.log_limit_bytes),
            patience_share=settings.patience_share,
            patience_max_ms=int(settings.patience_max_s * 1000),
        )

    def as_lua(self) -> str:
        """The table `CFG` of the scripts."""
        lost = json.dumps(
            {
                "type": "NodeLost",
                "message": "the node that ran the job was lost too often; "
                "see `penstock queue dead` and the job's log",
                "traceback": "",
            }
        )
        return (
            f"local CFG = {{ max_crashes = {self.max_crashes}, max_losses = {self.max_losses}, "
            f"log_limit_bytes = {self.log_limit_bytes}, patience_share = {self.patience_share!r}, "
            f"patience_max_ms = {self.patience_max_ms}, retries = {retry.DEFAULT_MAX}, "
            f"timeout_s = '{retry.DEFAULT_TIMEOUT_S}', lost_error = {_lua_string(lost)} }}"
        )


@dataclass(frozen=True)
class Library:
    """What Redis keeps: `text` is what FUNCTION LOAD takes."""

    name: str
    text: str


@dataclass(frozen=True)
class Script:
    """One script: a function of a library."""

    name: str
    library: Library

    @property
    def function(self) -> str:
        """What FCALL takes."""
        return f"{self.library.name}_{self.name}"


Argument = str | bytes | int | float


@dataclass(frozen=True)
class Request:
    """A call of a script, ready to be sent, and sent again after a lost reply."""

    script: Script
    args: list[Argument] = field(default_factory=list)

    def call(self) -> tuple[Argument, ...]:
        """The command that runs it where the library is known."""
        return ("FCALL", self.script.function, 0, *self.args)

    def load(self) -> tuple[Argument, ...]:
        """The command that makes its library known."""
        return ("FUNCTION", "LOAD", self.script.library.text)


class Scripts(Mapping[str, Script]):
    """All scripts by name.

    `replace` swaps shared parts by name: the tests' clock is one.
    """

    def __init__(self, limits: Limits | None = None, replace: Mapping[str, str] | None = None):
        self._limits = limits or Limits()
        self._replace = dict(replace or {})

    def __getitem__(self, name: str) -> Script:
        return self._scripts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scripts)

    def __len__(self) -> int:
        return len(self._scripts)

    @cached_property
    def library(self) -> Library:
        """All of them, as Redis takes them."""
        text = self._text()
        name = f"penstock_{hashlib.sha1(text.encode()).hexdigest()[:12]}"
        return Library(name, f"#!lua name={name}\n{text.replace(_NAME, name, 1)}")

    @cached_property
    def _scripts(self) -> dict[str, Script]:
        return {name: Script(name, self.library) for name in _files("")}

    def _text(self) -> str:
        parts = {"lib/keys": _files("lib")["keys"]}
        for name, text in _files("").items():
            self._collect(text, parts)
            flags = ", ".join(map(_lua_string, _words(_FLAGS, text)))
            parts[name] = f"register('{name}', {{ {flags} }}, function(ARGV)\n{text}end)"
        return "\n".join([_PRELUDE, self._limits.as_lua(), *parts.values()])

    def _collect(self, text: str, parts: dict[str, str]) -> None:
        """Adds what a text requires, each after what it requires itself."""
        for name in _words(_REQUIRES, text):
            part = f"lib/{name}"
            if part not in parts:
                needed = self._replace.get(name) or _files("lib")[name]
                self._collect(needed, parts)
                parts[part] = needed


def run(client: Any, request: Request) -> Any:
    """Runs the request on a redis-py client; loads the library where it is unknown."""
    from redis.exceptions import ResponseError

    try:
        return client.execute_command(*request.call())
    except ResponseError as error:
        if not is_unknown(error):
            raise
    load(client, request.script.library)
    return client.execute_command(*request.call())


def run_all(client: Any, requests: Sequence[Request]) -> list[Any]:
    """Runs requests in one round trip, in their order; an error that Redis answers stands as a reply.

    Each must do no harm when it comes again. Raises redis-py's error when the connection is lost.
    """
    from redis.exceptions import ResponseError

    if len(requests) > 1:
        with client.pipeline(transaction=False) as pipe:
            for request in requests:
                pipe.execute_command(*request.call())
            replies = list(pipe.execute(raise_on_error=False))
        if not any(is_unknown(reply) for reply in replies):
            return replies
    answers: list[Any] = []
    for request in requests:
        try:
            answers.append(run(client, request))
        except ResponseError as error:
            answers.append(error)
    return answers


class Ahead:
    """Requests on a connection of their own, one after another: whoever sends one goes on until its reply is needed.

    A context: leaving it gives the connection back. A reply that nobody waited for goes with it.
    """

    def __init__(self, client: Any):
        self._client = client
        self._asked: Request | None = None

    def __enter__(self) -> Self:
        self._connection = self._client.connection_pool.get_connection()
        return self

    def __exit__(self, *_: object) -> None:
        if self.under_way:
            self._connection.disconnect()
        self._client.connection_pool.release(self._connection)

    @property
    def under_way(self) -> bool:
        """A reply has yet to be taken."""
        return self._asked is not None

    def send(self, request: Request) -> None:
        """Sends a request; the reply of the one before must have been taken."""
        assert not self.under_way
        self._asked = request
        self._connection.send_command(*request.call())

    def reply(self) -> Any:
        """The reply to what was sent; raises as `run`."""
        from redis.exceptions import ResponseError

        request = self._asked
        assert request is not None
        try:
            reply = self._connection.read_response()
            self._asked = None
            return reply
        except ResponseError as error:
            self._asked = None
            if not is_unknown(error):
                raise
        return run(self._client, request)


def is_unknown(reply: Any) -> bool:
    """Is this the error that Redis does not know the library?"""
    return isinstance(reply, Exception) and NOT_FOUND in str(reply)


def load(client: Any, library: Library) -> None:
    """Makes the library known. Where there are many of other versions these go first: a process that still
    needs one loads it again."""
    from redis.exceptions import ResponseError

    with suppress(ResponseError):  # a user may be allowed to load and no more
        known = client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", "penstock_*")
        if len(known) > OTHERS_KEPT:
            for one in known:
                client.execute_command("FUNCTION", "DELETE", _library_name(one))
    try:
        client.execute_command("FUNCTION", "LOAD", library.text)
    except ResponseError as error:
        if IS_THERE not in str(error):  # another was quicker
            raise


@cache
def _files(folder: str) -> dict[str, str]:
    """The Lua files in a folder, by name and in that order."""
    found = (resources.files(__package__) / "lua" / folder).iterdir()
    lua = {one.name[:-4]: one for one in found if one.name.endswith(".lua")}
    return {name: lua[name].read_text(encoding="utf-8") for name in sorted(lua)}


def _library_name(row: Any) -> str:
    """Of a row of FUNCTION LIST: a mapping, or a list of names and values."""
    fields = row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True))
    return next(as_text(value) for name, value in fields.items() if as_text(name) == "library_name")


def _words(line: re.Pattern[str], text: str) -> list[str]:
    found = line.search(text)
    return found[1].split() if found else []


def _lua_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
