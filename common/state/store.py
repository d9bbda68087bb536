"""Typed calls on the state in Redis: one method a script, and the plain reads.

Requests are built and replies are parsed by functions of their own, so that the
worker daemon, which waits on many things at once, can send and receive them on
a connection of its own.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import redis

from ..jobs import (
    Advanced,
    Beaten,
    NodeInfo,
    Settlement,
    Token,
    format_amounts,
    job_id,
    split_job_id,
)
from . import fanouts, keys
from .chunks import CHUNK, Chunk, Field, NewJob, packed, unpacked, with_shared
from .replies import (
    as_mapping,
    as_text,
    as_texts,
    parse_advance,
    parse_beat,
    parse_outcomes,
    parse_results,
)
from .scripts import Ahead, Limits, Request, Script, Scripts, run, run_all


class Item(NamedTuple):
    """Work for an orchestrator: its domain, and `<verb> <execution> <job>`."""

    domain: str
    text: str


class Taken(NamedTuple):
    """Leased items, the mark of their lease, and seconds until more may be taken (None: unknown)."""

    mark: str
    items: list[Item]
    next_s: float | None


class Holder(NamedTuple):
    """Who holds a lock, and seconds until it ends unless it is renewed."""

    owner: str
    left_s: float


class Store:
    """The state behind one Redis. Every method is one round trip and one script, unless it only reads."""

    def __init__(
        self, client: redis.Redis, limits: Limits | None = None, scripts: Scripts | None = None
    ):
        self.client = client
        self.scripts = scripts or Scripts(limits)

    # -- requests, for those who send them on their own connection

    def advance_request(
        self,
        node: str,
        incarnation: str,
        claim_id: str,
        settlements: Sequence[Sequence[Any]],
        lanes: int,
        free: dict[str, float],
        ahead: dict[str, int],
        draining: bool = False,
    ) -> Request:
        """Settles (`settlement_args`) and claims in one round trip; send it again as it is after a lost reply."""
        args: list[Any] = [node, incarnation, claim_id, lanes, format_amounts(free), int(draining)]
        args.append(len(settlements))
        for settlement in settlements:
            args += settlement
        for key, riders in ahead.items():
            args += [key, riders]
        return self._request("node_advance", *args)

    def handback_request(self, node: str, incarnation: str, tokens: Sequence[Token]) -> Request:
        """Gives unstarted jobs back to the heads of their queues, in the order given."""
        return self._request("node_handback", node, incarnation, *_tokens_args(tokens))

    def beat_request(
        self,
        node: str,
        incarnation: str,
        tokens: Sequence[Token],
        state: str,
        answered: int | None = None,
    ) -> Request:
        """A heartbeat; `tokens` are all attempts that this daemon still holds.

        `answered` is the number of the last claim whose reply it knows; None: of any but the last.
        """
        known = "" if answered is None else answered
        return self._request("node_beat", node, incarnation, state, known, *_tokens_args(tokens))

    def log_request(self, token: Token, node: str, text: bytes, sent: int) -> Request:
        """Appends output of a running attempt, of which `sent` bytes were sent before."""
        return self._request("job_log", node, *_token_args(token), sent, text)

    def wait_request(self, node: str, incarnation: str, token: Token, waiting: bool) -> Request:
        """A job begins to wait for others inside its run, or goes on."""
        del incarnation  # the token says enough
        return self._request("node_wait", node, *_token_args(token), int(waiting))

    def leave_request(self, node: str, incarnation: str, reason: str) -> Request:
        """The node is gone: its jobs are queued again."""
        return self._request("node_leave", node, incarnation, reason)

    def results_request(self, execution: str, names: Sequence[str]) -> Request:
        """The results of finished jobs, fan-outs' counts included."""
        return self._request("job_results", execution, *names)

    # -- nodes

    def register(self, node: NodeInfo) -> str:
        """Registers a node; OK, or TAKEN when a live node of that name runs on another host."""
        resources = dict(node.resources)
        resources["slots"] = node.concurrency
        cpus = resources.get("cpus", 1.0)
        share = min(1.0, cpus / max(node.concurrency, 1))
        return self._text(
            "node_register",
            node.id,
            node.incarnation,
            node.hostname,
            " ".join(node.capabilities),
            format_amounts(resources),
            f"{share:.15g}",
            int(node.timeout_s * 1000),
            "pid",
            node.pid,
            "concurrency",
            node.concurrency,
            "version",
            node.version,
            "python",
            node.python,
        )

    def drain(self, node: str) -> str:
        """Tells a node to finish what it runs and to end; OK, or GONE when there is none."""
        return self._text("node_drain", node)

    def leave(self, node: str, incarnation: str, reason: str) -> int:
        """The node is gone; returns how many of its jobs were queued again."""
        return int(run(self.client, self.leave_request(node, incarnation, reason)))

    def advance(self, node: str, incarnation: str, claim_id: str, **rest: Any) -> Advanced:
        """As `advance_request`, of settlements as they are, sent at once; missing arguments mean none."""
        given: dict[str, Any] = {"lanes": 0, "free": {}, "ahead": {}, **rest}
        given["settlements"] = [settlement_args(one) for one in rest.get("settlements", ())]
        request = self.advance_request(node, incarnation, claim_id, **given)
        return parse_advance(claim_id, run(self.client, request))

    def beat(
        self,
        node: str,
        incarnation: str,
        tokens: Sequence[Token] = (),
        state: str = "idle",
        answered: int | None = None,
    ) -> Beaten:
        """As `beat_request`, sent at once."""
        reply = run(self.client, self.beat_request(node, incarnation, tokens, state, answered))
        return parse_beat(tokens, reply)

    def handback(self, node: str, incarnation: str, tokens: Sequence[Token]) -> list[str]:
        """As `handback_request`, sent at once; OK or STALE for each."""
        return as_texts(run(self.client, self.handback_request(node, incarnation, tokens)))

    def wait(self, node: str, incarnation: str, token: Token, waiting: bool) -> str:
        """As `wait_request`, sent at once; OK or STALE."""
        return as_text(run(self.client, self.wait_request(node, incarnation, token, waiting)))

    # -- executions

    def submit(
        self,
        execution: str,
        digest: str,
        spec: str,
        fields: dict[str, Any],
        key: str = "",
        compile_s: float = 0.0,
        jobs: Sequence[Chunk] = (),
    ) -> tuple[str, str]:
        """(OK, EXISTS or CONFLICT, the execution's id); its first chunks come in the same round trip.

        With `compile_s` whoever submits extends it; an orchestrator goes on after so many seconds.
        """
        pairs = [item for pair in fields.items() for item in pair]
        compile_ms = int(compile_s * 1000)
        requests = [
            self._request(
                "execution_submit", execution, digest, key, packed(spec), compile_ms, *pairs
            )
        ]
        requests += [self._extend_request(execution, chunk) for chunk in jobs]
        accepted, *_ = run_all(self.client, requests)
        if isinstance(accepted, redis.exceptions.ResponseError):
            raise accepted
        verdict, id_ = accepted  # what a chunk was refused for, an orchestrator meets or outlasts
        return as_text(verdict), as_text(id_)

    def extend(
        self,
        execution: str,
        stage: str,
        chunk: int,
        last: bool,
        jobs: Iterable[NewJob],
        shared: Mapping[str, Field] | None = None,
    ) -> str:
        """Adds one chunk of jobs; OK, DONE, AHEAD, RETRYING or CLOSED. `shared` are fields of all of them."""
        request = self._extend_request(execution, Chunk(stage, chunk, last, list(jobs)), shared)
        return as_text(run(self.client, request))

    def extend_each(
        self,
        execution: str,
        chunks: Iterable[Chunk],
        shared: Mapping[str, Field] | None = None,
    ) -> Generator[str, None, None]:
        """Adds one chunk after another, and gives the verdict on each (see `extend`) before it sends the next.

        Those are made while Redis takes the ones before them. To be closed where not all are wanted.
        """
        with Ahead(self.client) as ahead:
            for chunk in chunks:
                request = self._extend_request(execution, chunk, shared)
                if ahead.under_way:
                    yield as_text(ahead.reply())
                ahead.send(request)
            if ahead.under_way:
                yield as_text(ahead.reply())

    def _extend_request(
        self, execution: str, chunk: Chunk, shared: Mapping[str, Field] | None = None
    ) -> Request:
        stage, number, last, jobs = chunk
        if shared is None:
            jobs, shared = with_shared(jobs)
        args: list[Any] = [execution, stage, number, int(last), 2 * len(shared)]
        args += chain.from_iterable(shared.items())
        for job in jobs:
            args += (job.name, " ".join(job.upstreams), 2 * len(job.fields))
            args += chain.from_iterable(job.fields.items())
        return self._request("execution_extend", *args)

    def renew_session(self, execution: str, domain: str, hold_s: float) -> str:
        """Keeps an execution open whose program adds to it; OK, or CLOSED when it is not open."""
        return self._text("session_renew", execution, domain, int(hold_s * 1000))

    def control(self, execution: str, verb: str) -> str:
        """pause, resume or cancel; the status after it, or GONE."""
        return self._text("execution_control", execution, verb)

    def retry(self, execution: str) -> str:
        """Runs again what did not succeed; RUNNING, OPEN, SUCCEEDED or GONE."""
        return self._text("execution_retry", execution)

    def expire(self, execution: str, size: int = CHUNK) -> bool:
        """Starts the TTL of one more chunk of an ended execution's jobs; False when there are no more."""
        return bool(self._call("execution_expire", execution, size))

    def outboxes(self) -> int:
        """Of how many executions scripts left something to be done."""
        return int(self.client.scard(keys.outboxes()))

    def drain_outbox(self) -> int:
        """Does what scripts left over; how many executions have more of it."""
        return int(self._call("outbox_drain"))

    # -- control jobs and the agenda

    def open_group(
        self,
        execution: str,
        name: str,
        total: int,
        limit: int,
        window: int,
        result: str,
        folds: bool = False,
        stop_when: str = "",
    ) -> tuple[str, int, int, int]:
        """Opens a fan-out: (OK or ENDED, jobs created, chunks created, jobs settled).

        With `folds` its children may leave Redis once they have finished (`fanouts.fold`). `stop_when`
        is a StopWhen as JSON: the others need not run once a child's metric is such.
        """
        rest = [total, limit, window, result, int(folds), stop_when]
        reply = self._call("group_open", execution, name, *rest)
        return as_text(reply[0]), int(reply[1]), int(reply[2]), int(reply[3])

    def start_control(self, execution: str, name: str, claim: str, who: str) -> Token | None:
        """Takes a fan-in to run it; None when it has ended."""
        id_ = job_id(execution, name)
        verdict, attempt = self._call("control_start", id_, claim, who)
        return Token(id_, int(attempt), claim) if as_text(verdict) == "OK" else None

    def settle_control(self, token: Token, outcome: str, result: str = "", error: str = "") -> str:
        """Settles a fan-in; OK or STALE."""
        return self._text("control_settle", *_token_args(token), outcome, result, error)

    def enqueue_control(self, execution: str, name: str, data: str) -> str:
        """Hands a fan-in with a function of the user's to the workers; OK or ENDED."""
        return self._text("control_enqueue", execution, name, data)

    def fail_control(self, execution: str, name: str, error: str) -> str:
        """Fails a control job that cannot be carried out, or the execution itself (name '')."""
        return self._text("control_fail", execution, name, error)

    def take_agenda(self, served: Sequence[str], lease_s: float, limit: int) -> Taken:
        """Leases items of these domains (none: of all), or of such as nobody serves."""
        reply = self._call("agenda_take", _served(served), int(lease_s * 1000), limit)
        mark, next_ms, *rest = as_texts(reply)
        items = [Item(*pair) for pair in zip(rest[::2], rest[1::2], strict=True)]
        return Taken(mark, items, None if next_ms == "-1" else float(next_ms) / 1000)

    def renew_agenda(
        self, served: Sequence[str], items: Sequence[Item], mark: str, lease_s: float
    ) -> tuple[str, list[Item]]:
        """Goes on with leased items: the lease's new mark, and those that are not ours any more."""
        pairs = [word for item in items for word in item]
        reply = self._call("agenda_renew", _served(served), mark, int(lease_s * 1000), *pairs)
        return as_text(reply[0]), [items[int(place)] for place in reply[1:]]

    def finish_agenda(self, item: Item, mark: str) -> str:
        """OK, AGAIN when the item was posted anew or taken by another meanwhile."""
        return self._text("agenda_done", *item, mark)

    def upkeep(self) -> tuple[int, int]:
        """Reaps, promotes, drains; (ms at which to look again or -1, the server's ms)."""
        due, now = self._call("upkeep")
        return int(float(due)), int(now)

    def promote_due(self) -> tuple[int, int]:
        """Queues what has become due; (ms at which the next job is due or -1, the server's ms)."""
        due, now = self._call("due_promote")
        return int(float(due)), int(now)

    # -- locks and queues

    def lock_acquire(self, name: str, owner: str, ttl_s: float) -> int | Holder:
        """The fencing number, or who holds the lock."""
        verdict, *rest = self._call("lock_acquire", name, owner, int(ttl_s * 1000))
        if as_text(verdict) == "OK":
            return int(rest[0])
        return Holder(as_text(rest[0]), max(0, int(rest[1])) / 1000)

    def lock_renew(self, name: str, owner: str, ttl_s: float) -> str:
        """OK or LOST."""
        return self._text("lock_renew", name, owner, int(ttl_s * 1000))

    def lock_release(self, name: str, owner: str) -> str:
        """OK, HELD (by another) or FREE."""
        return self._text("lock_release", name, owner)

    def pause_queues(self, verb: str, names: Sequence[str]) -> int:
        """pause, or resume (without names: all); how many changed."""
        return int(self._call("queue_pause", verb, *names))

    # -- reads

    def results(self, execution: str, names: Sequence[str]) -> dict[str, bytes]:
        """JSON results of those of `names` that are finished."""
        return parse_results(names, run(self.client, self.results_request(execution, names)))

    def outcomes(self, execution: str, names: Sequence[str]) -> list[tuple[str, bytes]]:
        """(status, result or error as JSON) of each; ('', b'') where there is no such job."""
        requests = [
            self._request("job_outcomes", execution, *names[start : start + CHUNK])
            for start in range(0, len(names), CHUNK)
        ]
        return parse_outcomes(run_all(self.client, requests))

    def execution(self, execution: str) -> dict[str, str]:
        """All fields of an execution; empty when there is none."""
        return as_mapping(self.client.hgetall(keys.execution(execution)))

    def group(self, execution: str, name: str) -> dict[str, str]:
        """All fields of a fan-out's group; empty before it opens."""
        return as_mapping(self.client.hgetall(keys.group(execution, name)))

    def spec(self, execution: str) -> str:
        """The stored workflow, JSON; empty when there is none."""
        stored: Any = self.client.get(keys.spec(execution))
        return unpacked(stored or b"")

    def job_names(self, execution: str) -> list[str]:
        """Names of all jobs created so far, in order, but for those that were folded."""
        entries = as_texts(self.client.lrange(keys.jobs(execution), 0, -1))
        has_chunks = any(":" in entry for entry in entries)
        pages = fanouts.all_pages(self.client, execution) if has_chunks else {}
        names: list[str] = []
        for entry in entries:
            names += pages.get(entry, ()) if ":" in entry else (entry,)
        return names

    def jobs(
        self, execution: str, names: Sequence[str], fields: Sequence[str]
    ) -> list[dict[str, str]]:
        """The named fields of jobs, 1,000 a round trip; a missing field is ''."""
        out: list[dict[str, str]] = []
        for start in range(0, len(names), 1000):
            with self.client.pipeline(transaction=False) as pipe:
                for name in names[start : start + 1000]:
                    pipe.hmget(keys.job(job_id(execution, name)), list(fields))
                for values in pipe.execute():
                    out.append(dict(zip(fields, (as_text(v or b"") for v in values), strict=True)))
        return out

    def histories(self, ids: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Of each job id the last 20 attempts that did not end well, the oldest first."""
        with self.client.pipeline(transaction=False) as pipe:
            for id_ in ids:
                pipe.lrange(keys.history(*split_job_id(id_)), 0, -1)
            return [[json.loads(line) for line in lines] for lines in pipe.execute()]

    # -- inside

    def _request(self, script: str, *args: Any) -> Request:
        return Request(self._script(script), list(args))

    def _script(self, name: str) -> Script:
        return self.scripts[name]

    def _call(self, script: str, *args: Any) -> Any:
        return run(self.client, self._request(script, *args))

    def _text(self, script: str, *args: Any) -> str:
        return as_text(self._call(script, *args))


def _served(domains: Sequence[str]) -> str:
    return " ".join(domains) or "*"


def settlement_args(one: Settlement) -> list[Any]:
    """A settlement as `advance_request` takes it."""
    took_ms = max(0, one.ended_ms - one.started_ms)
    if one.outcome == "finished" and not (one.metrics or one.log):
        return finished_args(one.token, one.result, took_ms)
    metrics = json.dumps(one.metrics) if one.metrics else ""
    more = [4, one.error, metrics, one.retry_ms, one.log]
    return [*one.token, one.outcome, one.result, took_ms, *more]


def finished_args(token: Token, result: bytes, took_ms: int) -> list[Any]:
    """The settlement of a job that ended well and has no more to say than its result."""
    return [*token, "finished", result, took_ms, 0]


def _token_args(token: Token) -> list[Any]:
    return [token.job, token.attempt, token.claim]


def _tokens_args(tokens: Iterable[Token]) -> list[Any]:
    return [item for token in tokens for item in _token_args(token)]
