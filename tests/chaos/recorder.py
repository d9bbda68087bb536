"""Writes down what Penstock's stream of events tells, in the words of a history.

The stream's order is the order of truth for claims and commits. It is cut at about 100,000
entries, so it is followed while it grows; what was cut before it was read is noted, and what a Redis
that was killed did not remember afterwards (see undone.py).
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import redis

from penstock.common.jobs import split_job_id
from penstock.common.state import keys
from penstock.common.state.connection import connect
from support.transitions import decoded, each_job

from .history import Journal, Record
from .undone import order

#: Why a job was queued again, in our words; all else (a claim that never arrived) is a loss.
_WHY = {"crashes": "crashed", "handed back": "handed_back"}
_PAGE = 2000
#: Between two looks, milliseconds: the stream itself says when something comes.
_BLOCK_MS = 200


class Recorder(threading.Thread):
    """Follows the stream of the Redis at `url` from its beginning, over restarts of it, until `stop`.

    With `by_arrival` records have this machine's time instead of the server's, for a server whose
    clock is tampered with. `seen` counts events.
    """

    def __init__(self, url: str, folder: Path, *, by_arrival: bool = False) -> None:
        super().__init__(name="recorder", daemon=True)
        self.seen = 0
        self._client: Any = connect(url, name="recorder", reply_timeout_s=5.0)
        self._journal = Journal(folder, "system")
        self._last = "0-0"
        self._was_away = False
        self._by_arrival = by_arrival
        self._ending = threading.Event()
        self._pages = threading.Condition()
        self._page = 0

    def run(self) -> None:
        while not self._ending.is_set():
            try:
                self._follow()
            except redis.RedisError:
                self._was_away = True
                time.sleep(0.02)  # it is away, or loads its data
        self._journal.close()

    def _follow(self) -> None:
        if self._was_away:
            self._look_for_a_loss()
            self._was_away = False
        found = self._client.xread({keys.events(): self._last}, count=_PAGE, block=_BLOCK_MS)
        entries = found[0][1] if found else []
        if len(entries) == _PAGE:
            self._look_for_a_gap()
        for id_, raw in entries:
            self._take(id_.decode(), decoded(raw))
        self._journal.flush()
        with self._pages:
            self._page += 1
            self._pages.notify_all()

    def _look_for_a_loss(self) -> None:
        """Does it remember what it told last? (A stream that is empty has lost all: no matter of its tail.)"""
        newest = self._client.xrevrange(keys.events(), self._last, "-", count=1)
        kept = newest[0][0].decode() if newest else self._last
        if kept != self._last:
            self._journal.write("undone", since=kept, till=self._last)
            self._last = kept

    def _look_for_a_gap(self) -> None:
        """More came than one page: was something cut off before it was read?"""
        deleted = self._client.xinfo_stream(keys.events()).get("max-deleted-entry-id", b"0-0")
        if order(deleted.decode()) > order(self._last) and self._last != "0-0":
            self._journal.write("missed", since=self._last, till=deleted.decode())

    def _take(self, id_: str, event: dict[str, str]) -> None:
        self._last = id_
        self.seen += 1
        at = time.time() if self._by_arrival else order(id_)[0] / 1000
        for one in each_job(event):
            record = translate(one)
            if record is not None:
                self._journal.write(record.pop("what"), at, event=id_, **record)

    def catch_up(self, timeout_s: float = 10.0) -> None:
        """Returns when all that the stream holds by now is written down."""
        info = self._client.xinfo_stream(keys.events())
        last, deadline = info["last-generated-id"].decode(), time.monotonic() + timeout_s
        with self._pages:
            while order(self._last) < order(last) and time.monotonic() < deadline:
                self._pages.wait(0.1)

    def stop(self) -> None:
        """Ends the thread; safe before the start and twice."""
        self._ending.set()
        if self.is_alive():
            self.join()
        self._client.close()


def translate(event: dict[str, str]) -> Record | None:
    """One event in the words of a history; None for what it has no word for."""
    kind = event["event"]
    if kind.startswith("job_"):
        return _of_job(kind.removeprefix("job_"), event)
    if kind == "settle_stale":
        execution, job = split_job_id(event["id"])
        where = {"execution": execution, "job": job, "attempt": int(event["attempt"])}
        return {"what": "stale", "node": event["node"], **where}
    if kind.startswith("execution_"):
        words = {"canceled": "canceled", "ended": "execution_ended", "running": "running"}
        word = words.get(kind.removeprefix("execution_"))
        status = {"status": event["status"]} if "status" in event else {}
        return {"what": word, "execution": event["execution"], **status} if word else None
    if kind == "node_registered":
        return {"what": "node", "node": event["node"], "tags": event["capabilities"].split()}
    if kind in ("node_left", "node_lost", "node_reaped"):
        return {"what": kind, "node": event["node"]}
    return None


def _of_job(kind: str, event: dict[str, str]) -> Record | None:
    where: Record = {"execution": event["execution"], "job": event["job"]}
    if "attempt" in event:
        where["attempt"] = int(event["attempt"])
    if kind == "started" and "total" not in event:
        node = event.get("node") or event["orchestrator"]
        class_ = {"class": event["queue"].rpartition(".p")[0]} if "queue" in event else {}
        rider = {"rider": True} if event.get("rider") == "1" else {}
        return {"what": "claimed", **where, "node": node, **class_, **rider}
    if kind == "started":
        return {"what": "opened", **where}
    if kind == "finished":
        return {"what": "committed", **where}
    if kind in ("failed", "canceled", "stopped"):
        return {"what": "ended", **where, "status": kind}
    if kind == "requeued":
        return {"what": _WHY.get(event["why"], "lost"), **where}
    words = {"scheduled": "retrying", "deferred": "reset", "queued": "queued"}
    return {"what": words[kind], **where} if kind in words else None
