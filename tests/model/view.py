"""What can be seen of the state: read from Redis by one script, and told by the model, in one form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .reference import ENDED, Execution, Group, Job
from .reference_nodes import ReferenceCluster

#: label -> what stands there: a list of texts
View = dict[str, list[str]]

COUNTS = ("jobs", "finished", "failed", "canceled", "stopped", "faults", "running", "admitted")
EXECUTION = ("status", "closing", "compiled", *COUNTS)
JOB = (
    "status", "attempt", "claim", "worker_name", "retries_left", "crashes", "losses", "waits", "gate",
    "group", "kind",
)  # fmt: skip
GROUP = (
    "total",
    "created",
    "created_chunks",
    "settled",
    "bad",
    "admitted",
    "folds",
    "folded",
    "stopped_by",
)
NUMBERS = {*COUNTS, "attempt", "retries_left", "crashes", "losses", "waits", *GROUP[1:-1]}
#: what the scripts write for waits that a retry has yet to count
NOT_COUNTED = "1000000"


def _lua_table(names: Iterable[str]) -> str:
    return "{ " + ", ".join(f"'{name}'" for name in names) + " }"


#: ARGV  count of executions, their ids, ids of nodes; RETURNS label, list, label, list ...
LOOK = f"""
local X, J, G = {_lua_table(EXECUTION)}, {_lua_table(JOB)}, {_lua_table(GROUP)}
local NUMBERS = {{ {", ".join(f"{name} = 1" for name in sorted(NUMBERS))} }}
local out = {{}}
local function put(label, list)
  if #list > 0 then out[#out + 1] = label; out[#out + 1] = list end
end
local function fields(key, names)
  local v = redis.call('HMGET', key, unpack(names))
  for i = 1, #names do v[i] = v[i] or NUMBERS[names[i]] and '0' or '' end
  return v
end
local function list(key) return redis.call('LRANGE', key, 0, -1) end
local function names_of(key)
  local names = {{}}
  for _, one in ipairs(list(key .. ':jobs')) do
    local text = string.find(one, ':', 1, true) and (redis.call('HGET', key .. ':pages', one) or '') or one
    for name in string.gmatch(text, '%S+') do names[#names + 1] = name end
  end
  return names
end
for i = 2, 1 + tonumber(ARGV[1]) do
  local x, key = ARGV[i], 'penstock:exec:' .. ARGV[i]
  if redis.call('EXISTS', key) == 1 then
    put('execution ' .. x, fields(key, X))
    for _, name in ipairs(names_of(key)) do
      local job = 'rq:job:' .. x .. '-' .. name
      local v = fields(job, J)
      if v[#J] == '' then v[#J] = 'run' end
      if not redis.call('HGET', job, 'retries_left') then v[5] = redis.call('HGET', job, 'retries') or '0' end
      put('job ' .. x .. '-' .. name, v)
      if v[#J] == 'fan-out' then
        put('group ' .. x .. '-' .. name, fields(key .. ':group:' .. name, G))
        put('held ' .. x .. '-' .. name, list(key .. ':group:' .. name .. ':held'))
      end
    end
    put('held ' .. x, list(key .. ':held'))
    put('parked ' .. x, list(key .. ':parked'))
    put('outbox ' .. x, list(key .. ':outbox'))
  end
end
local wip = {{}}
for _, queue in ipairs(redis.call('SMEMBERS', 'rq:queues')) do
  put('queue ' .. string.sub(queue, 10), list(queue))
  for _, one in ipairs(redis.call('ZRANGE', 'rq:wip:' .. string.sub(queue, 10), 0, -1)) do
    wip[#wip + 1] = one
  end
end
put('wip', wip)
for _, signature in ipairs(redis.call('SMEMBERS', 'penstock:unmet')) do
  put('unmet ' .. signature, list('penstock:unmet:' .. signature))
end
put('due', redis.call('ZRANGE', 'penstock:due', 0, -1, 'WITHSCORES'))
put('dead', redis.call('ZRANGE', 'penstock:dead', 0, -1))
put('nodes', redis.call('ZRANGE', 'penstock:nodes', 0, -1, 'WITHSCORES'))
local agenda = {{}}
for _, key in ipairs(redis.call('KEYS', 'penstock:agenda:*')) do
  for _, item in ipairs(redis.call('ZRANGE', key, 0, -1)) do agenda[#agenda + 1] = item end
end
put('agenda', agenda)
for i = 2 + tonumber(ARGV[1]), #ARGV do
  put('leases ' .. ARGV[i], redis.call('HGETALL', 'penstock:node:' .. ARGV[i] .. ':leases'))
end
return out
"""


def read(reply: list[Any]) -> View:
    """The reply of LOOK. A claim and a node are shown while the job runs."""
    it = iter(reply)
    view: View = dict(zip(it, it, strict=True))
    for label, row in view.items():
        if label.startswith("job ") and row[0] != "started":
            row[2] = row[3] = ""
        elif label in ("wip", "dead", "agenda"):
            row.sort()
        elif label.startswith("leases "):
            # of a lease the attempt and the claim, not since when and for what
            row[1::2] = [" ".join(lease.split(" ", 2)[:2]) for lease in row[1::2]]
    return view


def of_model(model: ReferenceCluster) -> View:
    """The same of the model. What orchestrators may do already is only compared one way."""
    view: View = {}
    for x in model.executions.values():
        view[f"execution {x.id}"] = _execution(x)
        for job in x.jobs.values():
            view[f"job {job.id}"] = _job(job)
            if job.spec.kind == "fan-out":
                group = x.group(job.spec.name)
                view[f"group {job.id}"] = _group(group)
                _put(view, f"held {job.id}", group.held)
        _put(view, f"held {x.id}", x.held)
        _put(view, f"parked {x.id}", x.parked)
    for (priority, class_), queue in model.queues.items():
        _put(view, f"queue {class_}.p{priority}", queue)
    for (class_, needs), jobs in model.unmet.items():
        _put(view, f"unmet {class_}|{needs}", jobs)
    if model.due:
        due = sorted((at, job.id) for job, at in model.due.items())
        view["due"] = [text for at, id in due for text in (id, str(at))]
    _put(view, "dead", sorted(model.dead, key=lambda job: job.id))
    _put_nodes(view, model)
    if model.agenda:
        view["agenda"] = sorted(model.agenda)
    return view


def _put(view: View, label: str, jobs: list[Job]) -> None:
    if jobs:
        view[label] = [job.id for job in jobs]


def _put_nodes(view: View, model: ReferenceCluster) -> None:
    beats = sorted((node.beat, node.id) for node in model.nodes.values() if node.beat is not None)
    if beats:
        view["nodes"] = [text for beat, id in beats for text in (id, str(beat))]
    for node in model.nodes.values():
        if node.leases:
            leases = [(id, f"{one.attempt} {one.claim}") for id, one in node.leases.items()]
            view[f"leases {node.id}"] = [text for pair in leases for text in pair]
    wip = [f"{job.id}:{job.claim}" for x in model.executions.values() for job in x.jobs.values()
           if job.status == "started" and (job.spec.kind == "run" or job.spec.custom)]  # fmt: skip
    if wip:
        view["wip"] = sorted(wip)


def _execution(x: Execution) -> list[str]:
    ends = [job.status for job in x.jobs.values()]
    ends += ["finished"] * sum(group.folded for group in x.groups.values())
    counts = [
        len(ends),
        *(ends.count(status) for status in ("finished", "failed", "canceled", "stopped")),
    ]
    shown = [*counts, x.faults, ends.count("started"), x.admitted]
    return [x.status, x.closing, "1" if x.compiled else "", *map(str, shown)]


def _job(job: Job) -> list[str]:
    started = job.status == "started"
    return [
        job.status, str(job.attempt), job.claim if started else "", job.node if started else "",
        str(job.retries_left), str(job.crashes), str(job.losses),
        NOT_COUNTED if job.waits is None else str(job.waits), job.places, job.spec.group, job.spec.kind,
    ]  # fmt: skip


def _group(group: Group) -> list[str]:
    total = "" if group.total is None else str(group.total)
    counts = (
        group.created, group.chunks, group.settled, group.bad, group.admitted, group.folds, group.folded,
    )  # fmt: skip
    return [total, *map(str, counts), group.stopped_by]


def differences(model: View, real: View) -> list[str]:
    """Where the two differ, a line each. An item of the agenda may be there once too often."""
    found = []
    for label in sorted({*model, *real}):
        ours, theirs = model.get(label, []), real.get(label, [])
        if label == "agenda":
            ours, theirs = [item for item in ours if item not in theirs], []
        if ours != theirs:
            found.append(f"{label}: model {ours}, scripts {theirs}")
    return found


def same(model: View, real: View) -> bool:
    """Quicker than `differences`, for the case that holds nearly always."""
    ours, theirs = model.pop("agenda", []), real.get("agenda", [])
    equal = {*ours}.issubset(theirs)
    if equal:
        real = {label: row for label, row in real.items() if label != "agenda"}
        equal = model == real
    if ours:
        model["agenda"] = ours
    return equal


__all__ = ["ENDED", "LOOK", "View", "differences", "of_model", "read", "same"]
