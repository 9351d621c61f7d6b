-- Ends what has expired, with its event: keyspace notifications are lossy, this is not. ARGV: 1 how many at most, 2 template of ended
-- Returns how many.
local now = clock()
local ids = redis.call('ZRANGEBYSCORE', 'expiries', '-inf', digits(now), 'LIMIT', 0, tonumber(ARGV[1]))
for _, id in ipairs(ids) do
  end_session(id, 'expired', now, ARGV[2])
end
return #ids
