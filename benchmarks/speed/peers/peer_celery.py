"""Celery with Redis as broker and result backend."""

from __future__ import annotations

from celery import Celery
from harness import main
from peer import CONFIG, HERE, URL, Peer, clock, slow_body, texts

app = Celery("peer_celery", broker=URL, backend=URL)
if CONFIG == "tuned":
    app.conf.update(worker_prefetch_multiplier=128, worker_send_task_events=False)
elif CONFIG == "eager":
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_transport_options={
            "visibility_timeout": 6,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        },
    )


@app.task
def noop(i):
    return i


@app.task
def merge(values):
    return sum(values)


@app.task
def slow():
    return slow_body()


class CeleryPeer(Peer):
    name = "celery"
    versions_of = ("celery", "kombu", "redis")
    configs = {
        "default": "`celery worker -c 2` (prefork), all else as it comes: prefetch 4, early acknowledgement",
        "tuned": "`celery worker -c 2 --without-gossip --without-mingle --without-heartbeat -O fair`, prefetch 128",
        "eager": "task_acks_late, task_reject_on_worker_lost, visibility_timeout=6 s, "
        "unacked_restore_interval=1, unacked_restore_throttle=1 (W6 only)",
    }
    workloads = {"default": "W1 drain W2 W3 W4 W5 W6", "tuned": "W1 drain W4", "eager": "W6"}

    def __init__(self, config):
        super().__init__(config)
        self.w2_widths = (1000,)  # its chord takes over a minute for 5,000

    def worker_commands(self, slots):
        command = [self.tool("celery"), "--workdir", str(HERE), "-A", "peer_celery", "worker"]
        command += ["-c", str(slots), "-l", "WARNING"]
        if self.config == "tuned":
            command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "-O", "fair"]
        return [command]

    def single_worker(self, number):
        return [*self.worker_commands(1)[0], "-n", f"w{number}@bench"]

    def connect(self):
        # The tasks as the workers know them: this file is __main__ here, as in Celery's own docs.
        import peer_celery

        self.tasks = peer_celery

    def enqueue(self, count):
        from celery import group

        group(self.tasks.noop.s(i) for i in range(count)).apply_async()

    def enqueue_sized(self, count, size):
        # Without results, for which this client would subscribe to a channel a job.
        for one in texts(count, size):
            self.tasks.noop.apply_async((one,), ignore_result=True)

    def done_prefix(self):
        return "celery-task-meta-"

    def round_trip(self, number):
        assert self.tasks.noop.delay(number).get(timeout=60) == number

    def fan(self, width):
        from celery import group

        noop, began = self.tasks.noop, clock()
        shape = noop.si(0) | group(noop.si(i) for i in range(width)) | self.tasks.merge.s()
        assert shape.apply_async().get(timeout=110) == width * (width - 1) // 2
        return clock() - began

    def chain(self, hops):
        from celery import chain

        began = clock()
        chain(*[self.tasks.noop.si(i) for i in range(hops)]).apply_async().get(timeout=110)
        return clock() - began

    def submit_slow(self):
        self.tasks.slow.delay()


if __name__ == "__main__":
    main(CeleryPeer)
