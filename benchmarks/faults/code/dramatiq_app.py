"""Dramatiq, with its Redis broker and Redis for its results: actors, settings and client."""

import json
import os
from urllib.parse import urlsplit

import dramatiq
import effects
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as LimiterBackend
from dramatiq.results import ResultFailure, ResultMissing, Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["FAULTS_URL"]
ADDRESS = {"host": urlsplit(URL).hostname, "port": urlsplit(URL).port}
SETTINGS = json.loads(os.environ.get("FAULTS_BROKER", "{}"))
# redis-py repeats a request up to ten times on a client made this way, as in Dramatiq's guide,
broker = RedisBroker(**ADDRESS, **SETTINGS)
results = RedisBackend(**ADDRESS, use_namespace_prefix_keys=True)
broker.add_middleware(Results(backend=results, store_results=True))
broker.add_middleware(GroupCallbacks(LimiterBackend(**ADDRESS)))
dramatiq.set_broker(broker)
# and never on one made that way.
brokers = {"host": broker, "url": RedisBroker(url=URL, **SETTINGS)}


@dramatiq.actor
def step(unit, job, s):
    return effects.step(unit, job, s)


@dramatiq.actor
def total(unit):
    return effects.total(unit, None)  # a group's callback is given no results


def submit(unit, shape, s, n, way):
    if shape == "job":
        brokers[way].enqueue(_step(unit, "j0", s))
    elif shape == "pair":
        dramatiq.pipeline([_step(unit, "c0", s), _step(unit, "c1", 0.1, ignore=True)]).run()
    else:
        group = dramatiq.group([_step(unit, f"m{i}", s) for i in range(n)])
        group.add_completion_callback(_named(total.message(unit), f"{unit}-end"))
        group.run()


def _step(unit, job, s, ignore=False):
    message = step.message_with_options(args=(unit, job, s), pipe_ignore=ignore)
    return _named(message, f"{unit}-{job}")


def _named(message, id_):
    return message.copy(message_id=id_)


def states(ids):
    return {id_: _state(id_) for id_ in ids}


def _state(id_):
    actor = total if id_.endswith("-end") else step
    try:
        return ["finished", results.get_result(_named(actor.message(), id_))]
    except ResultMissing:
        return ["open", None]
    except ResultFailure:
        return ["failed", None]
