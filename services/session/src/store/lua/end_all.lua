-- Ends all sessions of a person. ARGV: 1 user id, 2 reason, 3 template of ended
-- Returns the time and the ids of all that ended, the expired ones too.
local now = clock()
local ids = redis.call('ZRANGE', 'sessions-of:' .. ARGV[1], 0, -1)
for _, id in ipairs(ids) do
  end_session(id, ARGV[2], now, ARGV[3])
end
return { digits(now), ids }
