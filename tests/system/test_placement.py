"""Jobs run only where they may, and never beyond what a node has."""  # Q1 Q2 Q3

from __future__ import annotations

import random
from typing import Any

from penstock.common.jobs import parse_amounts
from support.processes import as_yaml

NODES = {
    "c": {"tags": {"cpu"}, "cpus": 4.0, "gpus": 0.0, "ram": 4e9, "slots": 4.0},
    "g": {"tags": {"gpu"}, "cpus": 4.0, "gpus": 2.0, "ram": 2e9, "slots": 4.0},
}
LOOK_PAST = 32


def mixed_jobs(seed: int, count: int) -> list[dict[str, Any]]:
    """Jobs of random class, priority and requests, each of which fits some node."""
    draw = random.Random(seed)
    jobs = []
    for index in range(count):
        tag = draw.choice(["", "cpu", "gpu"])
        wants: dict[str, Any] = {}
        if draw.random() < 0.5:
            wants["cpus"] = draw.choice([1, 2, 3])
        if draw.random() < 0.4:
            wants["ram"] = f"{draw.choice([200, 500, 900, 1500])}MB"
        if tag == "gpu" and draw.random() < 0.6:
            wants["gpus"] = draw.choice([1, 2])
        jobs.append(
            {
                "id": f"j{index}",
                "run": "flow:nap",
                "config": {"s": round(draw.uniform(0, 0.06), 3)},
                "priority": draw.randint(1, 10),
                "capabilities": [tag] if tag else [],
                "resources": wants,
            }
        )
    return jobs


def needs_of(job: dict[str, Any]) -> dict[str, float]:
    wants = job["resources"]
    needs = {"cpus": float(wants.get("cpus", 1.0)), "slots": 1.0}
    if "ram" in wants:
        needs["ram"] = int(wants["ram"].removesuffix("MB")) * 1e6
    if "gpus" in wants:
        needs["gpus"] = float(wants["gpus"])
    return needs


def fits(needs: dict[str, float], free: dict[str, float]) -> bool:
    return all(amount <= free.get(name, 0.0) + 1e-9 for name, amount in needs.items())


def serves(node: str, job: dict[str, Any]) -> bool:
    return set(job["capabilities"]) <= NODES[node]["tags"]  # type: ignore[operator]


class Replay:
    """The lists and what each node has free, replayed from the events; judges each claim."""

    def __init__(self, jobs: dict[str, dict[str, Any]]):
        self.jobs = jobs
        self.lists: dict[int, dict[str, list[str]]] = {}
        self.used = {node: dict.fromkeys(("cpus", "gpus", "ram", "slots"), 0.0) for node in NODES}
        self.runs_on: dict[str, str] = {}
        self.claims = self.reservations = 0

    def play(self, events: list[dict[str, str]]) -> None:
        for event in events:
            getattr(self, event["event"], lambda event: None)(event)

    def job_queued(self, event: dict[str, str]) -> None:
        self._list(event["job"]).append(event["job"])

    def node_reserved(self, event: dict[str, str]) -> None:
        self.reservations += 1

    def job_started(self, event: dict[str, str]) -> None:
        self.claims += 1
        name, node = event["job"], event["node"]
        free = parse_amounts(event["free"])
        assert serves(node, self.jobs[name]), f"{name} on {node}"
        for what, amount in self.used[node].items():
            left = NODES[node][what] - amount  # type: ignore[operator]
            assert free.get(what, 0.0) <= left + 1e-6, (event, self.used[node])
        if not event["reservation"]:
            self._judge_order(event, free)
        self._list(name).remove(name)
        self.runs_on[name] = node
        self._use(name, 1.0)

    def job_finished(self, event: dict[str, str]) -> None:
        self._use(event["job"], -1.0)

    def _judge_order(self, event: dict[str, str], free: dict[str, float]) -> None:
        """None of the first 32 entries of a higher priority's list may have fitted."""
        higher = [
            lists
            for priority, lists in self.lists.items()
            if priority > int(event["queue"].rpartition(".p")[2])
        ]
        for waiting in (waiting for lists in higher for waiting in lists.values()):
            for other in waiting[:LOOK_PAST]:
                fitted = serves(event["node"], self.jobs[other]) and fits(
                    needs_of(self.jobs[other]), free
                )
                assert not fitted, f"{event['job']} before {other}: {event}"

    def _list(self, name: str) -> list[str]:
        job = self.jobs[name]
        class_ = "+".join(job["capabilities"]) or "any"
        return self.lists.setdefault(job["priority"], {}).setdefault(class_, [])

    def _use(self, name: str, sign: float) -> None:
        used = self.used[self.runs_on[name]]
        for what, amount in needs_of(self.jobs[name]).items():
            used[what] += sign * amount
            assert used[what] <= NODES[self.runs_on[name]][what] + 1e-6, name  # type: ignore[operator]


def test_200_mixed_jobs_on_two_nodes(machines, figure):
    machines.orchestrator()
    for name, node in NODES.items():
        machines.worker(
            name, "--capabilities", ",".join(node["tags"]), "--cpus", "4",
            "--gpus", str(int(node["gpus"])), "--ram", str(int(node["ram"])), concurrency=4,
        )  # fmt: skip
    jobs = mixed_jobs(20261122, 200)
    execution = machines.submit(
        as_yaml(machines.code / "placement.json", {"name": "mix", "jobs": jobs})
    )
    found = machines.wait(execution, 110)
    assert found["status"] == "succeeded"
    mine = [event for event in machines.events() if event.get("execution") == execution]
    replay = Replay({job["id"]: job for job in jobs})
    replay.play(mine)
    assert replay.claims == 200
    figure(f"{replay.claims} claims judged, 0 faults, {replay.reservations} reservations")
