"""Every key in Redis: one function each, with its type, its life and its owner.

RQ's keys keep RQ's names and formats, so that its tools read them; ours begin
with `penstock:`. The scripts build the same names from `lua/lib/keys.lua`; a
test compares the two.
"""

from __future__ import annotations

from rq.defaults import RQ_KEY_PREFIX

RQ = RQ_KEY_PREFIX
PENSTOCK = "penstock"

#: Keys that stay for ever, as glob patterns: indexes that hold nothing once
#: their members are gone, and bounded streams.
PERMANENT = (
    f"{RQ}:queues",
    f"{RQ}:workers",
    f"{RQ}:workers:*",
    f"{PENSTOCK}:events",
    f"{PENSTOCK}:maintenance",
    f"{PENSTOCK}:paused",
)

#: Keys with an owner that deletes them: claims empty the lists, the leader trims
#: the registries by score, an execution's keys get their TTL when it ends.
OWNED = (
    f"{RQ}:queue:*",
    f"{RQ}:wip:*",
    f"{RQ}:finished:*",
    f"{RQ}:failed:*",
    f"{RQ}:suspended",
    f"{PENSTOCK}:executions",
    f"{PENSTOCK}:key:*",
    f"{PENSTOCK}:ready",
    f"{PENSTOCK}:nodes",
    f"{PENSTOCK}:node:*:leases",
    f"{PENSTOCK}:idle",
    f"{PENSTOCK}:due",
    f"{PENSTOCK}:dead",
    f"{PENSTOCK}:outboxes",
    f"{PENSTOCK}:unmet",
    f"{PENSTOCK}:unmet:*",
    f"{PENSTOCK}:agenda:*",
    f"{PENSTOCK}:domains",
)


def job(id_: str) -> str:
    """Hash: RQ's job fields and ours. TTL from the end of its execution."""
    return f"{RQ}:job:{id_}"


def queue(name: str) -> str:
    """List of job ids, RQ's. Exists while it holds any."""
    return f"{RQ}:queue:{name}"


def queues() -> str:
    """Set of queue keys, RQ's. Permanent."""
    return f"{RQ}:queues"


def wip(queue_name: str) -> str:
    """Zset of `<job>:<claim>` at +inf, RQ's started jobs; one claimed ahead comes with a beat, half a second
    later. Emptied by settling."""
    return f"{RQ}:wip:{queue_name}"


def finished(queue_name: str) -> str:
    """Zset of job ids by the second in which they expire, RQ's. Trimmed by the leader."""
    return f"{RQ}:finished:{queue_name}"


def failed(queue_name: str) -> str:
    """Zset of job ids by the second in which they expire, RQ's. Trimmed by the leader."""
    return f"{RQ}:failed:{queue_name}"


def suspended() -> str:
    """String, RQ's `rq suspend`: no claims while it exists."""
    return f"{RQ}:suspended"


def rq_worker(name: str) -> str:
    """Hash, RQ's worker registration. TTL, refreshed every 30 s by the daemon."""
    return f"{RQ}:worker:{name}"


def execution(id_: str) -> str:
    """Hash: status, counts, code root. TTL (7 days by default) from its end."""
    return f"{PENSTOCK}:exec:{id_}"


def spec(id_: str) -> str:
    """String: the normalised workflow as JSON; beyond 16 KiB by zlib. TTL as the execution."""
    return f"{PENSTOCK}:exec:{id_}:spec"


def jobs(id_: str) -> str:
    """List of the jobs created so far: a name, or `<fan-out>:<chunk>` for those that stand in its
    `pages`. TTL as the execution."""
    return f"{PENSTOCK}:exec:{id_}:jobs"


def group(id_: str, name: str) -> str:
    """Hash: a fan-out's total, cursor and counts; `live`, where its children are folded, are the
    chunks that may yet be. TTL as the execution."""
    return f"{PENSTOCK}:exec:{id_}:group:{name}"


def group_held(id_: str, name: str) -> str:
    """List of children that max_parallel_jobs does not admit yet. Emptied by settling."""
    return f"{PENSTOCK}:exec:{id_}:group:{name}:held"


def pages(id_: str) -> str:
    """Hash: the names of fan-outs' children (`a b`) by `<fan-out>:<chunk>`, but for those that were
    folded. TTL as the execution."""
    return f"{PENSTOCK}:exec:{id_}:pages"


def folded(id_: str, name: str) -> str:
    """List of JSON: what fan-ins have of a fan-out's children that are in Redis no more. TTL as the
    execution."""
    return f"{PENSTOCK}:exec:{id_}:group:{name}:folded"


def held(id_: str) -> str:
    """List of jobs that `parallelism` does not admit yet. Emptied by settling."""
    return f"{PENSTOCK}:exec:{id_}:held"


def parked(id_: str) -> str:
    """List of jobs met by a claim while the execution was paused. Emptied by resume."""
    return f"{PENSTOCK}:exec:{id_}:parked"


def outbox(id_: str) -> str:
    """List of what a script left to do, in order. Drained by anyone, 500 jobs a call."""
    return f"{PENSTOCK}:exec:{id_}:outbox"


def log(id_: str, name: str) -> str:
    """String: the captured output of a job, all attempts. TTL as the execution."""
    return f"{PENSTOCK}:exec:{id_}:log:{name}"


def history(id_: str, name: str) -> str:
    """List of JSON: a job's last 20 attempts that did not end well. TTL as the execution."""
    return f"{PENSTOCK}:exec:{id_}:history:{name}"


def channel(id_: str) -> str:
    """Pub/sub channel: a message at each change of the execution."""
    return f"{PENSTOCK}:exec:{id_}"


def ended_channel(id_: str) -> str:
    """Pub/sub channel: a message when the execution has ended, for those who need no other."""
    return f"{PENSTOCK}:exec:{id_}:ended"


def bundle(digest: str) -> str:
    """Hash: a packed folder of code (zip), the Python that packed it, its TTL from its last use."""
    return f"{PENSTOCK}:bundle:{digest}"


def executions() -> str:
    """Zset of execution ids by creation (ms). Trimmed by the leader."""
    return f"{PENSTOCK}:executions"


def submission(key: str) -> str:
    """String: the execution that was submitted under this key. TTL as the execution."""
    return f"{PENSTOCK}:key:{key}"


def ready() -> str:
    """Zset of the names of non-empty queues by priority."""
    return f"{PENSTOCK}:ready"


def paused() -> str:
    """Set of paused queue names. Permanent."""
    return f"{PENSTOCK}:paused"


def node(id_: str) -> str:
    """Hash: what a node offers and uses. TTL twice its time-out, renewed by beats."""
    return f"{PENSTOCK}:node:{id_}"


def nodes() -> str:
    """Zset of node ids by their last beat (ms). Reaped."""
    return f"{PENSTOCK}:nodes"


def idle() -> str:
    """Zset of nodes with room that wait on their inbox, by load."""
    return f"{PENSTOCK}:idle"


def node_inbox(id_: str) -> str:
    """List of messages: wake, cancel and pause <execution>, drain, shutdown. TTL 60 s."""
    return f"{PENSTOCK}:node:{id_}:inbox"


def node_leases(id_: str) -> str:
    """Hash job id -> `<attempt> <claim> <ms> <needs>`. Emptied by settling or reaping."""
    return f"{PENSTOCK}:node:{id_}:leases"


def due() -> str:
    """Zset of job ids by the ms at which they are to be queued again."""
    return f"{PENSTOCK}:due"


def dead() -> str:
    """Zset of job ids that used up their retries, by time (ms). Trimmed by the leader."""
    return f"{PENSTOCK}:dead"


def agenda(domain: str) -> str:
    """Zset of orchestrator work by the ms from which it may be taken."""
    return f"{PENSTOCK}:agenda:{domain}"


def domains() -> str:
    """Zset of domains by the ms at which one who serves them last looked (`*`: one who
    serves all). A domain without work is forgotten after an hour."""
    return f"{PENSTOCK}:domains"


def bell() -> str:
    """Pub/sub channel: a domain that has work, `*` for one that nobody serves, or nothing
    when something is due soon."""
    return f"{PENSTOCK}:bell"


def lock(name: str) -> str:
    """Hash: owner and fencing number of a lock. TTL of the lock."""
    return f"{PENSTOCK}:lock:{name}"


def lock_channel(name: str) -> str:
    """Pub/sub channel: a message when the lock is given back."""
    return f"{PENSTOCK}:lock:{name}"


def fence(name: str) -> str:
    """String: the last fencing number of a lock. TTL 7 days from the last acquire."""
    return f"{PENSTOCK}:fence:{name}"


def outboxes() -> str:
    """Set of executions with something in their outbox."""
    return f"{PENSTOCK}:outboxes"


def unmet() -> str:
    """Set of `<class>|<needs>` that no live node could ever meet."""
    return f"{PENSTOCK}:unmet"


def events() -> str:
    """Stream of every transition, trimmed to about 100,000 entries. Permanent."""
    return f"{PENSTOCK}:events"


def maintenance() -> str:
    """Hash: when the upkeep was last done, since when all is steady, the server's run id. Permanent."""
    return f"{PENSTOCK}:maintenance"
