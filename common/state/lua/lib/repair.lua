-- requires: settle
-- What the repair scripts share. Every change of state is one script, so between two of
-- them what is true of a healthy cluster holds: what is found wrong in one script is wrong.
local R = {}
function R.has(list, id) return redis.call('LPOS', list, id) and true or false end
function R.on_agenda(x, item) return redis.call('ZSCORE', K.agenda(x.domain), item) and true or false end
function R.outbox_empty(x_id) return redis.call('LLEN', K.outbox(x_id)) == 0 end
function R.is_node(id) return id and redis.call('ZSCORE', K.nodes(), id) and true or false end
function R.mended(execution, what, ...)
  event('mended', 'execution', execution, 'what', what, ...)
end
