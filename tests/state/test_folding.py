"""Children that have finished leave Redis; what their fan-ins need of them stays, once each."""  # F4 F7

from __future__ import annotations

import json
import math
import random

import pytest

from penstock.common.errors import NotFound
from penstock.common.state import fanouts, keys
from penstock.common.state.fanouts import Folded
from penstock.orchestrator import audit as audits
from penstock.orchestrator.audit import audit
from penstock.orchestrator.engine import folding
from support.scripted import EXECUTION_ID, TTL_S, bad, done, new_job


@pytest.fixture
def six(cluster):
    """A fan-out of six children in two chunks, and a node for all of them."""
    source = new_job("src", kind="fan-out", dependents="best?")
    del source.fields["origin"]
    cluster.submit(source, new_job("best", ("src?",), kind="fan-in"))
    cluster.store.open_group(EXECUTION_ID, "src", 6, 0, 1000, "{}", folds=True)
    for chunk in (0, 1):
        jobs = [new_job(f"src_{i}", group="src") for i in range(3 * chunk, 3 * chunk + 3)]
        cluster.store.extend(EXECUTION_ID, "src", chunk, chunk == 1, jobs)
    return cluster.node(slots=6, resources={"cpus": 6.0})


def fold(cluster, folds: int, *chunks: Folded, text: str = "{}", replace: bool = False) -> bool:
    return fanouts.fold(cluster.store, EXECUTION_ID, "src", folds, text, replace, chunks)


def live(cluster) -> str:
    return cluster.store.group(EXECUTION_ID, "src")["live"].strip()


def test_what_is_folded_is_gone_and_counts_as_before(cluster, six):
    children = six.claim(6)
    six.advance(*(done(one, log=b"text") for one in children[:4]))
    assert live(cluster) == "0 1"
    names = [one.name for one in children]
    assert fold(cluster, 0, Folded(0, False, names[:3]), Folded(1, True, names[3:4]))
    assert cluster.store.job_names(EXECUTION_ID) == ["src", "best", "src_4", "src_5"]
    assert live(cluster) == "1"
    for name in names[:4]:
        assert not cluster.client.keys(f"*{name}*")
    assert cluster.client.zcard(keys.finished("any.p5")) == 0
    assert audit(cluster.store) == []
    six.advance(done(children[4]), done(children[5]))
    assert cluster.statuses("src") == ["finished"]
    assert cluster.store.execution(EXECUTION_ID)["finished"] == "7"
    assert fanouts.widths(cluster.client, EXECUTION_ID, ["src"]) == [(6, 6, 4)]


def test_each_is_folded_once_whoever_does_it_and_however_often(cluster, six):
    children = six.claim(6)
    six.advance(*(done(one) for one in children[:3]))
    first, second = (Folded(0, True, [one.name]) for one in children[:2])
    assert fold(cluster, 0, first, text='"a"')
    assert not fold(cluster, 0, first, text='"a"'), "the same request again"
    assert not fold(cluster, 0, second, text='"b"'), "another who had not heard of the first"
    assert fold(cluster, 1, second, text='"ab"', replace=True)
    assert fold(cluster, 2, Folded(0, False, [children[2].name]), text='"c"')
    assert fanouts.folded(cluster.client, EXECUTION_ID, "src") == [b'"ab"', b'"c"']
    assert fanouts.folded(cluster.client, EXECUTION_ID, "src", -1) == [b'"c"']
    assert cluster.store.group(EXECUTION_ID, "src")["folded"] == "3"


def test_a_late_settle_of_a_folded_child_is_stale(cluster, six):
    first, *_ = six.claim(6)
    six.advance(done(first))
    fold(cluster, 0, Folded(0, True, [first.name]))
    assert six.advance(done(first, b"2")).verdicts == ["STALE"]
    assert not cluster.client.exists(keys.job(first.token.job))


def test_nothing_is_folded_once_the_fan_out_has_ended_or_its_execution(cluster, six):
    children = six.claim(6)
    six.advance(*(done(one) for one in children[:5]))
    chunk = Folded(0, False, [children[0].name])
    cluster.store.control(EXECUTION_ID, "pause")
    assert fold(cluster, 0, chunk)
    cluster.store.control(EXECUTION_ID, "cancel")
    assert not fold(cluster, 1, Folded(0, False, [children[1].name]))
    cluster.store.retry(EXECUTION_ID)
    cluster.store.open_group(EXECUTION_ID, "src", 6, 0, 1000, "{}", folds=True)
    (again,) = six.claim(6)
    assert again.name == "src_5"
    six.advance(done(again))
    assert cluster.statuses("src") == ["finished"]
    assert not fold(cluster, 1, Folded(0, False, [children[1].name])), "its fan-ins may read it now"


def test_a_failed_child_stays_and_is_what_a_retry_runs(cluster, six):
    children = six.claim(6)
    six.advance(bad(children[0]), *(done(one) for one in children[1:5]))
    names = [one.name for one in children]
    assert fold(cluster, 0, Folded(0, False, names[1:3]), Folded(1, True, names[3:5]))
    assert live(cluster) == "1"
    six.advance(done(children[5]))
    assert cluster.statuses("src") == ["failed"]
    cluster.store.fail_control(EXECUTION_ID, "best", '{"type": "X", "message": "m"}')
    assert cluster.status == "failed"
    assert cluster.store.retry(EXECUTION_ID) == "RUNNING"
    opened = cluster.store.open_group(EXECUTION_ID, "src", 6, 0, 1000, "{}", folds=True)
    assert opened == ("OK", 6, 2, 5)
    (again,) = six.claim(6)
    assert again.name == "src_0"
    six.advance(done(again))
    assert cluster.statuses("src", "src_0", "src_5") == ["finished"] * 3
    assert audit(cluster.store) == []


def test_a_fold_waits_while_something_is_left_to_do(cluster, six):
    """A cancel or a retry that walks the jobs a step at a time must not find them moved."""
    (first, *_) = six.claim(6)
    six.advance(done(first))
    cluster.client.rpush(keys.outbox(EXECUTION_ID), f"reopen {EXECUTION_ID} src 0")
    assert not fold(cluster, 0, Folded(0, True, [first.name]))
    cluster.client.delete(keys.outbox(EXECUTION_ID))
    assert fold(cluster, 0, Folded(0, True, [first.name]))


def test_all_of_it_gets_its_ttl(cluster, six):
    children = six.claim(6)
    six.advance(*(done(one) for one in children[:3]))
    fold(cluster, 0, Folded(0, True, [children[0].name]))
    cluster.store.control(EXECUTION_ID, "cancel")
    mine = [key for key in cluster.client.keys("*") if EXECUTION_ID.encode() in key]
    assert keys.folded(EXECUTION_ID, "src").encode() in mine
    assert all(0 < cluster.client.ttl(key) <= TTL_S for key in mine)


# -- the whole way, with an engine


def averaged(strategies, size, **fan_out):
    template = {"run": "m:f", "config": {"i": "${i}"}}
    axis = [{"name": "i", "values": list(range(size))}]
    source = {"id": "all", "type": "fan-out", "template": template, "parameters": axis, **fan_out}
    return [
        source,
        *(
            {"id": name, "type": "fan-in", "fan_out_job_id": "all", "aggregation": how}
            for name, how in strategies.items()
        ),
    ]


STRATEGIES = {
    "average": {"strategy": "average-metrics"},
    "best": {"strategy": "best-metric", "metric_name": "x"},
    "low": {"strategy": "worst-metric", "metric_name": "x"},
    "top": {"strategy": "top-k", "metric_name": "x", "k": 3},
    "spread": {"strategy": "quantiles", "metric_name": "x", "quantiles": [0, 0.5, 1]},
    "vote": {"strategy": "majority-vote"},
    "number": {"strategy": "count"},
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_folded_children_give_what_kept_ones_give(drive, cluster, fails, policy):
    values = [random.Random(7).choice([1e16, 1.0, -1e16, 0.1, 3.0, 2.0**60]) for _ in range(60)]

    def work(name, config):
        if fails and config["i"] % 7 == 3:
            return 1 / 0
        return {"x": values[config["i"]], "t": config["i"]}

    how = {name: {**one, "on_failed": policy} for name, one in STRATEGIES.items()}
    outcomes = []
    for kept in (True, False):
        jobs = averaged(how, 60, keep_results=kept)
        found = drive(jobs, work, window=5)
        rows = {name: found["jobs"][name] for name in STRATEGIES}
        outcomes.append(
            {
                name: (row["status"], row["result"], (row["error"] or {}).get("message"))
                for name, row in rows.items()
            }
        )
        assert found["jobs"]["all"]["total"] == 60
        assert (found["jobs"]["all"]["folded"] > 30) == (not kept)
        assert found["progress"]["done"] + found["progress"]["failed"] >= 60
    assert outcomes[0] == outcomes[1]
    if not fails:
        mean = outcomes[1]["average"][1]["aggregated_result"]["x"]
        assert mean == math.fsum(values) / 60
        best = outcomes[1]["best"][1]
        assert best["chosen"][0]["parameters"]["i"] == values.index(max(values))


def test_a_collect_all_beside_them_keeps_the_children(drive, monkeypatch):
    monkeypatch.setattr(folding, "KEPT_CHILDREN", 10)
    strategies = {"all-of-it": {"strategy": "collect-all"}, "best": STRATEGIES["best"]}
    found = drive(
        averaged(strategies, 30),
        lambda name, config: {"x": config["i"]},
        window=5,
    )
    assert found["jobs"]["all"]["folded"] == 0
    assert found["jobs"]["all-of-it"]["result"]["aggregated_result"] == [
        {"x": i} for i in range(30)
    ]


def test_a_folded_child_is_not_found_and_its_user_told_why(drive, cluster, service):
    found = drive(
        averaged({"best": STRATEGIES["best"]}, 30, keep_results=False),
        lambda name, config: {"x": config["i"]},
        window=5,
    )
    for ask in (service.result, service.logs):
        with pytest.raises(
            NotFound, match=r"folded into the fan-ins of all .* `keep_results: true`"
        ):
            ask(found["id"], "all_0_i_0")
    with pytest.raises(NotFound, match="has no job other"):
        service.result(found["id"], "other")
    assert json.loads(cluster.client.lindex(keys.folded(found["id"], "all"), 0))["count"] > 20


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_never_made_is_missed(drive, kept):
    """A fan-out that cannot go on half-way: nothing is said of the part that there is."""
    items = [{"i": index} if index != 40 else {} for index in range(60)]
    template = {"run": "m:f", "config": {"i": "${item.i}"}}
    fan_out = {"id": "all", "type": "fan-out", "over": "${jobs.list.result}", "template": template,
               "keep_results": kept}  # fmt: skip
    number = {"id": "number", "type": "fan-in", "fan_out_job_id": "all",
              "aggregation": {"strategy": "count"}}  # fmt: skip
    found = drive(
        [{"id": "list", "run": "m:f"}, fan_out, number],
        lambda name, config: items if name == "list" else {"x": config["i"]},
        window=5,
    )
    assert found["jobs"]["all"]["status"] == found["jobs"]["number"]["status"] == "failed"
    assert " of 60 children did not finish" in found["jobs"]["number"]["error"]["message"]
    assert (found["jobs"]["all"]["folded"] > 0) == (not kept)


def test_without_fan_ins_they_go_as_well_where_it_says_so(drive):
    found = drive(averaged({}, 60, keep_results=False), lambda name, config: config["i"], window=5)
    assert found["status"] == "succeeded"
    assert found["jobs"]["all"]["folded"] > 30


def test_a_job_that_depends_on_a_large_one_finds_its_children(drive, monkeypatch):
    monkeypatch.setattr(folding, "KEPT_CHILDREN", 10)
    after = {"id": "after", "run": "m:f", "depends_on": ["all"]}
    jobs = [*averaged({"best": STRATEGIES["best"]}, 30), after]
    found = drive(jobs, lambda name, config: {"x": config.get("i")}, window=5)
    assert found["jobs"]["all"]["folded"] == 0


def deep(levels: int) -> list:
    made: list = []
    for _ in range(levels):
        made = [made]
    return made


def test_what_cannot_be_folded_stays_and_fails_only_who_needs_it(drive):
    """Outputs that a vote cannot compare: the others have them all the same."""
    strategies = {"vote": STRATEGIES["vote"], "number": STRATEGIES["number"]}
    found = drive(
        averaged(strategies, 60, keep_results=False), lambda name, config: deep(600), window=5
    )
    assert found["jobs"]["all"]["status"] == "finished"
    assert found["jobs"]["number"]["result"]["aggregated_result"] == 60
    assert found["jobs"]["vote"]["status"] == "failed"


def test_a_healthy_fan_out_has_no_finding_though_a_child_is_folded_while_it_is_looked_at(
    cluster, six, monkeypatch
):
    children = six.claim(6)
    six.advance(*(done(one) for one in children[:2]))
    fold(cluster, 0, Folded(0, True, [children[0].name]))
    jobs = audits.repairs.jobs

    def late(store, ids, mend):
        """It was started when it was read; it has finished, and was folded, when the script looks."""
        six.advance(done(children[2]))
        fold(cluster, 1, Folded(0, True, [children[2].name]))
        return jobs(store, ids, mend)

    monkeypatch.setattr(audits.repairs, "jobs", late)
    assert audit(cluster.store) == []
    monkeypatch.setattr(audits.repairs, "jobs", jobs)
    cluster.client.delete(keys.job(children[3].token.job))
    assert any("its hash is gone" in str(finding) for finding in audit(cluster.store))
    cluster.client.hset(keys.job(children[3].token.job), "status", "finished")


def test_an_expiry_that_was_cut_off_is_gone_on_with(cluster, six):
    """The names of the children are there as long as the list that leads to them."""
    six.advance(*(done(one) for one in six.claim(6)))
    token = cluster.store.start_control(EXECUTION_ID, "best", "o.1", "o")
    cluster.store.settle_control(token, "finished", "1")
    for key in cluster.client.keys(f"*{EXECUTION_ID}*"):
        cluster.client.persist(key)
    assert cluster.store.expire(EXECUTION_ID, 3)
    assert cluster.client.ttl(keys.pages(EXECUTION_ID)) == -1
    while cluster.store.expire(EXECUTION_ID, 3):
        pass
    assert all(cluster.client.ttl(key) > 0 for key in cluster.client.keys(f"*{EXECUTION_ID}*"))


def test_a_cancel_of_many_folded_chunks_takes_many_short_scripts(cluster, six):
    cluster.client.rpush(keys.jobs(EXECUTION_ID), *(f"src:{chunk}" for chunk in range(2, 1502)))
    cluster.store.control(EXECUTION_ID, "cancel")
    rounds = 1
    while cluster.store.drain_outbox():
        rounds += 1
    assert rounds >= 7
    assert cluster.statuses("src", "src_0", "src_5") == ["canceled"] * 3
