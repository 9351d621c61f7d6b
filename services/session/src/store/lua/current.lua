-- A session with the copy of its person's profile and the as-of of that copy. ARGV: 1 session id, 2 user id
-- Returns false if there is no such living session.
local s = redis.call('HMGET', 'session:' .. ARGV[1], 'userId', 'device', 'createdAt', 'lastSeenAt', 'expiresAt')
if s[1] ~= ARGV[2] or clock() >= tonumber(s[5]) then return false end
local p = redis.call('HMGET', 'profile:' .. ARGV[2], 'handle', 'displayName')
return { redis.call('GET', 'watermark:user'), { ARGV[1], s[1], s[2], s[3], s[4], s[5] }, p }
