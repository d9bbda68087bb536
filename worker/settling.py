"""Turns what happened to an attempt into its settlement. Pure, but for the retry's jitter."""

from __future__ import annotations

import json
import random
import time
from typing import Any

from ..common import retry
from ..common.jobs import Settlement
from ..common.state.store import finished_args, settlement_args
from .frames import Ended
from .held import Held, Verdict
from .results import error_record


def of_ended(ended: Ended, log: bytes) -> Verdict:
    """A job that ran to its end, well or badly."""
    outcome, metrics = "finished" if ended.ok else "failed", ended.metrics
    times = ended.started_ms, ended.ended_ms
    return Verdict(outcome, ended.result, ended.error, metrics, *times, log)


def of_failure(outcome: str, type_: str, message: str, run_s: float = 0.0) -> Verdict:
    """A job that the daemon ended, or that ended its process. `run_s` is how long it ran."""
    now_ms = time.time_ns() // 1_000_000
    return Verdict(
        outcome=outcome,
        error=error_record(type_, message, mro=[type_, "Exception", "BaseException"]),
        started_ms=now_ms - int(run_s * 1000),
        ended_ms=now_ms,
    )


def of_time_out(held: Held, run_s: float) -> Verdict:
    """A job that ran longer than it may."""
    limit = held.work.timeout_s
    message = (
        f"the job ran for {run_s:.1f} s, over its time limit of {limit:g} s, and was ended "
        "with all processes it had started; `timeout` of the job sets the limit"
    )
    return of_failure("failed", "JobTimeout", message, run_s)


def args_of(held: Held, verdict: Verdict) -> list[Any]:
    """The settlement as an advance takes it."""
    if verdict.outcome == "finished" and not (verdict.metrics or verdict.log):
        # most are: without a Settlement of its own
        took_ms = max(0, verdict.ended_ms - verdict.started_ms)
        return finished_args(held.token, verdict.result, took_ms)
    return settlement_args(settlement(held, verdict))


def settlement(held: Held, verdict: Verdict, draw: float | None = None) -> Settlement:
    """The settlement, with the delay of the retry. `draw` in [-1, 1] replaces the jitter's."""
    return Settlement(
        token=held.token,
        outcome=verdict.outcome,
        result=verdict.result,
        error=verdict.error,
        metrics=verdict.metrics,
        started_ms=verdict.started_ms,
        ended_ms=verdict.ended_ms,
        retry_ms=_retry_ms(held, verdict, draw),
        log=verdict.log,
    )


def _retry_ms(held: Held, verdict: Verdict, draw: float | None) -> int:
    if verdict.outcome == "crashed":
        return 0
    policy, left = held.work.retry, held.work.retries_left
    if verdict.outcome != "failed" or left <= 0:
        return -1
    if not retry.retries(policy, json.loads(verdict.error)["mro"]):
        return -1
    failures = max(0, int(policy.get("max", retry.DEFAULT_MAX)) - left) + 1
    jitter = random.uniform(-1, 1) if draw is None else draw
    return int(retry.delay_s(policy, failures, jitter) * 1000)
