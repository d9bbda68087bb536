"""Tasks, jobs and arrays of the Python SDK, on a cluster of real processes."""  # S1 S2 S3 S5 F4 W13

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import as_completed

import pytest

import penstock
from penstock.common.errors import (
    ClientGone,
    ExecutionCanceled,
    InputError,
    JobCanceled,
    JobFailed,
    WaitTimeout,
)
from penstock.common.state.chunks import STATIC
from support.processes import as_yaml, until


@pytest.fixture(scope="module")
def cluster(sdk_machines):
    cluster = penstock.Cluster(sdk_machines.url)
    yield cluster
    cluster.close()


def test_a_task_is_a_plain_function_elsewhere(tasks):  # S1
    assert tasks.double(3) == 6
    with pytest.raises(InputError, match=r"double\.map\(items\) needs a cluster"):
        tasks.double.map([1])


def test_calls_become_jobs_and_arrays(cluster, tasks):  # S2
    with cluster:
        job = tasks.double(4, more=1)
        array = tasks.double.map([1, (2,), {"x": 3, "more": 10}])
        assert job.get_result(30) == 9
        assert (job.status, job.logs()) == ("finished", "double 4\n")
        assert array.wait(30)
        assert array.get_results() == [2, 4, 16]
        assert (len(array), array[-1].get_result(), array[0].name) == (3, 16, "double-1_0")
        assert [one.get_result() for one in array[:2]] == [2, 4]
        assert [one.result() for one in array] == [2, 4, 16]
        assert array.status == "finished"
    assert cluster.execution(job.session.id).wait(10) == "succeeded"


def test_jobs_are_arguments(cluster, tasks):  # S3
    with cluster:
        a, array = tasks.double(1), tasks.double.map([1, 2, 3])
        assert tasks.total(array).get_result(30) == 12
        assert tasks.total([a, 5, array[0]]).get_result(30) == 9
        held = tasks.echo({"deep": [{"job": a, "text": "${jobs.x.result} $$ ${y}"}], "n": None})
        assert held.get_result(30) == {
            "deep": [{"job": 2, "text": "${jobs.x.result} $$ ${y}"}],
            "n": None,
        }
        pairs = tasks.double.map([(a,), {"x": array[2], "more": a}])
        assert pairs.get_results(30) == [4, 14]
        assert pairs.dependencies == [a.name, array[2].name]


def test_each_job_of_a_mapped_array_waits_for_its_own_item(cluster, tasks, tmp_path):  # S3
    gate = tmp_path / "gate"
    with cluster:
        first = tasks.await_file.map([str(gate), str(tmp_path)])
        second = tasks.echo.map(first)
        assert second[1].get_result(30) == str(tmp_path)
        assert second[0].status == "deferred"
        gate.touch()
        assert second.get_results(30) == [str(gate), str(tmp_path)]


def test_jobs_wait_for_what_they_come_after(cluster, tasks, tmp_path):  # S2
    gate = tmp_path / "gate"
    with cluster:
        before = tasks.await_file.map([str(gate), str(tmp_path)])
        one, many = tasks.double.after(before)(1), tasks.double.after(before[0], before).map([1, 2])
        assert before[1].get_result(30)
        assert [one.status, many[0].status, many[1].status] == ["deferred"] * 3
        gate.touch()
        assert (one.get_result(30), many.get_results(30)) == (2, [2, 4])


def test_no_more_of_an_array_run_at_once_than_it_says(sdk_machines, cluster, tasks):  # F4
    with cluster:
        array = tasks.sleep.map([0.01] * 40, max_concurrent=1)
        assert array.wait(60)
    running = most = 0
    for event in sdk_machines.events():
        if event.get("execution") == array.session.id and event.get("job", "").startswith(
            "sleep-0_"
        ):
            running += {"job_started": 1, "job_finished": -1}.get(event["event"], 0)
            most = max(most, running)
    assert most == 1


def test_failures_come_with_the_traceback_of_the_worker(cluster, tasks):  # S2
    with cluster:
        job, array = tasks.fails("no $luck"), tasks.fails.map(["a", "b"])
        behind, late = tasks.double(job), tasks.double.after(array)(1)
        with pytest.raises(JobFailed, match=r"fails-0 failed: ValueError: no \$luck") as raised:
            job.get_result(30)
        assert "raise ValueError(why)\nValueError: no $luck" in raised.value.__notes__[0]
        assert raised.value.about == {"job": "fails-0", "type": "ValueError"}
        with pytest.raises(JobFailed, match=r"fails-1\[0\] failed: ValueError: a"):
            array.get_results(30)
        beyond = tasks.double(late)
        for one, upstream, cause in (
            (behind, "fails-0", r"fails-0: ValueError: no \$luck"),
            (late, "fails-1", "fails-1_0: ValueError: a"),
            (beyond, late.name, "fails-1_0: ValueError: a"),
        ):
            assert not one.wait(30)
            told = rf"upstream {upstream} did not succeed \({cause}\)"
            with pytest.raises(JobCanceled, match=told):
                one.get_result()
        assert not job.cancel()
    assert cluster.execution(job.session.id).wait(10) == "failed"


def test_a_program_is_told_that_its_jobs_wait_for_what_no_node_has(cluster, tasks, caplog):  # Q3
    wide = tasks.double.with_options(capabilities=["gpu"], mem="256G")
    with cluster:
        waits, runs = wide.map([1, 2]), tasks.double(1)
        assert runs.get_result(30) == 2
        until(lambda: caplog.messages, what="it is told")
        cluster.execution(runs.session.id).cancel()
        with pytest.raises(JobCanceled):
            waits[0].get_result(30)
    assert [text.partition(":")[0] for text in caplog.messages] == [
        "double() asks for capabilities=['gpu'], mem='256G', which no live node offers"
    ]


def test_a_task_is_run_again_only_where_it_says_so(cluster, tasks):  # S1 W6
    with cluster:
        assert tasks.third_time().get_result(30) == 3
        once = tasks.third_time.with_options(retry=0)()
        with pytest.raises(JobFailed, match="attempt 1"):
            once.get_result(30)


def test_jobs_are_futures(cluster, tasks):  # S2
    async def gathered(jobs):
        return await asyncio.gather(*(one for one in jobs))

    async def awaited(job):
        return await job

    with cluster:
        jobs = [tasks.double(n) for n in range(5)]
        assert sorted(job.result() for job in as_completed(jobs, 30)) == [0, 2, 4, 6, 8]
        assert asyncio.run(awaited(jobs[3])) == 6
        seen = []
        tasks.double(9).add_done_callback(lambda job: seen.append(job.result()))
        until(lambda: seen == [18], what="the callback")


def test_waiting_ends_after_its_time(cluster, tasks, tmp_path):
    gate = tmp_path / "gate"
    with cluster:
        job, array = tasks.await_file(str(gate)), tasks.await_file.map([str(gate)])
        assert not job.wait(0.05)
        for wait in (job.get_result, array.get_results):
            with pytest.raises(WaitTimeout):
                wait(0.05)
        gate.touch()
        assert job.wait(30)


def test_results_of_an_earlier_block_are_arguments_too(cluster, tasks):  # S2
    with cluster:
        job, array = tasks.double(1), tasks.double.map([1, 2])
    with cluster:
        assert tasks.double(job).get_result(30) == 4
        assert tasks.total.after(job)(array).get_result(30) == 6
    with pytest.raises(InputError, match="has ended; enter it again"):
        job.session.call(tasks.double, (1,), {})


def test_a_job_that_waits_for_jobs_gives_its_slot_to_them(cluster, tasks):  # S2
    with cluster:
        pids = tasks.inside.map([1, 1, 1])
        assert all(isinstance(pid, int) for pid in pids.get_results(60))


def test_nothing_is_submitted_of_what_cannot_travel(cluster, tasks):  # S2 W13
    class Model:
        def go(self): ...

    def nested(): ...

    def broken():
        yield 1
        raise OSError("half-way")

    wrong = [
        (tasks.double, TypeError, r"double\(\): missing a required argument: 'x'"),
        (lambda: tasks.double(Model()), InputError, r"argument 'x' of double\(\): a Model cannot"),
        (lambda: tasks.echo({"a": [1, {2: 3}]}), InputError, r"\['a'\]\[1\]: the key 2 is a int"),
        (lambda: tasks.double.map([1, {"y": 2}]), TypeError, r"item 1: double\(\): missing"),
        (lambda: tasks.double.map([]), InputError, "no items"),
        (lambda: tasks.double.map("text"), InputError, "takes a list of items; this is a str"),
        (lambda: tasks.double.map(broken()), OSError, "half-way"),
        (lambda: tasks.double.map([1], max_concurrent=0), InputError, "give 1 or more"),
        (lambda: tasks.double.after(3)(1), InputError, r"after\(\) takes jobs"),
        (penstock.task(nested), InputError, "nested is defined inside test_nothing"),
        (penstock.task(lambda: 1), InputError, "a lambda has no name"),
        (penstock.task(Model().go), InputError, "go is a method of an object"),
        (penstock.workflow(tasks.plain), InputError, "the name plain of sdk_tasks is not this"),
        (lambda: tasks.double.with_options(mem="2X")(1), InputError, "@task of double: mem"),
        (
            lambda: tasks.double.with_options(memm=1)(1),
            InputError,
            "no option 'memm'; did you mean",
        ),
    ]
    with cluster:
        for call, error, message in wrong:
            with pytest.raises(error, match=message):
                call()
        job = tasks.double(1)
        assert job.get_result(30) == 2
    assert list(cluster.service.execution(job.session.id)["jobs"]) == ["double-0"]


def test_a_canceled_session_takes_no_more(sdk_machines, cluster, tasks):  # W7
    with cluster:
        job = tasks.sleep(30)
        until(lambda: job.status == "started")
        assert sdk_machines.run("cancel", job.session.id).returncode == 0
        with pytest.raises(JobCanceled):
            job.get_result(30)
        with pytest.raises(ExecutionCanceled, match="takes no more"):
            tasks.double(1)


def test_an_executor_runs_functions_on_the_cluster(cluster, tasks):  # S2
    plain = tasks.double.function  # a function as any other
    with penstock.PenstockExecutor(cluster, retry=0) as executor:
        jobs = [executor.submit(plain, n, more=n) for n in range(3)]
        assert [job.result(30) for job in as_completed(jobs)] != []
        assert [job.result() for job in jobs] == [0, 3, 6]
        assert list(executor.map(plain, [1, 2, 3], timeout=30)) == [2, 4, 6]
        assert list(executor.map(plain, [])) == []
        assert list(executor.map(os.path.basename, ["a/b", "c"])) == ["b", "c"]
        found = executor.map(tasks.fails, ["a"])
        with pytest.raises(JobFailed, match="ValueError: a"):
            next(found)
        with pytest.raises(TimeoutError):
            next(executor.map(tasks.sleep, [2], timeout=0.05))
        with pytest.raises(InputError, match="a lambda has no name"):
            executor.submit(lambda: 1)
        late = executor.submit(tasks.sleep, 0.3)
    assert late.done()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(plain, 1)


def test_an_executor_may_cancel_what_it_has_not_run(cluster, tasks):  # S2
    executor = penstock.PenstockExecutor(cluster)
    job = executor.submit(tasks.sleep, 60)
    executor.shutdown(cancel_futures=True)
    with pytest.raises(JobCanceled):
        job.result(10)


def test_workflows_that_wait_for_their_jobs_hold_up_nobody(cluster, tasks):  # S2
    with cluster:
        found = tasks.sums.map([1, 2, 3, 4], max_concurrent=4)
        assert found.get_results(60) == [
            {"total": n * (n - 1), "each": [4], "n": n} for n in range(1, 5)
        ]


def test_a_workflow_whose_process_died_does_not_run_again_what_is_done(cluster, tasks, tmp_path):
    with cluster:
        job = tasks.dies_once(str(tmp_path / "runs"))
        assert job.get_result(60) == ["a", "b", "c"]
    assert sorted((tmp_path / "runs").read_text().split()) == ["a", "b", "c"]
    assert cluster.service.execution(job.session.id)["jobs"][job.name]["attempt"] == 2


@pytest.mark.parametrize("how", ["arguments", "function", "items"])
def test_a_workflow_that_makes_other_calls_the_second_time_is_told_so(cluster, tasks, how):
    with cluster:
        job = tasks.changes_its_mind(how)
        with pytest.raises(JobFailed, match="is not the one that an earlier attempt made"):
            job.get_result(60)


def test_a_workflow_may_be_a_coroutine(cluster, tasks):
    with cluster:
        assert tasks.awaits(1).get_result(60) == 4


def test_a_call_after_the_session_was_closed_for_silence_is_refused(cluster, tasks, tmp_path):  # Q8
    gate = tmp_path / "gate"
    with cluster:
        job = tasks.await_file(str(gate))
        cluster.service.store.extend(job.session.id, STATIC, 1, True, [])
        with pytest.raises(ClientGone, match="was not heard of for 60 s"):
            tasks.double(1)
        with pytest.raises(ClientGone):
            tasks.double.map([1])
        gate.touch()
        assert job.get_result(30)


def test_threads_may_be_in_blocks_of_one_cluster(cluster, tasks):  # S2
    both, found = threading.Barrier(2, timeout=30), {}

    def enters(n):
        with cluster:
            job = tasks.double(n)
            both.wait()
            found[n] = (job.get_result(30), job.session.id)
            if n == 1:
                both.wait()
        if n == 2:
            both.wait()  # it is out before the one that came first

    threads = [threading.Thread(target=enters, args=(n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (found[1][0], found[2][0]) == (2, 4)
    assert found[1][1] != found[2][1]
    assert tasks.double(5) == 10


def test_fan_outs_lie_in_each_other(cluster, sdk_machines):  # F4
    """A template that runs a workflow, whose map is the inner one; on two slots."""
    sdk_machines.orchestrator()
    template = {"run": "sdk_tasks:sums", "config": {"count": "${n}"}}
    jobs = [
        {"id": "outer", "type": "fan-out", "template": template, "parameters": [{"name": "n", "range": [1, 5]}]},
        {"id": "all", "type": "fan-in", "fan_out_job_id": "outer", "aggregation": {"strategy": "collect-all"}},
    ]  # fmt: skip
    file = as_yaml(sdk_machines.code / "nested.json", {"jobs": jobs})
    execution = cluster.submit(file)
    found = execution.result(60)["aggregated_result"]
    service = cluster.service
    assert service.resolve("last") == service.executions(limit=1)[0]["id"] == execution.id
    parents = [one["parent"] for one in service.executions(inner=True) if one["parent"]]
    assert len([one for one in parents if one.startswith(execution.id)]) == 4
    assert found == [{"total": n * (n - 1), "each": [4], "n": n} for n in range(1, 5)]
