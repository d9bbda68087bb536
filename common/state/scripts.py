"""Loads the Lua scripts, and says how to call them.

A script is its shared parts (`-- requires:` in its header, resolved in order,
each once), then its own text, behind a prelude that holds the limits. Parts that
it rarely comes to need follow later in its text (`-- then requires:`): what returns
before that line does not pay for them. Every `K.job(id)` and its like is replaced
by the key's text, as lib/keys.lua has it. The text's SHA-1 is what Redis knows it by.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any

from . import keys

if TYPE_CHECKING:
    from ..settings import Settings

_REQUIRES = re.compile(r"^-- (?:then )?requires:(.*)$", re.MULTILINE)
_THEN = re.compile(r"^(?=-- then requires:)", re.MULTILINE)
#: one key in lib/keys.lua, and a call of it
_KEY = re.compile(r"^  (\w+) = function\((.*)\) return (.*) end,$", re.MULTILINE)
_KEY_CALL = re.compile(r"\bK\.(\w+)(?:\(((?:[^()'\n]|'[^'\n]*')*)\))?")
#: an argument of such a call: names and texts, one after another
_KEY_ARGUMENT = re.compile(r"(?:[\w.\[\]]+|'[^']*')(?: \.\. (?:[\w.\[\]]+|'[^']*'))*")


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
            f"patience_max_ms = {self.patience_max_ms}, lost_error = {_lua_string(lost)} }}"
        )


@dataclass(frozen=True)
class Script:
    """One script, whole: `sha` is what EVALSHA takes, `text` what EVAL takes."""

    name: str
    text: str

    @cached_property
    def sha(self) -> str:
        return hashlib.sha1(self.text.encode()).hexdigest()


Argument = str | bytes | int | float


@dataclass(frozen=True)
class Request:
    """A call of a script, ready to be sent, and sent again after a lost reply."""

    script: Script
    args: list[Argument] = field(default_factory=list)

    def evalsha(self) -> tuple[Argument, ...]:
        """The command that runs it where the script is known."""
        return ("EVALSHA", self.script.sha, 0, *self.args)

    def eval(self) -> tuple[Argument, ...]:
        """The command that runs it anywhere, and makes the script known."""
        return ("EVAL", self.script.text, 0, *self.args)


class Scripts(Mapping[str, Script]):
    """All scripts by name.

    `replace` swaps shared parts by name: the tests' clock is one.
    """

    def __init__(self, limits: Limits | None = None, replace: Mapping[str, str] | None = None):
        self._limits = limits or Limits()
        self._replace = dict(replace or {})
        self._scripts: dict[str, Script] = {}

    def __getitem__(self, name: str) -> Script:
        if name not in self._scripts:
            self._scripts[name] = Script(name, self._text(name))
        return self._scripts[name]

    def __iter__(self):  # type: ignore[no-untyped-def]
        folder = resources.files(__package__) / "lua"
        names = (entry.name for entry in folder.iterdir())
        return iter(sorted(name[:-4] for name in names if name.endswith(".lua")))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _text(self, name: str) -> str:
        parts: list[str] = []
        seen: set[str] = set()
        for section in _THEN.split(_read(f"{name}.lua")):
            self._collect(section, seen, parts)
            parts.append(section)
        return with_keys(_nested([self._limits.as_lua(), *parts]))

    def _collect(self, text: str, seen: set[str], parts: list[str]) -> None:
        for needed in _required(text):
            if needed in seen:
                continue
            seen.add(needed)
            part = self._replace.get(needed) or _read(f"lib/{needed}.lua")
            self._collect(part, seen, parts)
            parts.append(part)


def run(client: Any, request: Request) -> Any:
    """Runs the request on a redis-py client; loads the script where it is unknown."""
    from redis.exceptions import NoScriptError

    try:
        return client.execute_command(*request.evalsha())
    except NoScriptError:
        return client.execute_command(*request.eval())


def run_all(client: Any, requests: Sequence[Request]) -> list[Any]:
    """Runs requests in one round trip, in their order; an error that Redis answers stands as a reply.

    Each must do no harm when it comes again. Raises redis-py's error when the connection is lost.
    """
    from redis.exceptions import NoScriptError, ResponseError

    if len(requests) > 1:
        with client.pipeline(transaction=False) as pipe:
            for request in requests:
                pipe.execute_command(*request.evalsha())
            replies = list(pipe.execute(raise_on_error=False))
        if not any(isinstance(reply, NoScriptError) for reply in replies):
            return replies
    answers: list[Any] = []
    for request in requests:
        try:
            answers.append(run(client, request))
        except ResponseError as error:
            answers.append(error)
    return answers


Runner = Callable[[Request], Any]


@cache
def _read(path: str) -> str:
    return (resources.files(__package__) / "lua" / path).read_text(encoding="utf-8")


def _required(text: str) -> list[str]:
    found = _REQUIRES.search(text)
    return found.group(1).split() if found else []


def with_keys(text: str) -> str:
    """`text` with each key in place of the call that names it.

    Every call of a script makes its functions anew, so there are none for keys. Arguments are
    names and texts (`job.id`, `x_id .. '-' .. name`). Raises ValueError for any others, and
    KeyError for a key that there is not.
    """
    made = _keys()

    def key(call: re.Match[str]) -> str:
        names, expression = made[call[1]]
        given = call[2].split(", ") if call[2] else []
        if (
            call[2] is None
            or len(given) != len([name for name in names if name])
            or not all(_KEY_ARGUMENT.fullmatch(one) for one in given)
        ):
            raise ValueError(f"{call[0]} takes plain names and texts, one for each of {names}")
        values = dict(zip(names, given, strict=False))
        values |= {"RQ": _lua_string(keys.RQ), "PS": _lua_string(keys.PENSTOCK)}
        words = [values.get(word, word) for word in expression.split(" .. ")]
        return f"({' .. '.join(words)})".replace(f"{words[0]} .. '", words[0][:-1], 1)

    return _KEY_CALL.sub(key, text)


@cache
def _keys() -> dict[str, tuple[list[str], str]]:
    """The arguments and the text of each key, by its name."""
    found = _KEY.finditer(_read("lib/keys.lua"))
    return {key[1]: (key[2].split(", "), key[3]) for key in found}


def _nested(parts: list[str]) -> str:
    """The parts, each within a function that the one before it calls.

    To make a function that uses a local of the same level Lua 5.1 looks for it among all such locals
    that functions use (`luaF_findupval`); one of a level further out is at hand.
    """
    heads = [f"{part}\nreturn (function()\n" for part in parts[:-1]]
    return "".join([*heads, parts[-1], *["\nend)()" for _ in heads]])


def _lua_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
