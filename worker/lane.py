"""One lane of a node: a slot process, replaced when need be, and what it is given to run."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Collection, Mapping
from typing import Protocol

from . import frames, settling
from .batches import PATIENCE_S, Key, RunTimes
from .held import Held, Verdict
from .isolation import Ending
from .loop import READ, WRITE, Loop
from .output import JobLog
from .process import SlotProcess, describe_exit

#: New output of a running job is sent on so often, in seconds, and so much of it at once.
SHIP_S = 0.3
SHIP_BYTES = 128 * 1024
#: A slot that takes longer to come up is ended, in seconds.
START_S = 60.0
#: One that is up and begins nothing for so long, too.
BEGIN_S = 10.0
#: How often an ending is looked at: at first, and where it takes long. Seconds.
STEP_S = (0.005, 0.1)
#: An idle slot's output file is emptied when it is larger.
_TIDY_BYTES = 1024 * 1024


class Owner(Protocol):
    """What a lane tells the pool that it belongs to."""

    times: RunTimes

    def settled(self, held: Held, verdict: Verdict | None) -> None:
        """An attempt ended here, with all its processes; without a verdict nobody is told."""

    def displaced(self, displaced: list[Held]) -> None:
        """These were not begun, and will not be in this lane."""

    def waits(self, held: Held, waiting: bool) -> None:
        """The running job begins to wait for others, or goes on."""

    def printed(self, held: Held, text: bytes) -> None:
        """Output of a running job."""

    def moved(self, lane: Lane) -> None:
        """Something ended in the lane: it may have room."""

    def start_failed(self, why: str) -> None:
        """A slot ended before it could run anything."""

    def orphans(self) -> Collection[int]:
        """Processes below the daemon that belong to no living slot."""


class Lane:
    """A slot and its work. `charge` is what it takes of the node while it has work."""

    def __init__(self, loop: Loop, owner: Owner, limits: tuple[int, int]) -> None:
        self._loop = loop
        self._owner = owner
        self._result_limit, self._log_limit = limits
        self.process: SlotProcess | None = None
        self.window: dict[int, Held] = {}
        self.todo: deque[Held] = deque()
        self.key: Key | None = None
        self.charge: dict[str, float] = {}
        self.devices: tuple[str, ...] = ()
        self.waiting = False
        self.stuck = False
        self.retired = False
        self._ending: Ending | None = None
        self._ended: Ending | None = None
        self._step_s = STEP_S[0]
        self._verdicts: list[tuple[Held, Verdict | None]] = []
        self._doomed: dict[Held, Verdict | None] = {}
        self._shipped_at = 0.0
        self._watches = 0
        self._printed_to = 0

    @property
    def busy(self) -> bool:
        """It has work, or its last work is not quite over."""
        return bool(self.window or self.todo or self._verdicts)

    @property
    def ending(self) -> bool:
        """Its process is being ended."""
        return self._ending is not None

    @property
    def haunted(self) -> bool:
        """Its last process is gone as far as it can be killed, and not further."""
        return self._ended is not None and self._ended.haunted

    @property
    def brisk(self) -> bool:
        """It gets on with its work: what is given to it will soon run."""
        return not (self.stuck or self.waiting or self.ending or self.retired)

    def has(self, held: Held) -> bool:
        """The attempt is in this lane, begun or not."""
        return held in self.todo or held in self.window.values()

    def unsettled(self) -> list[Held]:
        """The attempt that runs here, and those that ran here whose end is not told yet."""
        running = self.running()
        return [*([running[0]] if running else []), *(held for held, _ in self._verdicts)]

    def running(self) -> tuple[Held, float] | None:
        """The attempt that runs now, and for how long it has, in seconds."""
        if self.process is None or not self.window:
            return None
        page = self.process.page
        held = self.window.get(page.started)
        return None if held is None else (held, (time.monotonic_ns() - page.start_ns) / 1e9)

    # -- the process

    def start(self, environment: Mapping[str, str]) -> None:
        """Starts a slot. Raises OSError."""
        assert self.process is None
        process = self.process = SlotProcess(environment, self._result_limit, self.devices)
        self._watches = self._printed_to = 0
        self._loop.watch(process.bell, READ, lambda _: self._on_bell())
        self._loop.watch(process.exited, READ, lambda _: self._on_exit())

    def end(self) -> None:
        """Ends the process with all that it started; what it has not begun is displaced."""
        if self.process is None or self._ending is not None:
            return
        self._ending = Ending(self.process.pid)
        revoked = self.revoke()
        self._step()
        self._owner.displaced(revoked)

    def doom(self, held: Held, verdict: Verdict | None) -> None:
        """Ends the process because of the job that it runs, and settles that so.

        If that job is doomed already, or dead, it is settled with this verdict.
        """
        self._doomed[held] = verdict
        for at, (one, before) in enumerate(self._verdicts):
            if one is held:
                if verdict is not None and before is not None:
                    verdict.log = before.log
                self._verdicts[at] = (held, verdict)
        self.end()

    # -- work

    def send(self, batch: list[Held]) -> None:
        """Gives the slot attempts whose code it has loaded, or will load with these."""
        process = self.process
        assert process is not None
        if process.binding is None:
            process.binding = batch[0].binding
            process.send(frames.Load(*process.binding))
        orders = []
        for held in batch:
            process.last_seq += 1
            self.window[process.last_seq] = held
            orders.append(held.order(process.last_seq))
        process.send(frames.Run(orders))
        self._watch_socket(process)

    def revoke(self) -> list[Held]:
        """Takes back what the slot has not begun, in order."""
        process = self.process
        if process is None or not self.window:
            return []
        process.page.fence = process.last_seq + 1
        started = process.page.started
        revoked = [seq for seq in self.window if seq > started]
        return [self.window.pop(seq) for seq in revoked]

    def withdraw(self, held: Held) -> bool:
        """Takes back one attempt, unless it runs; others revoked with it are displaced."""
        if held in self.todo:
            self.todo.remove(held)
            return True
        revoked = self.revoke()
        if revoked:
            self._owner.displaced([one for one in revoked if one is not held])
        return held in revoked

    def tick(self) -> None:
        """Looks after the running job: its time limit, those behind it, its output."""
        process = self.process
        if process is None or self._ending is not None or not self.window:
            return
        started = process.page.started
        if started > next(iter(self.window)):  # results wait for a bell that is not rung
            self._receive()
        running = self.running()
        if self._ending is not None or running is None:
            self._look_for_life(process)
            return
        held, run_s = running
        if run_s > PATIENCE_S:
            self._be_stuck(held, run_s)
        if run_s > held.work.timeout_s:
            self.doom(held, settling.of_time_out(held, run_s))
            return
        self._look_at_output(process, started, held)

    def _look_for_life(self, process: SlotProcess) -> None:
        """A slot that does not begin what it was given, because it hangs or was stopped, ends."""
        if self._ending is not None or not self.window:
            return
        silent_s = time.monotonic() - max(process.heard, process.told)
        if not process.page.up and silent_s > START_S:
            self._owner.start_failed(f"no word from the slot for {START_S:g} s")
            self.end()
        elif process.page.up and process.page.started < min(self.window) and silent_s > BEGIN_S:
            self.end()

    def _be_stuck(self, held: Held, run_s: float) -> None:
        """The job takes its time: what would run after it goes elsewhere."""
        if not self.stuck:
            self.stuck = True
            self._owner.times.add(held.key, run_s)
            self._owner.displaced(self.revoke())

    def _look_at_output(self, process: SlotProcess, seq: int, held: Held) -> None:
        output, page = process.output, process.page
        log_from, size = page.log_from, output.size()
        if page.started != seq:  # the next order has begun: the size may be its doing
            return
        now = time.monotonic()
        over = output.over_limit(size)
        if not over and now - self._shipped_at < SHIP_S:
            return
        self._shipped_at = now
        if held.log is None:
            held.log = JobLog(log_from, self._log_limit)
        text = held.log.take(output, size) if over else held.log.take(output, size, SHIP_BYTES)
        if text:
            self._owner.printed(held, text)
        if over:
            output.free(size)

    # -- what happens

    def _on_bell(self) -> None:
        assert self.process is not None
        self.process.quiet_bell()
        self._receive()
        self._owner.moved(self)

    def _on_socket(self, events: int) -> None:
        assert self.process is not None
        if events & WRITE:
            self.process.flush()
        if events & READ:
            self._receive()
        if self.process is not None:
            self._watch_socket(self.process)
        self._owner.moved(self)

    def _watch_socket(self, process: SlotProcess) -> None:
        """Only what is under way in part is waited for; the rest is told by the bell."""
        events = (READ if process.partial else 0) | (WRITE if process.unsent else 0)
        if events:
            self._loop.watch(process.sock.fileno(), events, self._on_socket)
        elif self._watches:
            self._loop.unwatch(process.sock.fileno())
        self._watches = events

    def _receive(self) -> None:
        process = self.process
        assert process is not None
        dirty = False
        for message in process.receive():
            if isinstance(message, frames.Ended):
                dirty = dirty or message.dirty
                self._take_ended(process, message)
            elif isinstance(message, frames.Waiting):
                self._take_waiting(message)
            elif message.seq in self.window:
                self._take_skipped(self.window.pop(message.seq))
        self._watch_socket(process)
        if dirty:
            self.end()
        elif not self.window and self._printed_to > _TIDY_BYTES:
            process.output.reset()
            self._printed_to = 0

    def _take_ended(self, process: SlotProcess, ended: frames.Ended) -> None:
        held = self.window.pop(ended.seq, None)
        if held is None:  # it was revoked, and ran all the same
            return
        self.stuck = False
        self._printed_to = ended.log_to
        if held.waiting:
            self.waiting = held.waiting = False
        self._owner.times.add(held.key, ended.run_us / 1e6)
        log = b""
        if held.log is not None or ended.log_to != ended.log_from:
            held.log = held.log or JobLog(ended.log_from, self._log_limit)
            log = held.log.take(process.output, ended.log_to)
        self._owner.settled(held, settling.of_ended(ended, log))

    def _take_skipped(self, held: Held) -> None:
        """The slot took an order up in the moment in which it was revoked, and let it be."""
        if held in self._doomed:
            self._verdicts.append((held, self._doomed[held]))
        else:
            self._owner.displaced([held])

    def _take_waiting(self, message: frames.Waiting) -> None:
        held = self.window.get(message.seq)
        if held is None or held.waiting == message.waiting:
            return
        self.waiting = held.waiting = message.waiting
        self._owner.waits(held, message.waiting)
        if message.waiting:
            self._owner.displaced(self.revoke())

    def _on_exit(self) -> None:
        process = self.process
        assert process is not None
        code = process.exit_code()
        if code is None:
            return
        asked = self._ending is not None
        self._ending = self._ending or Ending(process.pid)
        self._ending.slot_gone()
        self._part(process, code, asked)
        self._step()

    def _part(self, process: SlotProcess, code: int, asked: bool) -> None:
        """The process has ended, or is given up: nothing more comes from it."""
        self._receive()  # what it finished before
        for fd in (process.exited, process.bell, process.sock.fileno()):
            self._loop.unwatch(fd)
        self._watches = 0
        self._judge(process, code, asked)
        left = list(self.window.values())
        self.window.clear()
        self.waiting = self.stuck = False
        self._owner.displaced(left)

    def _judge(self, process: SlotProcess, code: int, asked: bool) -> None:
        """What becomes of the attempt that ran when the process ended."""
        doomed, self._doomed = self._doomed, {}
        running = self.running()
        if running is None:
            if not process.page.up and not asked:
                tail = process.output.read(0, process.output.size())[-2000:]
                self._owner.start_failed(f"{describe_exit(code)}: {tail.decode(errors='replace')}")
            return
        held, run_s = running
        if asked and held not in doomed:
            return  # it had just begun when the process was ended for another reason
        del self.window[process.page.started]
        if held in doomed:
            verdict = doomed[held]
        else:
            verdict = settling.of_failure("crashed", "JobCrashed", describe_exit(code), run_s)
        if verdict is not None:
            log = held.log or JobLog(process.page.log_from, self._log_limit)
            verdict.log = log.take(process.output, process.output.size())
        self._verdicts.append((held, verdict))

    def _step(self) -> None:
        """One step of the ending; the lane is free when nothing of the slot is left."""
        ending, process = self._ending, self.process
        if ending is None or process is None:
            return
        if not ending.step(self._owner.orphans):
            self._loop.call_in(self._step_s, self._step)
            self._step_s = min(STEP_S[1], self._step_s * 1.2)
            return
        if ending.slot_lives:
            self._part(process, -signal.SIGKILL, asked=True)
        self._step_s = STEP_S[0]
        self._ended, self._ending, self.process = ending, None, None
        process.close()
        if self.haunted:
            self.retired = True
            todo, self.todo = self.todo, deque()
            self._owner.displaced(list(todo))
        verdicts, self._verdicts = self._verdicts, []
        for held, verdict in verdicts:
            self._owner.settled(held, verdict)
        self._owner.moved(self)
