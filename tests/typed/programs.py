"""What a type checker sees of a program that uses the SDK; `make check` has mypy read it."""  # S1 S2

from __future__ import annotations

from typing import Any, assert_type

from penstock import Cluster, Execution, Job, JobArray, PenstockExecutor, task, workflow


@task
def length(text: str, *, more: int = 0) -> int:
    return len(text) + more


@task(mem="1G", retry=2)
def halves(numbers: list[int]) -> list[float]:
    return [number / 2 for number in numbers]


@workflow(time="1h")
def study(texts: list[str]) -> dict[str, int]:
    return {text: length(text).get_result() for text in texts}


async def program(cluster: Cluster, executor: PenstockExecutor) -> None:
    job = length("a", more=1)
    assert_type(job, Job[int])
    assert_type(job.get_result(timeout=1.0), int)
    assert_type(await job, int)
    array = length.after(job).map(["a", "b"], max_concurrent=2)
    assert_type(array, JobArray[int])
    assert_type(array[0], Job[int])
    assert_type(array[:2], list[Job[int]])
    assert_type(array.get_results(), list[int])
    assert_type(halves([job, array]), Job[list[float]])  # jobs stand for their results
    assert_type(halves.with_options(gpus=1).function(numbers=[1]), list[float])
    assert_type(study(["a"]), Job[dict[str, int]])
    assert_type(executor.submit(len, "a"), Job[int])
    execution = cluster.submit("sweep.yaml", {"lr": 0.1})
    assert_type(execution, Execution)
    assert_type(execution.result(), Any)
