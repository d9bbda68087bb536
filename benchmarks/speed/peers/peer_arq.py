"""arq."""

from __future__ import annotations

import asyncio

from harness import main
from peer import CONFIG, PORT, Peer, slow_body_async, texts

_WORKER = {
    "tuned": {"max_jobs": 100, "poll_delay": 0.005},
    "eager": {"job_timeout": 6, "poll_delay": 0.1},
}


async def noop(ctx, i):
    return i


async def slow(ctx):
    return await slow_body_async()


def as_worker():
    from arq.connections import RedisSettings
    from arq.worker import Worker

    settings = RedisSettings(port=PORT)
    Worker(functions=[noop, slow], redis_settings=settings, **_WORKER.get(CONFIG, {})).run()


class Arq(Peer):
    name = "arq"
    versions_of = ("arq", "redis", "hiredis")
    configs = {
        "default": "2 worker processes, max_jobs 10, poll_delay 0.5 s, job.result(poll_delay=0.5), as they come",
        "tuned": "2 worker processes, max_jobs 100, poll_delay 5 ms; client job.result(poll_delay=0.001)",
        "eager": "job_timeout=6 s, so that the in-progress key lives for 16 s; poll_delay 0.1 s (W6 only)",
    }
    workloads = {"default": "W1 W4 W5 W6", "tuned": "W1 drain W4", "eager": "W6"}

    def __init__(self, config):
        super().__init__(config)
        if config == "default":
            self.w1_jobs, self.w4_trips = 2000, 20

    def worker_commands(self, slots):
        return [self.script_worker()] * slots

    def connect(self):
        from arq.connections import RedisSettings, create_pool

        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.pool = self.loop.run_until_complete(create_pool(RedisSettings(port=PORT)))

    def enqueue(self, count):
        self.loop.run_until_complete(self._enqueue(list(range(count))))

    def enqueue_sized(self, count, size):
        self.loop.run_until_complete(self._enqueue(texts(count, size)))

    async def _enqueue(self, arguments):
        # arq has no pipeline: its concurrent form, 50 calls in flight
        for at in range(0, len(arguments), 50):
            part = arguments[at : at + 50]
            await asyncio.gather(*(self.pool.enqueue_job("noop", one) for one in part))

    def idle(self):
        return self.redis.zcard("arq:queue") == 0

    def round_trip(self, number):
        async def go():
            job = await self.pool.enqueue_job("noop", number)
            poll_s = 0.001 if self.config == "tuned" else 0.5
            return await job.result(timeout=60, poll_delay=poll_s)

        assert self.loop.run_until_complete(go()) == number

    def submit_slow(self):
        self.loop.run_until_complete(self.pool.enqueue_job("slow"))


if __name__ == "__main__":
    main(Arq, as_worker)
