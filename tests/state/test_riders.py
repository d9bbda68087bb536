"""Short jobs that are claimed ahead, to run one after another in a slot."""  # Q3

from __future__ import annotations

from penstock.common.state import keys
from support.scripted import bad, done, names, new_job


def test_riders_only_where_asked_and_never_with_needs(cluster):
    quick = [new_job(f"q{i}") for i in range(6)]
    cluster.submit(*quick, new_job("ram", needs="ram=1"), new_job("last"))
    node = cluster.node(slots=1, resources={"cpus": 1.0, "ram": 8e9})
    claimed = node.claim(1, ahead={"||m:f": 100})
    assert names(claimed) == [f"q{i}" for i in range(6)]
    assert [one.rider for one in claimed] == [False] + [True] * 5
    assert node.claim(0, ahead={"||other:f": 100}) == []


def test_each_rider_comes_with_its_own_work(cluster):
    odd = [
        new_job("named", refs="x"), new_job("quick", timeout=7), new_job("exact", timeout_s=0.5),
        new_job("tried", retries=2), new_job("policy", retry='{"max": 1}'),
    ]  # fmt: skip
    others = [job for i, one in enumerate(odd) for job in (one, new_job(f"plain{i}"))]
    stays = [new_job("stays", run="m:g"), new_job("behind")]
    cluster.submit(new_job("head"), new_job("plain"), *others, *stays)
    node = cluster.node(slots=1)
    held = node.claim(1, ahead={"||m:f": 99})
    assert names(held) == ["head", "plain", *(one.name for one in others)]
    tried = next(one for one in held if one.name == "tried")
    assert tried.work.retries_left == 2
    back = [one for one in held if one.name != "tried"]
    node.advance(bad(tried, retry_ms=0))  # its next attempt is another than theirs
    cluster.store.handback("n1", "n1inc", [one.token for one in back])
    cluster.pass_time(1)
    cluster.store.promote_due()
    all_of_them = node.claim(1, ahead={"||m:f": 99, "||m:g": 1})
    assert names(all_of_them) == [*(one.name for one in back), "stays", "behind", "tried"]
    by_name = {one.name: one for one in all_of_them}
    attempts = {name: one.token.attempt for name, one in by_name.items() if one.token.attempt != 1}
    assert attempts == {"tried": 2}
    work = {name: one.work for name, one in by_name.items()}
    limits = {name: one.timeout_s for name, one in work.items() if one.timeout_s != 300}
    assert limits == {"quick": 7, "exact": 0.5}
    assert [name for name, one in work.items() if one.refs] == ["named"]
    assert [name for name, one in work.items() if one.retry] == ["policy"]
    assert [name for name, one in work.items() if one.retries_left == 1] == ["tried"]
    assert [name for name, one in work.items() if one.run != "m:f"] == ["stays"]


def test_a_rider_is_started_to_rq_once_it_takes_long(cluster):
    cluster.submit(*(new_job(f"q{i}") for i in range(3)))
    node = cluster.node(slots=1)
    head, *riders = node.claim(1, ahead={"||m:f": 9})

    def seen():
        return {
            member.decode().rpartition(":")[0]
            for member in cluster.client.zrange("rq:wip:any.p5", 0, -1)
        }

    ids = [one.token.job for one in (head, *riders)]
    assert seen() == {head.token.job}
    assert [cluster.job(name).get("started_at", "") != "" for name in ("q0", "q1", "q2")] == [
        True,
        False,
        False,
    ]
    node.beat(head.token, *(one.token for one in riders))
    assert seen() == {head.token.job}, "most have ended by now"
    cluster.pass_time(0.1)
    node.advance(done(head), done(riders[0]))
    cluster.pass_time(0.6)
    node.beat(riders[1].token)
    assert seen() == {ids[2]}
    assert cluster.job("q2")["started_at"] < cluster.job("q0")["ended_at"]
    node.advance(done(riders[1]))
    assert seen() == set()


def test_a_rider_that_is_lost_or_comes_again_has_its_own_start(cluster):
    cluster.submit(*(new_job(f"q{i}", retries=3) for i in range(2)))
    node = cluster.node(slots=1)
    first, rider = node.claim(1, ahead={"||m:f": 9})
    cluster.pass_time(1)
    node.beat(first.token, rider.token)
    was = cluster.job("q1")["started_at"]
    node.advance(done(first), bad(rider, retry_ms=0))
    cluster.pass_time(60)
    cluster.store.promote_due()
    node.beat()
    (again,) = node.claim(0, ahead={"||m:f": 9})
    assert (again.token.attempt, again.rider) == (2, True)
    assert "started_at" not in cluster.job("q1")
    cluster.store.leave(node.id, node.incarnation, "daemon died")
    (_, lost) = cluster.store.histories([rider.token.job])[0]
    assert lost["started_at"] > was


def test_settling_jobs_that_others_wait_for_leaves_room_for_claims(cluster):
    firsts = [new_job(f"a{i}", dependents=f"b{i} c{i}") for i in range(60)]
    seconds = [new_job(f"{letter}{i}", (f"a{i}",)) for i in range(60) for letter in "bc"]
    cluster.submit(*firsts, *seconds[:20])
    for number, start in enumerate(range(20, 120, 50), 1):
        assert (
            cluster.store.extend(cluster.id, ":static", number, False, seconds[start : start + 50])
            == "OK"
        )
    node = cluster.node(slots=60, resources={"cpus": 60.0})
    claimed = node.claim(60)
    assert len(node.advance(*(done(one) for one in claimed), lanes=60).claimed) == 60


def test_no_riders_while_another_node_idles(cluster):
    idle, node = cluster.node("idle"), cluster.node("busy", slots=1)
    assert idle.claim(2) == []
    cluster.submit(*(new_job(f"q{i}") for i in range(3)))
    cluster.client.delete(keys.node_inbox("idle"))
    cluster.client.zadd(keys.idle(), {"idle": 0})
    assert len(node.claim(1, ahead={"||m:f": 100})) == 1


def test_riders_are_for_a_node_that_no_other_could_help(cluster):
    one, other = cluster.node("one", slots=1), cluster.node("other", slots=1)
    assert one.claim(1) == []
    cluster.submit(*(new_job(f"q{i}") for i in range(4)))
    cluster.client.zadd(keys.idle(), {"one": 0})
    assert names(one.claim(1, ahead={"||m:f": 1})) == ["q0", "q1"], "it alone was idle"
    cluster.client.zadd(keys.idle(), {"other": 0})
    assert names(other.claim(1, ahead={"||m:f": 1})) == ["q2", "q3"]
