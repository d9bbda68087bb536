"""Instructions that the server spends on a job and on a beat, as Callgrind counts them.

They are much the same however busy the machine is, but for the server's own timers, and for the
upkeep that falls due between beats. Needs Debian's `valgrind`: `make bench-instructions`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from penstock.common.jobs import Claimed, Settlement
from penstock.common.state.chunks import STATIC, NewJob

from .. import tables
from .cluster import Cluster, cluster
from .curves import BATCH, KEY

#: Jobs made, batches, hops of a chain, advances and beats that a figure is the mean of.
JOBS, BATCHES, HOPS, TIMES, BEATS = 4000, 30, 300, 600, 600


class Counter:
    """Counts the server's instructions while something is done."""

    def __init__(self, on: Cluster, folder: Path) -> None:
        self._pid, self._folder = on.server.process.pid, folder

    def of(self, done: Callable[[], object], times: int) -> float:
        """Thousands of instructions of one of so many."""
        self._tell("--zero")
        done()
        before = set(self._folder.iterdir())
        self._tell("--dump")
        (dump,) = set(self._folder.iterdir()) - before
        found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(), re.MULTILINE)
        assert found
        return int(found[1]) / times / 1000

    def _tell(self, what: str) -> None:
        command = ["callgrind_control", what, str(self._pid)]
        subprocess.run(command, check=True, capture_output=True)


class Player:
    """Plays the node `n`, which has two lanes."""

    def __init__(self, on: Cluster) -> None:
        self._on, self._claims = on, 0
        self.held: list[Claimed] = []
        on.register("n")

    def advance(self, lanes: int, riders: int = 0) -> int:
        """Settles what it holds, claims more; how much it got."""
        self._claims += 1
        code = self._on.code
        self.held = self._on.store.advance(
            "n",
            "n",
            f"n-{self._claims}",
            settlements=[Settlement(one.token, "finished", b"0") for one in self.held],
            lanes=lanes,
            free={"cpus": 2.0, "slots": 2.0},
            ahead={f"{code.root}|{code.digest}{KEY}": riders} if riders else {},
        ).claimed
        return len(self.held)


def counted(on: Cluster, counter: Counter) -> dict[str, float]:
    """Thousands of instructions, by what they are spent on."""
    player = Player(on)
    found = {"a job made, in chunks": counter.of(lambda: on.queue_jobs("e" * 15, JOBS), JOBS)}

    def batches(count: int) -> None:
        for _ in range(count):
            assert player.advance(1, BATCH - 1) == BATCH

    batches(2)
    text = f"a job settled and another claimed, {BATCH} and {BATCH} at a time"
    found[text] = counter.of(lambda: batches(BATCHES), BATCH * BATCHES)
    while player.advance(1, BATCH - 1):
        pass
    _make_chain(on, 2 * HOPS)

    def hops(count: int) -> None:
        for _ in range(count):
            assert player.advance(2) == 1

    hops(2)
    text = "one hop of a chain, settled and claimed alone"
    found[text] = counter.of(lambda: hops(HOPS), HOPS)
    while player.advance(2):
        pass

    def idle() -> None:
        for _ in range(TIMES):
            assert player.advance(2) == 0

    found["an advance with nothing to do"] = counter.of(idle, TIMES)

    def beats() -> None:
        for _ in range(BEATS):
            on.store.beat("n", "n", answered=0)

    beats()
    found["a beat of a node that does nothing"] = counter.of(beats, BEATS)
    return found


def _make_chain(on: Cluster, length: int) -> None:
    execution = "c" * 15
    fields = {"run": "work:noop", "data": "[]", "origin": "any.p5"}
    jobs = []
    for n in range(length):
        own = {"dependents": f"j{n + 1}"} if n + 1 < length else {}
        jobs.append(NewJob(f"j{n}", (f"j{n - 1}",) if n else (), {**fields, **own}))
    about = {"root": on.code.root, "digest": on.code.digest, "policy": "continue"}
    on.store.submit(execution, execution, "{}", about)
    for at in range(0, length, 100):
        chunk, last = jobs[at : at + 100], at + 100 >= length
        assert on.store.extend(execution, STATIC, at // 100, last, chunk) == "OK"


def main() -> int:
    if not shutil.which("valgrind"):
        sys.exit("This needs valgrind: apt-get install valgrind")
    with tempfile.TemporaryDirectory(prefix="calls-") as folder:
        calls = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/calls.out")
        with cluster(calls) as on:
            found = counted(on, Counter(on, Path(folder)))
    print("\n".join(tables.head(["thousands of instructions of the server", ""])))
    for text, count in found.items():
        print(tables.row([text, f"{count:,.0f}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
