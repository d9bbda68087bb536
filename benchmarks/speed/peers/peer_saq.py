"""SAQ."""

from __future__ import annotations

import asyncio

from harness import main
from peer import CONFIG, URL, Peer, slow_body_async, texts

_WORKER = {
    "tuned": {"concurrency": 50},
    "eager": {"timers": {"sweep": 1, "abort": 1, "schedule": 1}},
}


async def noop(ctx, *, i):
    return i


async def slow(ctx):
    async def beat():
        await ctx["job"].update()

    return await slow_body_async(beat=beat)


def as_worker():
    from saq import Queue, Worker

    worker = Worker(Queue.from_url(URL), functions=[noop, slow], **_WORKER.get(CONFIG, {}))
    asyncio.run(worker.start())


class Saq(Peer):
    name = "saq"
    versions_of = ("saq", "redis", "hiredis")
    configs = {
        "default": "2 worker processes, concurrency 10; client queue.apply() (polls every 0.5 s), as they come",
        "tuned": "2 worker processes, concurrency 50; client queue.apply(poll_interval=0.001)",
        "eager": "Job(retries=5, heartbeat=1, timeout=60), timers sweep=1 s; the job calls update() every 0.25 s (W6 only)",
    }
    workloads = {"default": "W1 W4 W5 W6", "tuned": "W1 drain W4", "eager": "W6"}

    def __init__(self, config):
        super().__init__(config)
        if config == "default":
            self.w4_trips = 10

    def worker_commands(self, slots):
        return [self.script_worker()] * slots

    def connect(self):
        from saq import Queue

        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.queue = Queue.from_url(URL)
        self.loop.run_until_complete(self.queue.connect())

    def enqueue(self, count):
        self.loop.run_until_complete(self._enqueue(list(range(count))))

    def enqueue_sized(self, count, size):
        self.loop.run_until_complete(self._enqueue(texts(count, size)))

    async def _enqueue(self, arguments):
        # what queue.map() does: gather() of enqueue()
        for at in range(0, len(arguments), 500):
            part = arguments[at : at + 500]
            await asyncio.gather(*(self.queue.enqueue("noop", i=one) for one in part))

    def idle(self):
        return self.redis.zcard("saq:default:incomplete") == 0

    def round_trip(self, number):
        # job.refresh(until_complete=...) reads before it listens, and misses ends in between
        poll = {} if self.config == "default" else {"poll_interval": 0.001}
        apply = self.queue.apply("noop", i=number, **poll)
        assert self.loop.run_until_complete(apply) == number

    def submit_slow(self):
        eager = {"retries": 5, "heartbeat": 1, "timeout": 60} if self.config == "eager" else {}
        self.loop.run_until_complete(self.queue.enqueue("slow", **eager))


if __name__ == "__main__":
    main(Saq, as_worker)
