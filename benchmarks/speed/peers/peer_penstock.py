"""Penstock, with the settings that it has by itself."""

from __future__ import annotations

import os
import sys
import time

from harness import main
from machine import descendants
from peer import HERE, LIMIT_S, URL, Peer, clock, texts

_NOOP = {"run": "work:noop"}


def _jobs(arguments):
    return {
        "jobs": [{"id": f"j{n}", **_NOOP, "config": {"i": one}} for n, one in enumerate(arguments)]
    }


def _fan(values, *more, **fields):
    template = {**_NOOP, "config": {"i": "${i}"}}
    axis = [{"name": "i", "values": list(values)}]
    fan = {"id": "fan", "type": "fan-out", "template": template, "parameters": axis, **fields}
    return {"jobs": [*more, fan]}


class Penstock(Peer):
    name = "penstock"
    versions_of = ("penstock", "redis", "rq")
    configs = {
        "fan-out": "`penstock orchestrator start`, `penstock worker start --concurrency 2`, all else as it comes; "
        "W1 is a fan-out of 10,000; AOF everysec, deploy/redis.conf",
        "jobs": "the same; W1 is a workflow of 10,000 jobs",
        "stock-redis": "the same as jobs, on a server with Redis' own configuration (W5 only)",
    }
    workloads = {"fan-out": "W1 W2 W3 W4 W6", "jobs": "W1 drain W5", "stock-redis": "W5"}

    def worker_commands(self, slots):
        return [self._module("orchestrator.main"), self._node("bench", slots)]

    def _module(self, name, *options):
        return [sys.executable, "-P", "-m", f"penstock.{name}", *options]

    def _node(self, name, slots):
        options = ["--name", name, "--concurrency", str(slots), "--cpus", str(slots)]
        return self._module("worker.supervisor", *options)

    def spawn(self, command, **environment):
        return super().spawn(command, PENSTOCK_REDIS_URL=URL, **environment)

    def runners(self):
        return descendants(self.processes[1].pid)  # not the orchestrator

    def start_pair(self):
        self.spawn(self._module("orchestrator.main"))
        self.spawn(self._node("one", 1))
        self.spawn(self._node("two", 1))
        deadline = clock() + 30
        while self.redis.zcard("penstock:nodes") < 2:
            if clock() > deadline:
                raise TimeoutError("the nodes do not register")
            time.sleep(0.05)

    def connect(self):
        from penstock import Cluster

        os.chdir(HERE)  # where the functions are
        self.cluster = Cluster(URL)

    def enqueue(self, count):
        shape = _fan if self.config == "fan-out" else _jobs
        self.sent = self.cluster.submit(shape(range(count)))

    def enqueue_sized(self, count, size):
        from penstock.orchestrator.engine.work import Engine

        sent = self.cluster.submit(_jobs(texts(count, size)))
        # There is no orchestrator: what one would do with it.
        Engine(self.cluster.service.store, 1000, "bench").perform(f"compile {sent.id}")

    def await_queued(self, count):
        deadline = clock() + LIMIT_S
        while self.redis.llen("rq:queue:any.p5") < count:
            if clock() > deadline:
                raise TimeoutError("they were not queued")
            time.sleep(0.01)

    def done_so_far(self):
        return 0

    def idle(self):
        status = self.redis.hget(f"penstock:exec:{self.sent.id}", "status")
        if status == b"failed":
            raise RuntimeError("the execution failed")
        return status == b"succeeded"

    def _result(self, workflow):
        return self.cluster.submit(workflow).result(timeout=110)

    def round_trip(self, number):
        assert self._result(_jobs([number])) == number

    def fan(self, width):
        first = {"id": "split", **_NOOP, "config": {"i": 0}}
        workflow = _fan(range(width), first, depends_on=["split"])
        custom = {"strategy": "custom", "custom_aggregator": "work:merge"}
        last = {"id": "merge", "type": "fan-in", "fan_out_job_id": "fan", "aggregation": custom}
        workflow["jobs"].append(last)
        began = clock()
        found = self._result(workflow)
        assert found["aggregated_result"] == width * (width - 1) // 2, found
        return clock() - began

    def chain(self, hops):
        jobs = [{"id": "j0", **_NOOP, "config": {"i": 0}}]
        for n in range(1, hops):
            jobs.append({"id": f"j{n}", **_NOOP, "config": {"i": n}, "depends_on": [f"j{n - 1}"]})
        began = clock()
        self._result({"jobs": jobs})
        return clock() - began

    def submit_slow(self):
        self.cluster.submit({"jobs": [{"id": "slow", "run": "work:slow"}]})


if __name__ == "__main__":
    main(Penstock)
