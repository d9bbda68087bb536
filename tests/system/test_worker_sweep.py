"""What workers leave that were killed whole, and who ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.worker import cgroups
from penstock.worker.isolation import is_alive, start_of
from penstock.worker.sweep import VARIABLE, Mark, sweep
from support.working import Site, Worker, is_gone, job, until

pytestmark = pytest.mark.system


def family(site: Site, name: str, node: str) -> list[int]:
    """The pids of a job on that node, of its child, and of its daemonised grandchild."""
    mark = Path(site.mark(name))
    site.submit(job(name, "m:family", {"mark": str(mark)}, tags=(node,)))
    until(mark.exists, f"{name} runs")
    return [int(pid) for pid in mark.read_text().split()]


def kill_whole(node: Worker) -> None:
    """Supervisor and daemon in one instant: the supervisor cannot see its daemon die."""
    daemon = node.daemon
    node.supervisor.send_signal(signal.SIGSTOP)
    daemon.kill()
    node.supervisor.kill()
    node.supervisor.wait()


def groups() -> set[str]:
    """The marks of the control groups that there are."""
    found: set[str] = set()
    cgroups.remove_empty(lambda mark: bool(found.add(mark)))
    return found


def test_the_next_worker_sweeps_what_dead_ones_left(site: Site) -> None:  # Q5 Q11
    with (
        site.worker("--capabilities", "one", "--concurrency", "1") as one,
        site.worker("--capabilities", "two", "--concurrency", "1") as two,
    ):
        theirs, others = family(site, "a", "one"), family(site, "b", "two")
        marked = cgroups.mark_of(theirs[-1])
        kill_whole(one)
        until(lambda: is_gone(theirs[0]), "its slot is gone with it")
        assert is_alive(theirs[1]), "nobody has ended its child yet"
        with site.worker("--capabilities", "three", "--concurrency", "1") as three:
            assert is_gone(theirs[1])
            if marked:
                assert is_gone(theirs[2])
                assert marked not in groups()
                assert "event=swept processes=2" in three.log.read_text()
            else:  # no groups on this machine: a process with a clean environment stays
                os.kill(theirs[2], signal.SIGKILL)
            assert all(is_alive(pid) for pid in others)
            assert all(process.is_running() for process in two.processes())


def test_a_worker_that_ends_in_order_leaves_no_group(site: Site) -> None:  # Q10
    with site.worker("--concurrency", "1") as node:
        mark = cgroups.mark_of(node.daemon.pid)
        node.stop()
    assert mark not in groups()


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def sleeper(mark: str, *words: str) -> subprocess.Popen[bytes]:
    """A process that bears a mark; `words` are in its command line."""
    command = [sys.executable, "-S", "-c", "import time; time.sleep(600)", *words]
    return subprocess.Popen(command, env={**os.environ, VARIABLE: mark})


def test_only_marks_of_the_dead_count(sleepers: list[subprocess.Popen[bytes]]) -> None:  # Q5
    own = Mark.own()
    dead = Mark(own.uid, own.pid, own.start + 1, own.space)  # its pid is ours now
    living = [
        sleeper(str(own)),
        sleeper(str(Mark(own.uid + 1, own.pid, 1, own.space))),  # another user's
        sleeper(str(Mark(own.uid, own.pid, 1, (1, 1)))),  # another container's
        sleeper("what is this"),
        sleeper(str(dead), "penstock.worker.supervisor"),  # a worker of its own, started by a job
    ]
    left = sleeper(str(dead))
    sleepers += [*living, left]
    assert sweep() == 1
    assert left.wait(5) == -signal.SIGKILL
    assert all(process.poll() is None for process in living)


def test_a_daemon_may_leave_in_order(sleepers: list[subprocess.Popen[bytes]]) -> None:  # Q5
    """The kernel tells it of its supervisor's death, and it tells Redis."""
    own = Mark.own()
    dead = str(Mark(own.uid, own.pid, own.start + 1, own.space))
    leaving = "import sys, time; time.sleep(0.5); print('left')"
    command = [sys.executable, "-S", "-c", leaving, "penstock.worker.daemon"]
    with subprocess.Popen(command, env={**os.environ, VARIABLE: dead}, stdout=-1) as daemon:
        sleepers += [sleeper(dead)]
        assert sweep() == 1
        assert daemon.stdout is not None
        assert daemon.stdout.read() == b"left\n"


def test_a_mark_is_read_as_it_is_written() -> None:  # Q5
    own = Mark.own()
    assert Mark.parse(str(own)) == own
    assert own.start == start_of(os.getpid())
    assert not own.is_dead
    assert [Mark.parse(text) for text in ("", "1-2", "1-2-3-4-x")] == [None] * 3
