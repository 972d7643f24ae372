-- Let the leases that the owner ARGV[1] still has on KEYS live for ARGV[2] milliseconds more; answers how many.
local done = 0
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then done = done + redis.call('PEXPIRE', key, ARGV[2]) end
end
return done
