"""What must hold whatever happens, looked at from outside: the answers and what can be seen."""

from __future__ import annotations

from typing import Any

from .reference import ENDED, EXECUTION_ENDED
from .shapes import Shape, Spec
from .view import View


class Watch:
    """Looks at each request of one run. `tags` of the nodes by id."""

    def __init__(self, shapes: dict[str, Shape], tags: dict[str, tuple[str, ...]]) -> None:
        self._shapes, self._tags = shapes, tags
        self._retried: set[str] = set()
        self._settled: dict[Any, str] = {}

    def step(self, request: Any, answer: Any, before: View, after: View) -> None:
        """One request was answered; raises AssertionError on a violation."""
        about = request.about
        if "retry" in about and answer == "RUNNING":
            self._retried.add(about["retry"])
        self._commits(about, answer, before)
        self._claims(about, answer, before)
        self._fan_in(about, answer, before)
        self._ends_stay(about, before, after)
        check(self._shapes, after)
        self._retried = {x for x in self._retried if f"outbox {x}" in after}

    def _commits(self, about: dict[str, Any], answer: Any, before: View) -> None:
        """I2, I3: only the token of the attempt that runs settles it, and only once; a settle that
        is sent again is told what it was told before."""
        if "ends" not in about or not answer:
            return
        for (token, outcome), verdict in zip(about["ends"], about["verdicts"](answer), strict=True):
            row = before.get(f"job {token.job}", [""])
            runs = row[:3] == ["started", str(token.attempt), token.claim]
            if verdict == "OK" and runs:
                assert token not in self._settled, f"I2: {token} settled twice"
                self._settled[token] = outcome
            elif verdict == "OK":
                assert self._settled.get(token) == outcome, f"I3: {token} settled {outcome}: {row}"

    def _claims(self, about: dict[str, Any], answer: Any, before: View) -> None:
        """I10, I11: a job runs where its tags are; nothing of a closed execution starts."""
        if "claimed" not in about:
            return
        for job, attempt, claim in about["claimed"](answer):
            row = before[f"job {job}"]
            if row[:3] == ["started", str(attempt), claim]:
                continue  # told again
            x, _, name = job.partition("-")
            status, closing = before[f"execution {x}"][:2]
            assert not closing, f"I11: {job} starts while its execution closes"
            assert status not in EXECUTION_ENDED, f"I11: {job} starts after its end"
            assert status != "paused", f"{job} starts in a pause"
            tags = self._spec(x, name).tags
            assert {*tags} <= {*self._tags[about["node"]]}, f"I10: {job} on {about['node']}"

    def _fan_in(self, about: dict[str, Any], answer: Any, before: View) -> None:
        """I5: a fan-in begins when all children of its fan-out are there and have ended."""
        if "fan_in" not in about or not answer or answer == "ENDED":
            return
        x, name = about["fan_in"]
        for up in self._spec(x, name).after:
            source = f"{x}-{up.removesuffix('?')}"
            if before[f"job {source}"][0] == "finished":
                total, created, _, settled = before[f"group {source}"][:4]
                assert total == created == settled, f"I5: {name} begins with {settled} of {total}"

    def _ends_stay(self, about: dict[str, Any], before: View, after: View) -> None:
        """I2: an end is an end, until somebody retries; a child is folded once, when it has finished."""
        folded = about.get("folds", ())
        for label, row in before.items():
            if label.startswith("job ") and label not in after:
                assert label[4:] in folded, f"I2: {label} {row} is gone"
                assert row[0] == "finished", f"I2: {label} {row} was folded"
            elif label.startswith("job ") and row[0] in ENDED:
                x = label[4:].partition("-")[0]
                if x not in self._retried:
                    assert after[label][:2] == row[:2], f"I2: {label} {row} became {after[label]}"

    def _spec(self, x: str, name: str) -> Spec:
        return spec_of(self._shapes[x], name)


def spec_of(shape: Shape, name: str) -> Spec:
    """The job of that name, or the child of a fan-out."""
    for one in shape:
        if one.name == name:
            return one
        if one.kind == "fan-out" and name.startswith(f"{one.name}_"):
            return one.child(int(name.rpartition("_")[2]))
    raise KeyError(name)


def check(shapes: dict[str, Shape], view: View) -> None:
    """What must hold of every state."""
    for x, shape in shapes.items():
        row = view.get(f"execution {x}")
        if row:
            _check_execution(x, shape, row, view)
    _check_places(view)


def _check_execution(x: str, shape: Shape, row: list[str], view: View) -> None:
    prefix = f"job {x}-"
    jobs = {label[len(prefix) :]: job for label, job in view.items() if label.startswith(prefix)}
    head = f"group {x}-"
    groups = {label[len(head) :]: row for label, row in view.items() if label.startswith(head)}
    statuses = [job[0] for job in jobs.values()]
    for name, group in groups.items():
        created, settled, bad = int(group[1]), int(group[3]), int(group[4])
        assert 0 <= bad <= settled <= created, f"I1: {x}-{name} counts {group}"
    statuses += ["finished"] * sum(int(group[-2]) for group in groups.values())
    counts = [
        len(statuses),
        *(statuses.count(status) for status in ("finished", "failed", "canceled", "stopped")),
    ]
    assert [*map(str, counts)] == row[3:8], f"I1: {x} counts {row[3:8]}, and has {counts}"
    assert row[9] == str(statuses.count("started")), f"I1: {x} counts {row[9]} running: {statuses}"
    # What could not be compiled has failed at once, and its jobs are about to be canceled.
    if row[0] == "succeeded" or (row[0] == "failed" and row[2] == "1"):
        assert all(status in ENDED for status in statuses), f"I1: {x} {row[0]} with {statuses}"
    for name, job in jobs.items():
        one = spec_of(shape, name)
        if job[0] in ("queued", "started", "scheduled"):
            assert not _hindered(one, shape, jobs), (
                f"I4: {x}-{name} goes on: {_hindered(one, shape, jobs)}"
            )
        elif job[0] == "canceled" and row[0] == "succeeded":
            source = jobs.get(one.group, ["finished"])[0]
            stopped = one.group and groups[one.group][-1]
            bad = _hindered(one, shape, jobs) or source != "finished" or stopped
            assert bad, f"I1: {x} succeeded, and {name} was canceled without a reason"


def _hindered(one: Spec, shape: Shape, jobs: dict[str, list[str]]) -> str:
    """An upstream that has not ended, or not well where that matters; '' for none."""
    for up in one.after:
        name, any_end = up.removesuffix("?"), up.endswith("?")
        status = jobs.get(name, ["missing"])[0]
        well = any_end or spec_of(shape, name).on_failure == "continue"
        if status != "finished" and not (status in ENDED and well):
            return f"{name} is {status}"
    return ""


def _check_places(view: View) -> None:
    """I1: a job that waits stands in one list, once; one that runs has its lease."""
    queued: list[str] = []
    for label, row in view.items():
        if label.startswith("queue "):
            queued += row
    assert len(queued) == len(set(queued)), f"I1: twice in a list: {queued}"
    due = view.get("due", [])[::2]
    wip = view.get("wip", [])
    for label, row in view.items():
        if not label.startswith("job "):
            continue
        id = label[4:]
        if row[0] == "queued" and not _closed(view, id):
            assert id in queued, f"I7: {id} is queued, and in no list"
        elif row[0] == "scheduled":
            assert id in due, f"I7: {id} is scheduled, and not due"
        elif row[0] == "started" and row[3] and not _closed(view, id):
            leases = view.get(f"leases {row[3]}", [])
            lease = dict(zip(leases[::2], leases[1::2], strict=True)).get(id)
            assert lease == f"{row[1]} {row[2]}", (
                f"I7: {id} runs on {row[3]} without a lease: {lease}"
            )
            assert f"{id}:{row[2]}" in wip, f"{id} runs, and RQ's tools do not see it"


def _closed(view: View, id: str) -> bool:
    """What still runs in a closed execution is about to be canceled."""
    status, closing = view[f"execution {id.partition('-')[0]}"][:2]
    return bool(closing) or status in EXECUTION_ENDED
