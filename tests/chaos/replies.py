"""Requests whose replies get lost, for every script that writes (F08, F09).

All of them reach the server; their replies are dropped once, thrice or ten times. The caller sends
the same request again, the daemon's through its own `CommandLine`, all others by making the call
again. What the server holds after the first of them must be what it holds after the last.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import hiredis
import redis

from penstock.common.state import keys
from penstock.common.state.connection import connect
from penstock.common.state.scripts import Request, Scripts, load
from penstock.worker.lines import CommandLine
from penstock.worker.loop import Loop
from support.scripted import SHIFT_KEY

from .proxy import Proxy, scripts

#: lib/now.lua with a clock that stands still until a history moves it: the same request again
#: then writes the same times, so that the whole content can be compared
STANDING_NOW = f"""
local NOW_MS, NOW_US = nil, 0
each_call(function() NOW_MS = 1800000000000 + tonumber(redis.call('GET', '{SHIFT_KEY}') or 0) end)
"""
#: sent by the daemon on its own line, again and again until answered
OF_THE_DAEMON = frozenset({"node_advance", "node_handback", "node_beat", "job_log", "node_wait"})
#: events that say only that a request came, not that a state changed
REMARKS = frozenset({b"settle_stale"})

#: scripts whose lost reply means that an item is done later, once more
_LEASES = frozenset({"agenda_take", "agenda_renew"})
_READS = frozenset(
    [
        "EXISTS",
        "GET",
        "HGET",
        "HGETALL",
        "HMGET",
        "LINDEX",
        "LLEN",
        "LRANGE",
        "SCARD",
        "SMEMBERS",
        "SRANDMEMBER",
        "STRLEN",
        "TIME",
        "ZCARD",
        "ZRANGE",
        "ZRANGEBYSCORE",
        "ZREVRANGE",
        "ZSCORE",
    ]
)
#: two times at which a key expires that count as one, seconds
TOLERANCE_S = 60
#: key -> its content, and the newest event
_Look = tuple[dict[bytes, Any], bytes]
_SNAPSHOT = f"""
local out = {{}}
local readers = {{ hash = {{ 'HGETALL' }}, list = {{ 'LRANGE', 0, -1 }}, set = {{ 'SMEMBERS' }},
  zset = {{ 'ZRANGE', 0, -1, 'WITHSCORES' }}, string = {{ 'GET' }} }}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  local how = readers[kind]
  if how then
    local value = redis.call(how[1], key, unpack(how, 2))
    out[#out + 1] = {{ key, kind, redis.call('EXPIRETIME', key), value }}
  end
end
local events = redis.call('XREVRANGE', '{keys.events()}', '+', '-', 'COUNT', 1)
return {{ out, events[1] and events[1][1] or '0-0' }}
"""


@cache
def writing_scripts() -> tuple[str, ...]:
    """The names of all scripts that write, by what stands in them and in the parts that they require."""
    return tuple(name for name in Scripts() if writes(_with_parts(name)))


def _with_parts(name: str) -> str:
    """A script, with all the parts that it requires."""
    folder = resources.files("penstock.common.state.lua")
    left, texts = [name], {}
    while left:
        one = left.pop()
        texts[one] = (folder / f"{one}.lua").read_text()
        found = re.search(r"^-- requires:(.*)$", texts[one], re.MULTILINE)
        needed = [f"lib/{part}" for part in found[1].split()] if found else []
        left += [part for part in needed if part not in texts]
    return "\n".join(texts.values())


def writes(text: str) -> bool:
    """Does a script call any command that writes?"""
    for call in re.finditer(r"redis\.call\(([^,)]*)", text):
        if set(re.findall(r"'([A-Z]+)'", call[1])) - _READS:
            return True
    return False


@dataclass(frozen=True)
class Difference:
    """What a request did again: the script, its arguments, and what is not as before."""

    script: str
    args: tuple[Any, ...]
    what: str

    def __str__(self) -> str:
        return f"{self.script}{self.args[:6]!r}: {self.what}"


@dataclass
class Tally:
    """What was done and found. `done`: requests that changed something and lost their reply;
    `pairs`: first and last answer of each script, how often."""

    target: int
    done: Counter[str] = field(default_factory=Counter)
    idle: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    pairs: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    def missing(self) -> list[str]:
        """Scripts that have not had their injections yet."""
        return [name for name in writing_scripts() if self.done[name] < self.target]


class LossyClient:
    """A client for `Store`: scripts lose their replies, the rest goes straight to the server.

    `times` draws how many replies of a request get lost in a row, 0 for none. With `gives_up`
    the caller gets the error instead of an answer, as an orchestrator does.
    """

    def __init__(
        self,
        url: str,
        proxy: Proxy,
        tally: Tally,
        known: Scripts,
        gives_up: bool = False,
    ) -> None:
        self.tally = tally
        self.times: Callable[[], int] = lambda: 0
        #: no more orchestrators are lost to their leases
        self.finishing = False
        self._dice = random.Random(0)
        self.direct = connect(url)
        self._watcher = connect(url)
        self._proxied = connect(proxy.url)
        self._proxy, self._gives_up = proxy, gives_up
        self._scripts = {one.function: one for one in known.values()}
        self._loop = Loop()
        self._line = CommandLine(self._loop, connect(proxy.url))
        self._snapshot = self._watcher.register_script(_SNAPSHOT)
        load(self.direct, known.library)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.direct, name)

    def execute_command(self, *command: Any, **options: Any) -> Any:
        script = self._scripts.get(command[1]) if command[0] == "FCALL" else None
        if script is not None and script.name == "agenda_renew":
            self.direct.incrby(SHIFT_KEY, 50)  # what it renews took some time
        times = self.times() if script is not None else 0
        if script is None or not times or not self._wanted(script.name):
            return self.direct.execute_command(*command, **options)
        untouched = self._look()
        seen: list[tuple[Any, Any]] = []

        def swallowed(reply: Any) -> None:
            seen.append((reply, None if seen else self._look()))

        rule = self._proxy.drop_replies(
            scripts(script.function.encode()), times, swallowed=swallowed
        )
        self.tally.lost += times
        answer = self._ask(Request(script, list(command[3:])))
        assert rule.done == times == len(seen), (script.name, rule)
        self._proxy.normal()
        changed = _changed(untouched, seen[0][1])
        (self.tally.done if changed else self.tally.idle)[script.name] += 1
        self._judge(script.name, command[3:], seen[0], answer)
        return answer

    def _wanted(self, name: str) -> bool:
        """Is another injection of this script wanted, and would it have something to do?"""
        if self.tally.done[name] >= self.tally.target:
            return False
        if name in _LEASES:  # what was leased comes up again: some replies must arrive
            return not self.finishing and self._dice.random() < 0.5
        if name == "outbox_drain":
            return bool(self.direct.exists(keys.outboxes()))
        return name != "due_promote" or bool(self.direct.exists(keys.due()))

    def _ask(self, request: Request) -> Any:
        if request.script.name in OF_THE_DAEMON:
            return self._ask_as_daemon(request)
        while True:
            try:
                return self._proxied.execute_command(*request.call())
            except redis.ConnectionError:
                if self._gives_up:
                    raise

    def _ask_as_daemon(self, request: Request) -> Any:
        answers: list[Any] = []
        self._line.open()
        while not self._line.free:
            self._loop.turn()
        self._line.run(answers.append, request)
        while not answers:
            self._loop.turn()
        if isinstance(answers[0], hiredis.ReplyError):
            raise redis.ResponseError(str(answers[0]))
        return answers[0]

    def _look(self) -> _Look:
        rows, last = self._snapshot()
        return {row[0]: _content(row) for row in rows}, last

    def _judge(self, name: str, args: Sequence[Any], first: tuple[Any, Any], last: Any) -> None:
        reply, (before, newest) = first
        self.tally.pairs[name, _brief(reply), _brief(last)] += 1
        if name == "agenda_take" or keys.outboxes().encode() in before:
            return  # more of what is left to do is taken with each request
        after, _ = self._look()
        found = [
            f"{key.decode()} was {before.get(key)!r}, is {after.get(key)!r}"
            for key in sorted(before.keys() | after.keys())
            if not _same(before.get(key), after.get(key))
            and not _ran_out(before.get(key), after.get(key))
        ]
        events: Any = self._watcher.xrange(keys.events(), b"(" + newest, "+")
        found += [f"event {event}" for _, event in events if event[b"event"] not in REMARKS]
        self.tally.differences += [Difference(name, tuple(args), what) for what in found]

    def close(self) -> None:
        self._line.close()
        self._loop.close()
        for client in (self.direct, self._watcher, self._proxied):
            client.close()


def _changed(before: _Look, after: _Look) -> bool:
    (rows, event), (rows_after, event_after) = before, after
    return event != event_after or not all(
        _same(rows.get(key), rows_after.get(key)) for key in rows.keys() | rows_after.keys()
    )


def _same(before: Any, after: Any) -> bool:
    """A time to live that begins anew counts as the same: it is far longer than a request takes."""
    if before is None or after is None:
        return before is after
    (kind, expires, value), (kind_after, expires_after, value_after) = before, after
    near = (expires < 0) == (expires_after < 0) and abs(expires - expires_after) <= TOLERANCE_S
    return near and (kind, value) == (kind_after, value_after)


def _ran_out(before: Any, after: Any) -> bool:
    """Did a key end by its TTL between two looks? (The machine was busy.)"""
    return after is None and before is not None and before[1] >= 0


def _content(row: list[Any]) -> Any:
    _, kind, expires, value = row
    if kind == b"hash":
        value = dict(zip(value[::2], value[1::2], strict=True))
    elif kind == b"set":
        value = set(value)
    return kind, expires, value


def _brief(reply: Any) -> str:
    if isinstance(reply, list):
        return "[" + " ".join(_brief(item) for item in reply[:3]) + "]"
    if isinstance(reply, bytes):
        text = reply.decode(errors="replace")
        return text if text.isupper() else "text"
    return "number" if isinstance(reply, int) else str(reply)
