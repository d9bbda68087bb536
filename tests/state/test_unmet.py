"""Jobs that no live node could run: taken aside, their places given on, and forgotten with their end."""  # W10

from __future__ import annotations

from penstock.common.state import keys
from penstock.common.state.chunks import STATIC
from support.scripted import EXECUTION_ID, TTL_S, Node, done, new_job

FIELDS = {"name": "t", "policy": "continue", "ttl_s": TTL_S, "parallelism": 0}
LIST = f"{keys.unmet()}:gpu|"


def test_the_only_node_that_could_run_thousands_leaves(cluster):
    """Each that is taken aside gives its place to the next: as a step, not within one another."""
    total = 2000
    gpu, other = cluster.node("gpu", capabilities=("gpu",)), cluster.node("other")
    cluster.store.submit(EXECUTION_ID, "d", "", {**FIELDS, "parallelism": 1})
    jobs = [new_job(f"j{number}", tags=("gpu",)) for number in range(total)]
    for chunk in range(total // 400):
        part = jobs[chunk * 400 : chunk * 400 + 400]
        cluster.store.extend(EXECUTION_ID, STATIC, chunk, chunk == total // 400 - 1, part)
    assert len(gpu.claim(1)) == 1
    cluster.store.leave("gpu", gpu.incarnation, "it died")
    cluster.pass_time(1)
    other.beat()
    assert cluster.client.llen(keys.held(EXECUTION_ID)) >= total - 250, "one script did it all"
    for _ in range(total // 150):
        cluster.pass_time(1)
        other.beat()
    assert cluster.client.llen(LIST) == total
    assert cluster.client.llen(keys.held(EXECUTION_ID)) == 0
    gpu = Node(cluster.store, "gpu", "again", capabilities=("gpu",))
    gpu.register()
    for _ in range(total // 150):
        cluster.pass_time(1)
        gpu.beat()
    assert cluster.client.llen(LIST) == 0
    for _ in range(3):  # one at a time, as `parallelism` says
        (job,) = gpu.claim(2)
        gpu.advance(done(job))


def test_jobs_that_were_taken_aside_go_with_their_cancel(cluster):
    node = cluster.node()
    for number in range(4):
        id_ = f"execution{number}"
        cluster.store.submit(id_, "d", "", FIELDS)
        cluster.store.extend(
            id_, STATIC, 0, True, [new_job(f"j{n}", tags=("gpu",)) for n in range(9)]
        )
        if number:
            cluster.store.control(id_, "cancel")
    node.beat()
    assert cluster.client.llen(LIST) == 9


def test_a_long_list_of_them_forgets_what_ended_little_by_little(cluster):
    node = cluster.node()
    cluster.submit(new_job("waits", tags=("gpu",)))
    cluster.client.rpush(LIST, *[f"gone-j{number}" for number in range(1200)])
    for _ in range(60):
        cluster.pass_time(1.013)
        node.beat()
    assert cluster.client.llen(LIST) <= 1000
    assert cluster.client.lindex(LIST, 0).decode() == f"{EXECUTION_ID}-waits"


def test_what_only_the_returning_node_can_run_is_not_taken_aside(cluster):
    """It was silent for longer than its time-out, and its own work was held for it."""
    cluster.submit(
        new_job("a", tags=("gpu",)), new_job("b", tags=("gpu",)), parallelism=1, policy="continue"
    )
    gpu, other = cluster.node("gpu", capabilities=("gpu",)), cluster.node("other")
    (job,) = gpu.claim(1)
    cluster.keep_alive(other, seconds=5)
    assert cluster.statuses("a", "b") == ["started", "deferred"]
    again = Node(cluster.store, "gpu", "again", capabilities=("gpu",))
    again.register()
    assert cluster.statuses("a", "b") == ["queued", "deferred"]
    assert cluster.client.llen(LIST) == 0
    (job,) = again.claim(1)
    again.advance(done(job))
    assert cluster.statuses("a", "b") == ["finished", "queued"]
