-- Starts a session for a person whom User has just verified, takes over the profile User answered with, and settles the attempt.
-- ARGV: 1 session id, 2 token hash, 3 user id, 4 device or '', 5 sliding ms, 6 absolute ms, 7 sessions a person may have,
--       8 attempts key, 9 attempt id, 10 version, 11 revision, 12 handle, 13 displayName, 14 epoch, 15 kept session id or '',
--       16 template of started, 17 of ended
-- Returns 'erased' or 'outdated' (User answered from before an erasure or a changed password that are known here), else the session.
local now = clock()
local id, user = ARGV[1], ARGV[3]
local held = redis.call('HMGET', 'profile:' .. user, 'version', 'erasedAt', 'epoch')
if version_of(held[1]) >= tonumber(ARGV[10]) then
  if held[2] then return { 'erased' } end
  if tonumber(held[3] or '') ~= tonumber(ARGV[14]) then return { 'outdated' } end
end

local created = digits(now)
local expires = digits(now + math.min(tonumber(ARGV[5]), tonumber(ARGV[6])))
redis.call('HSET', 'session:' .. id, 'userId', user, 'device', ARGV[4], 'createdAt', created, 'lastSeenAt', created,
  'expiresAt', expires, 'endsAt', digits(now + tonumber(ARGV[6])), 'epoch', ARGV[14], 'tokenHash', ARGV[2],
  'activeDay', utc_day(now))
redis.call('SET', 'token:' .. ARGV[2], id)
redis.call('ZADD', 'expiries', expires, id)
apply_state(user, { version = ARGV[10], revision = ARGV[11], handle = ARGV[12], displayName = ARGV[13], epoch = ARGV[14],
  kept = ARGV[15] }, now, ARGV[17])
-- The oldest go, so that nobody can fill the store by logging in for ever.
local surplus = redis.call('ZCARD', 'sessions-of:' .. user) + 1 - tonumber(ARGV[7])
if surplus > 0 then
  for _, oldest in ipairs(redis.call('ZRANGE', 'sessions-of:' .. user, 0, surplus - 1)) do
    end_session(oldest, 'revoked', now, ARGV[17])
  end
end
redis.call('ZADD', 'sessions-of:' .. user, created, id)
redis.call('ZREM', ARGV[8], 'p:' .. ARGV[9])
emit(ARGV[16], { user = user, session = id, time = rfc3339(now) })
return { 'created', id, user, ARGV[4], created, created, expires }
