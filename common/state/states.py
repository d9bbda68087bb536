"""The state machine of jobs and executions: states, transitions, named sets.

The statuses of jobs are RQ's own words, so that its tools show them. The chart
in docs/architecture.md is made from this table (`python -m
penstock.common.state.states`) and a test compares the two; another test checks
every transition that the scripts make against it.
"""

from __future__ import annotations

#: job status -> {next status: why}
JOB: dict[str, dict[str, str]] = {
    "deferred": {
        "queued": "upstreams are done and it is admitted",
        "started": "a fan-out opens; an orchestrator takes a fan-in",
        "finished": "a fan-out with no jobs",
        "failed": "it cannot be expanded",
        "canceled": "its upstream failed, or the execution was canceled",
    },
    "queued": {
        "started": "claimed by a node",
        "deferred": "parked: paused, or no node could ever meet it",
        "canceled": "the execution was canceled",
    },
    "started": {
        "finished": "settled with a result",
        "failed": "no retries left, or poison",
        "stopped": "stopped by a command",
        "scheduled": "failed, to be retried after its back-off",
        "queued": "handed back, or its process or node died",
        "deferred": "as queued, but its place was given away",
        "canceled": "the execution was canceled",
    },
    "scheduled": {
        "queued": "its time has come",
        "deferred": "its time has come; it waits to be admitted",
        "canceled": "the execution was canceled",
    },
    "failed": {"deferred": "retry"},
    "stopped": {"deferred": "retry"},
    "canceled": {"deferred": "retry"},
    "finished": {"deferred": "retry of a fan-out's failed jobs"},
}

#: execution status -> {next status: why}
EXECUTION: dict[str, dict[str, str]] = {
    "pending": {
        "running": "compiled",
        "paused": "pause",
        "canceled": "cancel",
        "failed": "it cannot be compiled",
    },
    "running": {
        "paused": "pause",
        "succeeded": "all jobs ended well",
        "failed": "a job failed for good",
        "canceled": "cancel",
    },
    "paused": {
        "running": "resume",
        "pending": "resume, before it was compiled",
        "succeeded": "its running jobs were the last",
        "failed": "a job failed for good",
        "canceled": "cancel",
    },
    "failed": {"running": "retry"},
    "canceled": {"running": "retry"},
    "succeeded": {},
}

#: a job in one of these has its outcome
JOB_TERMINAL = frozenset({"finished", "failed", "stopped", "canceled"})
#: an execution in one of these has its outcome
EXECUTION_TERMINAL = frozenset({"succeeded", "failed", "canceled"})


def mermaid(table: dict[str, dict[str, str]], start: str, terminal: frozenset[str]) -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {start}"]
    for state, transitions in table.items():
        lines += [f"    {state} --> {target}: {why}" for target, why in transitions.items()]
    lines += [f"    {state} --> [*]" for state in table if state in terminal]
    return "\n".join(lines)


def charts() -> tuple[str, str]:
    """The charts of jobs and of executions as they stand in docs/architecture.md."""
    job = mermaid(JOB, "deferred", JOB_TERMINAL)
    execution = mermaid(EXECUTION, "pending", EXECUTION_TERMINAL)
    return f"```mermaid\n{job}\n```", f"```mermaid\n{execution}\n```"


if __name__ == "__main__":
    print("\n\n".join(charts()))
