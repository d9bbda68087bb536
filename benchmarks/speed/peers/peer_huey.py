"""huey with Redis."""

from __future__ import annotations

import uuid

from harness import main
from huey import PriorityRedisHuey, RedisHuey
from huey.api import Result, chord
from huey.exceptions import ResultTimeout
from peer import CONFIG, URL, Peer, clock, slow_body, texts

if CONFIG == "priority":
    huey = PriorityRedisHuey("bench", url=URL)
else:
    huey = RedisHuey("bench", url=URL, notify_result=CONFIG == "tuned")


@huey.task()
def noop(i):
    return i


@huey.task()
def hop(i, before=None):
    return i


@huey.task()
def merge(values):
    return sum(values)


@huey.task()
def split(n, merge_id):
    last = merge.s()
    last.id = merge_id
    huey.enqueue(chord([noop.s(i) for i in range(n)], last))
    return n


@huey.task()
def slow():
    return slow_body()


def _wait(result, limit_s=110):
    """redis-py 8's socket_timeout ends huey's BLPOP after 5 s with ResultTimeout."""
    deadline = clock() + limit_s
    while True:
        try:
            return result.get(blocking=True, timeout=limit_s)
        except ResultTimeout:
            if clock() > deadline:
                raise


class HueyPeer(Peer):
    name = "huey"
    versions_of = ("huey", "redis")
    configs = {
        "default": "`huey_consumer -w 2 -k process -q`, RedisHuey; client result.get(blocking=True) (polls, backing off from 0.1 to 1 s)",
        "tuned": "as default with RedisHuey(notify_result=True): the client blocks on BLPOP",
        "priority": "as default with PriorityRedisHuey (sorted set, BZPOPMIN)",
    }
    workloads = {
        "default": "W1 drain W2 W3 W4 W5 W6",
        "tuned": "W1 drain W2 W3 W4",
        "priority": "W1 drain W5",
    }

    def __init__(self, config):
        super().__init__(config)
        if config == "default":
            self.w4_trips = 100

    def worker_commands(self, slots):
        consumer = self.tool("huey_consumer")
        return [[consumer, "-w", str(slots), "-k", "process", "-q", "peer_huey.huey"]]

    def connect(self):
        import peer_huey

        self.tasks = peer_huey

    def enqueue(self, count):
        for i in range(count):
            self.tasks.noop(i)

    def enqueue_sized(self, count, size):
        for one in texts(count, size):
            self.tasks.noop(one)

    def done_count(self):
        return self.redis.hlen("huey.results.bench")

    def round_trip(self, number):
        assert self.tasks.noop(number).get(blocking=True, timeout=60) == number

    def fan(self, width):
        merge_id, began = str(uuid.uuid4()), clock()
        self.tasks.split(width, merge_id)
        last = self.tasks.merge.s()
        last.id = merge_id
        assert _wait(Result(self.tasks.huey, last)) == width * (width - 1) // 2
        return clock() - began

    def chain(self, hops):
        began = clock()
        first = tail = self.tasks.hop.s(0)
        for i in range(1, hops):  # `then` walks the chain anew each time; this is the same graph
            tail.on_complete = self.tasks.hop.s(i)
            tail = tail.on_complete
        _wait(list(self.tasks.huey.enqueue(first))[-1])
        return clock() - began

    def submit_slow(self):
        self.tasks.slow()


if __name__ == "__main__":
    main(HueyPeer)
