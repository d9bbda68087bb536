"""Random histories of a small cluster whose callers get only the last of several answers.

They must end well; see replies.py for what else must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import redis

from penstock.common.jobs import Claimed, Token, rq_data
from penstock.common.state import fanouts, keys, repairs
from penstock.common.state.chunks import STATIC
from penstock.common.state.scripts import Scripts
from penstock.common.state.store import Store
from penstock.worker import lines
from support.histories import History
from support.histories import scripts as history_scripts
from support.scripted import Node, bad, done, new_job

from .proxy import Proxy
from .replies import STANDING_NOW, LossyClient, Tally


class LossyHistory(History):
    """A history in which all that scripts can do happens now and then."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.printed: dict[Token, int] = {}

    def more(self, node: Node) -> list[tuple[int, Any]]:
        return [
            (6, self._lock),
            (2, self._pause_queue),
            (4, lambda: self._log(node)),
            (4, lambda: self._wait(node)),
            (15, self._promote),
            (3, self._keep_up),
            (3, self._side_execution),
            (2, self._fail_control),
            (6, self._renew),
            (4, self._tour),
            (4, self._session),
            (4, self._fan_ins),
            (4, self._fold),
            (3, self._damage),
        ]

    def step(self, kindly: bool = False) -> None:
        try:
            super().step(kindly)
        except redis.ConnectionError:  # an orchestrator goes on with its next tick
            self.cluster.pass_time(1)

    def _lock(self) -> None:
        self.store.lock_acquire("l", "a", 1000)
        self.store.lock_acquire("l", self.draw.choice(["a", "b"]), 1000)
        self.store.lock_renew("l", self.draw.choice(["a", "b"]), 100)
        for owner in self.draw.sample(["a", "b"], 2):
            self.store.lock_release("l", owner)

    def _pause_queue(self) -> None:
        name = self.draw.choice(["any.p5", "gpu.p5"])
        self.store.pause_queues("pause", [name])
        self.store.pause_queues("resume", [name])

    def _promote(self) -> None:
        if self.client.zcard(keys.due()):
            self.cluster.pass_time(0.6)
            self.store.promote_due()

    def _token(self, node: Node) -> Token | None:
        held = self.held[node.id]
        return self.draw.choice(held).token if held else None

    def _log(self, node: Node) -> None:
        if token := self._token(node):
            self._print(node, token)

    def _print(self, node: Node, token: Token) -> None:
        sent = self.printed.get(token, 0)
        self.printed[token] = sent + len(b"printed\n")
        request = self.store.log_request(token, node.id, b"printed\n", sent)
        self.store.client.execute_command(*request.call())

    def _wait(self, node: Node) -> None:
        if token := self._token(node):
            self.store.wait(node.id, node.incarnation, token, True)
            self.store.wait(node.id, node.incarnation, token, False)

    def _side_execution(self) -> None:
        id_ = self._beside("side")
        if self.draw.random() < 0.3:
            self.store.fail_control(id_, "", '{"type": "E", "message": "m"}')
            return
        self.store.extend(id_, STATIC, 0, True, [new_job(f"s{number}") for number in range(12)])
        self.store.control(id_, "cancel")
        if self.client.exists(keys.outboxes()):
            self.store.drain_outbox()

    def _renew(self) -> None:
        taken = self.store.take_agenda((), 1.0, 4)
        if taken.items:
            self.store.renew_agenda((), taken.items, taken.mark, 1.0)

    def _tour(self) -> None:
        """A node of its own with two jobs of its own: all that may befall them, one by one."""
        id_ = self._beside("tour")
        node = Node(self.store, "tour", f"tour{self.draw.randrange(10**9)}x0", ("tour",))
        node.register()
        jobs = [new_job(name, tags=("tour",), retries=1) for name in "ab"]
        self.store.extend(id_, STATIC, 0, True, jobs)
        claimed = node.claim(2)
        claimed += node.claim(2 - len(claimed))  # a claim may stop early
        if len(claimed) == 2:
            self._serve(node, *claimed)
            self.store.retry(id_)
        self.store.control(id_, "cancel")
        self.store.drain(node.id)
        self.store.leave(node.id, node.incarnation, "drained")

    def _serve(self, node: Node, first: Claimed, second: Claimed) -> None:
        self._print(node, first.token)
        self.store.wait(node.id, node.incarnation, first.token, True)
        self.store.wait(node.id, node.incarnation, first.token, False)
        self.store.handback(node.id, node.incarnation, [second.token])
        node.advance(bad(first, retry_ms=500))
        self.cluster.pass_time(0.6)
        self.store.promote_due()
        again = node.claim(2)
        node.advance(*(bad(one, retry_ms=-1) for one in again))

    def _fan_ins(self) -> None:
        """Fan-ins of a fan-out without jobs: one is run here, one is handed over, one fails."""
        id_ = self._beside("fans")
        source = new_job("src", kind="fan-out", dependents="here? there? never?")
        del source.fields["origin"]
        fan_ins = [new_job(name, ("src?",), kind="fan-in") for name in ("here", "there", "never")]
        self.store.extend(id_, STATIC, 0, True, [source, *fan_ins])
        self.store.open_group(id_, "src", 0, 0, 10, "{}")
        token = self.store.start_control(id_, "here", f"{id_}.1", "o")
        if token is not None:
            self.store.settle_control(token, "finished", "1")
        self.store.enqueue_control(id_, "there", rq_data("m:agg", "{}"))
        self.store.fail_control(id_, "never", '{"type": "E", "message": "m"}')
        self.store.control(id_, "cancel")

    def _fold(self) -> None:
        """A child that has finished leaves Redis; another may finish yet."""
        id_ = self._beside("folds")
        source = new_job("src", kind="fan-out")
        del source.fields["origin"]
        self.store.extend(id_, STATIC, 0, True, [source])
        self.store.open_group(id_, "src", 2, 0, 10, "{}", folds=True)
        node = Node(self.store, "folds", f"folds{self.draw.randrange(10**9)}x0", ("folds",))
        node.register()
        children = [new_job(f"src_{i}", tags=("folds",), group="src") for i in range(2)]
        self.store.extend(id_, "src", 0, True, children)
        claimed = node.claim(1)
        node.advance(*(done(one) for one in claimed))
        gone = [one.name for one in claimed]
        chunks = [fanouts.Folded(0, True, gone)]
        fanouts.fold(self.store, id_, "src", 0, '{"count": 1}', False, chunks)
        self.store.control(id_, "cancel")
        self.store.leave(node.id, node.incarnation, "drained")

    def _session(self) -> None:
        """A program adds jobs that wait for earlier ones, and goes."""
        id_ = self._beside("grows", session=1)
        self.store.extend(id_, STATIC, 0, False, [new_job("a")])
        self.store.extend(id_, STATIC, 1, False, [new_job("b", ("a",)), new_job("c", ("a", "b"))])
        self.store.renew_session(id_, "default", 1.0)
        self.store.extend(id_, STATIC, 2, True, [])
        self.store.control(id_, "cancel")

    def _beside(self, word: str, **given: Any) -> str:
        """A further execution, whose jobs are not compiled."""
        id_ = f"{word}{self.draw.randrange(10**9):09d}"
        fields = {"name": word, "policy": "continue", "ttl_s": 100, **given}
        self.store.submit(id_, "d", "", fields, self.draw.choice(["", id_]))
        return id_

    def _damage(self) -> None:
        """Lays hands on an execution of its own, on a queue and on leases, and mends them."""
        id_ = self._beside("hurt")
        self.client.zrem(keys.agenda("default"), f"compile {id_}")
        repairs.execution(self.store, id_, mend=True)
        self.store.extend(id_, STATIC, 0, True, [new_job("a")])
        self.client.lrem(keys.queue("any.p5"), 1, f"{id_}-a")
        repairs.jobs(self.store, [f"{id_}-a"], mend=True)
        self.client.hincrby(keys.execution(id_), "running", 1)
        newest: Any = self.client.xrevrange(keys.events(), count=1)
        repairs.counts(self.store, id_, "", newest[0][0].decode(), {"running": 0})
        stray = f"{id_}-a:none"
        self.client.zadd(keys.wip("any.p5"), {stray: "+inf"})
        repairs.queue(self.store, "any.p5", [stray], mend=True)
        self.client.hset(keys.node_leases("ghost"), f"{id_}-a", "1 none 0 ")
        repairs.node(self.store, "ghost", mend=True)
        self.store.control(id_, "cancel")

    def _fail_control(self) -> None:
        for item in self.client.zrange(keys.agenda("default"), 0, -1):
            verb, execution, *job = item.decode().split()
            if verb in ("expand", "fanin"):
                self.store.fail_control(execution, job[0], '{"type": "E", "message": "m"}')
                return

    def _keep_up(self) -> None:
        self.cluster.pass_time(1)
        self.store.upkeep()

    def _end(self, one: Any, kindly: bool) -> Any:
        if not kindly and self.draw.random() < 0.3:
            return bad(one, retry_ms=500)
        return super()._end(one, kindly)


class QuickLines:
    """Lines that connect again at once, so that thousands of lost replies take no minutes."""

    def __enter__(self) -> None:
        self._backoff = lines.BACKOFF_S
        lines.BACKOFF_S = (0.0002, 0.001)

    def __exit__(self, *error: object) -> None:
        lines.BACKOFF_S = self._backoff


def lose_replies(
    url: str,
    address: tuple[str, int] | str,
    target: int,
    seed: int = 0,
    goes_on: Callable[[], bool] = lambda: True,
) -> Tally:
    """Runs histories until every script that writes lost `target` replies, on an empty server."""
    tally = Tally(target)
    with QuickLines(), Proxy(address) as proxy:
        while tally.missing() and goes_on():
            with lossy(url, proxy, tally, step_limit=5 if seed % 2 else 200) as (
                client,
                known,
            ):
                store = Store(client, scripts=known)  # type: ignore[arg-type]
                _run(LossyHistory(store, seed, ends=seed % 4 < 2), client, [1, 1, 1, 3, 10])
            seed += 1
    return tally


def lose_orchestrators_replies(
    url: str, address: tuple[str, int] | str, histories: int, seed: int = 0
) -> Tally:
    """Histories in which every fourth reply to an orchestrator is lost, and it does not ask again."""
    tally = Tally(10**9)
    with QuickLines(), Proxy(address) as proxy:
        for number in range(seed, seed + histories):
            with lossy(url, proxy, tally, gives_up=True) as (client, known):
                store = Store(client.direct, scripts=known)
                theirs = Store(client, scripts=known)  # type: ignore[arg-type]
                history = LossyHistory(store, number, number % 2 == 0, theirs)
                _run(history, client, [1, 0, 0, 0])
    return tally


@cache
def _known(step_limit: int) -> Scripts:
    return history_scripts(step_limit, STANDING_NOW)


@contextmanager
def lossy(
    url: str, proxy: Proxy, tally: Tally, step_limit: int = 200, gives_up: bool = False
) -> Iterator[tuple[LossyClient, Scripts]]:
    """A client of an empty server, and the scripts that it knows."""
    known = _known(step_limit)
    client = LossyClient(url, proxy, tally, known, gives_up)
    client.direct.flushall()
    try:
        yield client, known
    finally:
        client.close()


def _run(history: LossyHistory, client: LossyClient, times: list[int]) -> None:
    """A history to its end; replies get lost while anything may happen."""
    client.times = lambda: history.draw.choice(times)
    try:
        for _ in range(history.draw.randint(30, 150)):
            history.step()
        client.finishing = True
        if 0 in times:
            client.times = lambda: 0
        history.finish()
        history.check()
    except BaseException as error:
        raise AssertionError(f"seed {history.seed}: {client.tally.differences[-3:]}") from error
