"""What a worker does when its parts, its Redis, or its orders come to an end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from rq.command import send_kill_horse_command, send_shutdown_command, send_stop_job_command
from rq.worker import Worker as RqWorker

from penstock.common.jobs import job_id
from penstock.common.state import keys
from penstock.common.tied import tied
from support.working import Site, Worker, is_gone, job, until

pytestmark = pytest.mark.system


def began(mark: str) -> Path:
    """The file that a job writes when it begins."""
    path = Path(mark)
    until(lambda: path.exists() and path.read_text(), f"{path.name} is written")
    return path


def test_a_killed_slot_is_seen_at_once(site: Site) -> None:  # Q5
    with site.worker("--concurrency", "1") as node:
        mark = site.mark("began")
        run = site.submit(job("a", "m:hold", {"mark": mark, "until": site.mark("end")}))
        pid = int(began(mark).read_text())
        Path(mark).unlink()
        killed_at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        until(lambda: run.job("a").get("attempt") == "2", "it is claimed again")
        assert time.monotonic() - killed_at < 1.0
        began(mark)
        Path(site.mark("end")).touch()
        assert run.result("a") == "held"
        assert node.daemon.is_running()


def test_a_killed_daemon_leaves_nothing_and_is_replaced(site: Site) -> None:  # Q5, Q6
    with site.worker("--concurrency", "2") as node:
        mark = site.mark("family")
        run = site.submit(
            job("a", "m:family", {"mark": mark}), job("b", "m:spin", {"mark": site.mark("spin")})
        )
        pids = [int(pid) for pid in (*began(mark).read_text().split(), site_pid(site, "spin"))]
        Path(mark).unlink()
        first, daemon = node.registered(), node.daemon
        daemon.kill()
        until(lambda: all(is_gone(pid) for pid in pids), "its slots and their families are gone")
        until(lambda: node.registered() not in ("", first), "a new incarnation registers")
        until(lambda: run.job("a").get("attempt") == "2", "its jobs run again")
        assert run.job("a")["losses"] == "1"
        began(mark)


def site_pid(site: Site, name: str) -> str:
    return began(site.mark(name)).read_text()


def test_a_killed_supervisor_takes_all_along_and_leaves(site: Site) -> None:  # Q5
    with site.worker("--concurrency", "1") as node:
        mark = site.mark("family")
        run = site.submit(job("a", "m:family", {"mark": mark}))
        pids = [int(pid) for pid in began(mark).read_text().split()]
        pids.append(node.daemon.pid)
        node.supervisor.kill()
        until(lambda: all(is_gone(pid) for pid in pids), "nothing is left")
        until(lambda: run.status("a") == "queued", "its job is queued again")
        assert node.registered() == ""


def test_stopping_lets_running_jobs_end_and_hands_the_rest_back(site: Site) -> None:  # Q10
    with site.worker("--concurrency", "1", PENSTOCK_DRAIN_S="60") as node:
        mark, end = site.mark("began"), site.mark("end")
        warm = site.submit(*(job(f"n{i}", "m:noop") for i in range(50)))
        until(lambda: warm.of_all("finished") == 50, "the function is known")
        run = site.submit(
            job("a", "m:hold", {"mark": mark, "until": end}),
            *(job(f"n{i}", "m:noop") for i in range(20)),
        )
        began(mark)
        node.supervisor.terminate()
        draining = keys.node(node.name)
        until(lambda: site.client.hget(draining, "state") == b"draining", "it drains")
        Path(end).touch()
        assert node.supervisor.wait(10) == 0
        assert run.result("a") == "held"
        assert {run.status(f"n{i}") for i in range(20)} == {"queued"}
        assert node.registered() == ""
        assert site.client.hget(keys.rq_worker(node.name), "death")


def test_a_drained_node_whose_daemon_dies_takes_no_more(site: Site) -> None:  # Q10
    with site.worker("--concurrency", "1") as node:
        run = site.submit(job("a", "m:hold", {"mark": site.mark("a"), "until": site.mark("end")}))
        began(site.mark("a"))
        assert site.store.drain(node.name) == "OK"
        state = keys.node(node.name)
        until(lambda: site.client.hget(state, "state") == b"draining", "it drains")
        node.daemon.kill()
        assert node.supervisor.wait(10) == 0
        assert run.status("a") == "queued"
        assert node.registered() == ""


def test_a_second_signal_does_not_wait(site: Site) -> None:  # Q10
    with site.worker("--concurrency", "1", PENSTOCK_DRAIN_S="60") as node:
        mark = site.mark("began")
        run = site.submit(job("a", "m:hold", {"mark": mark, "until": site.mark("end")}))
        pid = int(began(mark).read_text())
        node.supervisor.terminate()
        state = keys.node(node.name)
        until(lambda: site.client.hget(state, "state") == b"draining", "it drains")
        told_at = time.monotonic()
        until(lambda: time.monotonic() - told_at > 0.6, "the second one is not a repeat")
        node.supervisor.terminate()
        assert node.supervisor.wait(10) == 0
        assert is_gone(pid)
        assert run.status("a") == "queued"


def test_rq_sees_the_worker_and_its_commands_work(site: Site) -> None:  # Q1
    with site.worker("--concurrency", "2") as node:
        [seen] = RqWorker.all(connection=site.client)
        assert (seen.name, seen.pid) == (node.name, node.daemon.pid)
        mark = site.mark("a")
        run = site.submit(
            job("a", "m:spin", {"mark": mark}, needs="cpus=1"),
            job("b", "m:hold", {"mark": site.mark("b"), "until": site.mark("end")}),
        )
        began(mark)
        began(site.mark("b"))
        until(lambda: site.client.hget(keys.rq_worker(node.name), "state") == b"busy", "it is busy")
        send_stop_job_command(site.client, job_id(run.id, "a"))
        until(lambda: run.status("a") == "stopped", "RQ stops the job")
        Path(site.mark("b")).unlink()
        send_kill_horse_command(site.client, node.name)
        until(lambda: run.job("b").get("crashes") == "1", "RQ kills the process")
        began(site.mark("b"))
        Path(site.mark("end")).touch()
        send_shutdown_command(site.client, node.name)
        assert node.supervisor.wait(15) == 0
        assert run.result("b") == "held"


def test_a_cancel_ends_what_runs_and_what_waits_behind_it(site: Site) -> None:  # W7
    with site.worker("--concurrency", "1") as node:
        warm = site.submit(*(job(f"n{i}", "m:noop") for i in range(50)))
        until(lambda: warm.of_all("finished") == 50, "the function is known")
        mark = site.mark("family")
        other = site.submit(job("other", "m:noop", priority=1, origin="any.p1"))
        run = site.submit(
            job("a", "m:family", {"mark": mark}), *(job(f"n{i}", "m:noop") for i in range(50))
        )
        pids = [int(pid) for pid in began(mark).read_text().split()]
        site.store.control(run.id, "cancel")
        until(lambda: all(is_gone(pid) for pid in pids), "its processes are gone")
        assert other.ended("other")["status"] == "finished"
        leases = keys.node_leases(node.name)
        until(lambda: not site.client.hlen(leases), "nothing is held any more")
        assert {run.status(name) for name in ("a", "n0", "n49")} == {"canceled"}
        assert run.of_all("finished") == 0


def test_a_pause_hands_back_what_has_not_begun(site: Site) -> None:  # W7
    with site.worker("--concurrency", "1") as node:
        warm = site.submit(*(job(f"n{i}", "m:nap", {"s": 0.0005}) for i in range(50)))
        until(lambda: warm.of_all("finished") == 50, "the function is known")
        run = site.submit(*(job(f"n{i}", "m:nap", {"s": 0.05}) for i in range(40)))
        until(lambda: run.of_all("running") > 1, "some were claimed ahead")
        site.store.control(run.id, "pause")
        until(lambda: not site.client.hlen(keys.node_leases(node.name)), "it holds nothing")
        parked = [f"n{i}" for i in range(40) if run.status(f"n{i}") != "finished"]
        assert len(parked) > 30
        assert {run.job(name).get("attempt", "0") for name in parked} == {"0"}
        site.store.control(run.id, "resume")
        until(lambda: run.of_all("finished") == 40, "all run after all")
        assert {run.job(f"n{i}")["attempt"] for i in range(40)} == {"1"}


def freeze(node: Worker) -> list[psutil.Process]:
    """SIGSTOPs the whole node, the supervisor first."""
    processes = node.processes()
    for process in processes:
        process.suspend()
    return processes


def test_a_node_that_comes_back_changes_nothing(site: Site) -> None:  # Q6
    fast = {"PENSTOCK_HEARTBEAT_S": "0.2", "PENSTOCK_NODE_TIMEOUT_S": "2.25"}
    with site.worker("--concurrency", "1", **fast) as one:
        mark, end = site.mark("began"), site.mark("end")
        run = site.submit(job("a", "m:hold", {"mark": mark, "until": end}))
        pid = int(began(mark).read_text())
        frozen = freeze(one)
        first = one.registered()
        with site.worker("--concurrency", "1", **fast) as two:
            until(lambda: run.job("a").get("worker_name") == two.name, "another node has the job")
            until(lambda: Path(mark).read_text() != str(pid), "and runs it")
            Path(end).touch()
            assert run.result("a") == "held"
            settled = run.job("a")
            for process in reversed(frozen):
                process.resume()
            until(lambda: one.registered() == first, "the node joins again")
            assert run.job("a") == settled


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path)
    server.start()
    yield server
    server.stop()


class OwnRedis:
    """A server that a test may end and start again, on one folder."""

    def __init__(self, folder: Path) -> None:
        self.name = "own"
        self.folder = folder / "redis"
        self.folder.mkdir()
        self.path = f"{self.folder}/s"
        self.url = f"unix://{self.path}"
        self.client = redis.Redis.from_url(self.url)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = shutil.which("redis-server")
        assert binary is not None
        options = ["--port", "0", "--unixsocket", self.path, "--dir", str(self.folder)]
        options += ["--appendonly", "yes", "--save", ""]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(tied([binary, *options]), stdout=log, stderr=log)
        until(self._answers, "Redis answers")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(sig)
            self.process.wait(10)
            self.process = None


def test_redis_may_die_and_come_back(own_redis: OwnRedis, tmp_path: Path) -> None:  # Q6, Q10
    site = Site(own_redis, tmp_path)
    with site.worker("--concurrency", "2") as node:
        mark, end = site.mark("began"), site.mark("end")
        run = site.submit(job("a", "m:hold", {"mark": mark, "until": end}))
        pid = began(mark).read_text()
        first, daemon = node.registered(), node.daemon
        until(lambda: own_redis.client.config_set("appendfsync", "always"), "it is written down")
        own_redis.stop(signal.SIGKILL)
        until(lambda: "redis_lost" in node.log.read_text(), "the node misses it")
        Path(end).touch()
        own_redis.start()
        assert run.result("a") == "held"
        assert run.job("a")["attempt"] == "1"
        assert Path(mark).read_text() == pid
        assert (node.registered(), node.daemon) == (first, daemon)
        site.client.function_flush()
        again = site.submit(job("b", "m:noop"))
        again.result("b")


def test_a_node_too_long_without_redis_stops_its_jobs(
    own_redis: OwnRedis, tmp_path: Path
) -> None:  # Q10
    site = Site(own_redis, tmp_path)
    env = {"PENSTOCK_HEARTBEAT_S": "0.2", "PENSTOCK_NODE_TIMEOUT_S": "2.25"}
    with site.worker("--concurrency", "1", PENSTOCK_OFFLINE_LIMIT_S="2.25", **env) as node:
        mark = site.mark("began")
        run = site.submit(job("a", "m:spin", {"mark": mark}))
        pid = int(began(mark).read_text())
        first = node.registered()
        Path(mark).unlink()
        own_redis.stop()
        until(lambda: is_gone(pid), "its job is ended")
        own_redis.start()
        until(lambda: node.registered() not in ("", first), "it registers anew")
        until(lambda: run.job("a").get("attempt") == "2", "the job runs again")


def test_an_idle_node_asks_little(site: Site) -> None:  # Q4
    with site.worker("--concurrency", "4") as node:
        until(lambda: len(node.slots) == 4, "all slots are warm")

        def beats() -> int:
            calls: Any = site.client.info("commandstats")
            return int(calls["cmdstat_fcall"]["calls"])

        def asked() -> int:
            counts: Any = site.client.info("commandstats")
            ours = ("cmdstat_hget", "cmdstat_info", "cmdstat_config|get")
            return sum(int(v["calls"]) for k, v in counts.items() if k not in ours)

        start, before = beats(), asked()
        until(lambda: beats() >= start + 4, "four beats")
        assert (asked() - before) / 4 < 20


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--redis-url", "redis://:secret@127.0.0.1:1/0"), 6, "no Redis answers at redis://:***@"),
        (("--redis-url", "http://x"), 2, "redis://"),
        (("--concurrency", "none"), 2, "--concurrency 'none'"),
        (("--name", "a b"), 2, "--name 'a b'"),
        (("--ram", "much"), 2, "--ram 'much'"),
    ],
)
def test_what_cannot_begin_says_why(
    options: tuple[str, ...], code: int, said: str, redis7: Any
) -> None:  # Q4
    command = [sys.executable, "-P", "-m", "penstock.worker.supervisor", *options]
    env = {**os.environ, "PENSTOCK_REDIS_URL": redis7.url}
    ended = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert ended.returncode == code
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_two_workers_of_one_name(site: Site) -> None:  # Q4
    with site.worker("--concurrency", "1") as node:
        command = [sys.executable, "-P", "-m", "penstock.worker.supervisor", "--name", node.name]
        env = {**os.environ, "PENSTOCK_REDIS_URL": site.url}
        ended = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        assert ended.returncode == 2
        assert "runs already" in ended.stderr
        site.submit(job("a", "m:noop")).result("a")


def test_a_death_while_redis_is_away_is_told_when_it_is_back(
    own_redis: OwnRedis, tmp_path: Path
) -> None:  # Q5 Q6
    site = Site(own_redis, tmp_path)
    with site.worker("--concurrency", "1", PENSTOCK_NODE_TIMEOUT_S="600") as node:
        mark = site.mark("began")
        run = site.submit(job("a", "m:spin", {"mark": mark}))
        pid, first = int(began(mark).read_text()), node.registered()
        until(lambda: own_redis.client.config_set("appendfsync", "always"), "it is written down")
        own_redis.stop(signal.SIGKILL)
        node.daemon.kill()
        until(lambda: is_gone(pid), "its job is ended")
        until(lambda: "event=redis_lost line=CommandLine" in node.log.read_text(), "it is missed")
        own_redis.start()
        until(lambda: run.job("a").get("attempt") == "2", "the job runs again")
        assert node.registered() not in ("", first)
        assert run.job("a")["losses"] == "1"


def test_a_redis_that_hangs_does_not_hold_up_a_stop(
    own_redis: OwnRedis, tmp_path: Path
) -> None:  # Q10
    site = Site(own_redis, tmp_path)
    with site.worker("--concurrency", "1") as node:
        assert own_redis.process is not None
        server = psutil.Process(own_redis.process.pid)
        server.suspend()
        try:
            node.daemon.kill()
            until(lambda: "event=daemon_died" in node.log.read_text(), "its death is seen")
            node.supervisor.terminate()
            assert node.supervisor.wait(15) in (0, 1)
        finally:
            server.resume()
        until(lambda: node.registered() == "", "what it said last is heard")


def heard_at(site: Site, node: Worker) -> float:
    """When Redis last heard of a node, epoch seconds."""
    return (site.client.zscore(keys.nodes(), node.name) or 0.0) / 1000


def test_a_node_beats_while_redis_has_no_room_for_what_it_settles(site: Site) -> None:  # Q5, Q6
    with site.worker("--concurrency", "1") as node:
        mark, end = site.mark("began"), site.mark("end")
        run = site.submit(job("a", "m:hold", {"mark": mark, "until": end}))
        began(mark)
        site.client.config_set("maxmemory", 1024)
        try:
            Path(end).touch()
            refused = "event=redis_refuses"
            until(lambda: refused in node.log.read_text(), "its settlement is refused")
            refused_at = site.client.time()[0]
            until(lambda: heard_at(site, node) > refused_at + 2, "it is heard twice after that")
            assert run.status("a") == "started"
        finally:
            site.client.config_set("maxmemory", 0)
        assert run.result("a") == "held"
        assert run.job("a")["attempt"] == "1"


def test_an_idle_node_ends_at_once_though_redis_is_full(site: Site) -> None:  # Q5
    with site.worker("--concurrency", "1", PENSTOCK_DRAIN_S="60") as node:
        until(lambda: node.slots, "its slot is warm")
        site.client.config_set("maxmemory", 1024)
        try:
            node.supervisor.terminate()
            assert node.supervisor.wait(20) == 0
        finally:
            site.client.config_set("maxmemory", 0)
