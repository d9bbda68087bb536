"""What travels between the state in Redis and the processes that run jobs.

A job in Redis is an RQ job hash with fields of ours on top (`state/keys.py`
lists them); these are the typed views of it that leave the state layer.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class Token(NamedTuple):
    """Proves a lease: the attempt of a job that one claim handed out."""

    job: str
    attempt: int
    claim: str


@dataclass(frozen=True, slots=True)
class Work:
    """What a daemon is to do, but for what a job has of its own; the jobs of a fan-out share one.

    `refs` are the jobs whose results its configuration still names; `needs` are
    resources by name (cpus, gpus; ram and disk in bytes).
    """

    execution: str
    run: str
    root: str
    digest: str
    refs: tuple[str, ...]
    timeout_s: float
    needs: dict[str, float]
    priority: int
    queue: str
    retry: dict[str, Any]
    retries_left: int


@dataclass(slots=True)
class Claimed:
    """A job as a daemon gets it with a claim.

    `config` is a JSON object, the keyword arguments. `rider` marks a job claimed
    ahead, to run after another one in the same slot.
    """

    token: Token
    name: str
    config: bytes
    rider: bool
    work: Work


@dataclass(slots=True)
class Settlement:
    """The end of one attempt, as the daemon reports it.

    `outcome` is finished, failed, crashed (the process died) or stopped (by a
    command). `metrics` are the numbers in its result, for `stop_when`. `retry_ms` is the delay
    before the next attempt, -1 for none.
    """

    token: Token
    outcome: str
    result: bytes = b""
    error: bytes = b""
    metrics: dict[str, float] = field(default_factory=dict)
    started_ms: int = 0
    ended_ms: int = 0
    retry_ms: int = -1
    log: bytes = b""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node offers, as it registers. `resources` by name (ram in bytes)."""

    id: str
    incarnation: str
    hostname: str
    pid: int
    capabilities: tuple[str, ...]
    concurrency: int
    resources: dict[str, float]
    timeout_s: float = 3.0
    version: str = ""
    #: of Python, as `3.11`
    python: str = ""


class Coming(NamedTuple):
    """What a claim brings, before it is unpacked: the work of each head, and that of the riders, each once."""

    heads: Sequence[Work] = ()
    riders: Sequence[Work] = ()
    size: int = 0


NOTHING = Coming()


@dataclass
class Advanced:
    """The answer to one advance; `verdicts` are OK or STALE, one a settlement.

    `unknown`: this incarnation is not registered (it was reaped or replaced).
    """

    verdicts: list[str]
    coming: Coming
    unpack: Callable[[], list[Claimed]] = field(compare=False)
    suspended: bool = False
    unknown: bool = False

    @cached_property
    def claimed(self) -> list[Claimed]:
        """The jobs of `coming`, one by one."""
        return self.unpack()


@dataclass(slots=True)
class Beaten:
    """The answer to one beat; `stale` are the attempts to end, `drain`: the node is to end."""

    unknown: bool
    stale: list[Token]
    work: bool
    drain: bool = False


def new_execution_id(now_ms: int) -> str:
    """15 characters of [0-9a-z]: milliseconds since 1970, then 6 random ones.

    Ids therefore sort by the time of their creation.
    """
    text = ""
    while now_ms:
        now_ms, digit = divmod(now_ms, 36)
        text = _BASE36[digit] + text
    return text.rjust(9, "0") + _drawn(6)


def new_incarnation() -> str:
    """What one life of a node's daemon is told from all others by: 12 random characters of [0-9a-z].

    Short, because it stands four times in what Redis writes of every attempt.
    """
    return _drawn(12)


def _drawn(length: int) -> str:
    return "".join(secrets.choice(_BASE36) for _ in range(length))


def companion_id(job: str) -> str:
    """The id of the execution that belongs to a job, whose jobs it submits: 24 characters of [0-9a-z].

    Begins with the time of the job's own execution, and is the same for all of its attempts.
    """
    number = int.from_bytes(hashlib.blake2b(job.encode(), digest_size=12).digest())
    text = ""
    for _ in range(15):
        number, digit = divmod(number, 36)
        text += _BASE36[digit]
    return job[:9] + text


def job_id(execution: str, name: str) -> str:
    """The id of job `name` of `execution`; the first hyphen splits it again."""
    return f"{execution}-{name}"


def split_job_id(job: str) -> tuple[str, str]:
    """(execution, name) of a job id."""
    execution, _, name = job.partition("-")
    return execution, name


def queue_class(capabilities: tuple[str, ...]) -> str:
    """The class of a job: its tags, sorted, joined by `+`; `any` without tags."""
    return "+".join(sorted(set(capabilities))) or "any"


def queue_name(class_: str, priority: int) -> str:
    """The RQ queue that holds jobs of this class and priority."""
    return f"{class_}.p{priority}"


def rq_data(run: str, config: str) -> str:
    """RQ's job payload in its JSON serializer's form: [function, instance, args, kwargs].

    `config` is the JSON text of the keyword arguments.
    """
    return f"{_rq_head(run)}{config}]"


def config_at(run: str) -> int:
    """Where the keyword arguments begin in RQ's payload, in bytes; `]` stands behind them."""
    return len(_rq_head(run).encode())


@lru_cache(maxsize=1024)
def _rq_head(run: str) -> str:
    return f"[{json.dumps(run.replace(':', '.'))}, null, [], "


def parse_amounts(text: str) -> dict[str, float]:
    """Resources as Redis holds them (`cpus=2 ram=1024`) by name."""
    pairs = (item.partition("=") for item in text.split())
    return {name: float(amount) for name, _, amount in pairs}


def format_amounts(amounts: dict[str, float]) -> str:
    """The inverse of `parse_amounts`, sorted by name."""
    return _formatted(tuple(amounts.items()))


@lru_cache(maxsize=256)
def _formatted(amounts: tuple[tuple[str, float], ...]) -> str:
    return " ".join(f"{name}={amount:.15g}" for name, amount in sorted(amounts))
