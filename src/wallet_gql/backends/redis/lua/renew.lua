-- Renew the leases that the owner ARGV[1] still holds on KEYS: they end ARGV[2] ms from now. Returns how many.
local done = 0
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then done = done + redis.call('PEXPIRE', key, ARGV[2]) end
end
return done
