"""A small cluster played by hand: a run of random steps, from its beginning to its end."""

from __future__ import annotations

from penstock.common.jobs import Settlement
from penstock.common.state import keys
from penstock.common.state.chunks import STATIC

from .clients import EXECUTIONS, SLOTS, Clients, Dice, Scripted
from .shapes import Spec, shape


class Play(Clients):
    """One run, on an empty server."""

    def __init__(self, scripted: Scripted, dice: Dice) -> None:
        chosen = [shape(dice.pick(64))] + ([shape(dice.pick(64))] if dice.pick(4) == 3 else [])
        super().__init__(scripted, dice.of((100, 1, 2)))
        ids = EXECUTIONS[: len(chosen)]
        nodes = [daemon.id for daemon in self.daemons]
        self.look = ("EVALSHA", scripted.look, 0, len(ids), *ids, *nodes)
        self.wire.look = self.look
        for id, one in zip(ids, chosen, strict=True):
            self.shapes[id] = one
            if dice.pick(3) == 2:
                self.sessions.add(id)
            self._submit(id, one, dice.of(("continue", "fail_fast")), dice.of((0, 1, 2)))
        for daemon in self.daemons:
            self._register(daemon)
        if dice.pick(4):
            self.perform(f"compile {ids[0]}")

    # -- steps

    def work(self, dice: Dice) -> None:
        """A daemon settles some of what it holds, in some way, and claims."""
        daemon = dice.of(self.daemons)
        count = dice.pick(3)
        outcomes = (
            "finished",
            "met",
            "met",
            "failed",
            "retried",
            "crashed",
            "stopped",
            "failed",
        )
        ends = []
        for token in daemon.held[:count]:
            outcome = dice.of(outcomes)
            delay = dice.of((0, 500, 5000)) if outcome == "retried" else -1
            word = {"retried": "failed", "met": "finished"}.get(outcome, outcome)
            metrics = {"m": 0.5} if outcome == "met" else {}
            ends.append(Settlement(token, word, b"1", b"{}", metrics, retry_ms=delay))
        lanes = max(0, SLOTS - len(daemon.held) + len(ends) - dice.pick(2))
        self.advance(daemon, ends, lanes, dice)

    def beats(self, dice: Dice) -> None:
        """A beat, or some seconds in which one or both nodes beat."""
        seconds = dice.of((0, 1, 4, 4))
        daemons = dice.of((self.daemons, [self.daemons[0]], [self.daemons[1]]))
        if not seconds:
            self.pass_time(dice.of((0, 300, 1000)))
            self.beat(daemons[0], dice)
            return
        with self.unseen():
            for _ in range(seconds):
                self.pass_time(1000)
                for daemon in daemons:
                    self.beat(daemon)
        if len(daemons) == 1:  # what the silent one held may be claimed again, and it does not know
            self.advance(daemons[0], [], SLOTS - len(daemons[0].held), dice)

    def die(self, dice: Dice) -> None:
        """A daemon gives jobs back; or it dies, and its supervisor tells, or not; it starts anew,
        or not."""
        daemon = dice.of(self.daemons)
        how = dice.pick(8)
        if how < 4:
            self.hand_back(daemon, dice)
            return
        self.note(f"{daemon.incarnation} dies")
        if how == 4:
            daemon.next_life()
        else:
            self.leave(daemon, dice)
        if dice.pick(4):
            self._register(daemon, dice)

    def pass_time(self, ms: int) -> None:
        """Nodes that were silent for two time-outs lose their hash, as its TTL would have it."""
        self.now += ms
        beats = self.view.get("nodes", [])
        for id, beat in zip(beats[::2], beats[1::2], strict=True):
            if self.now - float(beat) > 2 * self.model.timeout:
                self.wire.ask(("DEL", keys.node(id)))
                self.model.forget(id)

    def wait(self, dice: Dice) -> None:
        ms = dice.of((100, 500, 1000, 1000, 2500, 3500, 10_000, 600_000, -5000, 0))
        self.note(f"{ms} ms pass" if ms else "Redis starts again")
        self.pass_time(ms)
        if not ms:
            self.model.run_id += 1
            self.wire.restart(self.model.run_id)

    def orchestrate(self, dice: Dice) -> None:
        """An orchestrator does an item of the agenda, or sends one request of such an item."""
        items = self.view.get("agenda", [])
        if items and dice.pick(3):
            self.perform(dice.of(items))
            return
        id = dice.of(list(self.shapes))
        control = [one.name for one in self.shapes[id] if one.kind != "run"]
        if not self.view[f"execution {id}"][2] and dice.pick(8) == 7:
            self.fail_execution(id, dice)
            return
        if not control or dice.pick(4) == 0:
            self.extend(id, STATIC, dice.pick(4), dice)
            return
        one = self._spec(id, dice.of(control))
        self._orchestrate_one(id, one, dice)

    def _orchestrate_one(self, id: str, one: Spec, dice: Dice) -> None:
        if one.kind == "fan-out":
            if dice.pick(16) == 15:
                self.fail_control(id, one.name, dice)
            elif dice.pick(3) == 0:
                self.open_group(id, one.name, dice)
            elif one.folds and dice.pick(2):
                self.fold(id, one.name, dice)
            elif self.view.get(f"group {id}-{one.name}", [""])[0]:
                self.extend(id, one.name, dice.pick(3), dice)
        elif self.fan_ins and dice.pick(2):
            outcome = "failed" if dice.pick(4) == 3 else "finished"
            self.settle_fan_in(*dice.of(self.fan_ins), outcome, dice)
        else:
            self.start_fan_in(id, one.name, dice)

    def perform(self, item: str) -> None:
        """An item from beginning to end, and off the agenda unless it was posted anew."""
        verb, id, *rest = item.split()
        mark = self._mark(item)
        verdict: str | None = None
        if verb == "compile":
            chunk = 0
            while (verdict := self.extend(id, STATIC, chunk)) in ("OK", "DONE"):
                chunk += 1
        elif verb == "expand":
            verdict = self._expand(id, self._spec(id, rest[0]))
        elif verb == "fanin":
            token = self.start_fan_in(id, rest[0])
            if token:
                self.settle_fan_in(id, rest[0], token, "finished")
        if verdict != "RETRYING" and self._mark(item) == mark:
            key, _ = mark
            self.wire.ask(("ZREM", key, item))
            self.view["agenda"] = [one for one in self.view.get("agenda", []) if one != item]
            self.model.agenda.discard(item)

    def _expand(self, id: str, one: Spec) -> str:
        verdict, created, chunk, settled = self.open_group(id, one.name)
        while verdict in ("OK", "DONE") and created < one.size and created - settled < one.window:
            self.fold(id, one.name)
            verdict = self.extend(id, one.name, chunk)
            row = self.view[f"group {id}-{one.name}"]
            created, chunk, settled = int(row[1]), int(row[2]), int(row[3])
        return str(verdict)

    def _mark(self, item: str) -> tuple[str, str]:
        for key in self.wire.ask(("KEYS", f"{keys.agenda('*')}"))[0]:
            (mark,) = self.wire.ask(("ZSCORE", key, item))
            if mark:
                return key, mark
        return "", ""

    def command(self, dice: Dice) -> None:
        """A user pauses, resumes, cancels, retries; or Redis forgets its scripts."""
        id = dice.of(list(self.shapes))
        verb = dice.of(("resume", "pause", "retry", "resume", "cancel", "retry", "anew", "flush"))
        if verb == "flush":
            self.note("FUNCTION FLUSH")
            self.wire.ask(("FUNCTION", "FLUSH"))
        elif verb == "retry":
            self.retry(id, dice)
        elif verb == "anew":
            self.control(id, "cancel")
            self.retry(id, dice)
        else:
            self.control(id, verb, dice)

    def again(self, dice: Dice) -> None:
        """An old request arrives, once more or at last."""
        advances = [one for one in self.mail if "ends" in one.about]
        settles = [one for one in advances if one.about["ends"]]
        if mail := dice.of((self.mail, advances, settles)) or self.mail:
            request = mail[-1 - dice.pick(min(len(mail), dice.of((3, 10, 1000))))]
            self._deliver(request, f"late: {request.what}")

    # -- the end

    def finish(self) -> None:
        """From here on nothing bad happens; then everything must end."""
        self.note("-- from here on nothing bad happens")
        for daemon in self.daemons:
            self._register(daemon)
        for _ in range(60):
            self._kindly()
            if self.over:
                return
        raise AssertionError(f"stuck: {self.view}")

    def _kindly(self) -> None:
        for id in self.shapes:
            if self.view[f"execution {id}"][0] == "paused":
                self.control(id, "resume")
        for item in list(self.view.get("agenda", [])):
            if not item.startswith("expire"):
                self.perform(item)
        for id, name, token in self.fan_ins:
            if self.view[f"job {id}-{name}"][:3] == ["started", str(token.attempt), token.claim]:
                self.settle_fan_in(id, name, token, "finished")
        with self.unseen():
            for daemon in self.daemons:
                if daemon.asked:
                    self.advance(daemon, [], 0)
                ends = [Settlement(token, "finished", b"1") for token in daemon.held]
                self.advance(daemon, ends, SLOTS)
            self.pass_time(1000)
            for daemon in self.daemons:
                self.beat(daemon)
            self.upkeep()

    @property
    def over(self) -> bool:
        """All has ended, and nothing is left to do."""
        ended = all(self.view[f"execution {id}"][0] in ("succeeded", "failed", "canceled")
                    for id in self.shapes)  # fmt: skip
        return ended and not any(
            label.startswith(("outbox", "queue", "wip")) for label in self.view
        )
