"""Tasks whose values are no JSON."""

import json
from dataclasses import dataclass

import numpy as np

from penstock import register_codec, task


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
def unfit():
    return {"it": {1, 2}}
