"""When a failed attempt runs again: exponential back-off and rules by error class.

A policy is a `spec.models.Retry` or the mapping that it was stored as. Nothing here imports
pydantic: the worker's daemon uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .spec.models import Retry

#: The policy of a job that names none: 3 retries (4 attempts) after 5, 10 and 20 seconds.
DEFAULT_MAX = 3
#: how long a job may run that names no `timeout`, seconds
DEFAULT_TIMEOUT_S = 300
DEFAULT_BACKOFF_S = 5.0
DEFAULT_FACTOR = 2.0
DEFAULT_MAX_DELAY_S = 300.0
DEFAULT_JITTER = 0.1

#: It would be the same again: what a function returned cannot travel, what it was to be given is not there,
#: or a job that it waited for did not succeed, which has a policy of its own.
NEVER_MENDED = frozenset({"ResultError", "NoSuchPart", "NotTrusted", "JobFailed", "JobCanceled"})

_DEFAULTS: dict[str, Any] = {
    "max": DEFAULT_MAX,
    "backoff_s": DEFAULT_BACKOFF_S,
    "factor": DEFAULT_FACTOR,
    "max_delay_s": DEFAULT_MAX_DELAY_S,
    "jitter": DEFAULT_JITTER,
    "on": (),
    "not_on": (),
}


def delay_s(retry: Retry | Mapping[str, Any], failures: int, jitter: float = 0.0) -> float:
    """Seconds to wait before the next attempt.

    `failures` counts the failed attempts so far (1 after the first). `jitter` in [-1, 1] is the
    draw; the policy's own `jitter` says how much of the delay it moves. Never more than
    `max_delay_s`.
    """
    longest = float(_setting(retry, "max_delay_s"))
    try:
        grown = _setting(retry, "backoff_s") * float(_setting(retry, "factor")) ** max(
            failures - 1, 0
        )
    except OverflowError:
        grown = longest
    moved = min(grown, longest) * (1.0 + max(-1.0, min(1.0, jitter)) * _setting(retry, "jitter"))
    return float(max(0.0, min(moved, longest)))


def retries(retry: Retry | Mapping[str, Any], error_type_names: Iterable[str]) -> bool:
    """Whether an error of these classes (the names in the exception's MRO) is retried.

    `not_on` wins over `on`; an empty `on` stands for every class but those that no retry mends. Module
    prefixes are ignored.
    """
    names = {_bare(name) for name in error_type_names}
    wanted = {_bare(name) for name in _setting(retry, "on")}
    refused = {_bare(name) for name in _setting(retry, "not_on")}
    return not names & refused and bool(names & wanted if wanted else not names & NEVER_MENDED)


def _bare(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _setting(retry: Retry | Mapping[str, Any], name: str) -> Any:
    if isinstance(retry, Mapping):
        return retry.get(name, _DEFAULTS[name])
    return getattr(retry, name)
