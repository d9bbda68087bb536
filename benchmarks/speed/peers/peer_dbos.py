"""DBOS Transact on a Postgres of its own, or on SQLite where no Postgres is installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from harness import main
from machine import descendants, send
from peer import CONFIG, Peer, clock, slow_body

POLL_S = 1.0 if CONFIG == "default" else 0.01


def _workflows(executor):
    from dbos import DBOS

    tuned = {} if POLL_S == 1.0 else {"notification_listener_polling_interval_sec": POLL_S}
    DBOS(
        config={
            "name": "bench",
            "system_database_url": os.environ["BENCH_DATABASE"],
            "application_version": "1",
            "executor_id": executor,
            "log_level": "ERROR",
            "console_log_level": "ERROR",
            **tuned,
        }
    )

    @DBOS.workflow(name="noop")
    def noop(i):
        return i

    @DBOS.workflow(name="slow")
    def slow():
        return slow_body()

    @DBOS.workflow(name="merge")
    def merge(values):
        return sum(values)

    @DBOS.workflow(name="fan")
    def fan(width):
        queue = DBOS.retrieve_queue("bench")
        children = [queue.enqueue(noop, i) for i in range(width)]
        values = [child.get_result(polling_interval_sec=POLL_S) for child in children]
        return queue.enqueue(merge, values).get_result(polling_interval_sec=POLL_S)

    @DBOS.workflow(name="chain")
    def chain(hops):
        queue = DBOS.retrieve_queue("bench")
        for i in range(hops):
            queue.enqueue(noop, i).get_result(polling_interval_sec=POLL_S)
        return hops

    DBOS.launch()
    DBOS.register_queue("bench", polling_interval_sec=POLL_S, on_conflict="always_update")


def as_worker(executor):
    _workflows(executor)
    while True:
        time.sleep(60)


class Dbos(Peer):
    name = "dbos"
    uses_redis = False
    can_be_stopped = False
    versions_of = ("dbos",)
    configs = {
        "default": "2 executor processes, one queue, polling_interval_sec 1.0, as they come; "
        "Postgres with synchronous_commit=off, about what AOF everysec promises",
        "tuned": "as default with polling_interval_sec=0.01, get_result(polling_interval_sec=0.01)",
    }
    workloads = {"default": "W1 W4 W6", "tuned": "W1 W2 W3 W4"}

    def __init__(self, config):
        super().__init__(config)
        self.w1_jobs, self.w2_widths = 1000, (1000,)
        self.w4_trips = 10 if config == "default" else 100
        self.postgres = None

    def _database(self):
        if "BENCH_DATABASE" in os.environ:
            return
        self.folder = tempfile.mkdtemp(prefix="bench-postgres-")
        found = shutil.which("initdb") or next(
            Path("/usr/lib").glob("postgresql/*/bin/initdb"), None
        )
        if found is None:
            os.environ["BENCH_DATABASE"] = f"sqlite:///{self.folder}/dbos.sqlite"
            return
        tools, data = Path(found).resolve().parent, f"{self.folder}/data"
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = str(sock.getsockname()[1])
        user = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            user = ["runuser", "-u", "postgres", "--"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self.folder}
        make = [str(tools / "initdb"), "-D", data, "-A", "trust", "-U", "postgres"]
        subprocess.run([*user, *make], check=True, **quiet)
        serve = [str(tools / "postgres"), "-D", data, "-p", port, "-k", self.folder]
        self.postgres = subprocess.Popen(
            [*user, *serve, "-c", "listen_addresses=127.0.0.1", "-c", "synchronous_commit=off"],
            **quiet,
        )
        where = ["-h", "127.0.0.1", "-p", port]
        deadline = clock() + 20
        while subprocess.run([str(tools / "pg_isready"), *where], check=False, **quiet).returncode:
            if clock() > deadline:
                raise TimeoutError("Postgres did not start")
            time.sleep(0.1)
        subprocess.run([str(tools / "createdb"), *where, "-U", "postgres", "bench"], check=True)
        os.environ["BENCH_DATABASE"] = f"postgresql://postgres@127.0.0.1:{port}/bench"

    def worker_commands(self, slots):
        return [self.script_worker(f"executor-{number}") for number in range(slots)]

    def single_worker(self, number):
        return self.script_worker(f"executor-{number}")

    def spawn(self, command, **environment):
        self._database()
        process = super().spawn(command, **environment)
        time.sleep(4)  # the first one makes the tables
        return process

    def connect(self):
        from dbos import DBOSClient

        self.client = DBOSClient(system_database_url=os.environ["BENCH_DATABASE"])

    def _enqueue(self, name, *arguments):
        return self.client.enqueue({"workflow_name": name, "queue_name": "bench"}, *arguments)

    def enqueue(self, count):
        self.handles = [self._enqueue("noop", i) for i in range(count)]

    def done_so_far(self):
        return 0

    def wait_done(self, count, before):
        for handle in self.handles:
            handle.get_result(polling_interval_sec=0.05)
        now = clock()
        self.handles = []
        return now

    def round_trip(self, number):
        poll_s = 1.0 if self.config == "default" else 0.005
        assert self._enqueue("noop", number).get_result(polling_interval_sec=poll_s) == number

    def fan(self, width):
        began = clock()
        result = self._enqueue("fan", width).get_result(polling_interval_sec=0.02)
        assert result == width * (width - 1) // 2
        return clock() - began

    def chain(self, hops):
        began = clock()
        assert self._enqueue("chain", hops).get_result(polling_interval_sec=0.02) == hops
        return clock() - began

    def submit_slow(self):
        self._enqueue("slow")

    def close(self):
        if hasattr(self, "client"):
            self.client.destroy()
        if self.postgres is not None:
            send(descendants(self.postgres.pid), signal.SIGINT)  # its fast shutdown
            self.postgres.wait(20)
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)


if __name__ == "__main__":
    main(Dbos, as_worker)
