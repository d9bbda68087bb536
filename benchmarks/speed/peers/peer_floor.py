"""The floor: the least that one script a batch can do on the same Redis.

A job is a hash with RQ's fields in RQ's format, its queue a list; each attempt has a token that is
checked when its result is stored. There are no events, resources, leases, priorities, retries or
failover, and of dependencies only what a workload needs. Two processes run the jobs and talk to
Redis themselves, each batch one round trip.
"""

from __future__ import annotations

import itertools
import json
import os
import uuid
import zlib

from harness import main
from peer import PORT, Peer, clock, texts

#: Jobs that a worker claims at once, and that a client sends at once.
BATCH, CHUNK = 64, 500
QUEUE, BELL, DONE = "rq:queue:floor", "floor:bell", "floor:done:"

#: KEYS queue. ARGV a prefix for tokens, most jobs to claim, then of each job to settle: id, token,
#: result. RETURNS of each claimed job: id, token, data, the job whose children's results it reads.
#: Of a settled job, `opens` is a list of jobs that it queues; of `counter` the last one queues
#: `then`; who waits for `awaited` is told.
ADVANCE = """
local time = redis.call('TIME')
local now = time[1] .. '.' .. time[2]
local done = 0
for i = 3, #ARGV, 3 do
  local key = 'rq:job:' .. ARGV[i]
  local job = redis.call('HMGET', key, 'token', 'opens', 'counter', 'then', 'awaited')
  if job[1] == ARGV[i + 1] then
    redis.call('HSET', key, 'status', 'finished', 'ended_at', now, 'result', ARGV[i + 2], 'token', '')
    done = done + 1
    if job[2] then
      local opened = redis.call('LRANGE', job[2], 0, -1)
      for at = 1, #opened, 1000 do
        redis.call('RPUSH', KEYS[1], unpack(opened, at, math.min(at + 999, #opened)))
      end
    end
    if job[4] and (not job[3] or redis.call('DECR', job[3]) == 0) then
      redis.call('RPUSH', KEYS[1], job[4])
    end
    if job[5] then redis.call('RPUSH', 'floor:done:' .. ARGV[i], ARGV[i + 2]) end
  end
end
if done > 0 then redis.call('INCRBY', 'floor:finished', done) end
local out = {}
for i, id in ipairs(redis.call('LPOP', KEYS[1], ARGV[2]) or {}) do
  local key, token = 'rq:job:' .. id, ARGV[1] .. i
  redis.call('HSET', key, 'status', 'started', 'started_at', now, 'token', token)
  local job = redis.call('HMGET', key, 'data', 'reads')
  out[i] = { id, token, job[1], job[2] or '' }
end
if #out > 0 and redis.call('LLEN', KEYS[1]) > 0 then redis.call('LPUSH', 'floor:bell', 1) end
return out
"""
FUNCTIONS = {"noop": lambda i: i, "merge": sum}


def as_worker():
    import redis

    client = redis.Redis(port=PORT, socket_timeout=None)
    advance = client.register_script(ADVANCE)
    prefix, turns, settled = f"{os.getpid()}-", itertools.count(), []
    while True:
        claimed = advance([QUEUE], [f"{prefix}{next(turns)}-", BATCH, *settled])
        settled = []
        for id_, token, data, reads in claimed:
            name, _, arguments, _ = json.loads(zlib.decompress(data))
            if reads:
                parent, count = json.loads(reads)
                with client.pipeline(transaction=False) as pipe:
                    for number in range(count):
                        pipe.hget(f"rq:job:{parent}-{number}", "result")
                    arguments = [[json.loads(result) for result in pipe.execute()]]
            settled += [id_, token, json.dumps(FUNCTIONS[name](*arguments))]
        if not claimed:
            client.blpop(BELL, 0)


class Floor(Peer):
    name = "floor"
    versions_of = ("redis",)
    configs = {"script": "two processes, 64 jobs a script, AOF everysec, deploy/redis.conf"}
    workloads = {"script": "W1 drain W2 W3 W4 W5"}

    def worker_commands(self, slots):
        return [self.script_worker()] * slots

    def connect(self):
        """The harness's client is all that it needs."""

    def _job(self, pipe, id_, name, *arguments, **fields):
        pipe.hset(
            f"rq:job:{id_}",
            mapping={
                "created_at": "2026-01-01T00:00:00.000000Z",
                "enqueued_at": "2026-01-01T00:00:00.000000Z",
                "data": zlib.compress(json.dumps([name, None, arguments, {}]).encode()),
                "origin": "floor",
                "status": "queued",
                "timeout": 300,
                **fields,
            },
        )

    def _send(self, arguments):
        run = uuid.uuid4().hex[:12]
        numbered = enumerate(arguments)
        while chunk := list(itertools.islice(numbered, CHUNK)):
            with self.redis.pipeline(transaction=False) as pipe:
                for number, argument in chunk:
                    self._job(pipe, f"{run}-{number}", "noop", argument)
                pipe.rpush(QUEUE, *(f"{run}-{number}" for number, _ in chunk))
                pipe.lpush(BELL, 1, 1)
                pipe.execute()

    def enqueue(self, count):
        self._send(range(count))

    def enqueue_sized(self, count, size):
        self._send(texts(count, size))

    def done_count(self):
        return int(self.redis.get("floor:finished") or 0)

    def _start_and_wait(self, pipe, first, last):
        pipe.rpush(QUEUE, first)
        pipe.lpush(BELL, 1)
        pipe.execute()
        _, result = self.redis.blpop(f"{DONE}{last}", 4)  # within redis-py's socket_timeout
        return json.loads(result)

    def round_trip(self, number):
        id_ = uuid.uuid4().hex
        with self.redis.pipeline(transaction=False) as pipe:
            self._job(pipe, id_, "noop", number, awaited=1)
            assert self._start_and_wait(pipe, id_, id_) == number

    def fan(self, width):
        run, began = uuid.uuid4().hex, clock()
        children = [f"{run}-{number}" for number in range(width)]
        with self.redis.pipeline(transaction=False) as pipe:
            self._job(pipe, run, "noop", 0, opens=f"floor:{run}:children")
            for number, child in enumerate(children):
                then = {"counter": f"floor:{run}:left", "then": f"{run}-merge"}
                self._job(pipe, child, "noop", number, **then)
            pipe.set(f"floor:{run}:left", width)
            pipe.rpush(f"floor:{run}:children", *children)
            self._job(pipe, f"{run}-merge", "merge", reads=json.dumps([run, width]), awaited=1)
            found = self._start_and_wait(pipe, run, f"{run}-merge")
        assert found == width * (width - 1) // 2
        return clock() - began

    def chain(self, hops):
        run, began = uuid.uuid4().hex, clock()
        with self.redis.pipeline(transaction=False) as pipe:
            for hop in range(hops - 1):
                self._job(pipe, f"{run}-{hop}", "noop", hop, then=f"{run}-{hop + 1}")
            self._job(pipe, f"{run}-{hops - 1}", "noop", hops - 1, awaited=1)
            self._start_and_wait(pipe, f"{run}-0", f"{run}-{hops - 1}")
        return clock() - began


if __name__ == "__main__":
    main(Floor, as_worker)
