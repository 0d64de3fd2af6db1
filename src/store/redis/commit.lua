-- commit: applies write sets, each whole or not at all. On a cluster, the sets of one call must lie in one partition.
--
-- KEYS    metas of the partitions; records that must not exist; then, in any order, the keys to write
-- ARGV    1 keyspace id; 2 the plan; 3 the channel; then values and bodies. No two sets of a call touch the same record, body or entry.
-- The plan is a MessagePack array: store time in us, or 0 for the time of this server; number of metas; number of keys to read;
--         number of sets; and set by set, where a key is its place in KEYS and a value its place in ARGV:
--         meta; the earliest time; length; 1 if there is a hint, else 0; then the counts of each of these:
--         absent: key; check: key, the expected first 8 bytes of its value; removal: key, member; delete: key
--         put: key, visible revision, fencing number ('' is new), value; body: key, value; addition: key, member
--         counter: number, change; then the latest time, or 0; and at the end the hint: partition, length of its note, its key, the note
--         After the sets, for each counter, from number 0 on: key, name
-- Returns a MessagePack array: store time, for each meta its last hint sequence, then for each set its revision, or the name of its refusal
-- A Redis that is full or read-only refuses the first write of a call or none. So the keys that only add data are written
-- first, in one command, and a refused set has written nothing.
local KEYS, ARGV, call, pcall, pack = KEYS, ARGV, redis.call, redis.pcall, struct.pack
local plan, p, last, sequence, kept, dirty = cmsgpack.unpack(ARGV[2]), 5, {}, {}, {}, {}
local now, metas, adding, removing, replies = plan[1], plan[2], false, false, {}
if now == 0 then local time = call('TIME'); now = time[1] * 1000000 + time[2] end
local held = call('MGET', unpack(KEYS, 1, plan[3]))
for m = 1, metas do
  local meta = held[m]
  if meta and #meta == 32 and string.sub(meta, 1, 16) == ARGV[1] then last[m], sequence[m] = struct.unpack('>I8I8', meta, 17) end
  replies[m] = 0
end
for s = 1, plan[4] do
  local m, i, latest, outcome = plan[p], p + 13, plan[p + 12], now < plan[p + 1] and 'early'
  for _ = 1, plan[p + 4] do
    if held[plan[i]] then outcome = 'conflict' end
    i = i + 1
  end
  for _ = 1, plan[p + 5] do
    if pcall('GETRANGE', KEYS[plan[i]], '0', '7') ~= plan[i + 1] then outcome = 'conflict' end
    i = i + 2
  end
  if latest > 0 and math.max(last[m] or 0, now) > latest then outcome = 'late' end
  if not last[m] then outcome = 'foreign' end
  if not outcome then
    outcome = math.max(last[m] + 1, now)
    last[m], dirty[m] = outcome, true
    local removes = plan[p + 6] + plan[p + 7] > 0
    if removes then removing = true else adding = true end
    kept[#kept + 1] = { p, i, metas + 1 + s, pack('>I8', outcome), removes }
  end
  replies[metas + 1 + s] = outcome
  p = p + plan[p + 2]
end
local function put(writes, set)
  local i, n, stamp = set[2], #writes, set[4]
  for _ = 1, plan[set[1] + 8] do
    local visible, fencing = plan[i + 1], plan[i + 2]
    writes[n + 1] = KEYS[plan[i]]
    writes[n + 2] = stamp .. (visible == '' and stamp or visible) .. (fencing == '' and stamp or fencing) .. ARGV[plan[i + 3]]
    n, i = n + 2, i + 4
  end
  for _ = 1, plan[set[1] + 9] do
    writes[n + 1], writes[n + 2] = KEYS[plan[i]], ARGV[plan[i + 1]]
    n, i = n + 2, i + 2
  end
  set[2] = i
end
local mixed, refusal, writes = adding and removing, nil, {}
if mixed then
  for k = 1, #kept do if not kept[k][5] then put(writes, kept[k]) end end
  refusal, writes = #writes > 0 and pcall('MSET', unpack(writes)).err, {}
end
for k = 1, #kept do
  local set = kept[k]
  local p, i = set[1], set[2]
  if set[5] then
    for _ = 1, plan[p + 6] do
      local reply = pcall('ZREM', KEYS[plan[i]], plan[i + 1])
      if type(reply) == 'table' then replies[set[3]] = reply.err end
      i = i + 2
    end
    for _ = 1, plan[p + 7] do pcall('UNLINK', KEYS[plan[i]]); i = i + 1 end
    set[2] = i
  end
  if refusal and not set[5] then replies[set[3]] = refusal
  else
    if set[5] or not mixed then put(writes, set) end
    if plan[p + 3] > 0 then sequence[plan[p]] = sequence[plan[p]] + 1; set[6] = sequence[plan[p]] end
  end
end
for m in pairs(dirty) do local n = #writes
  writes[n + 1], writes[n + 2] = KEYS[m], ARGV[1] .. pack('>I8I8', last[m], sequence[m])
end
local done, notes, counted = #kept > 0 and pcall('MSET', unpack(writes)), {}, {}
for k = 1, #kept do
  local set = kept[k]
  local p, i = set[1], set[2]
  if done.err then replies[set[3]] = done.err
  elseif set[5] or not refusal then
    for _ = 1, plan[p + 10] do
      local reply = pcall('ZADD', KEYS[plan[i]], '0', plan[i + 1])
      if type(reply) == 'table' then replies[set[3]] = reply.err end
      i = i + 2
    end
    for _ = 1, plan[p + 11] do
      local sum, change = counted[plan[i]], plan[i + 1]
      counted[plan[i]], i = sum and sum + change or change, i + 2
    end
    if set[6] then notes[#notes + 1] = pack('>I8', set[6]) .. set[4] .. plan[i] end
  end
end
for c, change in pairs(counted) do
  local key, name = KEYS[plan[p + 2 * c]], plan[p + 2 * c + 1]
  local reply = change ~= 0 and pcall('HINCRBY', key, name, change)
  if reply == 0 then pcall('HDEL', key, name) end
  for k = 1, type(reply) == 'table' and #kept or 0 do replies[kept[k][3]] = reply.err end
end
if #notes > 0 then pcall('PUBLISH', ARGV[3], ARGV[1] .. table.concat(notes)) end
for m = 1, metas do replies[m + 1] = sequence[m] or 0 end
replies[1] = now
return cmsgpack.pack(replies)
