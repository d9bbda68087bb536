"""Many processes and threads at one lock, some of them killed while they hold it."""  # Q7

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import penstock
from penstock.common.errors import InputError, LockHeld
from penstock.common.tied import tied
from support.processes import until

THREADS = 4
TTL_S = 0.5

#: Each thread takes the lock again and again, and tells a guarded store (a list in the same
#: Redis) when it has come in and before it goes out, with its fence.
CONTENDER = """
import sys, threading, time
import penstock

url, seconds, threads, ttl_s = sys.argv[1], *map(float, sys.argv[2:])
until = time.monotonic() + seconds

def contend():
    cluster = penstock.Cluster(url)
    tell = cluster.service.store.client.rpush
    while time.monotonic() < until:
        with cluster.lock("contended", ttl_s=ttl_s, wait_s=60) as held:
            tell("history", f"in {held.fence}")
            time.sleep(0.002)
            held.check()
            tell("history", f"out {held.fence}")

workers = [threading.Thread(target=contend) for _ in range(int(threads))]
for worker in workers: worker.start()
for worker in workers: worker.join()
"""


def test_one_at_a_time_by_order_of_the_fence_though_holders_are_killed(machines, full, figure):
    seconds, kills = (120, 60) if full else (8, 3)
    client = machines.client

    def contender(seconds):
        words = [
            sys.executable,
            "-c",
            CONTENDER,
            machines.url,
            str(seconds),
            str(THREADS),
            str(TTL_S),
        ]
        return subprocess.Popen(tied(words))

    def holder():
        return (client.hget("penstock:lock:contended", "owner") or b"").decode().split("-")

    ends = time.monotonic() + seconds
    processes = [contender(seconds) for _ in range(4)]
    handovers = []
    try:
        until(lambda: client.llen("history") > 10)
        for _ in range(kills):
            pid = until(lambda: [int(word) for word in holder()[-2:-1]])[0]
            victim = next(process for process in processes if process.pid == pid)
            victim.kill()
            victim.wait()
            died = time.monotonic()
            fence, count = client.get("penstock:fence:contended"), client.llen("history")
            until(lambda fence=fence: client.get("penstock:fence:contended") != fence)
            handovers.append(time.monotonic() - died)
            processes.remove(victim)
            processes.append(contender(max(1.0, ends - time.monotonic())))
            until(lambda count=count: client.llen("history") > count + 2)
        assert [process.wait(120) for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    history = [row.decode().split() for row in client.lrange("history", 0, -1)]
    left_without_out = check_order(history)
    assert left_without_out <= kills
    figure(
        f"{sum(1 for verb, _ in history if verb == 'in')} acquisitions by {4 * THREADS} threads in 4 "
        f"processes, {kills} kills of a holder's process, 0 overlaps; handed over after a kill in at "
        f"most {max(handovers):.2f} s (TTL {TTL_S} s)"
    )


def check_order(history):
    """Fences only grow, and nobody is in while another is, but for one who never came out."""
    inside, last, never_out = None, 0, 0
    for verb, text in history:
        fence = int(text)
        if verb == "in":
            assert fence > last
            never_out += inside is not None
            inside, last = fence, fence
        else:
            assert fence == inside
            inside = None
    return never_out


def test_the_order_is_checked_for_real():
    assert check_order([["in", "1"], ["out", "1"], ["in", "2"], ["in", "3"], ["out", "3"]]) == 1
    with pytest.raises(AssertionError):
        check_order([["in", "1"], ["in", "2"], ["out", "1"]])
    with pytest.raises(AssertionError):
        check_order([["in", "2"], ["out", "2"], ["in", "2"]])


def test_a_lock_from_python(machines):
    cluster = penstock.Cluster(machines.url)
    with cluster.lock("gpu-quota", wait_s=10) as held:
        assert not held.lost
        with pytest.raises(LockHeld, match=held.owner), cluster.lock("gpu-quota", wait_s=0):
            pass
    with cluster.lock("gpu-quota", wait_s=0) as again:
        assert again.fence > held.fence
    with pytest.raises(InputError, match="orchestrators' own"):
        cluster.lock("leader")
