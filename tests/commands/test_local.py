"""The host of a machine's processes, with stand-ins for orchestrator and worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.common.datafolder import DataFolder
from penstock.common.doorbell import ring
from penstock.common.embedded import EmbeddedServer
from penstock.common.errors import PenstockError
from penstock.orchestrator import host as host_module
from penstock.orchestrator.local import LocalHost, down, is_up, up

pytestmark = pytest.mark.system

URL = "unix:///nowhere"
STAND_IN = [sys.executable, "-c", "import time; time.sleep(120)"]
#: Ends at once, with a word about why.
BROKEN = [sys.executable, "-c", "print('no such thing'); raise SystemExit(3)"]
#: Ends as a worker does that was drained.
DRAINED = [sys.executable, "-c", "print('drained')"]
#: Does not end when it is asked to; says when it has come that far.
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True);"
    "time.sleep(120)",
]
#: A host that lives until its standard input ends.
HOST = """
import sys
from pathlib import Path
from penstock.orchestrator.local import LocalHost
command = [sys.executable, "-c", "import time; time.sleep(120)"]
host = LocalHost(Path(sys.argv[1]), "unix:///nowhere", orchestrator=command, worker=command)
host.start()
print(host.orchestrator_pid, host.worker_pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def make(home: Path) -> Iterator[Callable[..., LocalHost]]:
    """Makes hosts of the folder that are stopped afterwards."""
    made = []

    def make(**options: object) -> LocalHost:
        commands = {"orchestrator": STAND_IN, "worker": STAND_IN} | options
        made.append(LocalHost(home, URL, **commands))
        return made[-1]

    yield make
    for host in made:
        host.stop()


def alive(pid: int | None) -> bool:
    """True for a process that runs; a zombie has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_gone(*pids: int) -> None:
    """They have ended, or are about to: a process lets go of its locks some moments before it is gone."""
    eventually(lambda: not any(alive(pid) for pid in pids), within_s=0.5)


def eventually(fact: Callable[[], bool], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def test_the_processes_live_as_long_as_the_host(make: Callable[..., LocalHost]) -> None:
    host = make()
    assert host.start()
    assert host.owner
    pids = host.orchestrator_pid, host.worker_pid
    assert all(alive(pid) for pid in pids)
    host.stop()
    assert not any(alive(pid) for pid in pids)
    assert not host.owner
    assert host.worker_pid is None
    host.stop()


def test_stop_before_start(make: Callable[..., LocalHost]) -> None:
    host = make()
    assert host.acquire()
    host.stop()
    assert make().acquire()


def test_they_know_where_they_belong(make: Callable[..., LocalHost], home: Path) -> None:
    code = "import os, time; print(os.environ['PENSTOCK_REDIS_URL'], flush=True); time.sleep(120)"
    make(worker=[sys.executable, "-c", code]).start()
    log = home / "log" / "worker.log"
    eventually(lambda: log.exists() and log.read_text() == f"{URL}\n")


def test_the_real_commands() -> None:
    orchestrator, worker = host_module.orchestrator_command(), host_module.worker_command(3, "me")
    assert orchestrator[1:] == ["-P", "-m", "penstock.orchestrator.main"]
    assert worker[1:4] == ["-P", "-m", "penstock.worker.supervisor"]
    assert worker[4:] == ["--concurrency", "3", "--name", "me"]
    assert host_module.worker_command()[4:] == [
        "--concurrency",
        str(len(os.sched_getaffinity(0))),
    ]


@pytest.mark.parametrize("part", ["orchestrator_pid", "worker_pid"])
def test_a_killed_process_is_back_within_a_second(  # Q8
    make: Callable[..., LocalHost], part: str
) -> None:
    host = make()
    host.start()
    before = getattr(host, part)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: getattr(host, part) not in {None, before}, within_s=1.0)
    assert host.failure is None


def test_a_process_that_cannot_run_is_given_up(
    make: Callable[..., LocalHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "PAUSE_S", 0.001)
    told: list[str] = []
    host = make(worker=BROKEN, on_failure=told.append)
    host.start()
    eventually(lambda: bool(told))
    assert told == [host.failure]
    assert "the worker ended 10 times in a row" in told[0]
    assert "status 3" in told[0]
    assert "no such thing" in told[0]
    assert alive(host.orchestrator_pid)


def test_a_deaf_process_is_killed(
    make: Callable[..., LocalHost], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "STOP_S", 0.2)
    host = make(worker=DEAF)
    host.start()
    pid = host.worker_pid
    log = home / "log" / "worker.log"
    eventually(lambda: log.exists() and log.read_text() == "deaf\n")
    host.stop()
    assert not alive(pid)


def test_a_second_host_stands_by_and_takes_over(make: Callable[..., LocalHost]) -> None:
    first, second = make(), make()
    assert first.start()
    assert not second.start()
    assert not second.start()
    assert second.worker_pid is None
    first.stop()
    eventually(lambda: alive(second.worker_pid) and alive(second.orchestrator_pid))
    assert second.owner


def test_a_drained_worker_stays_away_until_a_host_is_started(
    make: Callable[..., LocalHost], home: Path
) -> None:
    first, log = make(worker=DRAINED), home / "log" / "worker.log"
    first.start()
    assert first.starts_worker
    eventually(lambda: first.worker_pid is None and not first.starts_worker)
    second = make()
    assert not second.starts_worker
    assert log.read_text() == "drained\n"
    second.start()
    eventually(lambda: log.read_text() == 2 * "drained\n" and not first.starts_worker)
    first.stop()
    eventually(lambda: alive(second.worker_pid))
    assert second.starts_worker


def test_a_worker_that_is_drained_again_and_again_is_no_failure(
    make: Callable[..., LocalHost], home: Path
) -> None:
    first, log = make(worker=DRAINED), home / "log" / "worker.log"
    first.start()
    for times in range(1, 13):
        eventually(lambda: log.exists() and log.read_text() == times * "drained\n")  # noqa: B023
        eventually(lambda: not first.starts_worker)
        ring(DataFolder(home).wanted)
    assert first.failure is None


def test_a_host_that_stood_by_and_left_takes_nothing(make: Callable[..., LocalHost]) -> None:
    first, second, third = make(), make(), make()
    first.start()
    second.start()
    second.stop()
    third.start()
    first.stop()
    eventually(lambda: third.owner)
    assert second.worker_pid is None


def test_a_killed_host_leaves_nothing_and_is_succeeded(
    make: Callable[..., LocalHost], home: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOST, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        heir = make()
        assert not heir.start()
        process.kill()
    eventually(lambda: not any(alive(pid) for pid in pids))
    eventually(lambda: heir.owner and alive(heir.worker_pid))


def test_up_and_down(home: Path) -> None:
    assert not is_up(home)
    assert not down(home)
    assert not home.exists()
    try:
        found = up(home, orchestrator=STAND_IN, worker=STAND_IN)
        assert not found.already
        assert is_up(home)
        assert found.redis_cli == f"redis-cli -s {home}/valkey.sock"
        again = up(home, orchestrator=STAND_IN, worker=STAND_IN)
        assert again.already
        assert (again.pid, again.url) == (found.pid, found.url)
        with EmbeddedServer(home) as server:
            assert server.url == found.url
        assert EmbeddedServer.running(home)
        standing_by = LocalHost(home, found.url, orchestrator=STAND_IN, worker=STAND_IN)
        assert not standing_by.start()
        standing_by.stop()
        assert EmbeddedServer.running(home)
        info = DataFolder(home).read_server()
        assert info is not None
    finally:
        assert down(home)
    assert not is_up(home)
    all_gone(found.pid, info.pid, info.keeper_pid)
    assert not down(home)


def test_up_on_a_redis_of_ones_own(home: Path) -> None:
    secret = "redis://:secret@127.0.0.1:1/0"
    try:
        found = up(home, url=secret, orchestrator=STAND_IN, worker=STAND_IN)
        assert found.url == secret
        assert "secret" not in Path(f"/proc/{found.pid}/cmdline").read_text()
        assert not EmbeddedServer.running(home)
    finally:
        assert down(home, secret)


def test_down_ends_a_deaf_host(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.orchestrator.local.GONE_S", 0.2)
    found = up(home, orchestrator=STAND_IN, worker=STAND_IN)
    os.kill(found.pid, signal.SIGSTOP)
    info = DataFolder(home).read_server()
    assert info is not None
    assert down(home)
    all_gone(found.pid, info.pid, info.keeper_pid)


def test_up_says_why_it_failed(home: Path) -> None:
    with EmbeddedServer(home):
        pass
    next((home / "data").rglob("*.manifest")).write_text("this is no manifest\n")
    with pytest.raises(PenstockError, match=r"(?s)host did not come up.*host\.log"):
        up(home, orchestrator=STAND_IN, worker=STAND_IN)
    assert not is_up(home)
