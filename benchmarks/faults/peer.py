"""RQ, Celery and Dramatiq as systems: their processes in environments of their own."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import uuid
from itertools import count
from pathlib import Path
from typing import Any

import redis

from chaos.history import History, Journal, Record, digest, read, spec
from chaos.proxy import Matching, Proxy
from chaos.server import Server
from penstock.common.tied import tied

from ..environments import python
from . import witness
from .log import Log
from .system import Config, Lossy, Shape, System, Worker, end_all

CODE = Path(__file__).parent / "code"
MARK = "FAULTS_FOLDER"


def _command(word: bytes, start: bytes = b"") -> Matching:
    """Requests that begin with a word, and whose next one (the key) begins with another."""
    return lambda request: request[0].upper() == word and request[1].startswith(start)


def _dispatch(command: bytes) -> Matching:
    """Dramatiq's one script, by the command that it is given."""
    return lambda request: request[0].upper() == b"EVALSHA" and command in request[4:5]


def _chord_counts(request: list[bytes]) -> bool:
    """Celery's script for a part of a chord that is done."""
    return request[0].upper() == b"EVALSHA" and request[3:4] != [] and request[3].endswith(b".j")


def _barrier_counts(request: list[bytes]) -> bool:
    """Dramatiq's barrier of a group: a key that is a UUID, set to how many are left."""
    return request[0].upper() == b"SET" and len(request[1]) == 36 and request[2].isdigit()


#: By system: the requests whose replies are worth losing.
LOSSY = {
    "rq": (
        Lossy("enqueue", "client", _command(b"RPUSH", b"rq:queue:")),
        Lossy("enqueue by URL", "client", _command(b"RPUSH", b"rq:queue:"), way="url"),
        Lossy("claim", "worker", _command(b"BLMOVE"), bool),
        Lossy("complete", "worker", _command(b"XADD", b"rq:results:")),
    ),
    "celery": (
        Lossy("enqueue", "client", _command(b"LPUSH", b"celery")),
        Lossy("claim", "worker", _command(b"BRPOP"), bool),
        Lossy("complete", "worker", _command(b"SETEX", b"celery-task-meta")),
        Lossy("acknowledge", "worker", _command(b"ZREM", b"unacked_index")),
        Lossy("count", "worker", _chord_counts),
    ),
    "dramatiq": (
        Lossy("enqueue", "client", _dispatch(b"enqueue")),
        Lossy("enqueue by URL", "client", _dispatch(b"enqueue"), way="url"),
        Lossy("claim", "worker", _dispatch(b"fetch"), any),
        Lossy("complete", "worker", _command(b"LPUSH", b"dramatiq-results")),
        Lossy("acknowledge", "worker", _dispatch(b"ack")),
        Lossy("count", "worker", _barrier_counts),
    ),
}
READERS = {"rq": witness.of_rq, "celery": witness.of_celery, "dramatiq": witness.of_dramatiq}
#: Where the system says that a job yet waits or runs; a job in none of these is lost.
KEPT = {"rq": ("rq:queue:*", "rq:wip:*", "rq:deferred:*", "rq:scheduled:*", "rq:ready:*")}


class Peer(System):
    """One of them, on a server of its own."""

    def __init__(self, config: Config, folder: Path, relayed: bool) -> None:
        super().__init__(config, folder, relayed)
        self.lossy = LOSSY[config.system]
        self.server = Server(folder)
        self._names = count(1)
        self._over: set[str] = set()
        self._finals: list[Record] = []

    def open(self) -> None:
        (self.folder / "attempts").mkdir()
        history = self.folder / "history"
        history.mkdir()
        self.server.start()
        address = ("127.0.0.1", self.server.port)
        self.redis: Any = redis.Redis(host=address[0], port=address[1])
        self.log = Log(history / "effects.jsonl")
        self.journal = Journal(history, "client")
        self.witness = witness.Witness(address, history, READERS[self.config.system])
        self.witness.start()
        if self.relayed:
            self.relays = {side: Proxy(address) for side in ("client", "worker")}
        self._agent = self._spawn(
            "agent", "client", [str(CODE / "agent.py"), self._app], pipes=True
        )
        self._asking = threading.Lock()

    @property
    def _app(self) -> str:
        return f"{self.config.system}_app"

    def _spawn(
        self, name: str, side: str, arguments: list[str], pipes: bool = False
    ) -> subprocess.Popen[bytes]:
        url = self.relays[side].url if self.relays else self.server.tcp_url
        environment = {
            **os.environ,
            **self.config.environment,
            MARK: str(self.folder),
            "FAULTS_URL": url,
            "FAULTS_WORKER": name,
            "PYTHONPATH": str(CODE),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                tied([str(python(self.config.system)), *arguments]),
                cwd=self.folder,
                env=environment,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else log,
                stderr=log,
            )

    def worker(self) -> Worker:
        name = f"w{next(self._names)}"
        given = self.config.options
        url = self.relays["worker"].url if self.relays else self.server.tcp_url
        if self.config.system == "rq":
            serializer = ["--serializer", "rq.serializers.JSONSerializer"]
            command = ["-m", "rq.cli", "worker", "--url", url, *serializer, *given, "default"]
        elif self.config.system == "celery":
            command = ["-m", "celery", "-A", self._app, "worker"]
            command += ["--concurrency", "1", "--hostname", f"{name}@bench", "-l", "INFO", *given]
        else:
            command = ["-m", "dramatiq", "--processes", "1", "--threads", "1", *given, self._app]
        return Worker(name, self._spawn(name, "worker", command))

    def _ask(self, **request: Any) -> Any:
        assert self._agent.stdin is not None
        assert self._agent.stdout is not None
        with self._asking:
            self._agent.stdin.write(json.dumps(request).encode() + b"\n")
            self._agent.stdin.flush()
            answer = json.loads(self._agent.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["done"]

    def submit(self, shape: Shape, s: float, n: int = 0) -> str | None:
        unit, sent_at = uuid.uuid4().hex[:12], time.time()
        try:
            self._ask(op="submit", unit=unit, shape=shape, s=s, n=n, way=self.way)
        except RuntimeError:
            self.refused += 1
            return None
        self.note_accepted(unit, sent_at, _specs(shape, n))
        return unit

    def unfinished(self) -> set[str]:
        committed = self.witness.committed
        for unit, jobs in self.accepted.items():
            if unit not in self._over and all((unit, job) in committed for job in jobs):
                self._over.add(unit)
        left = set(self.accepted) - self._over
        states = self._states(left)
        for unit in left:
            if all(states[unit, job][0] in ("finished", "failed") for job in self.accepted[unit]):
                self._over.add(unit)
        return left - self._over

    def _states(self, units: set[str]) -> dict[tuple[str, str], list[Any]]:
        pairs = [(unit, job) for unit in units for job in self.accepted[unit]]
        said = self._ask(op="states", ids=[f"{unit}-{job}" for unit, job in pairs]) if pairs else {}
        return {pair: said["-".join(pair)] for pair in pairs}

    def finish(self) -> None:
        states = self._states(set(self.accepted))
        held = self._held()
        for unit, names in self.accepted.items():
            jobs = {}
            for job in names:
                state, result = states[unit, job]
                if state in ("open", "missing") and f"{unit}-{job}".encode() not in held:
                    continue  # gone: neither ended nor kept anywhere
                jobs[job] = {"status": state, **_of_result(result)}
            every = {row["status"] for row in jobs.values()}
            status = "open" if every - {"finished", "failed"} or len(jobs) < len(names) else ""
            status = status or ("failed" if "failed" in every else "succeeded")
            self.journal.write("final", execution=unit, status=status, jobs=jobs)
        self.journal.flush()
        self.stored_again = self.witness.repeats

    def _held(self) -> Held:
        """The content of all keys in which the system keeps what is yet to be run."""
        everything = b""
        for pattern in KEPT.get(self.config.system, ("*",)):
            for key in self.redis.scan_iter(pattern, count=1000):
                everything += _content(self.redis, key)
        return Held(everything)

    def history(self) -> History:
        self.journal.flush()
        return with_claims(read(self.folder / "history"))

    def close(self) -> None:
        if not hasattr(self, "_agent"):
            self.server.close()
            return
        end_all(MARK, str(self.folder))
        for relay in self.relays.values():
            relay.close()
        self.witness.stop()
        self.journal.close()
        self.server.close()


class Held:
    """Is a job's id anywhere in what the system keeps?"""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __contains__(self, id_: bytes) -> bool:
        return id_ in self._content


def _content(client: Any, key: bytes) -> bytes:
    kind = client.type(key)
    if kind == b"list":
        return b"\n".join(client.lrange(key, 0, -1))
    if kind == b"hash":
        return b"\n".join(client.hvals(key))
    if kind == b"zset":
        return b"\n".join(client.zrange(key, 0, -1))
    return b"\n".join(client.smembers(key)) if kind == b"set" else b""


def _specs(shape: Shape, n: int) -> dict[str, Record]:
    if shape == "job":
        return {"j0": spec()}
    if shape == "pair":
        return {"c0": spec(), "c1": spec(["c0"])}
    children = [f"m{i}" for i in range(n)]
    return {
        **{child: spec(group="each") for child in children},
        "end": spec(children, collects="each"),
    }


def _of_result(result: Any) -> Record:
    if not isinstance(result, dict):
        return {}
    out: Record = {"result": digest(result), "told": result["attempt"]}
    if isinstance(result.get("aggregated_result"), list):
        out["inputs"] = [digest(one) for one in result["aggregated_result"]]
    return out


def with_claims(history: History) -> History:
    """Adds claims, which these systems record nowhere: an attempt is claimed when it starts, and
    starting it voids the claim of an earlier one that a fault had hit."""
    faulty = {
        (hit["execution"], hit["job"], hit["attempt"])
        for record in history
        if record["what"] == "fault"
        for hit in record["jobs"]
    }
    out: History = []
    open_claims: dict[tuple[str, str], int] = {}
    for record in history:
        where = {name: record.get(name) for name in ("execution", "job", "attempt")}
        key = (record.get("execution"), record.get("job"))
        if record["what"] == "start":
            before = open_claims.get(key)
            if before is not None and (*key, before) in faulty:
                out.append({**where, "at": record["at"], "what": "lost", "attempt": before})
            out.append({**where, "at": record["at"], "what": "claimed", "node": record["node"]})
            open_claims[key] = record["attempt"]
        elif record["what"] == "committed":
            open_claims.pop(key, None)
        out.append(record)
    return out
