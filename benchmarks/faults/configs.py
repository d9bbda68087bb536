"""How each system is set up, in its own words, and what its makers promise."""

from __future__ import annotations

import json

from .system import Config

_RQ = ("--worker-ttl", "20", "--job-monitoring-interval", "1", "--maintenance-interval", "1")
_CELERY = {"visibility_timeout": 8, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
_DRAMATIQ = {"heartbeat_timeout": 2000, "maintenance_chance": 1_000_000}

CONFIGS = [
    Config(
        "rq",
        "default",
        "`rq worker` (forks for each job), all else as it comes: job_monitoring_interval 30 s, "
        "maintenance_interval 600 s, no Retry; JSON serializer",
        {},
    ),
    Config(
        "rq",
        "simple",
        "`rq worker --worker-class rq.SimpleWorker` (runs jobs itself), all else as it comes",
        {},
        ("--worker-class", "rq.SimpleWorker"),
    ),
    Config(
        "rq",
        "fast",
        f"`rq worker {' '.join(_RQ)}`, jobs with Retry(max=3)",
        {"FAULTS_RETRIES": "3"},
        _RQ,
    ),
    Config(
        "celery",
        "default",
        "prefork, concurrency 1, task_acks_late, task_reject_on_worker_lost, "
        "worker_deduplicate_successful_tasks, worker_prefetch_multiplier=1; visibility_timeout 3600 s as it comes",
        {},
    ),
    Config(
        "celery",
        "fast",
        "as default, with visibility_timeout=8 s (set in the three documented places), "
        "unacked_restore_interval=1, unacked_restore_throttle=1",
        {"FAULTS_TRANSPORT": json.dumps(_CELERY)},
    ),
    Config(
        "dramatiq",
        "default",
        "`dramatiq --processes 1 --threads 1`, dramatiq_queue_prefetch=1, Results and "
        "GroupCallbacks on Redis; heartbeat_timeout 60 s and maintenance_chance 1000 of "
        "1,000,000 as they come",
        {"dramatiq_queue_prefetch": "1"},
    ),
    Config(
        "dramatiq",
        "fast",
        "as default, with RedisBroker(heartbeat_timeout=2000 ms, maintenance_chance=1000000)",
        {"dramatiq_queue_prefetch": "1", "FAULTS_BROKER": json.dumps(_DRAMATIQ)},
    ),
    Config(
        "penstock",
        "default",
        "one orchestrator, nodes of one slot, all else as it comes (PENSTOCK_NODE_TIMEOUT_S 3)",
        {},
    ),
]

#: Which of them each scenario is run on.
CHOSEN = {
    "kill-worker": {one.title for one in CONFIGS},
    "stopped-worker": {"rq/fast", "celery/fast", "dramatiq/fast", "penstock/default"},
    "lost-reply": {"rq/fast", "celery/fast", "dramatiq/fast", "penstock/default"},
    "fan-in": {"rq/fast", "celery/fast", "dramatiq/fast", "penstock/default"},
}
