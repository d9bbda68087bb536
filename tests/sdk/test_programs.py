"""Programs that use the Python SDK, as their user runs them."""  # S5 W13 Q8 A2

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from penstock.common.jobs import companion_id
from penstock.common.state.chunks import STATIC, NewJob
from support.processes import until

ROOT = Path(__file__).parents[2]


def program(machines, name, text):
    """A Python program of a user's, beside the tasks."""
    path = machines.code / name
    path.write_text(dedent(text))
    return [sys.executable, str(path)]


def test_an_orchestrator_ends_what_a_dead_program_left_open(machines):  # Q8
    machines.orchestrator()
    machines.worker("n")
    command = program(machines, "dies.py", """
        import os, signal
        from penstock import Cluster
        from sdk_tasks import double
        with Cluster():
            print(double(1).session.id, flush=True)
            double.map([1, 2])
            os.kill(os.getpid(), signal.SIGKILL)
        """)  # fmt: skip
    ended = subprocess.run(
        command,
        check=False,
        env={**machines.environment, "PENSTOCK_SESSION_HOLD_S": "2"},
        stdout=subprocess.PIPE,
    )
    assert ended.returncode == -signal.SIGKILL
    found = machines.wait(ended.stdout.decode().strip())
    assert found["status"] == "succeeded"
    assert [one["status"] for one in found["jobs"].values()] == ["finished"] * 4


def test_an_array_that_a_dead_program_left_half_made_fails(machines):  # Q8
    store, id_ = machines.service.store, "halfmadearray01"
    fields = {"session": 1, "policy": "continue", "ttl_s": 60}
    store.submit(id_, "d", '{"id": "session"}', fields, compile_s=0.1)
    array = NewJob("a", (), {"kind": "fan-out", "run": "penstock:array", "data": "[]"})
    behind = NewJob("b", ("a",), {"run": "m:f", "origin": "any.p5", "data": "[]"})
    store.extend(id_, STATIC, 0, False, [array])
    store.open_group(id_, "a", 5, 0, 1, "{}")
    store.extend(id_, STATIC, 1, False, [behind])
    machines.orchestrator()
    found = machines.wait(id_)
    assert (found["status"], found["jobs"]["b"]["status"]) == ("failed", "canceled")
    assert found["jobs"]["a"]["error"] == {
        "type": "ClientGone",
        "message": "its program was gone after 0 of its jobs were made",
        "traceback": "",
    }


def test_a_program_runs_on_this_machine_without_an_address(machines, tmp_path):  # S5 W13
    command = program(machines, "alone.py", """
        from penstock import Cluster, task

        @task
        def square(x):
            return x * x

        if __name__ == "__main__":
            with Cluster():
                squares, late = square.map(range(5)), square(7)
            print(late.done(), late.result())
            print(squares.get_results())
        """)  # fmt: skip
    env = {**os.environ, "PENSTOCK_HOME": str(tmp_path / "home")}
    env.pop("PENSTOCK_REDIS_URL", None)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert (done.stdout, done.returncode) == ("True 49\n[0, 1, 4, 9, 16]\n", 0), done.stderr


def test_the_programs_of_the_documentation_print_what_they_say(machines):  # A5
    machines.orchestrator()
    machines.worker("n")
    pages = [(ROOT / page).read_text() for page in ("README.md", "docs/sdk.md")]
    named = re.compile(r"```python\n# (\w+\.py)[^\n]*\n(.*?)```", re.DOTALL)
    programs = [found for page in pages for found in named.findall(page)]
    assert len(programs) == pages[1].count("```python") + 2  # a sketch and a program of the README
    for name, text in programs:
        (machines.code / name).write_text(text)
        printed = re.findall(r"^ +print\(.*?\)  # (\S.*)$", text, re.MULTILINE)
        assert printed or name == "digits.py"
        if printed:
            done = subprocess.run(
                [sys.executable, name], cwd=machines.code, env=machines.environment,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (name, done.stdout.splitlines(), done.stderr) == (name, printed, "")


def test_the_patterns_give_what_their_page_says(machines):  # S4 F9
    machines.worker("n")
    folder = ROOT / "examples" / "patterns"
    command = [sys.executable, str(folder / "patterns.py"), "--redis-url", machines.url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "fan-out-fan-in: {'total_chunks': 5, 'total_items': 500, 'total_sum': 124750}",
        "pipeline: ['final_transform_0(preprocessed_data_1)', "
        "'final_transform_1(preprocessed_data_2)', 'final_transform_2(preprocessed_data_3)']",
        "parameter-sweep: Best: lr=0.1, bs=32, acc=1.344",
    ]


def test_a_program_that_submits_when_it_is_imported_is_told_how_not_to(machines):  # W13
    machines.worker("n")
    command = program(machines, "unguarded.py", """
        from penstock import Cluster, task

        @task
        def one():
            return 1

        with Cluster():
            one().get_result(30)
        """)  # fmt: skip
    done = subprocess.run(
        command, env=machines.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert 'put that under `if __name__ == "__main__":`' in done.stderr


def test_a_function_that_is_there_only_when_its_program_runs_is_refused(machines):  # W13
    command = program(machines, "guarded.py", """
        from penstock import Cluster, task

        if __name__ == "__main__":
            @task
            def one():
                return 1

            with Cluster():
                one()
        """)  # fmt: skip
    done = subprocess.run(
        command, env=machines.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "one is defined under `if __name__ == ...` of guarded.py" in done.stderr


def test_the_command_line_shows_a_session_and_runs_again_what_failed_of_it(machines):  # A2
    machines.worker("n")
    command = program(machines, "fails.py", """
        from penstock import Cluster
        from sdk_tasks import double, fails
        with Cluster():
            print(double.after(fails.map(["a", "b"]))(1).wait(30))
        """)  # fmt: skip
    assert (
        subprocess.run(command, env=machines.environment, check=True, capture_output=True).stdout
        == b"False\n"
    )
    shown = machines.run("status", "last").stdout
    assert "2/2 jobs, 2 failed" in shown
    assert "double-0" in shown
    assert machines.run("result", "last").returncode == 1
    assert "run that again" in machines.run("retry", "last").stderr
    machines.orchestrator()
    assert machines.run("retry", "last", "--failed").returncode == 0
    assert machines.run("wait", "last").returncode == 1
    jobs = machines.service.execution(machines.service.resolve("last"))["jobs"]
    assert jobs["fails-0_1"]["attempt"] == 2
    assert jobs["double-0"]["status"] == "canceled"


@pytest.mark.parametrize("swept", [False, True])
def test_a_retry_of_a_workflow_runs_again_what_failed_of_it(machines, tmp_path, swept):  # A2 S2
    """Its execution may have been ended by an orchestrator before, or not."""
    machines.worker("n", PENSTOCK_SESSION_HOLD_S="1")
    path = tmp_path / "file"
    command = program(machines, "starts.py", f"""
        from penstock import Cluster
        from sdk_tasks import depends_on_a_file
        with Cluster():
            print(depends_on_a_file({str(path)!r}).id)
        """)  # fmt: skip
    done = subprocess.run(command, env=machines.environment, check=True, capture_output=True)
    job = done.stdout.decode().strip()
    execution, inner = job.split("-")[0], companion_id(job)
    assert machines.wait(execution)["status"] == "failed"
    if swept:
        machines.orchestrator()
        until(lambda: machines.service.execution(inner)["status"] == "canceled", timeout_s=40)
    path.touch()
    assert machines.run("retry", execution, "--failed").returncode == 0
    if not swept:
        machines.orchestrator()
    assert machines.wait(execution)["status"] == "succeeded"
    assert machines.service.result(execution, job.split("-", 1)[1]) == 3
    assert (tmp_path / "file.runs").read_text() == "xx"
    assert sorted((tmp_path / "file.noted").read_text().split()) == ["0", "1", "2", "a", "b"]
    assert machines.wait(inner)["status"] == "succeeded"
    assert machines.run("doctor").returncode == 0


@pytest.mark.parametrize("how", ["canceled", "failed"])
def test_the_jobs_of_a_workflow_end_with_it(machines, how):  # W7
    machines.orchestrator()
    machines.worker("n", concurrency=3, PENSTOCK_SESSION_HOLD_S="1")
    name = "waits_long" if how == "canceled" else "fails_beside_others"
    command = program(machines, "starts.py", f"""
        from penstock import Cluster
        from sdk_tasks import {name}
        with Cluster():
            print({name}().id)
        """)  # fmt: skip
    done = subprocess.run(command, env=machines.environment, check=True, capture_output=True)
    job = done.stdout.decode().strip()
    inner = companion_id(job)
    until(
        lambda: (
            machines.service.store.jobs(inner, ["sleep-0"], ("status",))[0]["status"] == "started"
        )
    )
    if how == "canceled":
        assert machines.run("cancel", job.split("-")[0]).returncode == 0
    assert machines.wait(job.split("-")[0])["status"] == how
    until(lambda: machines.service.execution(inner)["status"] == "canceled", timeout_s=40)
    until(lambda: machines.service.execution(inner)["jobs"]["sleep-0"]["status"] == "canceled")
