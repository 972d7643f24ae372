-- Lease the rows of every wish whose rows are all free, under one new fencing token.
-- KEYS: the token counter, then the rows.
-- ARGV: owner; lifetime of a lease in milliseconds; the waiter or ''; for how many milliseconds a row is reserved for the
-- waiter; the wishes as JSON, each a list of indexes into the rows, from 1.
-- Returns the token (0 if nothing was leased), then for each wish 0, or the index of its first row that is not free.
local counter, owner, ttl, me, next_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local keys, nexts, holders, heirs = {}, {}, {}, {}
for i = 2, #KEYS do keys[i - 1] = KEYS[i]; nexts[i - 1] = string.gsub(KEYS[i], '}:', '}:next:', 1) end
for first = 1, #keys, 1000 do
  local last = math.min(first + 999, #keys)
  for i, value in ipairs(redis.call('MGET', unpack(keys, first, last))) do holders[first + i - 1] = value end
  for i, value in ipairs(redis.call('MGET', unpack(nexts, first, last))) do heirs[first + i - 1] = value end
end
local mine, reply, taken = {}, {0}, 0
for _, wish in ipairs(cjson.decode(ARGV[5])) do
  local by = 0
  for _, i in ipairs(wish) do
    local held = holders[i] and holders[i] ~= owner
    local promised = heirs[i] and heirs[i] ~= me
    if held or promised then by = i; break end
  end
  if by == 0 then
    for _, i in ipairs(wish) do mine[i] = true end
  elseif next_ms > 0 then
    redis.call('SET', nexts[by], me, 'NX', 'PX', next_ms)
  end
  reply[#reply + 1] = by
end
for i in pairs(mine) do
  redis.call('SET', keys[i], owner, 'PX', ttl)
  if heirs[i] then redis.call('DEL', nexts[i]) end
  taken = taken + 1
end
if taken > 0 then reply[1] = redis.call('INCR', counter) end
return reply
