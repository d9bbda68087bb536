"""Jobs that the system tests run."""

import os
import time


def noop(**given):
    return given


def nap(s, **given):
    time.sleep(s)
    return given


def total(outputs):
    return sum(outputs)


def described(outputs, first, label="", **rest):
    return {"outputs": outputs, "first": first, "label": label, **rest}


def activation(function):
    return function


def marked(s, path):
    time.sleep(s)
    with open(path, "a") as file:
        file.write("x")
    return "done"


def fails(**given):
    raise ValueError("as asked")


def where(**given):
    return {"pid": os.getpid()}


def maybe_long(i):
    """One of them takes its time; the others do nothing."""
    if i == 0:
        time.sleep(float(os.environ.get("LONG_S", "3")))
    return i


def outer(url):
    import penstock

    inner = penstock.Cluster(url).submit(
        {"name": "inner", "jobs": [{"id": "x", "run": "flow:noop", "config": {"n": 7}}]}
    )
    return {"inner": inner.result(timeout=50)}


def measured(i):
    """A metric of which many are alike, and whose plain sum depends on the order of adding."""
    return {"x": (1e16, 1.0, -1e16)[i % 3] if i < 999 else i * 7919 % 4096 / 7, "i": i}


def searched(i, enough, folder):
    """The one that is good enough waits for another to begin; that one would take a minute."""
    if i == enough:
        while not os.path.exists(f"{folder}/long"):
            time.sleep(0.01)
    elif i == enough + 1:
        with open(f"{folder}/part", "w") as file:
            file.write(str(os.getpid()))
        os.rename(f"{folder}/part", f"{folder}/long")
        time.sleep(60)
    return {"accuracy": 1.0 if i == enough else 0.5, "i": i}
