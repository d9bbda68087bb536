"""Settling what ended and claiming what comes next, in one round trip after another."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ..common.jobs import NOTHING, Coming, Token
from ..common.state.replies import parse_advance
from ..common.state.scripts import Request
from ..common.state.store import Store
from . import settling
from .batches import MAX_BATCH
from .held import Held

log = logging.getLogger("penstock.worker")

#: One advance settles so many bytes at most: scripts must be short.
MAX_BYTES = 8 * 1024 * 1024
#: Refusals after which a result is given up for an error, and then that too.
DOUBTS, DESPAIRS = 2, 4


#: an attempt that has ended, its settlement as Redis takes it, and how often that was refused
_Pending = tuple[Held, list[Any], int]


class Claimant(Protocol):
    """What the advances ask of, and tell, the node."""

    def lanes(self, coming: Coming = NOTHING) -> int:
        """Free lanes to claim for, beside those that what is coming will take."""

    def free(self, coming: Coming = NOTHING) -> dict[str, float]:
        """Free resources by name, beside those that what is coming will take."""

    def riders(self, coming: int) -> dict[str, int]:
        """Jobs to claim ahead, by function, when so many more are on their way."""

    def take(self, claimed: list[Held]) -> None:
        """Jobs were claimed."""

    def unknown(self) -> None:
        """Redis does not know this node any more."""


class Sender(Protocol):
    """How an advance is sent, and where what the node holds is kept."""

    @property
    def urgent(self) -> bool:
        """Something else is due: a beat, a wait, a hand-back, results to fetch."""

    @property
    def answer_s(self) -> float:
        """How long ago what is being answered was asked."""

    held: dict[Token, Held]
    incarnation: str
    node: str

    def run(
        self,
        request: Request,
        done: Callable[[Any], None],
        refused: Callable[[str], None] | None = None,
        again: bool = True,
    ) -> None:
        """Sends a request, `again` after a refusal that may pass."""

    def take(self, claimed: list[Held]) -> None:
        """These are held from now on."""

    def hand_back(self, held: Held) -> None:
        """This one is not to be begun."""


class Advances:
    """`hungry`: it is worth asking for work; `draining`: none is asked for.

    `answered` is the number of the last claim that was answered. What was claimed longer
    than `late_s` seconds ago, because this process was held up, may be another's by now.
    """

    def __init__(self, sender: Sender, store: Store, claimant: Claimant) -> None:
        self.hungry = True
        self.draining = False
        self.suspended = False
        self.answered = 0
        self.late_s = 3.0
        self._sender = sender
        self._store = store
        self._claimant = claimant
        self._claims = 0
        self._pending: deque[_Pending] = deque()
        self._alone = False
        self._to_announce = False

    @property
    def waiting(self) -> bool:
        """Some settlement has not been sent."""
        return bool(self._pending)

    def settle(self, held: Held, args: list[Any]) -> None:
        """To be sent with the next advance, as it is written out now, while Redis does the last one."""
        self._pending.append((held, args, 0))

    def drain(self) -> None:
        """No more is asked for; Redis is told, so that it wakes others."""
        self.draining = self._to_announce = True

    def start_over(self) -> None:
        """A new incarnation."""
        self._pending.clear()
        self.hungry = True

    def send(self) -> bool:
        """Sends an advance, if there is something to settle or to ask for."""
        if not (self._pending or self._to_announce or self.hungry):
            return False
        lanes = 0 if self.draining else self._claimant.lanes()
        if not (self._pending or self._to_announce or lanes):
            return False
        self._send(lanes, {} if self.draining else self._claimant.riders(0))
        return True

    def _send(self, lanes: int, riders: dict[str, int], coming: Coming = NOTHING) -> None:
        batch = self._next_settlements()
        behind = len(self._pending) >= MAX_BATCH  # what has ended is told before more begins
        if self._alone or behind:  # alone: if it is refused, the settlement is to blame
            lanes, riders = 0, {}
        self._claims += 1
        self.hungry, self._to_announce = behind, False
        request = self._store.advance_request(
            self._sender.node,
            self._sender.incarnation,
            self._claim_id(self._claims),
            [args for _, args, _ in batch],
            lanes,
            self._claimant.free(coming),
            riders,
            self.draining,
        )
        claim = self._claims
        self._sender.run(
            request,
            lambda reply: self._advanced(claim, batch, lanes, reply),
            lambda error: self._refused(claim, batch, error),
            again=bool(batch),  # what only asks is asked anew with the next beat that finds work
        )

    def _claim_id(self, number: int) -> str:
        return f"{self._sender.incarnation}-{number}"

    def _next_settlements(self) -> list[_Pending]:
        batch: list[_Pending] = []
        size, most = 0, 1 if self._alone else MAX_BATCH
        while self._pending and len(batch) < most and size < MAX_BYTES:
            batch.append(self._pending.popleft())
            args = batch[-1][1]
            size += len(args[4]) + (len(args[-1]) if args[6] else 0)  # the result, and the output
        return batch

    def _advanced(self, claim: int, settled: list[_Pending], lanes: int, reply: Any) -> None:
        self._alone = self._alone and bool(self._pending)
        late = self._sender.answer_s > self.late_s
        advanced = parse_advance(self._claim_id(claim), reply)
        busy = self._sender.urgent or self._alone or late
        coming = advanced.coming
        if coming.size and self._pending and not busy:
            self._go_on(coming)
        for ended, _, _ in settled:
            self._sender.held.pop(ended.token, None)
        self.answered = claim
        self.suspended = advanced.suspended
        if advanced.unknown:
            self._claimant.unknown()
        claimed = [Held.of(one) for one in advanced.unpack()]
        if lanes and len(coming.heads) == lanes:
            self.hungry = True
        self._sender.take(claimed)
        if not late:
            self._claimant.take(claimed)
        else:
            for held in claimed:
                self._sender.hand_back(held)

    def _go_on(self, coming: Coming) -> None:
        """Sends the next advance before the jobs that came are unpacked: Redis has work meanwhile."""
        riders = {} if self.draining else self._claimant.riders(coming.size)
        self._send(0 if self.draining else self._claimant.lanes(coming), riders, coming)

    def _refused(self, claim: int, batch: list[_Pending], error: str) -> None:
        """Redis refused an advance. A settlement that is at fault must not hold up the others."""
        self.hungry = True
        self.answered = claim
        self._to_announce = self.draining
        if len(batch) != 1:
            self._alone = bool(batch)
            self._pending.extendleft(reversed(batch))
            return
        held, args, times = batch[0]
        if held.token not in self._sender.held or times >= DESPAIRS:
            log.error("event=settlement_dropped job=%s", held.token.job)
            self._sender.held.pop(held.token, None)
            return
        if times == DOUBTS:
            message = f"Redis refused to store the result: {error}"
            failure = settling.of_failure("failed", "ResultRefused", message)
            args = settling.args_of(held, failure)
        self._pending.append((held, args, times + 1))
