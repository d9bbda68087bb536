"""The checker on histories made by hand: each good one is taken, each bad one is named."""  # Q5 Q13

from __future__ import annotations

import pytest

from chaos.checker import check
from chaos.history import Journal, read, spec
from chaos.timing import delays, recoveries
from chaos.undone import without_undone


class Story:
    """Writes a history of one execution `x`, one record a millisecond."""

    def __init__(self, **jobs):
        self.at = 1000.0
        self.history = []
        self.add("node", node="n1", tags=["cpu"])
        self.add("node", node="n2", tags=["cpu", "gpu"])
        self.add("accepted", execution="x", jobs=jobs or {"a": spec()})

    def add(self, what, *, later=0.001, **fields):
        self.at += later
        self.history.append({"at": self.at, "what": what, **fields})
        return self

    def job(self, what, name, attempt=1, **fields):
        return self.add(what, execution="x", job=name, attempt=attempt, **fields)

    def claim(self, name, attempt=1, node="n1", **fields):
        return self.job("claimed", name, attempt, node=node, **{"class": "any"}, **fields)

    def run(self, name, attempt=1, node="n1"):
        """A whole good attempt."""
        self.claim(name, attempt, node)
        self.job("start", name, attempt, pid=7, node=node)
        self.job("end", name, attempt, pid=7, node=node, result=f"{name}{attempt}")
        return self.job("committed", name, attempt)

    def final(self, status="succeeded", **jobs):
        """The end: by name (attempt, status) or a whole row."""
        rows = {
            name: row if isinstance(row, dict) else finished(name, row)
            for name, row in jobs.items()
        }
        return self.add("final", execution="x", status=status, jobs=rows)

    def wrong(self):
        return {violation.invariant for violation in check(self.history)}


def finished(name, attempt):
    told = {"told": attempt, "result": f"{name}{attempt}"}
    return {"status": "finished", "attempt": attempt, **told}


def canceled(attempt=0):
    return {"status": "canceled", "attempt": attempt}


def test_a_good_history_has_no_violation():
    story = Story(a=spec(), b=spec(["a"])).run("a").run("b").final(a=1, b=1)
    assert check(story.history) == []


def test_a_failover_is_no_violation():
    story = Story().claim("a").job("start", "a", pid=7, node="n1")
    story.add("fault", scenario="s", kind="kill", target="n1", jobs=[hit("a", 1)])
    story.job("lost", "a").run("a", 2, "n2").final(a=2)
    assert check(story.history) == []
    (recovery,) = recoveries(story.history)
    assert recovery.seconds == pytest.approx(0.002)


def hit(job, attempt):
    return {"execution": "x", "job": job, "attempt": attempt}


# -- each good one has a bad sister


def lost_job():
    return Story(a=spec(), b=spec()).run("a").final(a=1)


def lost_execution():
    return Story().run("a")


def unasked_job():
    return Story().run("a").run("b").final(a=1, b=1)


def two_ends():
    return Story().run("a").job("ended", "a", status="failed").final(a=1)


def other_end():
    return Story().claim("a").job("ended", "a", status="failed").final("failed", a=1)


def two_commits():
    return Story().run("a").job("committed", "a").final(a=1)


def other_result():
    row = {"status": "finished", "attempt": 1, "told": 1, "result": "other"}
    return Story().run("a").final(a=row)


def stale_result():
    story = Story().claim("a").job("start", "a", pid=7, node="n1").job("lost", "a").run("a", 2)
    return story.final(a={"status": "finished", "attempt": 2, "told": 1, "result": "a2"})


def stale_commit():
    return Story().claim("a").job("lost", "a").claim("a", 2).job("committed", "a", 1).final(a=1)


def commit_of_a_void_claim():
    return Story().claim("a").job("lost", "a").job("committed", "a").final(a=1)


def claimed_twice():
    return Story().claim("a").claim("a", 2).job("committed", "a", 2).final(a=2)


def start_without_claim():
    story = Story().claim("a").job("start", "a", 2, pid=7, node="n1")
    return story.job("committed", "a").final(a=1)


def zombie():
    story = Story().claim("a").job("start", "a", pid=7, node="n1").job("lost", "a").run("a", 2)
    story.add("continued", target="n1", jobs=[hit("a", 1)])
    return story.job("tick", "a", 1, pid=7, node="n1", later=3.2).final(a=2)


def late_settle_taken_silently():
    story = Story().claim("a").job("lost", "a").run("a", 2)
    return story.add("continued", target="n1", jobs=[], late=[hit("a", 1)]).final(a=2)


def downstream_too_early():
    return Story(a=spec(), b=spec(["a"])).claim("a").run("b").job("committed", "a").final(a=1, b=1)


def fan_in_too_early():
    jobs = {"f": spec(control=True), "f0": spec(group="f")}
    story = Story(**jobs).claim("f0").job("committed", "f").job("committed", "f0")
    return story.final(f={"status": "finished", "attempt": 1}, f0=1)


def inputs(*read):
    jobs = {"f": spec(control=True), "f0": spec(group="f"), "f1": spec(group="f")}
    story = Story(**jobs, c=spec(["f"], collects="f", control=True)).run("f0").run("f1")
    story.job("committed", "f").claim("c").job("committed", "c")
    row = {"status": "finished", "attempt": 1, "result": "r", "inputs": list(read)}
    return story.final(f={"status": "finished", "attempt": 1}, f0=1, f1=1, c=row)


def never_again():
    story = Story().claim("a")
    story.add("fault", scenario="s", kind="kill", target="n1", jobs=[hit("a", 1)])
    return story.job("lost", "a").final("running", a={"status": "queued", "attempt": 1})


def stuck():
    return Story().claim("a").final("running", a={"status": "started", "attempt": 1})


def more_keys():
    story = Story().run("a").final(a=1)
    return story.add("dbsize", label="before", keys=9).add("dbsize", label="after", keys=10)


def too_many_attempts():
    story = Story().claim("a").job("handed_back", "a").claim("a", 2).job("committed", "a", 2)
    return story.final(a=2)


def too_many_retries():
    story = Story(a=spec(retries=1)).claim("a").job("retrying", "a").claim("a", 2)
    return story.job("retrying", "a", 2).run("a", 3).final(a=3)


def wrong_node():
    return Story(a=spec(class_="cpu+gpu")).run("a").final(a=1)


def claimed_after_cancel():
    story = Story().add("canceled", execution="x").claim("a")
    return story.job("ended", "a", status="canceled").final("canceled", a=canceled(1))


def committed_after_cancel():
    return Story().claim("a").add("canceled", execution="x").job("committed", "a").final(a=1)


def begins_after_cancel():
    story = Story().claim("a").add("cancel_acked", execution="x")
    story.job("start", "a", pid=7, node="n1", later=1.2)
    return story.job("ended", "a", status="canceled").final("canceled", a=canceled(1))


def runs_on_after_cancel():
    story = (
        Story().claim("a").job("start", "a", pid=7, node="n1").add("cancel_acked", execution="x")
    )
    story.job("ended", "a", status="canceled").job("tick", "a", pid=7, node="n1", later=3.1)
    return story.final("canceled", a=canceled(1))


def missed():
    return Story().run("a").final(a=1).add("missed", since="1-0", till="2-0")


@pytest.mark.parametrize(
    ("story", "invariant"),
    [
        (lost_job(), "I1"),
        (lost_execution(), "I1"),
        (unasked_job(), "I1"),
        (two_ends(), "I1"),
        (other_end(), "I1"),
        (two_commits(), "I2"),
        (other_result(), "I2"),
        (stale_result(), "I3"),
        (stale_commit(), "I3"),
        (commit_of_a_void_claim(), "I3"),
        (claimed_twice(), "I3"),
        (start_without_claim(), "I3"),
        (zombie(), "I3"),
        (late_settle_taken_silently(), "I3"),
        (downstream_too_early(), "I4"),
        (fan_in_too_early(), "I4"),
        (inputs("f01"), "I5"),
        (inputs("f11", "f01"), "I5"),
        (inputs("f01", "f01", "f11"), "I5"),
        (never_again(), "I6"),
        (stuck(), "I7"),
        (more_keys(), "I8"),
        (too_many_attempts(), "I9"),
        (too_many_retries(), "I9"),
        (wrong_node(), "I10"),
        (claimed_after_cancel(), "I11"),
        (committed_after_cancel(), "I11"),
        (begins_after_cancel(), "I11"),
        (runs_on_after_cancel(), "I11"),
        (missed(), "history"),
    ],
)
def test_a_bad_history_is_named(story, invariant):
    assert invariant in story.wrong()


@pytest.mark.parametrize(("after_s", "wrong"), [(0.2, set()), (1.2, {"I11"})])
def test_a_node_that_stood_still_goes_on_with_what_it_has(after_s, wrong):
    """A cancel that came meanwhile is heard after that."""
    story = Story().claim("a").add("cancel_acked", execution="x")
    story.add("continued", target="n1", jobs=[], later=4.0)
    story.job("start", "a", pid=7, node="n1", later=after_s)
    story.job("ended", "a", status="canceled").final("canceled", a=canceled(1))
    assert story.wrong() == wrong


def test_inputs_all_there_in_order():
    assert inputs("f01", "f11").wrong() == set()


def test_a_recovery_that_takes_too_long():
    story = Story().claim("a")
    story.add("fault", scenario="s", kind="kill", target="n1", jobs=[hit("a", 1)])
    story.job("lost", "a").claim("a", 2, later=2.0).job("committed", "a", 2).final(a=2)
    assert check(story.history, bound_s=3.0) == []
    (violation,) = check(story.history, bound_s=1.5)
    assert (violation.invariant, violation.trace[0]["what"]) == ("I6", "fault")


def test_an_attempt_that_ended_as_the_fault_came_needs_no_recovery():
    story = Story().claim("a")
    story.add("fault", scenario="s", kind="kill", target="n1", jobs=[hit("a", 1)])
    story.job("committed", "a").final(a=1)
    assert check(story.history) == []
    assert recoveries(story.history) == []


def test_after_a_cancel_what_ran_may_take_its_second_and_a_retry_begins_anew():
    story = Story().claim("a").job("start", "a", pid=7, node="n1").add("canceled", execution="x")
    story.add("cancel_acked", execution="x").job("ended", "a", status="canceled")
    story.job("tick", "a", pid=7, node="n1", later=0.5)
    assert delays(story.history)["gone"] == [pytest.approx(0.501)]
    story.add("resubmitted", execution="x").add("reset", execution="x", job="a")
    story.run("a", 2).final(a=2)
    assert check(story.history) == []


def test_children_that_a_cancel_came_before_need_not_exist():
    story = Story(f=spec(control=True), f0=spec(group="f")).add("canceled", execution="x")
    story.job("ended", "f", 0, status="canceled").final("canceled", f=canceled())
    assert check(story.history) == []


def test_a_journal_is_read_in_order_and_without_its_cut_end(tmp_path):
    one, two = Journal(tmp_path, "one"), Journal(tmp_path, "two")
    one.write("claimed", 5.0, n=1)
    one.write("claimed", 5.0, n=2)
    two.write("start", 4.0, n=0)
    one.close()
    two.close()
    with open(two.path, "a") as file:
        file.write('{"at": 6, "wh')
    assert [record["n"] for record in read(tmp_path)] == [0, 1, 2]


def test_what_a_killed_redis_did_not_remember_is_no_part_of_the_history():
    story = Story().add("execution_running", execution="x", event="1000005-0", later=0.005)
    story.claim("a", event="1000006-0").job("start", "a", pid=7, node="n1")
    story.job("committed", "a", event="1000008-0")
    story.add("fault", scenario="s", kind="kill", target="redis", jobs=[hit("a", 1)])
    story.add("accepted", execution="y", jobs={"b": spec()}).add(
        "final", execution="y", status="", jobs={}
    )
    story.add("undone", since="1000005-0", till="1000008-0").run("a").final(a=1)
    assert story.wrong() >= {"I1", "I2"}
    left, events = without_undone(story.history)
    assert (check(left), recoveries(left), events) == ([], [], 2)


def test_what_ran_by_a_claim_that_was_lost_unseen_is_no_part_of_the_history():
    story = (
        Story().job("start", "a", pid=8, node="n2").job("end", "a", pid=8, node="n2", result="a1")
    )
    story.add("undone", since="1000003-0", till="1000006-0").run("a").final(a=1)
    assert check(without_undone(story.history)[0]) == []
    # one that begins after Redis was killed has no such excuse
    story.job("start", "a", 2, pid=9, node="n2")
    assert check(without_undone(story.history)[0]) != []


def test_a_history_of_which_nothing_was_undone_stays_as_it_is():
    story = Story().run("a").final(a=1)
    assert without_undone(story.history) == (story.history, 0)
