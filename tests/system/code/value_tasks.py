"""Tasks whose values are no JSON."""

import json
import os
import signal
import threading
from dataclasses import dataclass

import numpy as np

from penstock import register_codec, task, workflow


@dataclass
class Model:
    weights: list


register_codec(
    "test-model",
    Model,
    lambda model, file: file.write(json.dumps(model.weights).encode()),
    lambda file: Model(json.load(file)),
)


@task
def made(rows):
    return {"array": np.full((rows, 2), rows), "raw": b"x", "metrics": {"rows": rows}}


@task
def summed(parts, scale):
    return float(sum(part["array"].sum() for part in parts) * scale.sum())


@task
def fitted(array):
    return Model(array.mean(axis=0).tolist())


@task
def predicted(model):
    return type(model).__name__, model.weights


@task
def large(megabytes):
    return {"text": "x" * (megabytes * 2**20), "metrics": {"score": megabytes}}


@task
def length(value):
    return len(value["text"])


@task
def echoed(value):
    return value


@task
def unfit():
    return {"it": {1, 2}}


@task
def added(array):
    return float(array.sum())


@workflow(retry={"max": 2, "backoff_s": 0.05})
def twice(mark):
    first = added(np.arange(4.0))
    if not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return first.result() + added(np.arange(4.0)).result()


def pair(i):
    return np.array([9.0]) if i == 0 else np.array([1.0, 2.0])


def listed(count):
    return {"rows": [{"n": n, "text": f"row {n}"} for n in range(count)]}


@task(retry={"max": 0})
def applied(function, items):
    return [function(one) for one in items]


@task
def counted(values):
    return len(values)


class Odd:
    """Pickled differently each time."""

    def __reduce__(self):
        return str, (os.urandom(8).hex(),)


@workflow(retry={"max": 2, "backoff_s": 0.05})
def counts_twice(mark):
    first = counted([Odd(), {"a", "b", "c"}])
    if not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return first.result() + counted({1}).result()


@task
def locked():
    return {"it": [threading.Lock()]}
