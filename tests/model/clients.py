"""What daemons, orchestrators and users send to the real scripts, each answer and the state after it
compared with the model's.

Every request may be answered, or lose its answer, or come twice, or come later, after others. What
the clients know is what they were answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from penstock.common.jobs import NodeInfo, Settlement, Token
from penstock.common.state import fanouts, keys
from penstock.common.state.chunks import STATIC
from penstock.common.state.fanouts import Folded
from penstock.common.state.scripts import Limits
from penstock.common.state.store import Store

from . import view
from .breaking import BrokenScripts
from .invariants import Watch
from .reference import ENDED
from .reference_nodes import ReferenceCluster
from .server import FROZEN_NOW, Server
from .shapes import Shape, Spec, as_new_job

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
            replaced["STEP_LIMIT = 200"] = f"STEP_LIMIT = {step_limit}"
            replaced["for _ = 1, 100 do"] = "for _ = 1, 1 do"
        scripts = BrokenScripts(LIMITS, {"now": FROZEN_NOW}, replaced)
        self.wire, self.exact = server, not step_limit
        self.store = Store(server, scripts=scripts)  # type: ignore[arg-type]
        self.look = server.load(view.LOOK)


class Clients:
    """All clients of one run, on an empty server. `chunk` is how many jobs an extension brings."""

    def __init__(self, scripted: Scripted, chunk: int) -> None:
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
        self.sessions: set[str] = set()
        self.chunk = chunk
        self.watch = Watch(self.shapes, {daemon.id: daemon.tags for daemon in self.daemons})

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
                  "root": "", "digest": "", **({"session": 1} if id in self.sessions else {})}  # fmt: skip
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
        jobs = [as_new_job(self.shapes[id], one, id in self.sessions) for one in specs]
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
            lambda: self.store.open_group(
                id, name, one.size, one.limit, one.window, "{}", folds=one.folds,
                stop_when=one.stop_when,
            ),
            lambda: self.model.open_group(id, name),
        ), dice)  # fmt: skip

    def fold(self, id: str, name: str, dice: Dice | None = None) -> Any:
        """Takes out what has finished of the chunks that may hold such, as they are now."""
        group, pages = keys.group(id, name), keys.pages(id)
        (found,) = self.wire.ask(("HMGET", group, "folds", "live"))
        if found[1] is None:
            return None
        folds, chunks = int(found[0] or 0), []
        for chunk in found[1].split():
            (names,) = self.wire.ask(("HGET", pages, f"{name}:{chunk}"))
            status = {
                child: self.wire.ask(("HGET", keys.job(f"{id}-{child}"), "status"))[0]
                for child in (names or "").split()
            }
            done = [child for child, word in status.items() if word == "finished"]
            chunks.append(Folded(int(chunk), not {*status.values()} <= {*ENDED}, done))
        gone = [child for chunk in chunks for child in chunk.names]
        busy = lambda: self.wire.ask(("LLEN", keys.outbox(id)))[0] > 0  # noqa: E731
        return self.ask(Request(
            f"fold {id} {name} {chunks}",
            lambda: fanouts.fold(self.store, id, name, folds, f'"{gone}"', folds > 0, chunks),
            lambda: self.model.fold(id, name, folds, gone, busy()),
            {"folds": [f"{id}-{child}" for child in gone]},
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
            (
                (one.token.job, one.token.attempt, one.token.claim),
                "met" if one.metrics else one.outcome,
                one.retry_ms,
            )
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

    def _spec(self, id: str, name: str) -> Spec:
        return next(one for one in self.shapes[id] if one.name == name)
