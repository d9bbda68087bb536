"""Jobs run only where they may, and never beyond what a node has."""  # Q1 Q2 Q3

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from penstock.common.jobs import parse_amounts
from support.processes import as_yaml

CODE = Path(__file__).parent / "code"
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


def judge(jobs: dict[str, dict[str, Any]], events: list[dict[str, str]]) -> int:
    """Replays the events: the lists, what each node had free, and every claim. Returns the claims.

    At a claim, none of the first 32 entries of a higher priority's list that the node
    serves may have fitted what it had free.
    """
    lists: dict[tuple[int, str], list[str]] = {}
    used = {node: dict.fromkeys(("cpus", "gpus", "ram", "slots"), 0.0) for node in NODES}
    runs_on: dict[str, str] = {}
    reserved: dict[str, str] = {}
    claims = 0

    def key(name: str) -> tuple[int, str]:
        return jobs[name]["priority"], "+".join(jobs[name]["capabilities"]) or "any"

    for event in events:
        name = event.get("job", "")
        if event["event"] == "job_queued":
            lists.setdefault(key(name), []).append(name)
        elif event["event"] == "node_reserved":
            reserved[event["node"]] = name
        elif event["event"] == "job_started":
            claims += 1
            node = event["node"]
            assert serves(node, jobs[name]), f"{name} on {node}"
            free = parse_amounts(event["free"])
            total = {k: v for k, v in NODES[node].items() if k != "tags"}
            for what, amount in used[node].items():
                assert free.get(what, 0.0) <= total[what] - amount + 1e-6, (event, used[node])
            kept_for = event["reservation"]
            for (priority, class_), waiting in lists.items():
                if priority <= int(event["priority"]) or kept_for:
                    continue
                for other in waiting[:LOOK_PAST]:
                    if serves(node, jobs[other]):
                        assert not fits(needs_of(jobs[other]), free), (
                            f"{name} before {other}: {event}"
                        )
            lists[key(name)].remove(name)
            if event["rider"] == "0":
                for what, amount in needs_of(jobs[name]).items():
                    used[node][what] += amount
                    assert used[node][what] <= total[what] + 1e-6, event
            runs_on[name] = node
        elif event["event"] == "job_finished":
            for what, amount in needs_of(jobs[name]).items():
                used[runs_on[name]][what] -= amount
    return claims


def test_200_mixed_jobs_on_two_nodes(machines, figure):
    machines.orchestrator()
    for name, node in NODES.items():
        machines.worker(
            name, "--capabilities", ",".join(node["tags"]), "--cpus", "4",
            "--gpus", str(int(node["gpus"])), "--ram", str(int(node["ram"])), concurrency=4,
        )  # fmt: skip
    jobs = mixed_jobs(20261122, 200)
    execution = machines.submit(as_yaml(CODE / "placement.json", {"name": "mix", "jobs": jobs}))
    found = machines.wait(execution, 110)
    assert found["status"] == "succeeded"
    mine = [event for event in machines.events() if event.get("execution") == execution]
    claims = judge({job["id"]: job for job in jobs}, mine)
    assert claims == 200
    reservations = sum(event["event"] == "node_reserved" for event in mine)
    figure(f"{claims} claims judged, 0 faults, {reservations} reservations")
