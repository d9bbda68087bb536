"""What the node has to say to Redis, one request at a time, in the order that matters."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import hiredis

from ..common.jobs import Beaten, Token
from ..common.state.replies import parse_beat, parse_results
from ..common.state.scripts import Request
from ..common.state.store import Store
from . import settling
from .advances import Advances, Claimant
from .held import Held, Verdict
from .lines import CommandLine
from .references import References

log = logging.getLogger("penstock.worker")

#: Attempts handed back at once: scripts must be short.
MAX_BACK = 64
#: A request that Redis refuses for a reason that may pass is made again after so long, seconds.
REFUSED_S = 0.5
#: Output of one attempt sent at once, in bytes.
LOG_BYTES = 256 * 1024


class Party(Claimant, Protocol):
    """What the exchange asks of, and tells, the node."""

    def ready(self, held: Held) -> None:
        """An attempt's configuration is complete."""

    def withdraw(self, held: Held) -> bool:
        """Takes an attempt out that has not begun."""

    def beaten(self, beaten: Beaten) -> None:
        """A beat was answered."""


class Exchange:
    """All attempts that this node holds, and the requests about them.

    Nothing is lost with a connection: what was asked is asked again, and what was
    not yet asked waits.
    """

    def __init__(self, line: CommandLine, store: Store, party: Party, node: str) -> None:
        self.held: dict[Token, Held] = {}
        self.incarnation = ""
        self.advances = Advances(self, store, party)
        self._line = line
        self._store = store
        self._party = party
        self.node = node
        self._references = References()
        self._back: list[Held] = []
        self._waits: deque[tuple[Held, bool]] = deque()
        self._unfilled: list[Held] = []
        self._logs: dict[Token, bytearray] = {}
        self._plain: deque[tuple[Any, ...]] = deque()
        self._beat_state = ""
        self._quiet_till = 0.0

    @property
    def settled_all(self) -> bool:
        """Nothing waits to be told, and nothing is under way."""
        return not (self.advances.waiting or self._back or self.held) and self._line.free

    @property
    def held_up(self) -> bool:
        """Redis refuses something for now: what was claimed with it may not be known yet."""
        return self._line.free_for_beat and not self._line.free

    @property
    def urgent(self) -> bool:
        """Something besides settling and claiming is due."""
        due = self._waits or self._back or self._unfilled or self._logs or self._plain
        return bool(self._beat_state or due)

    @property
    def answer_s(self) -> float:
        """How long ago what is being answered was asked."""
        return time.monotonic() - self._line.sent_at

    # -- what is to be said

    def settle(self, held: Held, verdict: Verdict | None) -> None:
        """An attempt is over here. Without a verdict, or a token, it is only forgotten."""
        token = held.token
        early = self._logs.pop(token, None) if self._logs else None
        if verdict is None or held.stale or token not in self.held:
            self.held.pop(token, None)
            return
        if early:
            verdict.log = bytes(early) + verdict.log
        self.advances.settle(held, settling.args_of(held, verdict))

    def hand_back(self, held: Held) -> None:
        """An attempt that did not begin goes back to its queue."""
        if held.stale or held.token not in self.held:
            self.held.pop(held.token, None)
        else:
            self._back.append(held)

    def recall(self, held: Held) -> bool:
        """Takes an attempt out of those that wait to be handed back."""
        if held in self._back:
            self._back.remove(held)
            return True
        return False

    def waits(self, held: Held, waiting: bool) -> None:
        """A running job begins to wait for others, or goes on."""
        self._waits.append((held, waiting))

    def printed(self, held: Held, text: bytes) -> None:
        """Output of a running job."""
        if not held.stale:
            self._logs.setdefault(held.token, bytearray()).extend(text)

    def beat(self, state: str) -> None:
        """A beat is due."""
        self._beat_state = state

    def plain(self, *command: Any) -> None:
        """A plain command, whose answer does not matter."""
        self._plain.append(command)

    def hush(self) -> None:
        """This incarnation is over: nothing more is said or heard under it."""
        self.incarnation = ""

    def start_over(self, incarnation: str) -> None:
        """A new incarnation: nothing of the one before holds."""
        self.incarnation = incarnation
        self.held.clear()
        for waiting in (self._back, self._waits, self._unfilled, self._logs):
            waiting.clear()
        self._beat_state = ""
        self.advances.start_over()

    # -- saying it

    def pump(self) -> None:
        """Sends the next request, if none is under way. Call after anything happened."""
        if self.held_up and self.incarnation:
            self._send_beat()
        while self._line.free and self.incarnation and time.monotonic() >= self._quiet_till:
            if not ((self.urgent and self._send_urgent()) or self.advances.send()):
                return

    def _send_urgent(self) -> bool:
        """Sends what is due before anything is settled or claimed, if something can be sent."""
        return (
            self._send_beat()
            or self._send_wait()
            or self._send_back()
            or self._send_references()
            or self._send_log()
            or self._send_plain()
        )

    def _send_beat(self) -> bool:
        if not self._beat_state:
            return False
        state, self._beat_state = self._beat_state, ""
        tokens = list(self.held)
        answered = self.advances.answered
        request = self._store.beat_request(self.node, self.incarnation, tokens, state, answered)
        # Not made again when it is refused: the next one comes by itself, and knows more.
        self.run(request, lambda reply: self._beaten(parse_beat(tokens, reply)), again=False)
        return True

    def _beaten(self, beaten: Beaten) -> None:
        if beaten.work:
            self.advances.hungry = True
        self._party.beaten(beaten)
        if beaten.unknown:
            self._party.unknown()

    def _send_wait(self) -> bool:
        while self._waits:
            held, waiting = self._waits.popleft()
            if held.token in self.held and not held.stale:
                request = self._store.wait_request(self.node, self.incarnation, held.token, waiting)
                refused = partial(self._wait_refused, (held, waiting))
                self.run(request, lambda _: None, refused)
                self.advances.hungry = True
                return True
        return False

    def _wait_refused(self, what: tuple[Held, bool], error: str) -> None:
        del error  # logged already
        self._waits.appendleft(what)

    def _send_back(self) -> bool:
        if not self._back:
            return False
        back, self._back = self._back[:MAX_BACK], self._back[MAX_BACK:]

        def done(reply: Any) -> None:
            for held in back:
                self.held.pop(held.token, None)

        tokens = [held.token for held in back]
        request = self._store.handback_request(self.node, self.incarnation, tokens)
        self.run(request, done, lambda _: self._back.extend(back))
        return True

    def _send_references(self) -> bool:
        """Fetches the results that the unfilled attempts of one execution name."""
        while self._unfilled:
            execution = self._unfilled[0].work.execution
            batch = [held for held in self._unfilled if held.work.execution == execution]
            self._unfilled = [held for held in self._unfilled if held not in batch]
            refs = tuple(dict.fromkeys(name for held in batch for name in held.work.refs))
            names = self._references.missing(execution, refs)
            if names:
                self._fetch(execution, names, batch)
                return True
            self._fill(batch)
        return False

    def _fetch(self, execution: str, names: list[str], batch: list[Held]) -> None:
        def done(reply: Any) -> None:
            self._references.add(execution, parse_results(names, reply))
            self._fill(batch)

        request = self._store.results_request(execution, names)
        self.run(request, done, lambda _: self._unfilled.extend(batch))

    def _fill(self, batch: Sequence[Held]) -> None:
        for held in batch:
            work, config = held.work, held.claimed.config
            if held.stale or held.token not in self.held:
                continue
            try:
                fill = self._references.fill
                held.config = fill(work.execution, work.refs, config)
            except Exception as error:  # of the job's making: its references, or a result
                self._party.withdraw(held)
                self.settle(held, settling.of_failure("failed", type(error).__name__, str(error)))
            else:
                self._party.ready(held)
        self._references.trim()

    def _send_log(self) -> bool:
        while self._logs:
            token, text = next(iter(self._logs.items()))
            part = bytes(text[:LOG_BYTES])
            del text[:LOG_BYTES]
            if not text:
                del self._logs[token]
            held = self.held.get(token)
            if held is not None and part:
                request = self._store.log_request(token, self.node, part, held.sent)
                held.sent += len(part)
                self.run(request, lambda reply: None)
                return True
        return False

    def _send_plain(self) -> bool:
        if not self._plain:
            return False
        self._line.call(self._said, *self._plain.popleft())
        return True

    def _said(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            log.warning("event=command_refused reason=%r", str(reply))

    def take(self, claimed: list[Held]) -> None:
        """These were claimed: held from now on, and to be completed."""
        self.held.update((held.token, held) for held in claimed)
        self._unfilled += (held for held in claimed if held.config is None)

    def run(
        self,
        request: Request,
        done: Callable[[Any], None],
        refused: Callable[[str], None] | None = None,
        again: bool = True,
    ) -> None:
        """Sends a request; what comes back after this incarnation's end is not heard."""
        incarnation = self.incarnation

        def answered(reply: Any) -> None:
            if isinstance(reply, hiredis.ReplyError):
                log.error("event=script_refused name=%s reason=%r", request.script.name, str(reply))
                self._quiet_till = time.monotonic() + REFUSED_S
                if refused is not None and incarnation == self.incarnation:
                    refused(str(reply))
            elif incarnation == self.incarnation:
                done(reply)

        self._line.run(answered, request, again)
