"""A workflow becomes an execution: written, and compiled by whoever submits it."""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import closing
from itertools import islice

import redis

from ..common.code import CodeRoot
from ..common.errors import Conflict
from ..common.jobs import new_execution_id
from ..common.settings import Settings
from ..common.spec.models import Workflow
from ..common.state.store import Store
from .engine.work import static_chunks
from .insist import insist

log = logging.getLogger("penstock.client")


def submit(
    store: Store,
    settings: Settings,
    workflow: Workflow,
    key: str,
    code: CodeRoot | None,
    compile_s: float,
) -> str:
    """Accepts a workflow, makes the jobs that it names, and returns the execution's id.

    Whatever keeps us from making them all, an orchestrator goes on after `compile_s` seconds
    (0: it makes them all). Raises Conflict when the key was used for another workflow.
    """
    spec = workflow.to_json()
    execution = new_execution_id(int(time.time() * 1000))
    told = hashlib.blake2b(spec.encode(), digest_size=16).hexdigest()
    fields = execution_fields(workflow, code, settings)
    chunks = static_chunks(execution, workflow) if compile_s else iter(())
    first = list(islice(chunks, 1))
    verdict, found = insist(
        lambda: store.submit(execution, told, spec, fields, key, compile_s, first)
    )
    if verdict == "CONFLICT":
        raise Conflict(
            f"key {key!r} belongs to execution {found}, which was submitted with another workflow "
            "or other parameters; choose another key, or none"
        )
    if found == execution:
        try:
            with closing(store.extend_each(execution, chunks)) as verdicts:
                for verdict in verdicts:
                    if verdict in ("CLOSED", "RETRYING"):
                        break
        except redis.exceptions.RedisError as error:
            log.info("event=compile_left execution=%s error=%r", execution, str(error))
    return found


def execution_fields(
    workflow: Workflow, code: CodeRoot | None, settings: Settings
) -> dict[str, str | int]:
    """What stands in the execution's hash."""
    root, digest = (code.root, code.digest) if code else ("", "")
    return {
        "name": workflow.name or workflow.id,
        "workflow": workflow.id,
        "root": root,
        "digest": digest,
        "parallelism": workflow.parallelism or 0,
        "policy": workflow.failure_policy,
        "domain": workflow.domain,
        "ttl_s": max(1, int(settings.state_ttl_s)),
    }
