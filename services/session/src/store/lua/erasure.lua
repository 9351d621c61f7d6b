-- What is left of an erased person. ARGV: 1 user id, 2 version of the erasure
-- Returns the number of sessions left, or -1 if the tombstone has not arrived.
local held = redis.call('HMGET', 'profile:' .. ARGV[1], 'version', 'erasedAt')
if not held[2] or version_of(held[1]) < tonumber(ARGV[2]) then return -1 end
return redis.call('ZCARD', 'sessions-of:' .. ARGV[1])
