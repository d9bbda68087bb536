"""A real worker on a real Redis runs jobs that behave, and jobs that do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.working import Execution, Site, is_gone, job, until

pytestmark = pytest.mark.system


def test_runs_functions_coroutines_and_commands(site: Site) -> None:  # W2
    with site.worker("--concurrency", "2"):
        run = site.submit(
            job("f", "m:add", {"a": 1, "b": 2}),
            job("c", "m:double", {"x": 21}),
            job("s", "penstock.worker.shell:run", {"command": "echo to $PENSTOCK_NODE; pwd"}),
            job("l", "penstock.worker.shell:run", {"command": ["echo", "a b", "$HOME"]}),
        )
        assert run.result("f") == {"sum": 3}
        assert run.log("f") == "adding 1 2\n"
        assert run.result("c") == 42
        assert run.result("s")["stdout"].splitlines()[1] == str(site.code)
        assert run.result("l") == {"exit_code": 0, "stdout": "a b $HOME\n"}


def test_errors_say_what_happened(site: Site) -> None:  # W5, W6
    shell = {"command": "echo one; echo two >&2; exit 7"}
    with site.worker("--concurrency", "1"):
        run = site.submit(
            job("plain", "m:fail", {"text": "no luck"}),
            job("broken", "m:broken"),
            job("json", "m:unjson"),
            job("exit", "m:once", {"mark": site.mark("exit"), "how": "exit"}),
            job("shell", "penstock.worker.shell:run", shell),
            job("name", "m:nothing"),
            job("config", "m:add", {"a": 1}),
            job("good", "m:add", {"a": 1, "b": 1}),
        )
        plain = run.error("plain")
        assert (plain["type"], plain["message"]) == ("ValueError", "no luck")
        assert "m.py" in plain["traceback"]
        assert "worker/" not in plain["traceback"]
        assert "str() raised RuntimeError" in run.error("broken")["message"]
        assert run.error("json")["message"] == (
            "result.model: Broken is not JSON, and no codec is registered for it (register_codec), "
            "nor is there a PENSTOCK_PICKLE_KEY"
        )
        assert "sys.exit(3)" in run.error("exit")["message"]
        failed = run.error("shell")["message"]
        assert "exit code 7" in failed
        assert "two" in failed
        assert "has no 'nothing'" in run.error("name")["message"]
        assert run.error("config")["type"] == "TypeError"
        assert run.result("good") == {"sum": 2}


def test_code_that_is_not_on_the_node(site: Site) -> None:  # W2
    with site.worker("--concurrency", "1"):
        run = site.submit(job("a", "nowhere:f"), root=site.folder / "gone")
        message = run.error("a")["message"]
        assert "gone is not on this node" in message
        assert "is not on this node; share the folder" in message


def test_failed_jobs_are_retried_with_their_policy(site: Site) -> None:  # W6
    with site.worker("--concurrency", "1"):
        run = site.submit(
            job("a", "m:once", {"mark": site.mark("a"), "how": "exit"}, retries=2),
            job("b", "m:fail", retries=2),
        )
        assert run.result("a") == "second"
        assert run.job("a")["attempt"] == "2"
        run.error("b")
        assert run.job("b")["attempt"] == "3"


def test_a_crash_takes_only_the_job_that_ran(site: Site) -> None:  # Q5
    with site.worker("--concurrency", "1"):
        run = site.submit(
            job("killed", "m:once", {"mark": site.mark("k"), "how": "kill"}),
            job("poison", "m:leave"),
            *(job(f"n{i}", "m:noop") for i in range(20)),
        )
        assert run.result("killed") == "second"
        assert run.job("killed")["crashes"] == "1"
        assert "exit code 9" in run.error("poison")["message"]
        assert run.job("poison")["crashes"] == "3"
        assert [run.result(f"n{i}") for i in range(20)] == [None] * 20
        assert {run.job(f"n{i}")["attempt"] for i in range(20)} == {"1"}


def test_a_time_out_ends_the_whole_family(site: Site) -> None:  # Q11
    mark = Path(site.mark("family"))
    with site.worker("--concurrency", "1"):
        run = site.submit(
            job("a", "m:family", {"mark": str(mark)}, timeout_s=1), job("b", "m:noop")
        )
        until(mark.exists, "the family runs")
        pids = [int(pid) for pid in mark.read_text().split()]
        assert run.error("a")["type"] == "JobTimeout"
        assert [is_gone(pid) for pid in pids] == [True, True, True]
        run.result("b")


def test_a_stopped_slot_is_a_slow_job(site: Site) -> None:  # Q11
    mark = Path(site.mark("spin"))
    with site.worker("--concurrency", "1") as node:
        run = site.submit(job("a", "m:spin", {"mark": str(mark)}, timeout_s=1))
        until(mark.exists, "it runs")
        node.slots[0].suspend()
        assert run.error("a")["type"] == "JobTimeout"
        site.submit(job("b", "m:noop")).result("b")


def test_what_a_job_leaves_behind_is_ended(site: Site) -> None:  # Q11
    with site.worker("--concurrency", "1"):
        run = site.submit(job("a", "m:litter"), job("b", "m:who"))
        left = run.result("a")
        assert run.result("b")["pid"] != left["pid"]
        assert is_gone(left["child"])


def test_a_flood_of_output_is_cut(site: Site) -> None:  # W5
    with site.worker("--concurrency", "1", PENSTOCK_LOG_LIMIT_BYTES="100000") as node:
        daemon, slot = node.daemon, until(lambda: node.slots, "a slot runs")[0]
        before = daemon.memory_info().rss
        file = f"/proc/{slot.pid}/fd/1"
        run = site.submit(job("a", "m:flood", {"mib": 1024}))
        most = held = 0

        def look() -> bool:
            nonlocal most, held
            most = max(most, os.stat(file).st_blocks * 512)
            held = max(held, daemon.memory_info().rss)
            return run.status("a") == "finished"

        until(look, "the flood ends", 60)
        assert run.result("a") == "flooded"
        assert most < 400 * 2**20
        assert held - before < 50 * 2**20
        log = run.log("a")
        assert len(log) < 101_000
        assert log.endswith("sets how much is kept]\n")
        run = site.submit(job("a", "m:say", {"text": "after"}))
        run.ended("a")
        assert run.log("a") == "after\n"


def test_output_of_a_running_job_can_be_read(site: Site) -> None:  # W5
    with site.worker("--concurrency", "1"):
        run = site.submit(job("a", "m:say", {"text": "hello", "until": site.mark("end")}))
        until(lambda: run.log("a") == "hello\n", "the output is there")
        assert run.status("a") == "started"
        Path(site.mark("end")).touch()
        run.ended("a")
        assert run.log("a") == "hello\n"


def test_each_root_runs_its_own_code(site: Site) -> None:  # W13
    other = site.folder / "other"
    other.mkdir()
    (other / "m.py").write_text("def noop(**_):\n    return 'other'\n")
    with site.worker("--concurrency", "1"):
        names = [f"n{i}" for i in range(3)]
        one = site.submit(*(job(name, "m:noop") for name in names))
        two = site.submit(*(job(name, "m:noop") for name in names), root=other)
        assert [one.result(name) for name in names] == [None] * 3
        assert [two.result(name) for name in names] == ["other"] * 3
        (other / "m.py").write_text("def noop(**_):\n    return 'edited, and longer'\n")
        three = site.submit(job("a", "m:noop"), root=other, digest="d2")
        assert three.result("a") == "edited, and longer"


def test_a_long_job_holds_up_none_of_its_kind(site: Site) -> None:  # Q3
    with site.worker("--concurrency", "2"):
        warm = site.submit(*(job(f"n{i}", "m:noop") for i in range(100)))
        until(lambda: warm.of_all("finished") == 100, "the function is known to be short")
        end = site.mark("end")
        long = {"mark": site.mark("began"), "until": end}
        jobs = [job(f"n{i}", "m:hold", {"mark": "/dev/null", "until": "/"}) for i in range(300)]
        jobs.insert(150, job("long", "m:hold", long))
        run = site.submit(*jobs)
        until(lambda: run.of_all("finished") == 300, "all others end")
        assert run.status("long") == "started"
        Path(end).touch()
        assert run.result("long") == "held"
        assert {run.job(f"n{i}")["attempt"] for i in range(300)} == {"1"}


def test_on_one_slot_a_job_may_wait_for_another(site: Site) -> None:  # Q3
    with site.worker("--concurrency", "1") as node:
        inner = Execution(site.store, str(site.code))
        outer = site.submit(job("w", "m:wait_for", {"execution": inner.id, "name": "z"}))
        until(lambda: outer.status("w") == "started", "the one slot is taken")
        inner.submit(job("z", "m:noop"))
        assert outer.result("w") == "w"
        until(lambda: len(node.slots) == 1, "the further slot is gone")


def test_gpu_jobs_have_a_fresh_process_and_their_own_devices(site: Site) -> None:  # Q3, Q11
    with site.worker("--concurrency", "2", "--gpus", "2", CUDA_VISIBLE_DEVICES="4,6,7"):
        run = site.submit(
            job("cpu", "m:who", dependents="one"),
            job("one", "m:who", needs="gpus=1", upstreams=("cpu",), dependents="two"),
            job("two", "m:who", needs="gpus=2", upstreams=("one",)),
        )
        cpu, one, two = run.result("cpu"), run.result("one"), run.result("two")
        assert (cpu["cuda"], one["cuda"], two["cuda"]) == ("", "4", "4,6")
        assert len({cpu["pid"], one["pid"], two["pid"]}) == 3


def test_libraries_take_as_many_threads_as_the_job_has_cpus(site: Site) -> None:  # Q3
    with site.worker("--concurrency", "1", "--cpus", "4"):
        run = site.submit(
            job("usual", "m:threads", dependents="four"),
            job("four", "m:threads", needs="cpus=4", upstreams=("usual",), dependents="again"),
            job("again", "m:threads", upstreams=("four",)),
        )
        found = [run.result(name) for name in ("usual", "four", "again")]
        assert [one["cpus"] for one in found] == [1, 4, 1]
        assert [one["variable"] for one in found] == ["1", "4", "1"]
        assert [set(one["pools"]) for one in found] == [{1}, {4}, {1}]
        assert len({one["pid"] for one in found}) == 1
    with site.worker("--concurrency", "1", OMP_NUM_THREADS="2"):
        run = site.submit(job("set", "m:threads", needs="cpus=1"))
        assert (run.result("set")["variable"], set(run.result("set")["pools"])) == ("2", {2})


def test_results_of_other_jobs_are_filled_in(site: Site) -> None:  # W4
    with site.worker("--concurrency", "1"):
        config = {"a": "${jobs.up.result.sum}", "b": 1}
        wrong = {"a": "${jobs.up.result.none}", "b": 1}
        run = site.submit(
            job("up", "m:add", {"a": 1, "b": 2}, dependents="down wrong"),
            job("down", "m:add", config, upstreams=("up",), refs="up"),
            job("wrong", "m:add", wrong, upstreams=("up",), refs="up"),
        )
        assert run.result("down") == {"sum": 4}
        assert "none" in run.error("wrong")["message"]
