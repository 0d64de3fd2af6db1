-- trial: does once what commit does, and leaves nothing, so that what Redis refuses shows before there is work
--
-- KEYS    of one partition: a record, an index, the counters, the meta, a body
-- ARGV    1 the channel
-- Returns an empty string, or the first command that was refused, a space, and Redis's words
-- MSET is the first write: Redis that is full or read-only refuses the first write of a script or none.
local refused = ''
for _, command in ipairs({
  { 'TIME' }, { 'MGET', KEYS[1] }, { 'GETRANGE', KEYS[1], '0', '7' }, { 'MSET', KEYS[1], 'trial' }, { 'ZADD', KEYS[2], '0', 'trial' },
  { 'HINCRBY', KEYS[3], 'trial', '0' }, { 'HDEL', KEYS[3], 'trial' }, { 'ZREM', KEYS[2], 'trial' }, { 'PUBLISH', ARGV[1], '' }, { 'UNLINK', KEYS[1] },
}) do
  local reply = redis.pcall(unpack(command))
  if refused == '' and type(reply) == 'table' and reply.err then refused = command[1] .. ' ' .. reply.err end
end
return refused
