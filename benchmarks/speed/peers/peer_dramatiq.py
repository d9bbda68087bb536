"""Dramatiq with its Redis broker and result backend."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from harness import main
from peer import CONFIG, HERE, URL, NotSupported, Peer, clock, slow_body, texts

_EAGER = {"heartbeat_timeout": 2000, "maintenance_chance": 1_000_000}
broker = RedisBroker(url=URL, **(_EAGER if CONFIG == "eager" else {}))
broker.add_middleware(Results(backend=RedisBackend(url=URL, use_namespace_prefix_keys=True)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(i):
    return i


@dramatiq.actor
def slow():
    return slow_body()


class DramatiqPeer(Peer):
    name = "dramatiq"
    versions_of = ("dramatiq", "redis")
    configs = {
        "default": "`dramatiq -p 2`, 8 threads a process as it comes; Results on Redis",
        "one-thread": "`dramatiq -p 2 -t 1`, dramatiq_queue_prefetch=32",
        "eager": "RedisBroker(heartbeat_timeout=2000 ms, maintenance_chance=1000000) (W6 only)",
    }
    workloads = {"default": "W1 drain W2 W3 W4 W5 W6", "one-thread": "W1 drain W4", "eager": "W6"}

    def worker_commands(self, slots):
        threads = ["-t", "1"] if self.config == "one-thread" else []
        return [
            [
                self.tool("dramatiq"),
                *threads,
                "--path",
                str(HERE),
                "-p",
                str(slots),
                "peer_dramatiq",
            ]
        ]

    def single_worker(self, number):
        return [self.tool("dramatiq"), "--path", str(HERE), "-p", "1", "-t", "1", "peer_dramatiq"]

    def spawn(self, command, **environment):
        if self.config == "one-thread":
            environment["dramatiq_queue_prefetch"] = "32"
        return super().spawn(command, **environment)

    def connect(self):
        import peer_dramatiq

        self.actors = peer_dramatiq

    def enqueue(self, count):
        for i in range(count):
            self.actors.noop.send(i)

    def enqueue_sized(self, count, size):
        for one in texts(count, size):
            self.actors.noop.send(one)

    def done_prefix(self):
        return "dramatiq-results:"

    def round_trip(self, number):
        assert self.actors.noop.send(number).get_result(block=True, timeout=60_000) == number

    def fan(self, width):
        raise NotSupported("the callback of a group is handed no results")

    def chain(self, hops):
        began, noop = clock(), self.actors.noop
        steps = [noop.message_with_options(args=(i,), pipe_ignore=True) for i in range(hops)]
        pipeline = dramatiq.pipeline(steps)
        pipeline.run()
        pipeline.get_result(block=True, timeout=110_000)
        return clock() - began

    def submit_slow(self):
        self.actors.slow.send()


if __name__ == "__main__":
    main(DramatiqPeer)
