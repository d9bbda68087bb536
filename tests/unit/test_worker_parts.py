"""The worker's parts that need no Redis: frames, batches, settlements, output, options, lines."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.common import context, values
from penstock.common.artifacts import Artifacts
from penstock.common.errors import CodeMissing, InputError
from penstock.common.spec.models import Job
from penstock.common.spec.placeholders import escape
from penstock.orchestrator.engine.work import over_of
from penstock.worker import frames
from penstock.worker.devices import Devices
from penstock.worker.fanin import custom
from penstock.worker.functions import Functions
from penstock.worker.isolation import children, descendants, is_alive, kill_all
from penstock.worker.loop import READ, Loop
from penstock.worker.options import Options, options
from penstock.worker.output import FILE_LIMIT, JobLog, OutputFile
from penstock.worker.references import FILLED_HERE_BYTES, References, filled
from penstock.worker.shared import SharedPage
from penstock.worker.shell import CommandFailed, run

# -- frames

ORDERS = st.builds(
    frames.Order,
    seq=st.integers(1, 2**40),
    job=st.text(),
    execution=st.text(),
    name=st.text(),
    attempt=st.integers(1, 9),
    run=st.text(),
    config=st.binary(max_size=300),
)
MESSAGES = st.lists(
    st.builds(frames.Load, root=st.text(), digest=st.text())
    | st.builds(frames.Run, orders=st.lists(ORDERS, max_size=3)),
    max_size=5,
)


@given(MESSAGES, st.data())
def test_messages_survive_any_cutting(messages: list[Any], data: st.DataObject) -> None:  # Q11
    stream = b"".join(frames.pack(message) for message in messages)
    unpacker = frames.Unpacker(frames.to_slot)
    found = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += unpacker.feed(stream[:cut])
        stream = stream[cut:]
    assert found == messages
    assert not unpacker.partial


# -- output


@pytest.fixture
def output() -> Any:
    file = OutputFile()
    yield file
    file.close()


def test_output_is_taken_once_and_in_order(output: OutputFile) -> None:  # W5
    os.write(output.fd, b"before|one")
    log = JobLog(7, 1000)
    assert log.take(output, output.size(), 2) == b"on"
    os.write(output.fd, b" two")
    assert log.take(output, output.size()) == b"e two"
    assert log.take(output, output.size()) == b""


def test_output_over_the_limit_is_cut_with_a_word(output: OutputFile) -> None:  # W5
    os.write(output.fd, b"x" * 2000)
    log = JobLog(0, 500)
    text = log.take(output, output.size())
    assert len(text) == 500
    assert text.endswith(b"sets how much is kept]\n")
    os.write(output.fd, b"more")
    assert log.take(output, output.size()) == b""


def test_a_job_may_truncate_its_own_output(output: OutputFile) -> None:  # W5
    os.write(output.fd, b"x" * 100)
    log = JobLog(0, 500)
    assert len(log.take(output, output.size())) == 100
    os.truncate(output.fd, 0)
    os.write(output.fd, b"new")
    assert log.take(output, output.size()) == b"new"


def test_a_large_file_gives_its_room_back(output: OutputFile) -> None:  # W5
    chunk = b"x" * 2**20
    log = JobLog(0, 10**9)
    for _ in range(3):
        while not output.over_limit(output.size()):
            os.write(output.fd, chunk)
        size = output.size()
        log.take(output, size)
        output.free(size)
        assert os.fstat(output.fd).st_blocks * 512 <= FILE_LIMIT
    os.write(output.fd, b"tail")
    assert log.take(output, output.size()) == b"tail"
    output.reset()
    assert output.size() == 0


# -- the shared page


def test_an_order_is_run_or_taken_back_but_not_both() -> None:  # Q6
    page, fd = SharedPage.create()
    theirs = SharedPage(fd)
    os.close(fd)
    total, ran, taken = 3000, [], []

    def slot() -> None:
        for seq in range(1, total + 1):
            theirs.begin(seq, seq, 0)
            if seq >= theirs.fence:
                ran.append(seq)

    thread = threading.Thread(target=slot)
    thread.start()
    while not page.started:
        pass
    page.fence = total + 1
    started = page.started
    taken = range(started + 1, total + 1)
    thread.join()
    assert not set(ran) & set(taken)
    assert len(ran) >= started - 1
    page.close()
    theirs.close()


# -- functions


def test_functions_are_found_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # W2
    (tmp_path / "found_here.py").write_text(
        "class A:\n    @staticmethod\n    def b():\n        return 1\nx = 1\n"
    )
    (tmp_path / "lacks.py").write_text("import missing_thing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    functions = Functions()
    assert functions.find("found_here:A.b")() == 1
    assert functions.find("found_here:A.b") is functions.find("found_here:A.b")
    for run_, why in (
        ("found_here:c", "has no 'c'"),
        ("found_here:x", "is a int"),
        ("gone:f", "no module"),
    ):
        with pytest.raises(CodeMissing, match=why):
            functions.find(run_)
    with pytest.raises(ModuleNotFoundError, match="missing_thing"):
        functions.find("lacks:f")


def test_a_custom_fan_in_calls_its_function() -> None:  # F6
    found = custom("builtins:sum", [1, 2, 3], "custom", "train", {"start": 4})
    assert found == {
        "aggregated_result": 10,
        "strategy": "custom",
        "input_count": 3,
        "source_job_id": "train",
    }


def test_a_command_that_fails_quotes_its_last_lines(
    capfd: pytest.CaptureFixture[str],
) -> None:  # W2
    with pytest.raises(CommandFailed) as caught:
        run("echo out; echo err >&2; exit 3")
    assert "exit code 3" in str(caught.value)
    assert "err" in str(caught.value)
    with pytest.raises(CommandFailed, match="signal 9"):
        run("kill -9 $$")
    assert capfd.readouterr().out == "out\n"


def test_a_command_is_not_waited_for_beyond_its_end() -> None:  # W2
    done = run("sleep 300 & echo $!; echo $PENSTOCK_CONFIG", lr=0.1)
    pid, config = done["stdout"].split("\n", 1)
    assert json.loads(config) == {"lr": 0.1}
    os.kill(int(pid), signal.SIGKILL)


def test_a_command_gets_json_and_not_the_key_of_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PICKLE_KEY", "secret")
    given: list[Any] = ["printf", "%s ", True, None, [1, "a"], "text"]
    assert run(given)["stdout"] == 'true null [1, "a"] text '  # type: ignore[arg-type]
    assert run("echo ${PENSTOCK_PICKLE_KEY-none}")["stdout"] == "none\n"
    with pytest.raises(CommandFailed, match=r"the longest has 1,000,00\d characters"):
        run(["true", "x" * 1_000_000])
    with pytest.raises(FileNotFoundError):
        run(["/no/such/command"])


# -- references


def test_references_are_filled_and_forgotten() -> None:  # W4
    references = References(limit_bytes=10)
    assert references.missing("x", ("a", "b")) == ["a", "b"]
    references.add("x", {"a": b'{"v": [1, 2.5]}', "b": b"broken"})
    assert references.missing("x", ("a", "b")) == ["b"]
    filled = references.fill("x", ("a",), b'{"k": "${jobs.a.result.v}"}')
    assert json.loads(filled) == {"k": [1, 2.5]}
    with pytest.raises(InputError):
        references.fill("x", ("b",), b'{"k": "${jobs.b.result}"}')
    references.trim()
    assert references.missing("x", ("a",)) == ["a"]


def test_a_file_is_looked_into_by_the_jobs_own_process(tmp_path: Path) -> None:  # W4 W5
    store = Artifacts(str(tmp_path))
    text = json.dumps({"chunks": [{"a": 1}, "$x"], "metrics": {"m": 2}}).encode()
    made = values.keep_json(text, {"m": 2.0}, store, "abcdefghijklmn1", "split")
    references = References()
    references.add("x", {"split": json.dumps(made).encode(), "b": b"[7]"})

    def filled_in(config: str) -> Any:
        sent = json.loads(references.fill("x", ("split", "b"), config.encode()))
        return sent, filled(sent, lambda: store)

    sent, found = filled_in('{"k": "${jobs.split.result.chunks[0]}", "l": "a ${jobs.b.result[0]}"}')
    assert "chunks" in json.dumps(sent)
    assert found == {"k": {"a": 1}, "l": "a 7"}
    _, found = filled_in('{"${jobs.split.result.metrics.m}": "${jobs.split.result.chunks[1]}"}')
    assert found == {"2": "$x"}
    with pytest.raises(InputError, match="is a list of 2"):
        filled_in('{"k": "${jobs.split.result.chunks[2]}"}')
    sent, found = filled_in('{"k": "${jobs.split.result}", "l": "${jobs.b.result[0]}"}')
    assert sent == found == {"k": made, "l": 7}
    _, found = filled_in('{"k": "${jobs.split.result}", "l": "${jobs.split.result.metrics.m}"}')
    assert found == {"k": made, "l": 2}  # a whole one stands for itself, whatever is beside it
    _, found = filled_in('{"k": "all: ${jobs.split.result}", "${jobs.split.result.metrics}": 0}')
    assert found == {"k": "all: " + text.decode(), '{"m": 2}': 0}


def test_a_result_in_a_file_that_a_result_names_is_looked_into(tmp_path: Path) -> None:  # W4 W5
    store = Artifacts(str(tmp_path))
    inner = values.keep_json(b'{"rows": [5]}', {}, store, "abcdefghijklmn1", "child")
    best = {"aggregated_result": inner, "strategy": "best-metric"}
    references = References()
    references.add("x", {"best": json.dumps(best).encode()})
    config = b'{"k": "${jobs.best.result.aggregated_result.rows[0]}"}'
    sent = json.loads(references.fill("x", ("best",), config))
    assert filled(sent, lambda: store) == {"k": 5}
    config = b'{"k": "all: ${jobs.best.result}"}'
    sent = json.loads(references.fill("x", ("best",), config))
    assert json.loads(filled(sent, lambda: store)["k"][5:]) == {
        **best,
        "aggregated_result": {"rows": [5]},
    }
    job = Job.model_validate(
        {"id": "f", "type": "fan-out", "over": "${jobs.best.result.aggregated_result.rows}", "template": {"run": "m:f"}}
    )  # fmt: skip
    assert over_of(job, {"best": json.dumps(best).encode()}, lambda: store) == [5]


def test_what_is_large_is_left_to_the_jobs_own_process() -> None:  # Q8
    references = References()
    references.add("x", {"a": b"[1]"})
    outputs = ["x" * FILLED_HERE_BYTES, "${no placeholder", "$"]
    given = {"outputs": escape(outputs), "config": {"k": "${jobs.a.result}"}, "null": None}
    text = json.dumps(given).encode()
    sent = references.fill("x", ("a",), text)
    assert text in sent
    references.add("x", {"big": json.dumps(["x" * FILLED_HERE_BYTES, 7]).encode()})
    assert references.fill("x", ("big",), b'{"k": "${jobs.big.result[1]}"}') == b'{"k": 7}'
    assert filled(json.loads(sent), lambda: None) == {
        "outputs": outputs,
        "config": {"k": [1]},
        "null": None,
    }


# -- devices and options


def test_devices_are_given_once() -> None:  # Q3
    devices = Devices(["4", "6"])
    assert devices.take(1) == ("4",)
    assert devices.take(2) is None
    assert devices.take(1) == ("6",)
    devices.give_back(("4",))
    assert devices.take(1) == ("4",)
    assert devices.take(0) == ()


def test_options_come_from_flags_or_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:  # Q4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b,GPU-c")
    chosen = options(
        name="n", capabilities="ssd, CPU", concurrency="3", cpus=4, gpus=2, ram="1.5GiB"
    )
    assert chosen.capabilities == ("cpu", "ssd")
    assert chosen.gpus == ("GPU-a", "GPU-b")
    assert chosen.ram == 3 * 2**29
    assert Options.load(chosen.dump()) == chosen
    found = options(gpus=1)
    assert found.capabilities == ("cpu", "gpu")
    assert found.concurrency == max(1, int(found.cpus))
    assert found.name != options().name
    assert found.totals["gpus"] == 1.0


@pytest.mark.parametrize(
    "given",
    [{"name": "a:b"}, {"concurrency": "0"}, {"cpus": 0}, {"ram": "x"}, {"capabilities": "a b"}],
)
def test_bad_options_are_refused(given: dict[str, Any]) -> None:  # Q4
    with pytest.raises(InputError):
        options(**given)


# -- waiting


def test_the_first_and_the_last_waiter_count() -> None:  # Q3
    told: deque[bool] = deque()
    with context.waiting():
        assert not told
    context.enter(lambda: context.Ctx("x-a", "x", "a", 1, "n"), told.append)
    assert context.current() is not None
    with context.waiting(), context.waiting():
        assert list(told) == [True]
    assert list(told) == [True, False]
    context.enter(None)
    assert context.current() is None


# -- the loop and the process tree


def test_the_loop_calls_for_descriptors_timers_and_signals() -> None:  # Q4
    loop, calls = Loop(), []
    ours, theirs = socket.socketpair()
    loop.watch(ours.fileno(), READ, lambda _: calls.append(ours.recv(9).decode()))
    loop.on_signal(signal.SIGUSR1, lambda: calls.append("signal"))
    loop.call_in(60, lambda: calls.append("never")).cancel()
    loop.call_in(0.01, lambda: calls.append("timer"))
    theirs.send(b"data")
    os.kill(os.getpid(), signal.SIGUSR1)
    while len(calls) < 3:
        loop.turn()
    assert sorted(calls) == ["data", "signal", "timer"]
    loop.close()
    ours.close()
    theirs.close()
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_what_a_first_look_missed_is_ended_all_the_same() -> None:  # Q5
    """Its parent ended while it was looked for: it was below nobody."""
    child = subprocess.Popen(["sleep", "60"])
    looks = iter([[], [child.pid], [child.pid], [], []])
    assert kill_all(lambda: next(looks))
    assert child.wait(10) == -signal.SIGKILL


def test_a_process_tree_is_found_and_ended() -> None:  # Q11
    shell = subprocess.Popen(["/bin/sh", "-c", "(sleep 600; true) & sleep 600; true"])
    while len(descendants(shell.pid)) < 3:
        pass
    below = descendants(shell.pid)
    assert set(children(shell.pid)) < set(below)
    assert shell.pid in children(os.getpid())
    while not kill_all(lambda: [*below, shell.pid]):
        pass
    assert not any(is_alive(pid) for pid in (*below, shell.pid))
    shell.wait()
    assert children(shell.pid) == []


def test_a_null_is_fetched_anew() -> None:  # W8
    """It may stand for a tolerated failure that a retry has mended."""
    references = References()
    references.add("x", {"a": b"null", "b": b"1"})
    assert references.missing("x", ("a", "b", "c")) == ["a", "c"]
