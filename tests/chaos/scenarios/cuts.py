"""The network of a node: its cable is out, one direction of it is, or it is slow (F09-F13)."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from penstock.common.state import keys

from .. import namespaces
from ..lab import Lab
from ..load import Load
from ..node import Node
from ..proxy import Proxy, scripts
from ..redis_faults import listen_on
from ..scenario import Run, scenario
from ..workflows import batch, diamond
from .kills import until_recovered
from .outages import keep_busy, nothing_moved

#: Silence after which a node counts as gone: the product's default, seconds.
TIMEOUT_S = 3.0


class Cable:
    """What joins a node to Redis. `cut` and `join` are of a namespace's cable, or a relay's."""

    def __init__(self, lab: Lab, name: str, island: Any = None, proxy: Any = None) -> None:
        self.lab = lab
        self.island, self.proxy = island, proxy
        if island is not None:
            listen_on(lab.client, island.host)
            url, prefix = f"redis://{island.host}:{lab.server.port}/0", island.inside()
        else:
            url, prefix = proxy.url, ()
        self.node: Node = lab.node(name, concurrency=4, wait=False, url=url, prefix=prefix)

    def cut(self, way: str = "both") -> None:
        """Nothing passes any more, in one direction at least."""
        if self.island is not None:
            self.island.down()
        else:
            self.proxy.half_open(way)

    def join(self) -> None:
        """Everything passes again."""
        (self.island.up if self.island is not None else self.proxy.normal)()

    def close(self) -> None:
        (self.island or self.proxy).close()


def cabled(lab: Lab, after: ExitStack, count: int, by_proxy: bool = False) -> list[Cable]:
    """So many nodes, each on a cable of its own, which goes with `after`, once the lab is closed;
    and an orchestrator beside the server."""
    lab.orchestrator()
    cables: list[Cable] = []
    for number in range(count):
        if by_proxy:
            relay = Proxy(str(lab.server.socket), seed=number)
            cables.append(Cable(lab, f"n{number}", proxy=relay))
        else:
            cables.append(Cable(lab, f"n{number}", island=namespaces.Island()))
        after.callback(cables[-1].close)
    for one in cables:
        one.node.ready()
    return cables


def no_namespaces(run: Run) -> bool:
    """Notes why there can be none; False when there can."""
    why = namespaces.why_not()
    if why:
        run.skip(why)
    return bool(why)


@scenario("node-cut", row="F10", full=100, short=2, bound_s=4.0)
def node_cut(run: Run) -> None:
    """The cables of half of the nodes are out until their jobs run elsewhere, and in again."""
    if no_namespaces(run):
        return
    with ExitStack() as after, run.lab() as lab:
        cables = cabled(lab, after, 4 if run.short else 8)
        _cut_and_join(run, lab, cables, ["both"])


@scenario("half-open", row="F11", full=30, short=2, bound_s=5.0)
def half_open(run: Run) -> None:
    """One direction passes nothing: the requests, or the replies; then one beat is heard yet."""
    with ExitStack() as after, run.lab() as lab:
        cables = cabled(lab, after, 4, by_proxy=True)
        _cut_and_join(run, lab, cables, ["up", "down"])


def _cut_and_join(run: Run, lab: Lab, cables: list[Cable], ways: list[str]) -> None:
    load = Load(lab, batch(24, s=0.25), batch(1, s=6.0), ahead=3)
    stale = 0
    while run.goes_on():
        keep_busy(run, load)
        chosen = run.random.sample(cables, min(run.left, len(cables) // 2))
        faults = []
        for number, cable in enumerate(chosen):
            faults.append(lab.fault("cut", cable.node.name, cable.node.held()))
            cable.cut(ways[(run.count + number) % len(ways)])
        run.hit(len(chosen))
        until_recovered(lab, load, faults)
        keep_busy(run, load)
        for cable, fault in zip(chosen, faults, strict=True):
            stale += _join(lab, load, cable, fault)
    lab.finish()
    run.note(f"{stale} attempts were stale when their node was back")


def _join(lab: Lab, load: Load, cable: Cable, fault: dict) -> int:
    """Joins a node again, and notes when it was heard of; how many of its attempts ran on."""
    node, at = cable.node, time.time()
    before = lab.client.zscore(keys.nodes(), node.name) or 0.0
    cable.join()
    deadline = time.monotonic() + 60
    while (lab.client.zscore(keys.nodes(), node.name) or 0.0) <= max(before, at * 1000):
        assert time.monotonic() < deadline, f"{node.name} does not come back"
        load.keep_up()
        time.sleep(0.01)
    running = {(one.execution, one.job, one.attempt) for one in lab.running()}
    cut = [hit for hit in fault["jobs"] if _key(hit) in running]
    late = [hit for hit in fault["jobs"] if _key(hit) not in running and _ended(lab, hit)]
    lab.journal.write("continued", target=node.name, jobs=cut, late=late)
    while {_key(hit) for hit in fault["jobs"]} & {_key(hit) for hit in node.held()}:
        assert time.monotonic() < deadline, f"{node.name} keeps what was given away"
        time.sleep(0.01)
    return len(cut) + len(late)


def _key(hit: dict) -> tuple[str, str, int]:
    return hit["execution"], hit["job"], hit["attempt"]


def _ended(lab: Lab, hit: dict) -> bool:
    return _key(hit) in lab.effects.ends


@scenario("node-blink", row="F10", full=30, short=2)
def node_blink(run: Run) -> None:
    """A cable is out for a second: shorter than the time-out, so nothing moves."""
    if no_namespaces(run):
        return
    with ExitStack() as after, run.lab() as lab:
        cables = cabled(lab, after, 3)
        load = Load(lab, batch(12, s=0.2), diamond(4, s=0.2), ahead=2)
        while run.goes_on():
            keep_busy(run, load)
            cable = run.random.choice(cables)
            lab.fault("blink", cable.node.name)
            cable.cut()
            time.sleep(1.0)
            cable.join()
            run.hit()
            _until_heard(lab, load, cable)
        lab.finish()
        nothing_moved(run, lab)


def _until_heard(lab: Lab, load: Load, cable: Cable) -> None:
    at = time.time() * 1000
    deadline = time.monotonic() + 10
    while (lab.client.zscore(keys.nodes(), cable.node.name) or 0.0) <= at:
        assert time.monotonic() < deadline, f"{cable.node.name} does not come back"
        load.keep_up()
        time.sleep(0.01)


@scenario("all-cut", row="F13", full=10, short=1)
def all_cut(run: Run) -> None:
    """Every node is cut off for a minute while the orchestrators live: nothing moves."""
    if no_namespaces(run):
        return
    with ExitStack() as after, run.lab() as lab:
        cables = cabled(lab, after, 3)
        load = Load(lab, batch(12, s=0.3), batch(3, s=20.0 if run.short else 90.0), ahead=2)
        while run.goes_on():
            keep_busy(run, load, 1.0)
            lab.fault("all cut", "all")
            for cable in cables:
                cable.cut()
            time.sleep(10.0 if run.short else 60.0)
            for cable in cables:
                cable.join()
            run.hit()
            for cable in cables:
                _until_heard(lab, load, cable)
        for execution in lab.open_executions():
            lab.cancel(execution)
        lab.finish()
        nothing_moved(run, lab, ("lost",))  # an idle node may be forgotten


@scenario("latency", row="F12", full=600, short=4)
def latency(run: Run) -> None:
    """Replies take 200 ms, give or take 200, and 64 kB/s: an injection is a second of it."""
    with ExitStack() as after, run.lab() as lab:
        cables = cabled(lab, after, 3, by_proxy=True)
        load = Load(lab, batch(12, s=0.2), diamond(4, s=0.2), ahead=2)
        for cable in cables:
            cable.proxy.shape("down", jitter_s=0.4, rate=64_000)
        while run.goes_on():
            keep_busy(run, load, 1.0)
            run.hit()
        for cable in cables:
            cable.join()
        lab.finish()
        nothing_moved(run, lab)


@scenario("repeats", row="F09", full=1000, short=40)
def repeats(run: Run) -> None:
    """Requests of nodes arrive two to ten times more, at once or up to a second later."""
    with ExitStack() as after, run.lab() as lab:
        cables = cabled(lab, after, 3, by_proxy=True)
        load = Load(lab, batch(20, s=0.05), batch(60, s=0.004), diamond(4, s=0.1))
        while run.goes_on():
            cable = run.random.choice(cables)
            copies, delay_s = run.random.choice([1, 1, 9]), run.random.choice([0, 0.1, 1.0])
            rule = cable.proxy.repeat_requests(scripts(), 5, copies=copies, delay_s=delay_s)
            keep_busy(run, load, 0.1)
            run.hit(rule.done)
        lab.finish()
        nothing_moved(run, lab)
