"""Reads a history and names what must not be: the invariants I1 to I11.

| | holds |
|---|---|
| I1 | every accepted job is there at the end, and has reached exactly one terminal state |
| I2 | at most one result of a job is committed, and the one that is stored is the committed one |
| I3 | only the attempt that was claimed last, and whose claim holds, starts, commits, goes on |
| I4 | no job is claimed or starts before its upstreams have committed |
| I5 | a job that collects reads exactly the committed results, each once, in order |
| I6 | every job that a fault hit is claimed again, or ends, within the bound |
| I7 | nothing is stuck at the end |
| I8 | no more keys after than before |
| I9 | no attempt without a reason: at most 1 + retries + crashes + losses, and retries as asked |
| I10 | a job runs only where its tags are offered |
| I11 | after a cancel was acknowledged nothing is claimed or committed; soon after it nothing of it
       begins, and what ran is gone |

Times of the system's records may be cut to the millisecond, so that a record is never later than
it says; the rules lean on that side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from .history import History, Record
from .story import EXECUTION_ENDED, TERMINAL, Key, Life, Story, Violation
from .timing import recoveries

#: How often a job may take its process down (the product's own default).
MAX_CRASHES = 3
#: After a cancel: unstarted attempts begin no later than this, running ones are gone, seconds. These
#: are what no machine, however busy, may exceed; `timing.delays` has what is promised and measured.
REVOKED_S, GONE_S = 1.0, 3.0
#: Records that end a claim without a result.
VOID = ("crashed", "lost", "handed_back", "retrying")


def check(history: History, bound_s: float | None = None, *, timed: bool = True) -> list[Violation]:
    """Everything that the history shows to be wrong. With `bound_s`, each recovery must keep it.

    Not `timed`, nothing must be gone within a time: where one fault comes on top of another, a
    node may be unable to hear of it.
    """
    story = Story(history, timed)
    found = [violation for rule in RULES for violation in rule(story)]
    for one in recoveries(history):
        if one.seconds is not None and bound_s is not None and one.seconds > bound_s:
            text = f"claimed again {one.seconds:.3f} s after the fault, later than {bound_s:g} s"
            found.append(Violation("I6", f"{one.execution}/{one.job}", text, (one.fault,)))
    return found


# -- what was accepted has one end


def _accounted_for(story: Story) -> Iterator[Violation]:  # I1, I7
    for execution, records in story.executions.items():
        accepted = [record for record in records if record["what"] == "accepted"]
        final = story.finals.get(execution)
        if accepted and final is None:
            yield Violation(
                "I1", execution, "accepted, and nothing is known at the end", (*accepted,)
            )
        elif accepted and final is not None and final.get("expired"):
            if not any(record["what"] == "execution_ended" for record in records):
                yield Violation("I1", execution, "gone without an end", (*accepted,))
        elif accepted and final is not None and final["status"] not in EXECUTION_ENDED:
            text = f"the execution is {final['status'] or 'gone'} at the end"
            yield Violation("I7" if final["status"] else "I1", execution, text, (*accepted,))
    for life in story.lives.values():
        final = story.finals.get(life.key[0])
        if life.spec is None and life.final is not None and story.executions[life.key[0]]:
            yield Violation("I1", life.name, "nobody asked for it", (*life.records[:1],))
        if life.spec is None or final is None or final.get("expired"):
            continue
        if life.final is None:
            if not _need_not_exist(story, life, final):
                yield Violation("I1", life.name, "accepted, and gone at the end")
        elif life.final["status"] not in TERMINAL:
            text = f"{life.final['status']} at the end"
            yield Violation("I7", life.name, text, (*life.records[-3:],))


def _need_not_exist(story: Story, life: Life, final: Record) -> bool:
    """A child that was not made yet when its fan-out was canceled or could not go on."""
    assert life.spec is not None
    if final["status"] == "canceled":
        return True
    group = life.spec["group"]
    source = story.lives.get((life.key[0], group)) if group else None
    return bool(source and source.final and source.final["status"] in ("canceled", "failed"))


def _one_end(story: Story) -> Iterator[Violation]:  # I1
    for life in story.lives.values():
        end: Record | None = None
        for record in life.of("committed", "ended", "reset"):
            if record["what"] == "reset":
                end = None
            elif end is not None and not end["what"] == record["what"] == "committed":  # I2 tells
                yield Violation("I1", life.name, "two terminal states", (end, record))
            else:
                end = record
        final = life.final
        if end is None or final is None or final["status"] not in TERMINAL:
            continue
        status = "finished" if end["what"] == "committed" else end["status"]
        if status != final["status"]:
            text = f"ended as {status}, and is {final['status']} at the end"
            yield Violation("I1", life.name, text, (end,))


# -- one result, of the right attempt


def _one_commit(story: Story) -> Iterator[Violation]:  # I2
    for life in story.lives.values():
        commits: list[Record] = []
        for record in life.of("committed", "reset"):
            if record["what"] == "reset":
                commits = []
                continue
            commits.append(record)
            if len(commits) > 1:
                yield Violation("I2", life.name, "two results committed", (*commits,))
        if commits and life.final is not None and life.final["status"] == "finished":
            yield from _stored(life, commits[-1])


def _stored(life: Life, commit: Record) -> Iterator[Violation]:  # I2, I3
    final = life.final
    assert final is not None
    told, result = final.get("told"), final.get("result")
    if told is not None and told != commit["attempt"]:
        text = f"the stored result is of attempt {told}, attempt {commit['attempt']} was committed"
        yield Violation("I3", life.name, text, (commit,))
    ends = [r for r in life.of("end") if r["attempt"] == commit["attempt"]]
    if result is not None and ends and all(r.get("result") not in (None, result) for r in ends):
        yield Violation(
            "I2", life.name, "the stored result is not what it returned", (*ends, commit)
        )
    if "result" in commit and result is not None and commit["result"] != result:
        yield Violation("I2", life.name, "the stored result is not the committed one", (commit,))


def _claims_hold(story: Story) -> Iterator[Violation]:  # I3
    for life in story.lives.values():
        control = bool(life.spec and life.spec["control"])
        claim: Record | None = None  # the one that holds
        last: Record | None = None
        claimed: dict[int, Record] = {}
        for record in life.records:
            what = record["what"]
            if what == "claimed":
                if claim is not None and not control:
                    yield Violation("I3", life.name, "claimed while a claim holds", (claim, record))
                claim = last = record
                claimed.setdefault(record["attempt"], record)
            elif what in VOID or what == "ended":
                claim = None
            elif what == "committed":
                if last is None:
                    if not control:
                        yield Violation("I3", life.name, "committed without a claim", (record,))
                elif claim is None:
                    text = "committed when its claim was void"
                    yield Violation("I3", life.name, text, (last, record))
                elif claim["attempt"] != record["attempt"]:
                    text = f"committed by attempt {record['attempt']}, not the one claimed last"
                    yield Violation("I3", life.name, text, (claim, record))
                claim = None
            elif what == "start" and record["attempt"] not in claimed:
                yield Violation("I3", life.name, "started without a claim", (record,))


def _stale_are_gone(story: Story) -> Iterator[Violation]:  # I3
    """A node that was given up, and goes on: what it ran is soon gone."""
    for record in story.others:
        if record["what"] != "continued" or not story.timed:
            continue
        for hit in record["jobs"]:
            life = story.life(hit["execution"], hit["job"])
            attempt = hit["attempt"]
            lost = [
                r for r in life.of("lost") if r["attempt"] == attempt and r["at"] < record["at"]
            ]
            if not lost:
                continue
            for effect in life.of("start", "tick", "end"):
                if effect["attempt"] == attempt and effect["at"] > record["at"] + GONE_S:
                    text = f"a stale attempt still runs {effect['at'] - record['at']:.2f} s later"
                    yield Violation("I3", life.name, text, (lost[0], record, effect))
                    break


def _late_are_refused(story: Story) -> Iterator[Violation]:  # I3
    """What ended while its node was stopped and given up is answered STALE."""
    for record in story.others:
        for hit in record.get("late", ()):
            life = story.life(hit["execution"], hit["job"])
            lost = [r for r in life.of("lost") if r["attempt"] == hit["attempt"]]
            refused = [r for r in life.of("stale") if r["attempt"] == hit["attempt"]]
            if lost and not refused:
                text = f"the late settle of attempt {hit['attempt']} was not refused"
                yield Violation("I3", life.name, text, (lost[0], record))


# -- order, inputs, places


def _after_upstreams(story: Story) -> Iterator[Violation]:  # I4
    for life in story.lives.values():
        upstreams = life.spec["upstreams"] if life.spec else ()
        first = next(iter(life.of("claimed", "start")), None)
        if first is None:
            continue
        for upstream in upstreams:
            above = story.life(life.key[0], upstream.rstrip("?"))
            ends = above.of("committed", "ended") if upstream[-1] == "?" else above.of("committed")
            if not ends or ends[0]["at"] > first["at"]:
                text = f"{first['what']} before {above.key[1]} had committed"
                yield Violation("I4", life.name, text, (first, *ends[:1]))
    yield from _groups_complete(story)


def _groups_complete(story: Story) -> Iterator[Violation]:  # I4
    children: dict[Key, list[Life]] = defaultdict(list)
    for life in story.lives.values():
        if life.spec and life.spec["group"]:
            children[life.key[0], life.spec["group"]].append(life)
    for key, lives in children.items():
        for commit in story.life(*key).of("committed")[:1]:
            for life in lives:
                ends = life.of("committed", "ended")
                if not ends or ends[0]["at"] > commit["at"]:
                    text = f"{key[1]} committed before this child of it had ended"
                    yield Violation("I4", life.name, text, (commit, *ends[:1]))


def _inputs(story: Story) -> Iterator[Violation]:  # I5
    groups: dict[Key, list[Life]] = defaultdict(list)
    for life in story.lives.values():
        if life.spec and life.spec["group"]:
            groups[life.key[0], life.spec["group"]].append(life)
    for life in story.lives.values():
        inputs = (life.final or {}).get("inputs")
        if not life.spec or not life.spec["collects"] or inputs is None:
            continue
        children = groups[life.key[0], life.spec["collects"]]  # in the order accepted
        wanted = [
            child.final["result"]
            for child in children
            if child.final and child.final["status"] == "finished"
        ]
        if inputs != wanted:
            place = next(
                (i for i, (a, b) in enumerate(zip(inputs, wanted, strict=False)) if a != b),
                min(len(inputs), len(wanted)),
            )
            text = f"read {len(inputs)} results of {len(wanted)}, different from place {place} on"
            yield Violation("I5", life.name, text, (*life.of("committed"),))


def _tags(story: Story) -> Iterator[Violation]:  # I10
    offered: dict[str, Record] = {}
    for record in story.history:
        if record["what"] == "node":
            offered[record["node"]] = record
        elif record["what"] == "claimed" and record.get("node") in offered:
            life = story.life(record["execution"], record["job"])
            class_ = life.spec["class"] if life.spec else record.get("class", "any")
            wanted = set() if class_ == "any" else set(class_.split("+"))
            node = offered[record["node"]]
            if not wanted <= set(node["tags"]):
                text = f"claimed by {record['node']}, which does not offer {class_}"
                yield Violation("I10", life.name, text, (node, record))


# -- recovery, and what it may cost


def _recovered(story: Story) -> Iterator[Violation]:  # I6
    for one in recoveries(story.history):
        life = story.life(one.execution, one.job)
        ended = life.of("committed", "ended")
        if one.seconds is None and not (ended and ended[-1]["at"] > one.fault["at"]):
            text = "a fault hit it, and it was not claimed again"
            yield Violation("I6", life.name, text, (one.fault, *life.records[-2:]))


def _attempts(story: Story) -> Iterator[Violation]:  # I9
    for life in story.lives.values():
        if life.spec is None or life.spec["control"]:
            continue
        count = {what: len(life.of(what)) for what in ("reset", "crashed", "lost", "retrying")}
        rounds = 1 + count["reset"]
        reasons = rounds + count["crashed"] + count["lost"] + count["retrying"]
        claims = life.of("claimed")
        attempts = max((record["attempt"] for record in claims), default=0)
        if attempts > reasons:
            text = f"{attempts} attempts, with reasons for {reasons}"
            yield Violation("I9", life.name, text, (*claims,))
        if count["retrying"] > life.spec["retries"] * rounds:
            text = f"{count['retrying']} retries, {life.spec['retries']} were asked for"
            yield Violation("I9", life.name, text, (*life.of("retrying"),))
        if count["crashed"] > MAX_CRASHES * rounds:
            yield Violation("I9", life.name, "runs on as poison", (*life.of("crashed"),))


def _keys(story: Story) -> Iterator[Violation]:  # I8
    before: Record | None = None
    for record in story.others:
        if record["what"] == "dbsize" and record["label"] == "before":
            before = record
        elif record["what"] == "dbsize" and before is not None and record["keys"] > before["keys"]:
            text = f"{record['keys']} keys, {before['keys']} before"
            yield Violation("I8", "", text, (before, record))


# -- cancel


def _after_cancel(story: Story) -> Iterator[Violation]:  # I11
    by_execution: dict[str, list[Life]] = defaultdict(list)
    for life in story.lives.values():
        by_execution[life.key[0]].append(life)
    for execution, records in story.executions.items():
        for number, ack in enumerate(records):
            if ack["what"] not in ("canceled", "cancel_acked"):
                continue
            later = [r for r in records[number:] if r["what"] in ("reopened", "resubmitted")]
            till = later[0]["at"] if later else float("inf")
            for life in by_execution[execution]:
                yield from _quiet(story, life, ack, till)


def _quiet(story: Story, life: Life, ack: Record, till: float) -> Iterator[Violation]:
    started = {r["attempt"] for r in life.of("start") if r["at"] <= ack["at"] + REVOKED_S}
    for record in life.records:
        what, after = record["what"], record["at"] - ack["at"]
        if record["at"] > till:
            return
        acked = ack["what"] == "cancel_acked"
        late = acked and story.timed
        # The system's own records are in order, also within a millisecond.
        behind = after > 0 if acked else story.place[id(record)] > story.place[id(ack)]
        wrong = (
            (what in ("claimed", "committed") and behind)
            or (
                acked
                and what == "start"
                and record["at"] > _heard_at(story, ack, record) + REVOKED_S
                and record["attempt"] not in started
            )
            or (late and what in ("tick", "end") and after > GONE_S)
        )
        if wrong:
            text = f"{what} {after:.3f} s after the execution was canceled"
            yield Violation("I11", life.name, text, (ack, record))
            return


def _heard_at(story: Story, ack: Record, start: Record) -> float:
    """When a node could hear of a cancel: one that stood still goes on with what it has, first."""
    went_on = [
        record["at"]
        for record in story.others
        if record["what"] == "continued"
        and record["target"] == start["node"]
        and record["at"] <= start["at"]
    ]
    return max([float(ack["at"]), *went_on])


def _whole(story: Story) -> Iterator[Violation]:
    for record in story.others:
        if record["what"] == "missed":
            yield Violation("history", "", "the recorder has missed a part", (record,))


RULES: tuple[Callable[[Story], Iterator[Violation]], ...] = (
    _whole,
    _accounted_for,
    _one_end,
    _one_commit,
    _claims_hold,
    _stale_are_gone,
    _late_are_refused,
    _after_upstreams,
    _inputs,
    _recovered,
    _keys,
    _attempts,
    _tags,
    _after_cancel,
)
