-- The names of all keys, as common/state/keys.py has them. RQ and PS are the
-- two prefixes, set by the loader.
local K = {}
function K.job(id) return RQ .. ':job:' .. id end
function K.queue(name) return RQ .. ':queue:' .. name end
function K.queues() return RQ .. ':queues' end
function K.wip(name) return RQ .. ':wip:' .. name end
function K.finished(name) return RQ .. ':finished:' .. name end
function K.failed(name) return RQ .. ':failed:' .. name end
function K.suspended() return RQ .. ':suspended' end
function K.rq_worker(name) return RQ .. ':worker:' .. name end
function K.execution(id) return PS .. ':exec:' .. id end
function K.spec(id) return PS .. ':exec:' .. id .. ':spec' end
function K.jobs(id) return PS .. ':exec:' .. id .. ':jobs' end
function K.group(id, name) return PS .. ':exec:' .. id .. ':group:' .. name end
function K.group_held(id, name) return PS .. ':exec:' .. id .. ':group:' .. name .. ':held' end
function K.held(id) return PS .. ':exec:' .. id .. ':held' end
function K.parked(id) return PS .. ':exec:' .. id .. ':parked' end
function K.outbox(id) return PS .. ':exec:' .. id .. ':outbox' end
function K.log(id, name) return PS .. ':exec:' .. id .. ':log:' .. name end
function K.history(id, name) return PS .. ':exec:' .. id .. ':history:' .. name end
function K.channel(id) return PS .. ':exec:' .. id end
function K.executions() return PS .. ':executions' end
function K.submission(key) return PS .. ':key:' .. key end
function K.ready() return PS .. ':ready' end
function K.paused() return PS .. ':paused' end
function K.node(id) return PS .. ':node:' .. id end
function K.nodes() return PS .. ':nodes' end
function K.idle() return PS .. ':idle' end
function K.node_inbox(id) return PS .. ':node:' .. id .. ':inbox' end
function K.node_leases(id) return PS .. ':node:' .. id .. ':leases' end
function K.due() return PS .. ':due' end
function K.dead() return PS .. ':dead' end
function K.agenda(domain) return PS .. ':agenda:' .. domain end
function K.domains() return PS .. ':domains' end
function K.bell() return PS .. ':bell' end
function K.lock(name) return PS .. ':lock:' .. name end
function K.lock_channel(name) return PS .. ':lock:' .. name end
function K.fence(name) return PS .. ':fence:' .. name end
function K.outboxes() return PS .. ':outboxes' end
function K.unmet() return PS .. ':unmet' end
function K.events() return PS .. ':events' end
function K.maintenance() return PS .. ':maintenance' end
