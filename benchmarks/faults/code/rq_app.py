"""RQ: the functions that its workers import, and its client."""

import os
from urllib.parse import urlsplit

import effects
from redis import Redis
from rq import Queue, Retry, get_current_job
from rq.job import Job
from rq.serializers import JSONSerializer

URL = os.environ["FAULTS_URL"]
HOST, PORT = urlsplit(URL).hostname, urlsplit(URL).port
# redis-py repeats a request up to ten times on a client made this way, as in RQ's own examples,
connection = Redis(host=HOST, port=PORT)
# and never on one made that way.
queues = {
    "host": Queue("default", connection=connection, serializer=JSONSerializer),
    "url": Queue("default", connection=Redis.from_url(URL), serializer=JSONSerializer),
}


def step(unit, job, s):
    return effects.step(unit, job, s)


def total(unit):
    upstreams = sorted(get_current_job().fetch_dependencies(), key=lambda one: one.id)
    return effects.total(unit, [one.return_value() for one in upstreams])


def submit(unit, shape, s, n, way):
    queue = queues[way]
    if shape == "job":
        _enqueue(queue, "rq_app.step", unit, "j0", s)
    elif shape == "pair":
        first = _enqueue(queue, "rq_app.step", unit, "c0", s)
        _enqueue(queue, "rq_app.step", unit, "c1", 0.1, after=first)
    else:
        upstreams = [_enqueue(queue, "rq_app.step", unit, f"m{i}", s) for i in range(n)]
        _enqueue(queue, "rq_app.total", unit, "end", after=upstreams)


def _enqueue(queue, function, unit, job, *arguments, after=None):
    named = () if job == "end" else (job,)
    retries = int(os.environ.get("FAULTS_RETRIES", "0"))
    return queue.enqueue(
        function,
        args=(unit, *named, *arguments),
        job_id=f"{unit}-{job}",
        depends_on=after,
        retry=Retry(max=retries) if retries else None,
    )


def states(ids):
    jobs = Job.fetch_many(ids, connection=connection, serializer=JSONSerializer)
    return {id_: _state(job) for id_, job in zip(ids, jobs, strict=True)}


def _state(job):
    if job is None:
        return ["missing", None]
    status = job.get_status()
    if status == "finished":
        return ["finished", job.return_value()]
    return ["failed" if status == "failed" else "open", None]
