"""RQ 3."""

from __future__ import annotations

import uuid

from harness import main
from peer import HERE, PORT, URL, Peer, clock, texts

_EAGER = ["--worker-ttl", "20", "--job-monitoring-interval", "1", "--maintenance-interval", "1"]


class Rq(Peer):
    name = "rq"
    versions_of = ("rq", "redis")
    configs = {
        "fork": "2 x `rq worker --quiet` (the default Worker forks for every job)",
        "simple": "2 x `rq worker -w rq.SimpleWorker --quiet` (jobs run in the worker's process)",
        "recommended": "as fork, on a server with deploy/redis.conf (W5 only)",
        "eager": f"as fork with `{' '.join(_EAGER)}`, jobs with Retry(max=3) (W6 only)",
    }
    workloads = {
        "fork": "W1 drain W2 W3 W4 W5 W6",
        "simple": "W1 drain W2 W3 W4",
        "recommended": "W5",
        "eager": "W6",
    }

    def __init__(self, config):
        super().__init__(config)
        if config == "fork":  # tens of jobs a second
            self.w1_jobs = 1000
            self.w2_widths = (1000,)
        if config == "simple":
            self.w1_jobs = 5000

    def worker_commands(self, slots):
        command = [self.tool("rq"), "worker", "-u", URL, "--quiet", "-P", str(HERE)]
        if self.config == "simple":
            command += ["-w", "rq.SimpleWorker"]
        if self.config == "eager":
            command += _EAGER
        return [[*command, "default"]] * slots

    def connect(self):
        import redis
        import work_rq
        from rq import Queue

        self.queue = Queue("default", connection=redis.Redis(port=PORT))
        self.functions = work_rq

    def enqueue(self, count):
        self._enqueue((self.functions.noop, (i,)) for i in range(count))

    def enqueue_sized(self, count, size):
        self._enqueue((self.functions.noop, (one,)) for one in texts(count, size))

    def _enqueue(self, jobs):
        self.queue.enqueue_many([self.queue.prepare_data(*one) for one in jobs])

    def done_count(self):
        return self.redis.zcard("rq:finished:default")

    def _result(self, job, timeout_s=240):
        deadline = clock() + timeout_s
        while clock() < deadline:
            result = job.latest_result(timeout=4)  # XREAD BLOCK, within redis-py's socket_timeout
            if result is not None:
                if result.type != result.Type.SUCCESSFUL:
                    raise RuntimeError(result.exc_string)
                return result.return_value
        raise TimeoutError(f"status {job.get_status()}")

    def round_trip(self, number):
        assert self._result(self.queue.enqueue(self.functions.noop, number)) == number

    def fan(self, width):
        run, noop = uuid.uuid4().hex, self.functions.noop
        began = clock()
        split = self.queue.enqueue(noop, 0, job_id=f"{run}-split")
        children = self.queue.enqueue_many(
            [
                self.queue.prepare_data(noop, (i,), job_id=f"{run}-{i}", depends_on=split)
                for i in range(width)
            ]
        )
        # RQ 3.0.0 may return a child twice when `split` finishes meanwhile.
        children = list({child.id: child for child in children}.values())
        last = self.queue.enqueue(self.functions.merge, depends_on=children)
        assert self._result(last, 110) == width * (width - 1) // 2
        return clock() - began

    def chain(self, hops):
        began, job = clock(), None
        for i in range(hops):
            job = self.queue.enqueue(self.functions.noop, i, depends_on=job)
        self._result(job)
        return clock() - began

    def submit_slow(self):
        from rq import Retry

        more = {"retry": Retry(max=3)} if self.config == "eager" else {}
        self.queue.enqueue(self.functions.slow, **more)


if __name__ == "__main__":
    main(Rq)
