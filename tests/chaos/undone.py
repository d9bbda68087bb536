"""What a killed Redis had acknowledged and did not remember.

With `appendfsync everysec` it writes what it did to its file before it answers, except while an fsync runs
(one each second): killed then, it loses what it acknowledged since that began. What is promised is that
what is left is whole, so it is judged without what was undone; how much that was is counted.
"""

from __future__ import annotations

from .history import History, Record

EFFECTS = ("start", "tick", "end")
ACKNOWLEDGED = ("accepted", "cancel_acked", "resubmitted")


def without_undone(history: History) -> tuple[History, int]:
    """The history as if what was lost had never been, and how many of the system's records that are."""
    losses = [record for record in history if record["what"] == "undone"]
    if not losses:
        return history, 0
    gone = undone(history)
    claims = {_attempt(record) for record in gone if record["what"] == "claimed"}
    there = {r["execution"] for r in history if r["what"] == "final" and r["status"]}
    lost = {id(record) for record in gone}
    lost |= {id(r) for r in history if r["what"] in EFFECTS and _attempt(r) in claims}
    lost |= {id(r) for r in history if _unheard(r, losses, there)}
    lost |= _of_unseen_claims(history, losses)
    return [_hitting(record, claims) for record in history if id(record) not in lost], len(gone)


def undone(history: History) -> History:
    """The system's records of what was lost."""
    losses = [record for record in history if record["what"] == "undone"]
    return [record for record in history if any(_is_in(record, loss) for loss in losses)]


def _of_unseen_claims(history: History, losses: History) -> set[int]:
    """What a node ran by a claim that was lost before anybody read its event: no event tells of it.

    It began before Redis was killed, and the node that ran it never claimed it otherwise.
    """
    made = {(*_attempt(r), r["node"]) for r in history if r["what"] == "claimed"}
    ran = {
        (*_attempt(r), r["pid"])
        for r in history
        if r["what"] == "start"
        and (*_attempt(r), r["node"]) not in made
        and any(_is_about(r, loss) for loss in losses)
    }
    return {id(r) for r in history if r["what"] in EFFECTS and (*_attempt(r), r.get("pid")) in ran}


def _unheard(record: Record, losses: History, there: set[str]) -> bool:
    """Was a request acknowledged, and lost? That of a submission shows by its execution."""
    if record["what"] not in ACKNOWLEDGED or not any(_is_about(record, loss) for loss in losses):
        return False
    return record["what"] != "accepted" or record["execution"] not in there


def _hitting(record: Record, undone: set[tuple[str, str, int]]) -> Record:
    """A fault, without the attempts that have never been."""
    hit = {
        field: [one for one in record[field] if _attempt(one) not in undone]
        for field in ("jobs", "late")
        if record["what"] in ("fault", "continued") and field in record
    }
    return {**record, **hit} if hit else record


def _is_in(record: Record, loss: Record) -> bool:
    event = record.get("event")
    return event is not None and order(loss["since"]) < order(event) <= order(loss["till"])


def _is_about(record: Record, loss: Record) -> bool:
    """Was it acknowledged when what was lost was?"""
    return bool(order(loss["since"])[0] / 1000 <= record["at"] <= loss["at"])


def _attempt(record: Record) -> tuple[str, str, int]:
    return record["execution"], record["job"], record["attempt"]


def order(id_: str) -> tuple[int, int]:
    """By which the ids of a stream sort."""
    milliseconds, _, number = id_.partition("-")
    return int(milliseconds), int(number)
