-- Release the leases that the owner ARGV[1] still holds on KEYS. Returns how many.
local done = 0
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then done = done + redis.call('DEL', key) end
end
return done
