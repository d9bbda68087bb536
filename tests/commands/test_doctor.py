"""`penstock doctor` on servers that are set up well and badly."""  # W6

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from penstock.common.errors import RedisUnavailable, UnsafeRedis
from penstock.common.settings import Settings
from penstock.common.state import keys
from penstock.common.state.connection import check, connect
from penstock.common.state.store import Store
from penstock.common.tied import tied
from penstock.orchestrator import checks
from penstock.orchestrator.audit import audit
from penstock.orchestrator.service import Service
from support.processes import Machines, as_yaml, until
from support.scripted import Cluster, new_job

Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a redis-server on a free port of loopback with these options; returns its URL."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("there is no redis-server")
    with ExitStack() as stack:

        def start(*options: str, login: str = "") -> str:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            folder = tmp_path / str(port)
            folder.mkdir()
            command = [binary, "--port", str(port), "--dir", str(folder), "--save", "", *options]
            with open(folder / "log", "wb") as log:
                process = subprocess.Popen(tied(command), stdout=log, stderr=log)
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            url = f"redis://{login}127.0.0.1:{port}/0"

            def answers() -> bool:
                try:
                    return bool(redis.Redis.from_url(url).ping())
                except redis.exceptions.ConnectionError:
                    return False

            until(answers, what="redis-server answers")
            return url

        yield start


GOOD = ("--appendonly", "yes", "--maxmemory-policy", "noeviction")


def diagnose(url: str) -> dict[str, dict[str, Any]]:
    """The checks by name."""
    with connect(url) as client:
        return {one["check"]: one for one in Service(Store(client), Settings()).doctor()}


def wrong(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, one in found.items() if not one["ok"] and not one["warning"]}


def test_a_good_server_has_warnings_alone(start: Start) -> None:
    found = diagnose(start(*GOOD))
    assert wrong(found) == set()
    assert {name for name, one in found.items() if not one["ok"]} <= {
        "nodes", "orchestrators", "aof_delayed_fsync",
    }  # fmt: skip
    assert "only this machine" in found["authentication"]["detail"]
    assert all(one["ok"] or one["fix"] for one in found.values())


@pytest.mark.parametrize(
    ("options", "broken"),
    [
        (("--appendonly", "no"), {"aof"}),
        ((*GOOD, "--appendfsync", "no"), {"appendfsync"}),
        ((*GOOD[:2], "--maxmemory-policy", "allkeys-lru"), {"maxmemory-policy"}),
        ((*GOOD, "--maxmemory", "2mb"), set()),
        ((*GOOD, "--bind", "0.0.0.0", "--protected-mode", "no"), {"authentication"}),
        ((*GOOD, "--bind", "0.0.0.0"), set()),
        ((*GOOD, "--bind", "127.0.0.1 -::1", "--protected-mode", "no"), set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_would_break_the_promise_is_wrong(
    start: Start, options: tuple[str, ...], broken: set[str]
) -> None:
    assert wrong(diagnose(start(*options))) == broken


def test_a_server_with_a_password_may_be_open(start: Start) -> None:
    options = (*GOOD, "--bind", "0.0.0.0", "--protected-mode", "no", "--requirepass", "s")
    found = diagnose(start(*options, login=":s@"))
    assert wrong(found) == set()
    assert "password" in found["authentication"]["detail"]


def test_a_server_without_functions_is_refused(start: Start) -> None:
    """As Redis 6 is: there the command has no name."""
    url = start(*GOOD, "--rename-command", "FCALL", "")
    with pytest.raises(
        UnsafeRedis, match=r"no functions \(FCALL\).* use Redis 7.0 or later, or Valkey"
    ):
        check(connect(url), url)


def test_a_server_that_loads_is_waited_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    url = start(*GOOD)
    client = connect(url)

    def loads(*_: object) -> None:
        raise redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory")

    monkeypatch.setattr(client, "fcall", loads)
    check(client, url)


@pytest.mark.parametrize("login", ["", ":wrong@", "me:s@"])
def test_a_login_that_is_refused_is_not_a_redis_that_is_away(start: Start, login: str) -> None:
    url = start("--requirepass", "s", login=":s@").replace(":s@", login)
    with pytest.raises(RedisUnavailable, match=r"refuses the login: .* redis://:PASSWORD@host"):
        check(connect(url), url)


def test_where_no_redis_answers_the_ways_out_are_told() -> None:
    url = "redis://127.0.0.1:1/0"
    with pytest.raises(RedisUnavailable, match=r"no Redis answers .*--redis-url.*`penstock up`"):
        check(connect(url), url)


def test_memory_that_runs_short_is_told(start: Start) -> None:
    url = start(*GOOD)
    with redis.Redis.from_url(url) as client:
        client.setrange("much", 50_000_000, "x")
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", int(used / 0.88))
        memory = diagnose(url)["memory"]
        assert (memory["ok"], memory["warning"]) == (False, True)
        client.config_set("maxmemory", int(used / 0.99))
        assert "memory" in wrong(diagnose(url))


def test_what_an_acl_forbids_is_a_warning_that_says_so(start: Start) -> None:
    user = "user me on >s ~* &* +@all -config -info"
    url = start(*GOOD, "--bind", "0.0.0.0", "--protected-mode", "no")
    with redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", *user.split()[1:])
        client.execute_command("ACL", "SETUSER", "default", "off")
    found = diagnose(url.replace("redis://", "redis://me:s@"))
    assert wrong(found) == set()
    for name in ("INFO", "CONFIG GET"):
        assert found[name]["warning"], found
        assert "cannot be looked at" in found[name]["detail"]
    assert found["authentication"]["ok"]
    assert found["stuck executions"]["ok"]


def test_clocks_that_differ_are_a_warning(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    url = start(*GOOD)
    assert diagnose(url)["clock"]["ok"]
    with redis.Redis.from_url(url) as client:
        seconds, _ = client.time()
        client.hset(keys.maintenance(), "at", 1000 * (seconds + 60))
    monkeypatch.setattr(checks.time, "time", lambda now=time.time: now() - 5)
    found = diagnose(url)
    assert "ahead of ours" in found["clock"]["detail"]
    assert "went back by" in found["clock jump"]["detail"]
    assert wrong(found) == set()


def test_a_busy_cluster_with_deaths_in_it_has_no_finding(
    machines: Machines, full: bool, figure: Callable[[str], None]
) -> None:
    jobs = [
        {"id": "start", "run": "flow:noop"},
        {"id": "fan", "type": "fan-out", "depends_on": ["start"], "max_parallel_jobs": 20,
         "template": {"run": "flow:nap", "config": {"s": 0.002, "p": "${p}"}},
         "parameters": [{"name": "p", "values": list(range(300))}]},
        {"id": "bad", "run": "flow:fails", "retry": {"max": 2, "backoff_s": 0.05}, "on_failure": "continue"},
        {"id": "all", "type": "fan-in", "fan_out_job_id": "fan", "aggregation": {"strategy": "collect-all"}},
    ]  # fmt: skip
    file = as_yaml(machines.code / "busy.json", {"name": "busy", "jobs": jobs, "parallelism": 30})
    machines.orchestrator()
    machines.orchestrator()
    for name in ("n1", "n2"):
        machines.worker(name, concurrency=2)
    looks = deaths = 0
    store = machines.service.store
    submitted: list[str] = []
    for turn in range(20 if full else 2):
        submitted += [machines.submit(file) for _ in range(2)]
        machines.daemon(("n1", "n2")[turn % 2]).kill()
        deaths += 1
        while {store.execution(id_)["status"] for id_ in submitted} != {"succeeded"}:
            assert list(map(str, audit(store))) == []
            looks += 1
    for id_ in submitted:
        assert len(machines.service.execution(id_)["jobs"]["bad"]["history"]) >= 3
    assert audit(store) == []
    figure(f"{looks} audits of a busy cluster, {deaths} daemons killed, 0 findings")


def test_the_command_finds_and_mends(start: Start, tmp_path: Path) -> None:
    url = start(*GOOD)
    with redis.Redis.from_url(url) as client:
        cluster = Cluster(Store(client), client)
        cluster.submit(new_job("a"), new_job("b"))
        cluster.node().claim(1)
        client.delete(keys.queue("any.p5"))
        client.hset(keys.node_leases("gone"), "x-y", "1 c 1 slots=1")

        def doctor(*options: str) -> tuple[int, dict[str, Any]]:
            command = [
                sys.executable,
                "-P",
                "-m",
                "penstock.orchestrator.cli.main",
                "doctor",
                *options,
            ]
            command += ["--json", "--redis-url", url]
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, cwd=tmp_path
            )
            value: dict[str, Any] = json.loads(done.stdout)
            return done.returncode, value

        code, value = doctor()
        found = {one["check"]: one["findings"] for one in value["checks"]}
        assert (code, value["ok"]) == (1, False)
        assert found["stuck executions"] == [f"job {cluster.id}-b: it is in no queue"]
        assert found["orphaned leases"] == ["node gone: 1 lease of a node that is not registered"]
        code, value = doctor("--repair")
        assert code == 0, value
        assert len(value["repaired"]) == 2
        assert client.llen(keys.queue("any.p5")) == 1
        code, value = doctor("--repair")
        assert (code, value["repaired"]) == (0, [])
