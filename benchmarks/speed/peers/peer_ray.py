"""Ray, local."""

from __future__ import annotations

import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from harness import main
from machine import descendants
from peer import Peer, clock, slow_body


def noop(i, *_before):
    return i


def merge(*values):
    return sum(values)


def slow():
    return slow_body()


class Ray(Peer):
    name = "ray"
    uses_redis = False
    can_be_stopped = False
    versions_of = ("ray",)
    configs = {
        "default": "ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 MiB): one node, "
        "two workers at a time; results in the object store",
    }
    workloads = {"default": "W1 W2 W3 W4 W6"}

    def start(self, slots):
        """Its client starts everything."""

    def start_pair(self):
        """As `start`."""

    def connect(self):
        import ray

        ray.init(
            num_cpus=2,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            object_store_memory=200 * 2**20,
            logging_level="ERROR",
            log_to_driver=False,
            configure_logging=False,
        )
        self.ray = ray
        self.noop, self.merge, self.slow = (ray.remote(one) for one in (noop, merge, slow))

    def close(self):
        if hasattr(self, "ray"):
            self.ray.shutdown()

    def warm(self):
        self.ray.get([self.noop.remote(i) for i in range(40)])

    def enqueue(self, count):
        self.references = [self.noop.remote(i) for i in range(count)]

    def done_so_far(self):
        return 0

    def wait_done(self, count, before):
        self.ray.get(self.references)
        now = clock()
        self.references = []
        return now

    def round_trip(self, number):
        assert self.ray.get(self.noop.remote(number)) == number

    def fan(self, width):
        began = clock()
        first = self.noop.remote(0)
        children = [self.noop.remote(i, first) for i in range(width)]
        assert self.ray.get(self.merge.remote(*children)) == width * (width - 1) // 2
        return clock() - began

    def chain(self, hops):
        began = clock()
        last = self.noop.remote(0)
        for i in range(1, hops):
            last = self.noop.remote(i, last)
        self.ray.get(last)
        return clock() - began

    def victims(self, pid):
        return descendants(pid)

    def submit_slow(self):
        self.running = self.slow.remote()


if __name__ == "__main__":
    main(Ray)
