"""Celery, with Redis as its broker and for its results: tasks, settings and client."""

import json
import os

import effects
from celery import Celery, chain, chord

app = Celery("celery_app", broker=os.environ["FAULTS_URL"], backend=os.environ["FAULTS_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_deduplicate_successful_tasks=True,
    broker_connection_retry_on_startup=True,
)
# {"visibility_timeout": ...} and more; its documentation asks for this one in three places.
transport = json.loads(os.environ.get("FAULTS_TRANSPORT", "{}"))
if transport:
    timeout = transport["visibility_timeout"]
    app.conf.update(
        broker_transport_options=transport,
        result_backend_transport_options={"visibility_timeout": timeout},
        visibility_timeout=timeout,
    )


@app.task
def step(unit, job, s):
    return effects.step(unit, job, s)


@app.task
def total(outputs, unit):
    return effects.total(unit, outputs)


def submit(unit, shape, s, n, way):
    if shape == "job":
        _step(unit, "j0", s).apply_async()
    elif shape == "pair":
        chain(_step(unit, "c0", s), _step(unit, "c1", 0.1)).apply_async()
    else:
        merge = total.s(unit).set(task_id=f"{unit}-end")
        chord([_step(unit, f"m{i}", s) for i in range(n)])(merge)


def _step(unit, job, s):
    return step.si(unit, job, s).set(task_id=f"{unit}-{job}")


def states(ids):
    return {id_: _state(app.AsyncResult(id_)) for id_ in ids}


def _state(result):
    if result.state == "SUCCESS":
        return ["finished", result.result]
    return ["failed" if result.state == "FAILURE" else "open", None]
