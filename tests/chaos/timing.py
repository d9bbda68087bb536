"""How long things took, by a history: until a fault was mended, until what had to go was gone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from .history import History, Record
from .story import Life, Story


@dataclass(frozen=True)
class Recovery:
    """From a fault until the job that it hit was claimed again; None: it was not."""

    fault: Record
    execution: str
    job: str
    seconds: float | None


def recoveries(history: History) -> list[Recovery]:
    """One for every attempt that a fault hit and that did not end by itself all the same."""
    story = Story(history)
    out = []
    for fault in story.others:
        if fault["what"] != "fault":
            continue
        for hit in fault.get("jobs", ()):
            life = story.life(hit["execution"], hit["job"])
            if not _ended_by_itself(life, hit["attempt"]):
                again = _again(life, hit["attempt"], fault["at"])
                out.append(Recovery(fault, *life.key, again))
    return out


def delays(history: History) -> dict[str, list[float]]:
    """How long it took, in seconds, one figure for each execution or node that it concerns:

    `revoked`: from a cancel until the last claimed attempt had begun that begins in spite of it,
    `gone`: from a cancel until the last sign of life of what ran, `stale`: from a node's going
    on until that of what it had lost. 0 where there was none afterwards.
    """
    story = Story(history)
    lives: dict[str, list[Life]] = defaultdict(list)
    for life in story.lives.values():
        lives[life.key[0]].append(life)
    out: dict[str, list[float]] = {"revoked": [], "gone": [], "stale": []}
    for ack in (record for record in history if record["what"] == "cancel_acked"):
        revoked, gone = [], []
        for life in lives[ack["execution"]]:
            begun = {r["attempt"]: r["at"] for r in life.of("start")}
            over = {r["attempt"] for r in life.of("end", "committed") if r["at"] <= ack["at"]}
            for claim in life.of("claimed"):
                attempt = claim["attempt"]
                if claim["at"] > ack["at"] or attempt in over:
                    continue
                start = begun.get(attempt)
                if start is None or start > ack["at"]:
                    revoked.append(0.0 if start is None else start - ack["at"])
                else:
                    gone.append(_last_sign(life, attempt) - ack["at"])
        out["revoked"] += [max(0.0, *revoked)] if revoked else []
        out["gone"] += [max(0.0, *gone)] if gone else []
    for record in (record for record in history if record["what"] == "continued"):
        stale = []
        for hit in record["jobs"]:
            life = story.life(hit["execution"], hit["job"])
            lost = [r for r in life.of("lost") if r["attempt"] == hit["attempt"]]
            if lost and lost[0]["at"] < record["at"]:
                stale.append(_last_sign(life, hit["attempt"]) - record["at"])
        out["stale"] += [max(0.0, *stale)] if stale else []
    return out


def _last_sign(life: Life, attempt: int) -> float:
    signs = [r["at"] for r in life.of("start", "tick", "end") if r["attempt"] == attempt]
    return float(max(signs, default=0.0))


def _ended_by_itself(life: Life, attempt: int) -> bool:
    """Its own end, or its retry, was on the way already."""
    return any(r.get("attempt") == attempt for r in life.of("committed", "ended", "retrying"))


def _again(life: Life, attempt: int, since: float) -> float | None:
    for record in life.of("claimed"):
        if record["at"] > since and record["attempt"] >= attempt:
            return float(record["at"] - since)
    return None
