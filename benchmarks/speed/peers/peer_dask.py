"""dask.distributed with a LocalCluster of processes."""

from __future__ import annotations

from harness import main
from machine import descendants
from peer import LIMIT_S, Peer, clock, slow_body


def noop(i, *_before):
    return i


def merge(values):
    return sum(values)


def slow():
    return slow_body()


class Dask(Peer):
    name = "dask"
    uses_redis = False
    can_be_stopped = False
    versions_of = ("distributed", "dask")
    configs = {
        "default": "LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None); "
        "results stay in the workers' memory",
    }
    workloads = {"default": "W1 W2 W3 W4 W6"}

    def start(self, slots):
        """Its client starts everything."""

    def start_pair(self):
        """As `start`."""

    def connect(self):
        import peer_dask
        from dask.distributed import Client, LocalCluster

        self.functions = peer_dask
        self.cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        )
        self.client = Client(self.cluster)

    def warm(self):
        from dask.distributed import wait

        wait(self.client.map(self.functions.noop, range(40), pure=False))

    def enqueue(self, count):
        self.futures = self.client.map(self.functions.noop, range(count), pure=False)

    def done_so_far(self):
        return 0

    def wait_done(self, count, before):
        from dask.distributed import wait

        wait(self.futures, timeout=LIMIT_S)
        now = clock()
        self.futures = []
        return now

    def round_trip(self, number):
        assert self.client.submit(self.functions.noop, number, pure=False).result() == number

    def fan(self, width):
        submit, noop = self.client.submit, self.functions.noop
        began = clock()
        first = submit(noop, 0, pure=False)
        children = self.client.map(noop, range(width), [first] * width, pure=False)
        last = submit(self.functions.merge, children, pure=False)
        assert last.result(timeout=110) == width * (width - 1) // 2
        return clock() - began

    def chain(self, hops):
        submit, noop = self.client.submit, self.functions.noop
        began = clock()
        last = submit(noop, 0, pure=False)
        for i in range(1, hops):
            last = submit(noop, i, last, pure=False)
        last.result(timeout=110)
        return clock() - began

    def victims(self, pid):
        return descendants(pid)

    def submit_slow(self):
        self.running = self.client.submit(self.functions.slow, pure=False)


if __name__ == "__main__":
    main(Dask)
