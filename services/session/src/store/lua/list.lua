-- The living sessions of a person, the newest first. ARGV: 1 user id
local now = clock()
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', 'sessions-of:' .. ARGV[1], 0, -1)) do
  local s = redis.call('HMGET', 'session:' .. id, 'userId', 'device', 'createdAt', 'lastSeenAt', 'expiresAt')
  if s[1] and tonumber(s[5]) > now then
    found[#found + 1] = { id, s[1], s[2], s[3], s[4], s[5] }
  end
end
return found
