"""taskiq with taskiq-redis and taskiq-pipelines."""

from __future__ import annotations

import asyncio

from harness import main
from peer import CONFIG, HERE, URL, Peer, clock, slow_body_async, texts
from taskiq_pipelines import Pipeline, PipelineMiddleware
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

_EAGER = {"idle_timeout": 6000, "xread_block": 500, "unacknowledged_lock_timeout": 2}
if CONFIG.startswith("stream"):
    broker = RedisStreamBroker(URL, **(_EAGER if CONFIG == "stream-eager" else {}))
else:
    # With redis-py 8's socket_timeout of 5 s its BRPOP would end every idle worker.
    broker = ListQueueBroker(URL, socket_timeout=None)
results = RedisAsyncResultBackend(URL, prefix_str="tqres")
broker = broker.with_result_backend(results).with_middlewares(PipelineMiddleware())


@broker.task(task_name="noop")
async def noop(i):
    return i


@broker.task(task_name="split")
async def split(n: int):
    return list(range(n))


@broker.task(task_name="merge")
async def merge(values):
    return sum(values)


@broker.task(task_name="slow")
async def slow():
    return await slow_body_async()


class Taskiq(Peer):
    name = "taskiq"
    versions_of = ("taskiq", "taskiq-redis", "taskiq-pipelines", "redis")
    configs = {
        "list": "`taskiq worker -w 2`, ListQueueBroker(socket_timeout=None); client wait_result(check_interval=0.2) as it comes",
        "tuned": "as list, `--max-async-tasks 200 --max-prefetch 100`; client check_interval=0.001",
        "stream": "`taskiq worker -w 2`, RedisStreamBroker (acknowledged when saved); client check_interval=0.001",
        "stream-eager": "RedisStreamBroker(idle_timeout=6000 ms, xread_block=500 ms, "
        "unacknowledged_lock_timeout=2 s), a no-op sent every second so that it claims (W6 only)",
    }
    workloads = {
        "list": "W1 drain W2 W3 W4 W5 W6",
        "tuned": "W1 drain W2 W3 W4",
        "stream": "W1 drain W2 W3 W4 W5 W6",
        "stream-eager": "W6",
    }

    def __init__(self, config):
        super().__init__(config)
        if config == "list":
            self.w4_trips = 30

    def worker_commands(self, slots):
        command = [self.tool("taskiq"), "worker", "-w", str(slots), "--log-level", "WARNING"]
        command += ["--app-dir", str(HERE)]
        if self.config == "tuned":
            command += ["--max-async-tasks", "200", "--max-prefetch", "100"]
        return [[*command, "peer_taskiq:broker"]]

    def connect(self):
        import peer_taskiq

        self.tasks = peer_taskiq
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.tasks.broker.startup())

    def enqueue(self, count):
        self.loop.run_until_complete(self._enqueue(list(range(count))))

    def enqueue_sized(self, count, size):
        self.loop.run_until_complete(self._enqueue(texts(count, size)))

    async def _enqueue(self, arguments):
        # no pipeline: its concurrent form, 50 kiq() in flight
        for at in range(0, len(arguments), 50):
            await asyncio.gather(*(self.tasks.noop.kiq(one) for one in arguments[at : at + 50]))

    def done_prefix(self):
        return "tqres:"

    @property
    def _interval_s(self):
        return 0.2 if self.config == "list" else 0.001

    def round_trip(self, number):
        async def go():
            task = await self.tasks.noop.kiq(number)
            return await task.wait_result(check_interval=self._interval_s, timeout=60)

        assert self.loop.run_until_complete(go()).return_value == number

    def _run(self, pipeline, argument):
        async def go():
            task = await pipeline.kiq(argument)
            return await task.wait_result(check_interval=self._interval_s, timeout=110)

        result = self.loop.run_until_complete(go())
        if result.is_err:
            raise RuntimeError(str(result.error))
        return result.return_value

    def fan(self, width):
        began, tasks = clock(), self.tasks
        pipeline = Pipeline(tasks.broker, tasks.split)
        pipeline = pipeline.map(tasks.noop, check_interval=self._interval_s).call_next(tasks.merge)
        assert self._run(pipeline, width) == width * (width - 1) // 2
        return clock() - began

    def chain(self, hops):
        began, tasks = clock(), self.tasks
        pipeline = Pipeline(tasks.broker, tasks.noop)
        for _ in range(hops - 1):
            pipeline = pipeline.call_next(tasks.noop)
        self._run(pipeline, 1)
        return clock() - began

    def submit_slow(self):
        self.loop.run_until_complete(self.tasks.slow.kiq())

    def trickle(self):
        if self.config == "stream-eager":
            self.loop.run_until_complete(self.tasks.noop.kiq(1))


if __name__ == "__main__":
    main(Taskiq)
