"""The product broken on purpose, one promise at a time: whoever checks it must notice."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.common.state.scripts import Limits, Scripts

#: what is broken -> (text of the scripts, what stands in its place)
BREAKS: dict[str, tuple[str, str]] = {
    "any token of a job that runs settles it": (
        "job.status == 'started' and job.attempt == attempt and job.claim == claim",
        "job.status == 'started'",
    ),
    "a settle does not look at its token": (
        "if not J.holds(job, attempt, claim) then\n    event('settle_stale'",
        "if not job then\n    event('settle_stale'",
    ),
    "a claim does not see that the execution is closed": (
        "  if X.closed(x) then\n    remove(r)",
        "  if false then\n    remove(r)",
    ),
    "a job that is told of an upstream's end need not wait": (
        "if job and job.status == 'deferred' then\n      if not ok",
        "if job then\n      if not ok",
    ),
    "a fan-out may end twice": (
        "or source.status ~= 'started' then return end",
        "then return end",
    ),
    "an advance that is sent again is done again": (
        "if known and n.claim == claim_id then",
        "if false then",
    ),
    "an advance that comes late claims": (
        "local late = known and turn(claim_id) < turn(n.claim)",
        "local late = false",
    ),
    "nobody waits after an outage": (
        "NOW_MS - beat > timeout_ms and NOW_MS - since > timeout_ms",
        "NOW_MS - beat > timeout_ms",
    ),
    "no patience": (
        "if F.touched > STEP_LIMIT or silent < patience_ms(n.timeout_ms, beat - job.since)",
        "if F.touched > STEP_LIMIT",
    ),
    "chunks are not counted": ("if number < expected then return 'DONE' end", ""),
    "a chunk may come before the one before it": (
        "if number > expected then return 'AHEAD' end",
        "",
    ),
    "an upstream that failed does not matter": ("if not ok and any_end == '' then", "if false then"),
    "an answer on its way is no lease": ("== claim or is_news(claim)", "== claim"),
    "a job handed back has lost an attempt": ("'handed back', 'attempt', attempt - 1", "'handed back'"),
    "tags do not matter": ("if not n.offer.tags[tag] then return false end", ""),
    "an heir that is not claimed is lost": ("  if heir then write_heir() end\n  write_events()", "  write_events()"),
    "parallelism is not kept": ("if x.admitted >= x.parallelism then", "if false then"),
    "jobs that are alike pass every gate": (
        " and x.parallelism == 0 and not (group and group.limit > 0)",
        "",
    ),
    "a script does not claim what it has queued": (
        "  write_later() -- what this script queued is in the lists then\n",
        "",
    ),
    "poison is never given up": ("if times >= limit or job.group and", "if job.group and"),
    "a pause is no pause": ("elseif x.status == 'paused' then\n    remove(r)", "elseif false then\n    remove(r)"),
    "upstreams do not learn of a session's new jobs": (
        "for upstream, more in pairs(dependents) do also_tells(upstream, more) end",
        "",
    ),
    "children are folded twice": ("or tonumber(v[1] or 0) ~= folds", ""),
    "children are folded when their fan-ins read them": ("or source.status ~= 'started' or not v[2]", "or not v[2]"),
    "children that may finish yet are folded": ("if not gone[child] then stay[#stay + 1] = child end", ""),
    "a fan-out that was stopped early goes on": (
        "if stage ~= ':static' and stopped_by(x_id, stage) then return 'CLOSED' end",
        "",
    ),
    "what need not run has failed": (
        "not (status == 'canceled' and stopped_by(job.execution, job.group))",
        "true",
    ),
    "a retry runs what need not run": (
        "if not JOB_ENDED[job.status] or is_left_out(job) then return end",
        "if not JOB_ENDED[job.status] then return end",
    ),
    "what is left over is forgotten": ("    redis.call('SADD', K.outboxes(), rest[2])\n", ""),
    "a retry begins before the end was told": (
        "redis.call('RPUSH', K.outbox(x_id), 'reset ' .. x_id .. ' 0')",
        "redis.call('LPUSH', K.outbox(x_id), 'reset ' .. x_id .. ' 0')",
    ),
}  # fmt: skip


class BrokenScripts(Scripts):
    """The scripts with some text replaced, wherever it stands. LookupError for one that is nowhere in them:
    then nothing is broken."""

    def __init__(
        self, limits: Limits, replace: Mapping[str, str], breaks: Mapping[str, str]
    ) -> None:
        super().__init__(limits, replace)
        self._breaks = breaks

    def _text(self) -> str:
        text = super()._text()
        for old, new in self._breaks.items():
            if old not in text:
                raise LookupError(f"no script has this text any more: {old}")
            text = text.replace(old, new)
        return text
