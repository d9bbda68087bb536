"""The command line as a user has it: real processes, the embedded server, real signals.  # A2"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from penstock.common.datafolder import DataFolder

pytestmark = pytest.mark.system

CODE = """
import os, time

def double(x): return 2 * x
def shout(word="a"): print(word); print(word.upper()); return word
def fail(): raise ValueError("this one always fails")
def nap(seconds): time.sleep(seconds); return seconds
def score(C): print("training", C); return {"C": C, "accuracy": 1 - 1 / (1 + C)}
"""

SWEEP = """
name: sweep
params: {x: 20}
jobs:
  - {id: first, run: "tasks:double", config: {x: "${params.x}"}}
  - id: train
    type: fan-out
    depends_on: [first]
    template: {run: "tasks:score", config: {C: "${C}"}}
    parameters: [{name: C, values: [1, 3, 9]}]
  - {id: all, type: fan-in, fan_out_job_id: train, aggregation: {strategy: collect-all}}
  - {id: best, type: fan-in, fan_out_job_id: train,
     aggregation: {strategy: best-metric, metric_name: accuracy}}
"""

FAILING = """
name: failing
jobs:
  - {id: bad, run: "tasks:fail", retry: 0}
  - {id: after, run: "tasks:shout", depends_on: [bad]}
"""

LONG = """
name: long
jobs:
  - {id: nap, run: "tasks:nap", config: {seconds: 60}}
"""


class Box:
    """A folder with workflow files, a data folder, and the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        hidden = ("PENSTOCK_", "COLUMNS", "LINES")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        self.env |= {"PENSTOCK_HOME": str(self.home), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        for name, text in {
            "tasks.py": CODE,
            "sweep.yaml": SWEEP,
            "failing.yaml": FAILING,
            "long.yaml": LONG,
        }.items():
            (folder / name).write_text(text)

    def argv(self, *argv: str) -> list[str]:
        return [sys.executable, "-P", "-m", "penstock.orchestrator.cli.main", *argv]

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*argv), cwd=self.folder, env=self.env, text=True, **options
        )

    def __call__(self, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*argv),
            cwd=self.folder,
            env=self.env,
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *argv: str) -> Any:
        return json.loads(self(*argv, "--json").stdout)

    def processes(self) -> list[str]:
        """The command lines of all processes that belong to this data folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PENSTOCK_HOME") == str(self.home):
                    found.append(" ".join(process.cmdline()))
            except (psutil.Error, OSError):
                continue
        return found

    def wait_until_drained(self, seconds: float = 10.0) -> None:
        """Returns when the worker has ended that was told to."""
        deadline = time.monotonic() + seconds
        while not DataFolder(self.home).wanted.exists():
            assert time.monotonic() < deadline, "the worker goes on"
            time.sleep(0.05)

    def wait_until_empty(self, seconds: float = 10.0) -> list[str]:
        """What is still there after so long; the reaping of orphans may take a moment."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left


@pytest.fixture
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    made = Box(tmp_path_factory.mktemp("b"))
    yield made
    made("down")
    left = made.wait_until_empty()
    shutil.rmtree(made.folder, ignore_errors=True)
    assert left == []


def test_one_command_runs_a_file_and_leaves_nothing_behind(box: Box) -> None:
    done = box("run", "sweep.yaml", "--set", "x=21")
    assert done.returncode == 0, done.stderr
    assert "0.9" in done.stdout
    assert "sweep succeeded" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert box.wait_until_empty() == []
    assert box.json("result", "last", "first") == 42
    value = box.json("status", "last")
    assert value["status"] == "succeeded"
    assert value["jobs"]["train_2_C_9"]["result"] == {"C": 9, "accuracy": 0.9}
    assert value["result"]["aggregated_result"]["C"] == 9
    assert "training 9" in box("logs", "last", "train_2_C_9").stdout
    assert "train_2_C_9  training 9" in box("logs", "last", "train").stdout
    assert "class j0,j1,j2,j3 finished" in box("graph", "last").stdout


def test_run_json_is_one_value_and_progress_goes_to_stderr(box: Box) -> None:
    done = box("run", "sweep.yaml", "--json")
    value = json.loads(done.stdout)
    assert done.returncode == 0
    assert list(value["jobs"])[:3] == ["first", "train", "train_0_C_1"]
    assert "3/3" in done.stderr


def test_a_failing_job_is_told_and_is_the_exit_code(box: Box) -> None:
    done = box("run", "failing.yaml")
    assert done.returncode == 1
    assert "ValueError: this one always fails" in done.stderr
    assert "in fail" in done.stderr
    assert "penstock logs" in done.stderr
    assert box("retry", "last", "--failed").returncode == 0
    assert box("wait", "last").returncode == 1  # runs it itself, and it fails again


def test_nothing_is_written_for_a_wrong_file(box: Box) -> None:  # W3
    (box.folder / "bad.yaml").write_text("jobs: [{id: a, run: 'tasks:nope', priority: 11}]")
    done = box("run", "bad.yaml")
    assert done.returncode == 2
    assert "bad.yaml:1: jobs.a.priority" in done.stderr
    assert "nope" in done.stderr
    assert not box.home.exists()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_run_is_canceled_and_leaves_nothing_behind(
    box: Box, sig: signal.Signals
) -> None:
    run = box.start("run", "long.yaml", stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert run.stderr is not None
    for line in run.stderr:
        if "nap  started" in line:
            break
    began = time.monotonic()
    run.send_signal(sig)
    _, err = run.communicate(timeout=30)
    assert run.returncode == 3
    assert "canceling" in err
    assert time.monotonic() - began < 10
    assert box.wait_until_empty() == []
    assert box.json("status", "last")["status"] == "canceled"


def test_up_serves_submit_and_wait_until_down(box: Box) -> None:
    up = box.json("up", "-w", "2")
    assert up["redis_cli"].startswith("redis-cli ")
    assert box.json("status")["redis_url"] == up["redis_url"]
    id_ = box("submit", "sweep.yaml", "--key", "k").stdout.strip()
    assert box("submit", "sweep.yaml", "--key", "k").stdout.strip() == id_
    assert box("submit", "failing.yaml", "--key", "k").returncode == 2
    assert box("wait", id_).returncode == 0
    assert [node["concurrency"] for node in box.json("worker", "ls")] == [2]
    assert box("wait", box("submit", "long.yaml").stdout.strip(), "--timeout", "1s").returncode == 4
    assert box("cancel", "last").stdout.endswith("canceled\n")
    assert box("down").returncode == 0
    assert box.wait_until_empty() == []
    assert box.json("status", id_)["status"] == "succeeded"


def test_a_drained_worker_is_followed_by_another_when_one_is_asked_for(box: Box) -> None:
    assert box("up", "-w", "2").returncode == 0
    for again, told in ((["up"], "another worker has started"), (["run", "sweep.yaml"], "")):
        [node] = box.json("worker", "ls")
        assert box("worker", "drain", node["id"]).returncode == 0
        box.wait_until_drained()
        done = box(*again)
        assert (done.returncode, told in done.stdout) == (0, True)
    assert box("up").stdout.startswith("already up\n")
    assert [node["concurrency"] for node in box.json("worker", "ls")] == [2]
    assert box("down").returncode == 0


def test_a_run_gets_a_worker_though_the_drained_one_has_yet_to_end(box: Box) -> None:
    (box.folder / "busy.yaml").write_text(LONG.replace("60", "3"))
    assert box("up", "-w", "1").returncode == 0
    busy = box("submit", "busy.yaml").stdout.strip()
    while box.json("status", busy)["jobs"]["nap"]["status"] != "started":
        time.sleep(0.05)
    [node] = box.json("worker", "ls")
    assert box("worker", "drain", node["id"]).returncode == 0
    assert box("run", "sweep.yaml").returncode == 0
    assert box.json("status", busy)["status"] == "succeeded"
    assert box("down").returncode == 0


def test_two_runs_at_once_in_one_folder_both_succeed(box: Box) -> None:
    runs = [
        box.start("run", "sweep.yaml", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert len(box.json("ls")) == 2


def test_what_is_not_there_is_5_and_no_redis_is_6(box: Box) -> None:
    assert box("status", "0mfk2v9qkabc123").returncode == 5
    assert box("result", "last").returncode == 5
    done = box("ls", "--redis-url", "redis://127.0.0.1:1/0")
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    assert box("ls", "--redis-url", "http://nothing").returncode == 2


def test_a_redis_that_would_drop_jobs_is_refused(box: Box) -> None:
    socket = box.folder / "r.sock"
    server = subprocess.Popen(
        [
            *("redis-server", "--port", "0", "--unixsocket", str(socket), "--save", ""),
            *("--maxmemory-policy", "allkeys-lru", "--dir", str(box.folder)),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        while not socket.exists():
            assert server.poll() is None
            time.sleep(0.02)
        done = box("submit", "sweep.yaml", "--redis-url", f"unix://{socket}")
        assert done.returncode == 6
        assert "allkeys-lru" in done.stderr
        assert box("up", "--redis-url", f"unix://{socket}").returncode == 6
        assert box.processes() == []
        assert not (box.home / "hosts").exists()
    finally:
        server.terminate()
        server.wait()


def test_a_reader_that_goes_away_is_not_an_error(box: Box) -> None:
    box("run", "sweep.yaml")
    for argv in (["status", "last"], ["ls", "--json"], ["logs", "last"]):
        command = box.start(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert command.stdout is not None
        command.stdout.close()
        assert command.stderr is not None
        said = command.stderr.read()
        command.stderr.close()
        assert (argv, command.wait(30), said) == (argv, 0, "")


def on_a_terminal(box: Box, argv: list[str], rows: int, columns: int) -> tuple[int, str]:
    """Runs a command on a pseudo-terminal of this size; its exit code and all it wrote."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    command = box.start(*argv, stdin=side, stdout=side, stderr=side)
    os.close(side)
    said = b""
    while select.select([main], [], [], 60)[0]:
        try:
            more = os.read(main, 65536)
        except OSError:  # the last writer has gone
            break
        if not more:
            break
        said += more
    os.close(main)
    return command.wait(30), said.decode()


def test_on_a_terminal_the_display_is_live_and_fits(box: Box) -> None:
    code, said = on_a_terminal(box, ["run", "sweep.yaml"], 24, 80)
    assert code == 0
    assert "\x1b[?25l" in said  # the cursor is hidden while it is drawn ...
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")  # ... and there again after it
    assert "✔" in said
    assert "■■■" in said
