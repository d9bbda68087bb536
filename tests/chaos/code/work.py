"""What the jobs of the scenarios run: each writes down what it does, as it does it."""

import json
import os
import signal
import sys
import time
from functools import cache
from hashlib import blake2b

from penstock import context

#: A running job says so this often, seconds.
TICK_S = 0.1


@cache
def _log():
    return os.open(os.environ["CHAOS_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def say(what, **fields):
    """One record of the effect log, in one write, so that no kill can cut it in two."""
    ctx = context.current()
    record = {
        "at": time.time(),
        "what": what,
        "execution": ctx.execution_id,
        "job": ctx.job,
        "attempt": ctx.attempt,
        "pid": os.getpid(),
        "node": ctx.node,
        **fields,
    }
    os.write(_log(), (json.dumps(record) + "\n").encode())


def step(s=0.0, value=None, fail=0, crash=0, crash_every=0, family=False, **given):
    """Runs for `s` seconds. Its first `fail` attempts raise, its first `crash` die half-way; with
    `crash_every` the first of one in so many values. With `family`, a child that daemonises itself
    runs on beside it."""
    if crash_every and value % crash_every == 0:
        crash = 1
    attempt = context.current().attempt
    say("start")
    if family:
        _daemonise()
    if attempt <= crash:
        _nap(s / 2)
        _die()
    _nap(s)
    if attempt <= fail:
        raise RuntimeError("as asked")
    result = {"job": context.current().job, "attempt": attempt, "value": value}
    say("end", result=_digest(result))
    return result


def total(outputs):
    """A fan-in of the user's own: what it read, in the order in which it came."""
    say("start")
    say("end")
    return {"attempt": context.current().attempt, "aggregated_result": outputs}


def _nap(s):
    till = time.monotonic() + s
    while (left := till - time.monotonic()) > 0:
        time.sleep(min(TICK_S, left))
        if left > TICK_S:
            say("tick")


def _die():
    """One in two by the kernel, the others by their own will."""
    if os.getpid() % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(7)


def _daemonise():
    sys.stdout.flush()
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    while True:
        _nap(3600)


def _digest(value):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=8).hexdigest()
