"""A small cluster played by hand: daemons, orchestrators and users that send requests to the real
scripts, whose answers and whose state are compared with the model's after each.

Every request may be answered, or lose its answer, or come twice, or come later, after others. What
the clients know is what they were answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from penstock.common.jobs import NodeInfo, Settlement, Token
from penstock.common.state import keys
from penstock.common.state.scripts import Limits
from penstock.common.state.store import STATIC, Store

from . import view
from .breaking import BrokenScripts
from .invariants import Watch
from .reference_nodes import ReferenceCluster
from .server import CLOCK_KEY, FROZEN_NOW, Server
from .shapes import Shape, Spec, as_new_job, shape

EXECUTIONS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")
#: early poison, and patience that grows within seconds
LIMITS = Limits(max_crashes=2, max_losses=2, patience_share=2.0, patience_max_ms=6000)
SLOTS = 2
TOTAL = {"cpus": 2.0, "slots": 2.0}
BEGIN_MS = 1_700_000_000_000
FAN_OUT_CHUNK = 2


class Dice:
    """A number that is taken apart into choices; 0 is the simplest of each."""

    def __init__(self, number: int) -> None:
        self._number = number

    def pick(self, count: int) -> int:
        self._number, one = divmod(self._number, count)
        return one

    def of(self, choices: Any) -> Any:
        return choices[self.pick(len(choices))]


@dataclass
class Request:
    """What is sent, and what the model says to it. `about` what the invariants look at."""

    what: str
    send: Callable[[], Any]
    expect: Callable[[], Any]
    about: dict[str, Any] = field(default_factory=dict)


@dataclass
class Daemon:
    """A node's daemon: the tokens it knows of, and an advance that was not answered."""

    id: str
    tags: tuple[str, ...]
    life: int = 0
    turn: int = 0
    answered: int = 0
    held: list[Token] = field(default_factory=list)
    asked: Request | None = None
    settling: list[Token] = field(default_factory=list)

    @property
    def incarnation(self) -> str:
        return f"{self.id}i{self.life:03d}"

    def next_life(self) -> None:
        self.life, self.turn, self.answered, self.held, self.asked = self.life + 1, 0, 0, [], None


class Scripted:
    """The scripts on a server: as they are, or with what one script may do cut down to `step_limit`
    jobs, or with some texts replaced (`breaks`)."""

    def __init__(
        self, server: Server, step_limit: int = 0, breaks: Mapping[str, str] | None = None
    ) -> None:
        replaced = dict(breaks or {})
        if step_limit:
            replaced["STEP_LIMIT = 400"] = f"STEP_LIMIT = {step_limit}"
        scripts = BrokenScripts(LIMITS, {"now": FROZEN_NOW}, replaced)
        scripts.check()
        self.wire, self.exact = server, not step_limit
        self.store = Store(server, scripts=scripts)  # type: ignore[arg-type]
        self.look = server.load(view.LOOK)


class Play:
    """One run, on an empty server."""

    def __init__(self, scripted: Scripted, dice: Dice) -> None:
        self.wire, self.store, self.exact = scripted.wire, scripted.store, scripted.exact
        self.model = ReferenceCluster()
        self.model.max_crashes, self.model.max_losses = LIMITS.max_crashes, LIMITS.max_losses
        self.model.patience_share = LIMITS.patience_share
        self.model.patience_max = LIMITS.patience_max_ms
        self.now, self._requests = BEGIN_MS, 0
        self.log: list[str] = []
        self.mail: list[Request] = []
        self.fan_ins: list[tuple[str, str, Token]] = []
        self.daemons = [Daemon("n0", ("cpu",)), Daemon("n1", ("cpu", "gpu"))]
        self.view: view.View = {}
        self.wire.look = None
        self.wire.ask(("FLUSHDB",))
        self.wire.restart(0)
        self.shapes: dict[str, Shape] = {}
        chosen = [shape(dice.pick(64))] + ([shape(dice.pick(64))] if dice.pick(4) == 3 else [])
        self.chunk = dice.of((100, 1, 2))
        ids = EXECUTIONS[: len(chosen)]
        nodes = [daemon.id for daemon in self.daemons]
        self.look = ("EVALSHA", scripted.look, 0, len(ids), *ids, *nodes)
        self.wire.look = self.look
        self.watch = Watch(self.shapes, {daemon.id: daemon.tags for daemon in self.daemons})
        for id, one in zip(ids, chosen, strict=True):
            self.shapes[id] = one
            self._submit(id, one, dice.of(("continue", "fail_fast")), dice.of((0, 1, 2)))
        for daemon in self.daemons:
            self._register(daemon)
        if dice.pick(4):
            self.perform(f"compile {ids[0]}")

    # -- sending

    def ask(self, request: Request, dice: Dice | None = None) -> Any:
        """The answer, None if none came. The request may come again later."""
        fate = dice.pick(8) if dice else 0
        self.mail.append(request)
        if fate == 7:
            self.note(f"{request.what}: delayed")
            return None
        answer = self._deliver(request, request.what)
        if fate == 6:
            answer = self._deliver(request, f"{request.what}: again at once")
        if fate == 5:
            self.note("  its answer is lost")
            return None
        return answer

    def _deliver(self, request: Request, what: str) -> Any:
        self.now += 1
        self._requests += 1
        self.wire.now = (self.now, self._requests % 1000)
        answer = request.send()
        self.note(f"{what} -> {answer}")
        if self.exact:
            self.model.begin(*self.wire.now)
            expected = request.expect()
            assert expected == answer, f"model {expected}, scripts {answer}"
        if self.wire.look:
            self._look(request, answer, self.wire.seen)
        return answer

    def _look(self, request: Request, answer: Any, seen: Any) -> None:
        before, self.view = self.view, view.read(seen)
        if self.exact:
            ours = view.of_model(self.model)
            if not view.same(ours, self.view):
                raise AssertionError("\n".join(view.differences(ours, self.view)))
        self.watch.step(request, answer, before, self.view)

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Only the answers are compared; the state is looked at when all is done."""
        self.wire.look = None
        yield
        self.wire.look = self.look
        self._look(Request("", str, str), None, self.wire.ask(self.look)[0])

    def note(self, text: str) -> None:
        self.log.append(text)

    # -- requests

    def _submit(self, id: str, one: Shape, policy: str, parallelism: int) -> None:
        fields = {"name": "t", "policy": policy, "parallelism": parallelism, "ttl_s": 1000,
                  "root": "", "digest": ""}  # fmt: skip
        self.ask(Request(
            f"submit {id} {policy} parallelism={parallelism} {one}",
            lambda: self.store.submit(id, "d", "{}", fields)[0],
            lambda: self.model.submit(id, one, policy, parallelism),
        ))  # fmt: skip

    def _register(self, daemon: Daemon, dice: Dice | None = None) -> None:
        incarnation = daemon.incarnation
        info = NodeInfo(daemon.id, incarnation, "h", 1, daemon.tags, SLOTS, {"cpus": 2.0})
        self.ask(Request(
            f"register {incarnation}",
            lambda: self.store.register(info),
            lambda: self.model.register(daemon.id, incarnation, "h", daemon.tags, TOTAL),
        ), dice)  # fmt: skip

    def extend(self, id: str, stage: str, chunk: int, dice: Dice | None = None) -> str | None:
        whole = self.shapes[id]
        size = self.chunk if stage == STATIC else FAN_OUT_CHUNK
        if stage != STATIC:
            source = self._spec(id, stage)
            whole = tuple(source.child(index) for index in range(source.size))
        specs = whole[chunk * size : (chunk + 1) * size]
        if chunk and not specs:
            return None
        last = (chunk + 1) * size >= len(whole)
        jobs = [as_new_job(self.shapes[id], one) for one in specs]
        answer: str | None = self.ask(Request(
            f"extend {id} {stage} chunk {chunk}: {' '.join(one.name for one in specs)}",
            lambda: self.store.extend(id, stage, chunk, last, jobs),
            lambda: self.model.extend(id, stage, chunk, last, specs),
        ), dice)  # fmt: skip
        return answer

    def open_group(self, id: str, name: str, dice: Dice | None = None) -> Any:
        one = self._spec(id, name)
        return self.ask(Request(
            f"open {id} {name}",
            lambda: self.store.open_group(id, name, one.size, one.limit, one.window, "{}"),
            lambda: self.model.open_group(id, name),
        ), dice)  # fmt: skip

    def start_fan_in(self, id: str, name: str, dice: Dice | None = None) -> Token | None:
        if self._spec(id, name).custom:
            self.ask(Request(
                f"hand over {id} {name}",
                lambda: self.store.enqueue_control(id, name, '["m.f", null, [], {}]'),
                lambda: self.model.enqueue_control(id, name),
                {"fan_in": (id, name)},
            ), dice)  # fmt: skip
            return None
        claim = f"o{self.now}.0"

        def expect() -> Token | None:
            attempt = self.model.start_control(id, name, claim)
            return Token(f"{id}-{name}", attempt, claim) if attempt else None

        send = lambda: self.store.start_control(id, name, claim, "o")  # noqa: E731
        about = {"fan_in": (id, name)}
        token: Token | None = self.ask(Request(f"start {id} {name}", send, expect, about), dice)
        if token:
            self.fan_ins.append((id, name, token))
        return token

    def settle_fan_in(
        self, id: str, name: str, token: Token, outcome: str, dice: Dice | None = None
    ) -> None:
        self.ask(Request(
            f"settle {token} {outcome}",
            lambda: self.store.settle_control(token, outcome, "1", "{}"),
            lambda: self.model.settle_control(id, name, token.attempt, token.claim, outcome),
            {"ends": [(token, outcome)], "verdicts": lambda answer: [answer]},
        ), dice)  # fmt: skip

    def fail_control(self, id: str, name: str, dice: Dice | None = None) -> None:
        self.ask(Request(
            f"give up {id} {name}",
            lambda: self.store.fail_control(id, name, "{}"),
            lambda: self.model.fail_control(id, name),
        ), dice)  # fmt: skip

    def fail_execution(self, id: str, dice: Dice | None = None) -> None:
        self.ask(Request(
            f"give up {id}",
            lambda: self.store.fail_control(id, "", "{}"),
            lambda: self.model.fail_execution(id),
        ), dice)  # fmt: skip

    def control(self, id: str, verb: str, dice: Dice | None = None) -> None:
        self.ask(Request(
            f"{verb} {id}",
            lambda: self.store.control(id, verb),
            lambda: self.model.control(id, verb),
        ), dice)  # fmt: skip

    def retry(self, id: str, dice: Dice | None = None) -> None:
        self.ask(Request(
            f"retry {id}", lambda: self.store.retry(id), lambda: self.model.retry(id), {"retry": id}
        ), dice)  # fmt: skip

    def upkeep(self, dice: Dice | None = None) -> None:
        sends: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
            ("upkeep", self.store.upkeep, self.model.upkeep),
            ("promote", self.store.promote_due, self.model.promote_due),
            ("drain", self.store.drain_outbox, lambda: None),
        ]
        what, send, expect = sends[dice.pick(3) if dice else 0]
        self.ask(Request(what, lambda: (send(), None)[1], expect), dice)

    # -- daemons

    def advance(
        self, daemon: Daemon, ends: list[Settlement], lanes: int, dice: Dice | None = None
    ) -> None:
        """As a daemon does it: an advance that was not answered is sent again as it was."""
        if daemon.asked is None:
            daemon.turn += 1
            daemon.settling = [one.token for one in ends]
            daemon.asked = self._advance(daemon, f"{daemon.incarnation}.{daemon.turn}", ends, lanes)
        request = daemon.asked
        answer = self.ask(request, dice)
        if answer is None:
            return
        status, _, claimed = answer
        daemon.asked, daemon.answered = None, daemon.turn
        daemon.held = [token for token in daemon.held if token not in daemon.settling]
        daemon.held += [Token(*token) for token in claimed]
        if status == "UNKNOWN":
            self._register(daemon, dice)

    def _advance(self, daemon: Daemon, claim: str, ends: list[Settlement], lanes: int) -> Request:
        id, incarnation = daemon.id, daemon.incarnation
        told = [
            ((one.token.job, one.token.attempt, one.token.claim), one.outcome, one.retry_ms)
            for one in ends
        ]

        def send() -> Any:
            said = self.store.advance(
                id, incarnation, claim, settlements=ends, lanes=lanes, free=TOTAL
            )
            claimed = [(one.token.job, one.token.attempt, one.token.claim) for one in said.claimed]
            return "UNKNOWN" if said.unknown else "OK", said.verdicts, claimed

        outcomes = " ".join(f"{token[0]}/{token[1]}={outcome}" for token, outcome, _ in told)
        return Request(
            f"advance {claim} lanes={lanes} {outcomes}", send,
            lambda: self.model.advance(id, incarnation, claim, told, lanes, TOTAL),
            {"ends": [(one.token, one.outcome) for one in ends], "node": id,
             "verdicts": lambda answer: answer[1], "claimed": lambda answer: answer[2]},
        )  # fmt: skip

    def beat(self, daemon: Daemon, dice: Dice | None = None) -> None:
        id, incarnation, held = daemon.id, daemon.incarnation, list(daemon.held)
        answered = daemon.answered
        tokens = [(token.job, token.attempt, token.claim) for token in held]

        def send() -> Any:
            said = self.store.beat(id, incarnation, held, answered=answered)
            stale = [(token.job, token.attempt, token.claim) for token in said.stale]
            return "UNKNOWN" if said.unknown else "OK", stale

        answer = self.ask(Request(
            f"beat {incarnation} {' '.join(f'{job}/{attempt}' for job, attempt, _ in tokens)}", send,
            lambda: self.model.beat(id, incarnation, tokens, answered),
        ), dice)  # fmt: skip
        if answer is None:
            return
        gone = [Token(*token) for token in answer[1]]
        daemon.held = [token for token in daemon.held if token not in gone]
        if answer[0] == "UNKNOWN":
            self._register(daemon, dice)

    def hand_back(self, daemon: Daemon, dice: Dice) -> None:
        count = 1 + dice.pick(2)
        given, daemon.held = daemon.held[-count:], daemon.held[:-count]
        if daemon.asked or not given:
            daemon.held += given
            return
        tokens = [(token.job, token.attempt, token.claim) for token in given]
        self.ask(Request(
            f"hand back {daemon.incarnation} {tokens}",
            lambda: self.store.handback(daemon.id, daemon.incarnation, given),
            lambda: self.model.handback(daemon.id, tokens),
        ), dice)  # fmt: skip

    def leave(self, daemon: Daemon, dice: Dice) -> None:
        incarnation = daemon.incarnation
        daemon.next_life()
        self.ask(Request(
            f"leave {incarnation}",
            lambda: self.store.leave(daemon.id, incarnation, "died"),
            lambda: self.model.leave(daemon.id, incarnation),
        ), dice)  # fmt: skip

    # -- steps

    def work(self, dice: Dice) -> None:
        """A daemon settles some of what it holds, in some way, and claims."""
        daemon = dice.of(self.daemons)
        count = dice.pick(3)
        outcomes = (
            "finished",
            "finished",
            "finished",
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
            word = "failed" if outcome == "retried" else outcome
            ends.append(Settlement(token, word, b"1", b"{}", retry_ms=delay))
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
        if verb == "compile":
            chunk = 0
            while self.extend(id, STATIC, chunk) in ("OK", "DONE"):
                chunk += 1
        elif verb == "expand":
            self._expand(id, self._spec(id, rest[0]))
        elif verb == "fanin":
            token = self.start_fan_in(id, rest[0])
            if token:
                self.settle_fan_in(id, rest[0], token, "finished")
        if self._mark(item) == mark:
            key, _ = mark
            self.wire.ask(("ZREM", key, item))
            self.view["agenda"] = [one for one in self.view.get("agenda", []) if one != item]
            self.model.agenda.discard(item)

    def _expand(self, id: str, one: Spec) -> None:
        verdict, created, chunk, settled = self.open_group(id, one.name)
        while verdict in ("OK", "DONE") and created < one.size and created - settled < one.window:
            verdict = self.extend(id, one.name, chunk)
            row = self.view[f"group {id}-{one.name}"]
            created, chunk, settled = int(row[1]), int(row[2]), int(row[3])

    def _mark(self, item: str) -> tuple[str, str]:
        for key in self.wire.ask(("KEYS", f"{keys.agenda('*')}"))[0]:
            (mark,) = self.wire.ask(("ZSCORE", key, item))
            if mark:
                return key, mark
        return "", ""

    def _spec(self, id: str, name: str) -> Spec:
        return next(one for one in self.shapes[id] if one.name == name)

    def command(self, dice: Dice) -> None:
        """A user pauses, resumes, cancels, retries; or Redis forgets its scripts."""
        id = dice.of(list(self.shapes))
        verb = dice.of(("resume", "pause", "retry", "resume", "cancel", "retry", "anew", "flush"))
        if verb == "flush":
            self.note("SCRIPT FLUSH")
            self.wire.ask(("SCRIPT", "FLUSH"))
            self.wire.load(view.LOOK)
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


__all__ = ["CLOCK_KEY", "Dice", "Play", "Scripted"]
