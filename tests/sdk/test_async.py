"""The SDK in asyncio programs, on a cluster of real processes."""  # S5

from __future__ import annotations

import asyncio
import threading

import pytest

from penstock import AsyncCluster, Cluster
from penstock.common.errors import ExecutionFailed, LockHeld, NotFound, WaitTimeout
from support.processes import until

DOUBLES = {"jobs": [{"id": "a", "run": "sdk_tasks:plain", "config": {"x": 3}}]}
FAILS = {"jobs": [{"id": "a", "run": "sdk_tasks:fails", "config": {"why": "no"}, "retry": 0}]}
SLEEPS = {"jobs": [{"id": "a", "run": "sdk_tasks:sleep", "config": {"s": 60}}]}


def thread_names():
    return [thread.name for thread in threading.enumerate()]


@pytest.fixture(autouse=True, scope="module")
def orchestrator(sdk_machines):
    """Workflows from mappings need one."""
    sdk_machines.orchestrator()


def test_the_verbs_are_awaited(sdk_machines, monkeypatch):
    monkeypatch.chdir(sdk_machines.code)

    async def program():
        cluster = AsyncCluster(sdk_machines.url)
        done, fails, sleeps = await asyncio.gather(
            *(cluster.submit(workflow) for workflow in (DOUBLES, FAILS, SLEEPS))
        )
        assert await done.result(30) == 3
        with pytest.raises(ExecutionFailed):
            await fails.result(30)
        with pytest.raises(WaitTimeout):
            await sleeps.wait(0.1)
        again = await cluster.execution(sleeps.id)
        assert (await again.status(), await again.cancel()) == ("running", "canceled")
        assert await sleeps.wait(30) == "canceled"
        with pytest.raises(NotFound):
            await cluster.execution("nosuchexecution")
        await cluster.close()

    asyncio.run(program())


def test_jobs_of_a_block_are_awaited_side_by_side(sdk_machines, tasks):
    async def program():
        async with AsyncCluster(sdk_machines.url) as cluster:
            one, array = tasks.double(1), await asyncio.to_thread(tasks.double.map, [1, 2])
            found = await asyncio.gather(one, tasks.total(array), *array)
        assert tasks.double(4) == 8  # outside of the block it is the function
        assert await (await cluster.execution(one.session.id)).wait(30) == "succeeded"
        await cluster.close()
        return found

    assert asyncio.run(program()) == [2, 6, 2, 4]


def test_a_block_is_its_own_tasks(sdk_machines, tasks):
    async def beside(inside):
        await inside.wait()
        return tasks.double(4)

    async def program():
        inside = asyncio.Event()
        other = asyncio.create_task(beside(inside))
        async with AsyncCluster(sdk_machines.url) as cluster:
            inside.set()
            assert await other == 8  # and no job
        await cluster.close()

    asyncio.run(program())


def test_a_program_that_waits_no_more_goes_on_at_once(sdk_machines, monkeypatch):
    monkeypatch.chdir(sdk_machines.code)

    async def program():
        cluster = AsyncCluster(sdk_machines.url)
        execution = await cluster.submit(SLEEPS)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(execution.result(), 0.1)
        await asyncio.to_thread(until, lambda: "penstock-waits" not in thread_names(), 10)
        assert await execution.cancel() == "canceled"
        await cluster.close()

    asyncio.run(program())


def test_a_lock_that_comes_when_nobody_waits_any_more_is_given_back(sdk_machines):
    async def program(other):
        cluster = AsyncCluster(sdk_machines.url)
        with other.lock("quota"):
            with pytest.raises(LockHeld):
                async with cluster.lock("quota", wait_s=0.05):
                    pass
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(enter(cluster), 0.1)
        async with cluster.lock("quota", wait_s=20) as held:
            held.check()
        with pytest.raises(KeyError):
            async with cluster.lock("quota", wait_s=20):
                raise KeyError
        async with cluster.lock("quota", wait_s=20) as last:
            assert last.fence > held.fence
        await cluster.close()

    async def enter(cluster):
        async with cluster.lock("quota", ttl_s=60):
            pass

    other = Cluster(sdk_machines.url)
    asyncio.run(program(other))
    other.close()
