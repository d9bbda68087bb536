"""The example that `make demo` runs, and what is killed under it."""  # F9 Q5 Q6 Q8

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import redis

from penstock.common.embedded import EmbeddedServer
from support.processes import PENSTOCK, until
from support.transitions import transitions

WORKFLOW = Path(__file__).parents[2] / "examples/digits/workflow.yaml"


@pytest.fixture(scope="module")
def folds(full):
    """The short form cross-validates less; its 18 trainings are the same."""
    return [] if full else ["--set", "folds=3"]


@pytest.fixture(scope="module")
def plain(folds):
    """What the demo gives when nothing is killed, and how long it takes, seconds."""
    with tempfile.TemporaryDirectory(prefix="ps-") as folder:
        began = time.monotonic()
        found = result_of(start(Path(folder) / "home", *folds))
        return found, time.monotonic() - began


def start(home, *options):
    environment = {**os.environ, "PENSTOCK_HOME": str(home)}
    environment.pop("PENSTOCK_REDIS_URL", None)
    return subprocess.Popen(
        [PENSTOCK, "run", str(WORKFLOW), "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def result_of(run):
    with run:
        out, err = run.communicate(timeout=200)
    assert run.returncode == 0, err
    return json.loads(out)


def check(found):
    rows = found["result"]["report"]["rows"][1:]
    assert len(rows) == 18
    assert found["result"]["best"]["aggregated_result"]["accuracy"] >= 0.97
    trained = [name for name in found["jobs"] if name.startswith("train_")]
    assert len(trained) == 18
    return sorted(row.rsplit(maxsplit=1)[0] for row in rows)  # without the seconds


def test_the_demo_gives_18_rows_and_a_good_best(plain, figure):
    found, lasted = plain
    check(found)
    best = found["result"]["best"]["aggregated_result"]["accuracy"]
    figure(f"18 rows, best accuracy {best}, {lasted:.1f} s once installed")


def below(run, module):
    """The processes of a module under the command."""
    found = []
    for process in psutil.Process(run.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if module in process.cmdline():
                found.append(process)
    return found


def daemon_of(run):
    return below(run, "penstock.worker.daemon")


def kill_job(run):
    """Kills the process of a job that is computing right now."""

    def computing():
        for slot in below(run, "penstock.worker.slot"):
            with contextlib.suppress(psutil.Error):
                if slot.cpu_percent(0.05) > 50:
                    slot.kill()
                    return True
        return False

    until(computing)


def kill_daemon(run):
    daemon_of(run)[0].kill()


def kill_orchestrator(run):
    below(run, "penstock.orchestrator.main")[0].kill()


@pytest.mark.parametrize("kill", [kill_job, kill_daemon, kill_orchestrator])
def test_the_demo_survives_a_kill(home, folds, plain, figure, kill):
    run = start(home, *folds)
    socket = f"unix://{home}/valkey.sock"
    client = redis.Redis.from_url(socket)

    def trained():
        try:
            newest = client.zrevrange("penstock:executions", 0, 0)
            group = client.hget(f"penstock:exec:{newest[0].decode()}:group:train", "settled")
            return int(group or 0) >= 4
        except (redis.RedisError, IndexError):
            return False

    until(trained, 60)
    kill(run)
    found = result_of(run)
    assert check(found) == check(plain[0])
    again = {name: job["attempt"] for name, job in found["jobs"].items() if job["attempt"] > 1}
    assert kill is kill_orchestrator or again
    assert recorded(home, found["id"]) == Counter(dict.fromkeys(found["jobs"], 1))
    figure(f"same 18 results; run again: {len(again)} jobs")


def recorded(home, execution):
    """How often each job of an execution was recorded as finished."""
    with EmbeddedServer(home) as server:
        rows = list(transitions(redis.Redis.from_url(server.url)))
    mine = [row for row in rows if row.get("execution") == execution]
    return Counter(row["job"] for row in mine if row["event"] == "job_finished")


def test_nothing_is_left_behind_by_a_killed_command(home, folds):
    with start(home, *folds) as run:
        until(lambda: daemon_of(run), 60)
        processes = psutil.Process(run.pid).children(recursive=True)
        run.kill()
        until(lambda: not any(alive(one) for one in processes), 30)


def alive(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
