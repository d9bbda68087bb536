"""What RQ's jobs run: apart from the harness, since a forked worker imports it for every job."""

from __future__ import annotations


def noop(i):
    return i


def merge():
    from rq import get_current_job

    return sum(one.return_value() for one in get_current_job().fetch_dependencies())


def slow():
    from peer import slow_body

    return slow_body()
