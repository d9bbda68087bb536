"""An attempt that this node holds, from its claim to the verdict on its settlement."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..common.jobs import Claimed, Token, Work
from .batches import Key
from .frames import Order
from .output import JobLog


def key_of(work: Work) -> Key:
    """What two jobs have in common that can run after one another in a slot."""
    return work.root, work.digest, work.run


@dataclass(slots=True, eq=False)
class Held:
    """`token` proves the lease. `config` is None until its references are resolved. `stale`: its token no longer holds.

    `sent` is how much of its output was sent on while it ran, in bytes.
    """

    claimed: Claimed
    token: Token
    key: Key
    config: bytes | None
    log: JobLog | None = None
    waiting: bool = False
    stale: bool = False
    sent: int = 0

    @classmethod
    def of(cls, claimed: Claimed) -> Held:
        """The attempt as it was just claimed."""
        work, config = claimed.work, claimed.config
        return cls(claimed, claimed.token, key_of(work), None if work.refs else config)

    @property
    def work(self) -> Work:
        """What is to be done, and on what terms."""
        return self.claimed.work

    @property
    def binding(self) -> tuple[str, str]:
        """The code that a slot must have loaded to run it."""
        return self.key[0], self.key[1]

    def order(self, seq: int) -> Order:
        """What a slot is told to run; its configuration must be complete."""
        claimed = self.claimed
        assert self.config is not None
        return Order(
            seq=seq,
            job=claimed.token.job,
            execution=claimed.work.execution,
            name=claimed.name,
            attempt=claimed.token.attempt,
            run=claimed.work.run,
            config=self.config,
            cpus=max(1, int(claimed.work.needs.get("cpus", 1))),
        )

    @property
    def gpus(self) -> int:
        """Whole devices that it needs."""
        return int(self.work.needs.get("gpus", 0))


@dataclass(slots=True)
class Verdict:
    """How an attempt ended here, before it is told to Redis. `outcome` as a Settlement's."""

    outcome: str
    result: bytes = b""
    error: bytes = b""
    metrics: dict[str, float] = field(default_factory=dict)
    started_ms: int = 0
    ended_ms: int = 0
    log: bytes = b""
