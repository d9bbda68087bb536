"""The body of every job, for whatever system runs it: it writes down what it does, as it does it.

Runs in the environments of the other systems too, so nothing but the standard library is used.
"""

import json
import os
import time
from hashlib import blake2b

FOLDER = os.environ["FAULTS_FOLDER"]


def step(unit, job, s):
    """Runs for `s` seconds; its result says which attempt it was."""
    attempt = number(unit, job)
    say("start", unit, job, attempt)
    time.sleep(s)
    result = {"unit": unit, "job": job, "attempt": attempt}
    say("end", unit, job, attempt, result=digest(result))
    return result


def total(unit, outputs):
    """The merge: what it was given, in the order in which it came."""
    attempt = number(unit, "end")
    say("start", unit, "end", attempt)
    result = {"unit": unit, "job": "end", "attempt": attempt, "aggregated_result": outputs}
    say("end", unit, "end", attempt, result=digest(result))
    return result


def number(unit, job):
    """The attempts of a job, counted from 1 by the files that they leave."""
    attempt = 1
    while True:
        try:
            os.close(os.open(f"{FOLDER}/attempts/{unit}-{job}.{attempt}", os.O_CREAT | os.O_EXCL))
            return attempt
        except FileExistsError:
            attempt += 1


def say(what, unit, job, attempt, **fields):
    """One record, in one write, so that no kill can cut it in two."""
    record = {"at": time.time(), "what": what, "execution": unit, "job": job, "attempt": attempt}
    record |= {"pid": os.getpid(), "node": os.environ.get("FAULTS_WORKER", ""), **fields}
    log = os.open(f"{FOLDER}/history/effects.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, (json.dumps(record) + "\n").encode())
    finally:
        os.close(log)


def digest(value):
    """As chaos.history.digest."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=8).hexdigest()
