"""What each system promises, and where each hole that the faults find is known. For the report."""

from __future__ import annotations

#: By system: lines of Markdown.
PROMISES: dict[str, list[str]] = {
    "rq": [
        "Promises: a worker that is asked to stop finishes its job. Of one that is killed it says that this "
        '"could potentially lead to damage", and that the job "will eventually end up in FailedJobRegistry" '
        "([Dealing with interruptions](https://python-rq.org/docs/results/#dealing-with-interruptions)); with "
        "`Retry` it is queued again instead ([retries](https://python-rq.org/docs/exceptions/)). "
        "It promises no single result: `job.results()` is a history of up to ten.",
        "A worker killed: others see it job_monitoring_interval + 60 s after its last sign of life (SimpleWorker: "
        "after the job's timeout + 60 s) at the next maintenance, every maintenance_interval ([rq#2015](https://github.com/rq/rq/issues/2015), "
        "[rq#2022](https://github.com/rq/rq/issues/2022), [rq#1571](https://github.com/rq/rq/issues/1571)).",
        "A worker stopped and continued: a success is stored whether or not the execution is still "
        "registered (`rq/worker/base.py`, `handle_job_success`); both attempts store one, and dependents "
        "are queued at the first.",
        "A lost reply to enqueue: redis-py sends the transaction again, RPUSH among it "
        "([redis-py#977](https://github.com/redis/redis-py/issues/977), "
        "[redis-py#3554](https://github.com/redis/redis-py/issues/3554), "
        "[#1140](https://github.com/redis/redis-py/issues/1140)). `Redis(host=...)` repeats ten times by "
        "default, `Redis.from_url()` never ([redis-py#4082]"
        "(https://github.com/redis/redis-py/pull/4082)): both were tried.",
        "A lost reply to a claim: the intermediate queue gives it back after a minute. This holds for "
        "workers of one queue; with more it is BLPOP, and nothing gives it back "
        "([rq#1716](https://github.com/rq/rq/issues/1716)).",
    ],
    "celery": [
        "Promises, with acks_late: the task is delivered again after a crash, so it may run more than once and "
        "should be idempotent ([Tasks](https://docs.celeryq.dev/en/stable/userguide/tasks.html)); "
        "on Redis after visibility_timeout, 1 h by default ([Redis, caveats]"
        "(https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html#caveats)).",
        "The visibility timeout counts from delivery, not from a sign of life: 8 s suits these jobs of "
        "at most 5 s only. A longer job would be run twice without any fault "
        "([celery#5935](https://github.com/celery/celery/issues/5935), "
        "[kombu#337](https://github.com/celery/kombu/issues/337)).",
        "A worker stopped and continued: the first success stands and later ones are ignored "
        "(`celery/backends/base.py`, `_store_result`), so the stale attempt's result stands where it comes "
        "first; each of the two sends the chain's next task. worker_deduplicate_successful_tasks leaves out only "
        "what was done before it is delivered again ([configuration](https://docs.celeryq.dev/en/stable/"
        "userguide/configuration.html#worker-deduplicate-successful-tasks)). The next task of a chain is sent "
        "before the result is stored (`celery/app/trace.py`): an I4 of milliseconds that costs nothing.",
        "A lost reply to a claim: between BRPOP and the record of it in `unacked` the message is nowhere "
        "([celery#7950](https://github.com/celery/celery/issues/7950), "
        "[kombu#1733](https://github.com/celery/kombu/pull/1733), "
        "[celery#4354](https://github.com/celery/celery/issues/4354)).",
        "A lost reply to an acknowledgement: kombu logs `Couldn't ack` and does not release the message's "
        "place in the prefetch count (`kombu/transport/redis.py`, `QoS.ack`), so a worker with as many such "
        "losses as places takes no more. With concurrency 1 and prefetch multiplier 1 that is one loss. Near "
        "it: [packit-service#2697](https://github.com/packit/packit-service/issues/2697), "
        "[celery#8030](https://github.com/celery/celery/issues/8030).",
        "A lost reply to enqueue: the client publishes again (`task_publish_retry`, on by default: [Calling]"
        "(https://docs.celeryq.dev/en/stable/userguide/calling.html#message-sending-retry)).",
    ],
    "dramatiq": [
        'Promises: it "strives for at-least-once message delivery and assumes all actors are idempotent" '
        "([guide](https://dramatiq.io/guide.html#error-handling)).",
        "A worker killed: its messages are queued again heartbeat_timeout after its last sign of life, by the "
        "next command that happens to do maintenance ([RedisBroker]"
        "(https://dramatiq.io/reference.html#dramatiq.brokers.redis.RedisBroker), "
        "[dramatiq#527](https://github.com/Bogdanp/dramatiq/issues/527)).",
        "A worker stopped and continued: its acknowledgement is void (the message has left its set), "
        "but its result is stored, its pipeline goes on and its group counts.",
        "A lost reply to a claim: the message stays with the worker that never saw it, as long as that worker "
        "lives: only messages of workers without a heartbeat are queued again (`dispatch.lua`).",
        "A lost reply to the count of a group: the decrement is made again (`rate_limits/backends/redis.py`, "
        "`decr`: redis-py turns the lost reply into a WatchError, and the loop begins anew), so that the "
        "callback comes early, and twice.",
        "A lost reply to enqueue: as with RQ, `RedisBroker(host=...)` repeats it and `RedisBroker(url=...)` "
        "does not. The second copy of an id is dropped where the first was done before it is fetched.",
    ],
    "penstock": [
        "Promises: every accepted job reaches one end; at most one result is stored, that of the attempt that "
        "was claimed last; a job starts after its upstreams' results are stored. A job may *run* more than "
        "once; what a stale attempt did outside cannot be undone.",
        "A lost reply to submit is an error to the caller, who submits again with the same `key`; the client "
        "here does, so such an error counts only if the second time fails too.",
    ],
}
