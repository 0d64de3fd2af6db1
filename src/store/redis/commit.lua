-- commit: applies write sets of one partition, each whole or not at all.
--
-- KEYS    1 meta; then set by set: one for each check, one for each write, the channel if there is a hint
-- ARGV    1 keyspace id; 2 store time in us, 0 for that of this server; then set by set:
--         time that must have come, number of checks, number of writes, key and note of the hint or ''
--         for each check: the first 8 bytes that its key must hold, '' for none
--         for each write: its verb and what ARITY says; PUT: visible revision, fencing number ('' is new), value
-- Returns store time, last hint sequence, then for each set its revision, or the name of its refusal
-- Redis that is full or read-only refuses the first write of a call or none, so a set that is refused has not begun.
local KEYS, ARGV, call, pcall = KEYS, ARGV, redis.call, redis.pcall
local ARITY = { ZREM = 1, UNLINK = 0, PUT = 3, SET = 1, ZADD = 2, HINCRBY = 2 }
local meta = call('GET', KEYS[1])
if not meta or #meta ~= 32 or string.sub(meta, 1, 16) ~= ARGV[1] then return redis.error_reply('FOREIGN keyspace') end
local last, sequence = struct.unpack('>I8I8', meta, 17); local now = tonumber(ARGV[2])
if now == 0 then local time = call('TIME'); now = time[1] * 1000000 + time[2] end
local k, a, dirty, replies = 1, 2, false, { now, sequence }
local function key() k = k + 1; return KEYS[k] end
local function arg() a = a + 1; return ARGV[a] end
while a < #ARGV do
  local refusal = now < tonumber(arg()) and 'early'
  local checks, writes, hint = tonumber(arg()), tonumber(arg()), arg()
  for _ = 1, checks do
    if pcall('GETRANGE', key(), 0, 7) ~= arg() then refusal = 'conflict' end
  end
  local revision = math.max(last + 1, now); local stamp = struct.pack('>I8', revision)
  for _ = 1, writes do
    local verb, target, reply, from = arg(), key(), nil, a + 1
    a = a + ARITY[verb]
    if not refusal then
      if verb == 'PUT' then
        local visible = ARGV[from] == '' and stamp or ARGV[from]
        local fencing = ARGV[from + 1] == '' and stamp or ARGV[from + 1]
        reply = pcall('SET', target, stamp .. visible .. fencing .. ARGV[a])
      else reply = pcall(verb, target, unpack(ARGV, from, a)) end
      if type(reply) == 'table' and reply.err then refusal = reply.err else last, dirty = revision, true end
      if verb == 'HINCRBY' and reply == 0 then pcall('HDEL', target, ARGV[from]) end
    end
  end
  local channel = hint ~= '' and key()
  if channel and not refusal then
    sequence = sequence + 1
    pcall('PUBLISH', channel, ARGV[1] .. struct.pack('>I8', sequence) .. stamp .. hint)
  end
  if not refusal then last, dirty = revision, true end
  replies[#replies + 1] = refusal or revision
end
if dirty then call('SET', KEYS[1], ARGV[1] .. struct.pack('>I8I8', last, sequence)) end
replies[2] = sequence
return replies
