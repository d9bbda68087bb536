"""What a history shows, in the figures of the table."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from chaos.checker import check
from chaos.history import History, Record

from .scenarios import Run

Key = tuple[str, str]


def figures(run: Run, history: History) -> dict[str, Any]:
    """One row of the results. Times are seconds."""
    system = run.system
    jobs = [(unit, job) for unit, names in system.accepted.items() for job in names]
    states = _states(history)
    committed = _by_job(history, "committed")
    ended = _by_job(history, "end")
    twice = [key for key in jobs if len({one["attempt"] for one in committed[key]}) > 1]
    ran_twice = [key for key in jobs if len(ended[key]) > 1]
    early = _early(system.accepted, history)
    starts = _by_job(history, "start")
    again = [key for key in jobs if system.accepted[key[0]][key[1]]["upstreams"]]
    again = [key for key in again if len(starts[key]) > 1]
    left = {state: [key for key in jobs if states.get(key, "gone") == state] for state in _LEFT}
    recovered = [again for again in _recoveries(run) if again is not None]
    out: dict[str, Any] = {
        "injections": run.count,
        "accepted": len(jobs),
        "refused": system.refused,
        "stored_again": system.stored_again,
        **{state: len(keys) for state, keys in left.items()},
        "double_commits": len(twice),
        "ran_to_the_end_twice": len(ran_twice),
        "early_dependents": len(early),
        "dependents_run_twice": len(again),
        "hit": len(run.hits),
        "not_started_again": len(run.missing()),
        "recoveries": len(recovered),
        "violations": _violations(history),
        "notes": run.notes,
    }
    if recovered:
        out["recovery_p50_s"] = round(statistics.median(recovered), 2)
        out["recovery_max_s"] = round(max(recovered), 2)
    labels = sorted(set(system.labels.values()) - {"", "trickle"})
    if labels:
        found = {"gone": left["gone"], "open": left["open"], "failed": left["failed"]}
        found |= {
            "committed twice": twice,
            "ran twice": ran_twice,
            "early": early,
            "dependents run twice": again,
        }
        refused = {label: number for label, number in run.refused.items() if number}
        out["by_kind"] = {
            label: {
                "losses": run.losses[label],
                "refused": refused.get(label, 0),
            }
            | {
                what: number
                for what, keys in found.items()
                if (number := sum(system.labels[key[0]] == label for key in keys))
            }
            for label in labels
        }
    return out


def _violations(history: History) -> dict[str, int]:
    """By invariant: the jobs that show it, or what else it was found in."""
    found = {(one.invariant, one.job) for one in check(history)}
    # That an execution is not done says no more than that one of its jobs is not.
    jobs = {(invariant, job) for invariant, job in found if "/" in job}
    told = {(invariant, job.partition("/")[0]) for invariant, job in jobs}
    return dict(sorted(Counter(invariant for invariant, _ in jobs | (found - told - jobs)).items()))


#: Ends that are no success: told as failed; kept, but not run in time; in no queue any more.
_LEFT = ("failed", "open", "gone")


def _states(history: History) -> dict[Key, str]:
    out = {}
    for record in history:
        if record["what"] == "final":
            for job, row in record["jobs"].items():
                status = row["status"]
                known = {"finished": "finished", "failed": "failed"}
                out[record["execution"], job] = known.get(status, "open")
    return out


def _by_job(history: History, what: str) -> defaultdict[Key, list[Record]]:
    out: defaultdict[Key, list[Record]] = defaultdict(list)
    for record in history:
        if record["what"] == what:
            out[record["execution"], record["job"]].append(record)
    return out


def _early(accepted: dict[str, dict[str, Record]], history: History) -> list[Key]:
    """Jobs that began before an upstream had run to its end, or before the run of it had ended
    whose result stands. (A fan-out runs nothing itself; the jobs that it made do.)"""
    starts, ends, commits = (_by_job(history, what) for what in ("start", "end", "committed"))
    out = []
    for unit, jobs in accepted.items():
        for job, spec in jobs.items():
            if not starts[unit, job]:
                continue
            first = starts[unit, job][0]["at"]
            for upstream in _that_run(spec["upstreams"], jobs):
                done = {one["attempt"] for one in ends[unit, upstream] if one["at"] <= first}
                results = commits[unit, upstream]
                if not done or (results and results[-1]["attempt"] not in done):
                    out.append((unit, job))
                    break
    return out


def _that_run(upstreams: list[str], jobs: dict[str, Record]) -> Iterator[str]:
    for upstream in upstreams:
        made = [name for name, spec in jobs.items() if spec["group"] == upstream]
        yield from made or [upstream]


def _recoveries(run: Run) -> list[float | None]:
    """From a fault until the job that it hit started again."""
    out: list[float | None] = []
    for fault, hit in run.hits:
        again = run.system.log.again(hit)
        out.append(again["at"] - fault["at"] if again else None)
    return out
