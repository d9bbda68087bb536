"""All orders in which the processes of a tiny cluster may call the scripts.

A state is what Redis holds (times taken out, claims numbered anew) and what each process knows. From
each state every process takes every step that it could take; each of these happens so often at most:
a process dies, a job fails, an answer is lost, a request comes once more, somebody cancels or pauses.
Since a script is atomic, these orders are all that can happen.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from penstock.common.jobs import NodeInfo, Settlement, Token
from penstock.common.state import keys
from penstock.common.state.chunks import STATIC

from . import view
from .clients import BEGIN_MS, FAN_OUT_CHUNK, Scripted
from .invariants import check
from .reference import ENDED, EXECUTION_ENDED
from .server import InProcess
from .shapes import Shape, Spec, as_new_job
from .world import Ask, Daemon, Move, Orchestrator, Scenario, World

X = "aaaaaaaaaaaa"
#: what is no part of a state: the record of the past, times, hints
NO_KEYS = (
    "^penstock:events$ ^penstock:maintenance$ ^penstock:executions$ ^penstock:test ^penstock:domains$ "
    "^penstock:idle$ :inbox$ :history :log: ^rq:queues$ ^rq:finished ^rq:failed :spec$"
)
NO_FIELDS = (
    "created_at started_at ended_at enqueued_at registered_at error data metrics result passed"
)
WHILE_STARTED = "claim worker_name"
_SINCE = re.compile(r"(\.\d+) \d{13}")
_CLAIM = re.compile(r"(n\d[a-z]\d+)\.(\d+)")


class Cluster:
    """Takes single steps. Redis is where the last `restore` put it."""

    def __init__(self, scenario: Scenario, server: InProcess) -> None:
        self.scenario, self.server = scenario, server
        scripted = Scripted(server, scenario.step_limit, scenario.breaks)
        self.store = scripted.store
        ids = [f"n{index}" for index in range(scenario.nodes)]
        self._look = ("EVALSHA", scripted.look, 0, 1, X, *ids)
        self.tick = 0

    def begin(self) -> World:
        """An empty server with the nodes registered and the workflow submitted."""
        self.server.ask(("FLUSHDB",))
        self.tick = 0
        world = World(
            tuple(Daemon() for _ in range(self.scenario.nodes)),
            tuple(Orchestrator() for _ in range(self.scenario.orchestrators)),
            self.scenario.budget,
        )
        for index in range(self.scenario.nodes):
            self._register(index, world.daemons[index])
        self._now()
        fields = {
            "name": "t",
            "policy": self.scenario.policy,
            "parallelism": 0,
            "root": "",
            "digest": "",
        }
        self.store.submit(X, "d", "{}", fields)
        return replace(world, tick=self.tick)

    def view(self) -> view.View:
        return view.read(self.server.ask(self._look)[0])

    def key(self, world: World) -> bytes:
        """The state in a few bytes; nodes that swap their roles make no other state."""
        marks = [self._mark(one.item) == one.mark for one in world.orchestrators]
        lines = self.server.describe(NO_KEYS, NO_FIELDS, WHILE_STARTED).split("\n")
        lines += [f"n{index} {one}" for index, one in enumerate(world.daemons)]
        workers = zip(world.orchestrators, marks, strict=True)
        lines.append(str(sorted(f"{one.item} {one.at} {mark}" for one, mark in workers)))
        text = _SINCE.sub(r"\1", "\n".join([*lines, str(world.budget)]))
        for index, one in enumerate(world.daemons):
            text = text.replace(f"Daemon(life={one.life}, turn={one.turn}, answered={one.answered}",
                                f"Daemon(n{index}i{one.life:03d}.{one.turn} n{index}i{one.life:03d}.{one.answered}")  # fmt: skip
            for ask in (one.asked, one.late):
                if ask:
                    text = text.replace(
                        f"Ask(life={ask.life}, turn={ask.turn},",
                        f"Ask(n{index}i{ask.life:03d}.{ask.turn}",
                    )
        texts = [_renumbered(text)]
        if len(world.daemons) == 2:
            texts.append(_swapped(texts[0]))
        smallest = min("\n".join(sorted(one.split("\n"))) for one in texts)
        return hashlib.blake2b(smallest.encode(), digest_size=12).digest()

    # -- what may happen next

    def moves(self, world: World, seen: view.View) -> Iterator[Move]:
        budget = world.budget
        for index, daemon in enumerate(world.daemons):
            for what, move in self._daemon_moves(index, daemon, world, seen):
                yield f"n{index} {what}", move
        for index, one in enumerate(world.orchestrators):
            for what, move in self._orchestrator_moves(index, one, world, seen):
                yield f"o{index} {what}", move
            if one.item and budget.deaths:
                yield (
                    f"o{index} dies",
                    lambda w, i=index: w.orchestrator(i, Orchestrator()).spend("deaths"),
                )
        status = seen[f"execution {X}"][0]
        if budget.cancels and status not in EXECUTION_ENDED:
            yield "cancel", lambda w: self._control(w.spend("cancels"), "cancel")
        if budget.pauses and status in ("running", "pending"):
            yield "pause", lambda w: self._control(w.spend("pauses"), "pause")
        if status == "paused":
            yield "resume", lambda w: self._control(w, "resume")
        if budget.retries and status in ("failed", "canceled"):
            yield "retry", lambda w: self._retry(w.spend("retries"))
        if f"outbox {X}" in seen:
            yield "drain", lambda w: self._call(w, self.store.drain_outbox)
        if "due" in seen:
            yield "promote", lambda w: self._call(w, self.store.promote_due)

    def _daemon_moves(
        self, i: int, daemon: Daemon, world: World, seen: view.View
    ) -> Iterator[Move]:
        budget = world.budget
        leases = seen.get(f"leases n{i}", [])
        known = f"n{i}" in seen.get("nodes", [])
        if daemon.state == "dead":
            if known:
                yield "is told dead", lambda w: self._leave(w, i)
                yield "is silent", lambda w: self._silence(w, i)
            yield "starts again", lambda w: self._join(w.daemon(i, life=daemon.life + 1), i)
        elif daemon.state == "unknown":
            yield "joins", lambda w: self._join(w, i)
        else:
            yield from self._working(i, daemon, world, seen)
            if leases or daemon.held or not known:
                yield "beats", lambda w: self._beat(w, i)
            if budget.silences and known:
                yield "is silent", lambda w: self._silence(w.spend("silences"), i)
        if daemon.state != "dead" and budget.deaths:
            yield (
                "dies",
                lambda w: w.daemon(
                    i, state="dead", held=None, asked=None, turn=0, answered=0
                ).spend("deaths"),
            )
        if daemon.late:
            yield "a copy arrives", lambda w: self._deliver(w.daemon(i, late=None), i, daemon.late)

    def _working(self, i: int, daemon: Daemon, world: World, seen: view.View) -> Iterator[Move]:
        budget = world.budget
        asks: list[tuple[str, str, Ask]] = []
        turn = daemon.turn + 1
        if daemon.asked:
            asks.append(("asks again", "", daemon.asked))
        elif daemon.held:
            asks.append(("finishes", "", Ask(daemon.life, turn, (daemon.held, "finished"))))
            if budget.failures:
                for outcome in ("failed", "retried", "crashed"):
                    ask = Ask(daemon.life, turn, (daemon.held, outcome))
                    asks.append((outcome, "failures", ask))
            if budget.met:
                asks.append(("met", "met", Ask(daemon.life, turn, (daemon.held, "met"))))
        elif any(label.startswith("queue ") for label in seen):
            asks.append(("claims", "", Ask(daemon.life, turn)))
        for what, cost, ask in asks:
            paid = (lambda w, cost=cost: w.spend(cost)) if cost else (lambda w: w)
            yield what, lambda w, ask=ask, paid=paid: self._advance(paid(w), i, ask)
            if budget.lost:
                yield (
                    f"{what}, no answer",
                    lambda w, ask=ask, paid=paid: self._unheard(paid(w), i, ask),
                )
            if budget.copies:
                yield (
                    f"{what}, twice",
                    lambda w, ask=ask, paid=paid: self._advance(
                        paid(w).spend("copies").daemon(i, late=ask), i, ask
                    ),
                )

    # -- daemons

    def _deliver(self, world: World, i: int, ask: Ask) -> World:
        self._send(i, ask)
        return replace(world, tick=self.tick)

    def _unheard(self, world: World, i: int, ask: Ask) -> World:
        self._send(i, ask)
        return replace(world.daemon(i, asked=ask, turn=ask.turn).spend("lost"), tick=self.tick)

    def _advance(self, world: World, i: int, ask: Ask) -> World:
        said = self._send(i, ask)
        new = said.claimed[0].token if said.claimed else None
        world = world.daemon(
            i, asked=None, turn=ask.turn, answered=ask.turn, held=new,
            state="unknown" if said.unknown else "up",
        )  # fmt: skip
        return replace(world, tick=self.tick)

    def _send(self, i: int, ask: Ask) -> Any:
        incarnation = f"n{i}i{ask.life:03d}"
        claim, ends = f"{incarnation}.{ask.turn}", []
        before = self.server.ask(("HGET", keys.node(f"n{i}"), "claim"))[0]
        holds = False
        if ask.settled:
            token, outcome = ask.settled
            word = {"retried": "failed", "met": "finished"}.get(outcome, outcome)
            metrics = {"m": 0.5} if outcome == "met" else {}
            delay = 0 if outcome == "retried" else -1
            ends = [Settlement(token, word, b"1", b"{}", metrics, retry_ms=delay)]
            holds = self._holds(token)
        idle = self._no_claims()
        again = self._first_answer(i, claim)
        self._now()
        said = self.store.advance(
            f"n{i}", incarnation, claim, settlements=ends, lanes=1, free={"slots": 1.0}
        )
        assert len(said.claimed) <= 1, f"one lane, and {said.claimed}"
        told = [one.token for one in said.claimed]
        if before == claim:
            assert (said.verdicts, told) == again, (
                f"I2: {claim} again: {said.verdicts}, {told}, first {again}"
            )
        elif new := [token for token in told if token not in again[1]]:
            assert not idle, f"I11: {new} starts, and the execution is {idle}"
            assert before is None or _turn(before, incarnation) < ask.turn, (
                f"{claim} comes late, and claims"
            )
        if ends and before != claim:
            token = ends[0].token
            assert said.verdicts == ["OK"] or not holds or self._closed(), (
                f"I1: {token} {said.verdicts}"
            )
            assert said.verdicts == ["STALE"] or holds, f"I3: {token} settled, and did not hold"
            assert not self._holds(token) or said.verdicts == ["STALE"], f"I2: {token} still holds"
        return said

    def _first_answer(self, i: int, claim: str) -> tuple[list[str], list[Token]]:
        """What the last advance was told, as far as its tokens still hold."""
        words = self.server.ask(("HGET", keys.node(f"n{i}"), "verdicts"))[0] or ""
        return words.split(), [
            token for token in self._leases(i) if token.claim == claim and self._holds(token)
        ]

    def _leases(self, i: int) -> list[Token]:
        rows = self.server.ask(("HGETALL", keys.node_leases(f"n{i}")))[0]
        pairs = zip(rows[::2], rows[1::2], strict=True)
        return [Token(job, int(lease.split()[0]), lease.split()[1]) for job, lease in pairs]

    def _holds(self, token: Token) -> bool:
        status, attempt, claim = self.server.ask(
            ("HMGET", keys.job(token.job), "status", "attempt", "claim")
        )[0]
        return (status, attempt, claim) == ("started", str(token.attempt), token.claim)

    def _closed(self) -> bool:
        return self._no_claims() not in ("", "paused")

    def _no_claims(self) -> str:
        """Why nothing of the execution may start now; '' if it may."""
        status, closing = self.server.ask(("HMGET", keys.execution(X), "status", "closing"))[0]
        return closing or (status if status in (*EXECUTION_ENDED, "paused") else "")

    def _beat(self, world: World, i: int) -> World:
        daemon = world.daemons[i]
        held = [daemon.held] if daemon.held else []
        if daemon.asked and daemon.asked.settled and not held:
            held = [daemon.asked.settled[0]]
        incarnation = f"n{i}i{daemon.life:03d}"
        on_their_way = [token for token in self._leases(i) if self._holds(token)
                        and _turn(token.claim, incarnation) > daemon.answered]  # fmt: skip
        self._now()
        said = self.store.beat(f"n{i}", incarnation, held, answered=daemon.answered)
        gone = [token for token in on_their_way if not self._holds(token)]
        assert not gone, f"{gone}: dropped by a beat while the answer was on its way"
        if said.unknown:
            world = world.daemon(i, state="unknown")
        if daemon.held in said.stale:
            world = world.daemon(i, held=None)
        return replace(world, tick=self.tick)

    def _register(self, i: int, daemon: Daemon) -> None:
        self._now()
        info = NodeInfo(f"n{i}", f"n{i}i{daemon.life:03d}", "h", 1, ("cpu",), 1, {"cpus": 1.0})
        assert self.store.register(info) == "OK"

    def _join(self, world: World, i: int) -> World:
        self._register(i, world.daemons[i])
        return replace(world.daemon(i, state="up"), tick=self.tick)

    def _leave(self, world: World, i: int) -> World:
        self._now()
        self.store.leave(f"n{i}", f"n{i}i{world.daemons[i].life:03d}", "died")
        return replace(world, tick=self.tick)

    def _silence(self, world: World, i: int) -> World:
        """Five seconds in which this node does not beat, and all others do."""
        for _ in range(5):
            self.tick += 1000
            for other, daemon in enumerate(world.daemons):
                if other != i and daemon.state == "up":
                    world = self._beat(world, other)
            self._now()
            self.store.upkeep()
        return replace(world, tick=self.tick)

    # -- orchestrators

    def _orchestrator_moves(
        self, i: int, one: Orchestrator, world: World, seen: view.View
    ) -> Iterator[Move]:
        if one.item:
            yield f"goes on with {one.item} {one.at}", lambda w: self._go_on(w, i)
            return
        for item in seen.get("agenda", []):
            if item.startswith("expire"):
                continue
            mark = self._mark(item)
            if not any((other.item, other.mark) == (item, mark) for other in world.orchestrators):
                yield f"takes {item}", lambda w, item=item: self._take(w, i, item)
            elif world.budget.slow:
                yield (
                    f"takes {item}, whose lease has ended",
                    lambda w, item=item: self._take(w.spend("slow"), i, item),
                )

    def _take(self, world: World, i: int, item: str) -> World:
        """As agenda_take does: under a mark that nobody had before."""
        self.server.ask(("ZINCRBY", keys.agenda("default"), "0.001", item))
        return world.orchestrator(i, Orchestrator(item, self._mark(item), ("begin",)))

    def _mark(self, item: str) -> str:
        return str(self.server.ask(("ZSCORE", keys.agenda("default"), item))[0]) if item else ""

    def _go_on(self, world: World, i: int) -> World:
        """The next request of the item; after the last one it goes off the agenda, unless it was
        posted anew."""
        one = world.orchestrators[i]
        verb, _, *rest = one.item.split()
        self._now()
        if one.at == ("done",):
            if self._mark(one.item) == one.mark:
                self.server.ask(("ZREM", keys.agenda("default"), one.item))
            return replace(world.orchestrator(i, Orchestrator()), tick=self.tick)
        if verb == "compile":
            at = self._compile(one.at)
        elif verb == "expand":
            at = self._expand(self._spec(rest[0]), one.at)
        else:
            at = self._fan_in(rest[0], one.at, i)
        if at == ("left",):  # it comes up again when the lease ends
            return replace(world.orchestrator(i, Orchestrator()), tick=self.tick)
        return replace(world.orchestrator(i, replace(one, at=at)), tick=self.tick)

    def _spec(self, name: str) -> Spec:
        return next(one for one in self.scenario.shape if one.name == name)

    def _compile(self, at: tuple[Any, ...]) -> tuple[Any, ...]:
        number = at[1] if at[0] == "chunk" else 0
        size, shape = self.scenario.chunk, self.scenario.shape
        specs = shape[number * size : (number + 1) * size]
        last = (number + 1) * size >= len(shape)
        jobs = [as_new_job(shape, one) for one in specs]
        said = self.store.extend(X, STATIC, number, last, jobs)
        if said == "RETRYING":
            return ("left",)
        return ("done",) if last or said == "CLOSED" else ("chunk", number + 1)

    def _expand(self, one: Spec, at: tuple[Any, ...]) -> tuple[Any, ...]:
        if at[0] == "begin":
            opened = self.store.open_group(
                X, one.name, one.size, one.limit, one.window, "{}", stop_when=one.stop_when
            )
            verdict, created, chunk, settled = opened
            return self._next_chunk(one, verdict, created, chunk, settled)
        _, chunk = at
        specs = [one.child(index) for index in range(one.size)][chunk * FAN_OUT_CHUNK :][
            :FAN_OUT_CHUNK
        ]
        last = (chunk + 1) * FAN_OUT_CHUNK >= one.size
        jobs = [as_new_job(self.scenario.shape, spec) for spec in specs]
        said = self.store.extend(X, one.name, chunk, last, jobs)
        group = self.store.client.execute_command(
            "HMGET", keys.group(X, one.name), "created", "created_chunks", "settled"
        )
        created, chunk, settled = (int(value or 0) for value in group)
        return self._next_chunk(one, said, created, chunk, settled)

    @staticmethod
    def _next_chunk(
        one: Spec, said: str, created: int, chunk: int, settled: int
    ) -> tuple[Any, ...]:
        if said == "RETRYING":
            return ("left",)
        more = said in ("OK", "DONE") and created < one.size and created - settled < one.window
        return ("chunk", chunk) if more else ("done",)

    def _fan_in(self, name: str, at: tuple[Any, ...], i: int) -> tuple[Any, ...]:
        if at[0] == "begin":
            if self._spec(name).custom:
                self.store.enqueue_control(X, name, '["m.f", null, [], {}]')
                return ("done",)
            token = self.store.start_control(X, name, f"n{i}o{i:03d}.{self.tick}", "o")
            if token:
                self._check_fan_in(name)
            return ("settle", token) if token else ("done",)
        holds = self._holds(at[1])
        said = self.store.settle_control(at[1], "finished", "1", "{}")
        assert holds or said == "STALE", f"I3: {at[1]} settled, and did not hold"
        return ("left",) if said == "STALE" else ("done",)

    def _check_fan_in(self, name: str) -> None:
        for up in self._spec(name).after:
            group = keys.group(X, up.removesuffix("?"))
            total, created, settled = self.server.ask(
                ("HMGET", group, "total", "created", "settled")
            )[0]
            status = self.server.ask(("HGET", keys.job(f"{X}-{up.removesuffix('?')}"), "status"))[0]
            assert status != "finished" or total == created == settled, (
                f"I5: {name} begins with {settled} of {total}"
            )

    # -- users, and time

    def _control(self, world: World, verb: str) -> World:
        return self._call(world, lambda: self.store.control(X, verb))

    def _retry(self, world: World) -> World:
        return self._call(world, lambda: self.store.retry(X))

    def _call(self, world: World, what: Callable[[], Any]) -> World:
        self._now()
        what()
        return replace(world, tick=self.tick)

    def _now(self) -> None:
        self.tick += 1
        self.server.now = (BEGIN_MS + self.tick, self.tick % 1000)


def _turn(claim: str, incarnation: str) -> int:
    """The number of a claim of this incarnation, else 0."""
    head, _, turn = claim.rpartition(".")
    return int(turn) if head == incarnation else 0


def _swapped(text: str) -> str:
    return text.replace("n0", "n#").replace("n1", "n0").replace("n#", "n1")


def _renumbered(text: str) -> str:
    """Claims by their place among all of their incarnation that are still somewhere."""
    turns: dict[str, set[int]] = {}
    for incarnation, turn in _CLAIM.findall(text):
        turns.setdefault(incarnation, set()).add(int(turn))
    places = {
        one: {turn: place for place, turn in enumerate(sorted(of))} for one, of in turns.items()
    }
    return _CLAIM.sub(lambda m: f"{m[1]}.{places[m[1]][int(m[2])]}", text)


def over(seen: view.View) -> bool:
    """All has ended, and nothing is left to do."""
    through = seen[f"execution {X}"][0] in EXECUTION_ENDED
    left = any(label.startswith(("outbox", "queue", "due", "wip", "unmet")) for label in seen)
    return through and not left


def check_state(shape: Shape, seen: view.View) -> None:
    """The invariants, and that an end leaves nothing behind."""
    check({X: shape}, seen)
    if over(seen):
        rows = {label: row[0] for label, row in seen.items() if label.startswith("job ")}
        assert all(status in ENDED for status in rows.values()), f"I1: over, with {rows}"
