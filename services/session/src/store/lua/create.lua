-- Starts a session for a person whom User has just verified, takes over the profile User answered with, and settles the attempt.
-- ARGV: 1 session id, 2 token hash, 3 user id, 4 device or '', 5 sliding ms, 6 absolute ms, 7 sessions a person may have,
--       8 HMAC of name and client, 9 HMAC of the name, 10 attempt id, 11 ms for which a client is familiar, 12 how many are,
--       13 version, 14 revision, 15 handle, 16 displayName, 17 epoch, 18 kept session id or '', 19 template of started, 20 of ended
-- Returns 'erased' or 'outdated' (User answered from before an erasure or a changed password that are known here), else the session.
local now = clock()
local id, user = ARGV[1], ARGV[3]
local held = redis.call('HMGET', 'profile:' .. user, 'version', 'erasedAt', 'epoch')
if version_of(held[1]) >= tonumber(ARGV[13]) then
  if held[2] then return { 'erased' } end
  if tonumber(held[3] or '') ~= tonumber(ARGV[17]) then return { 'outdated' } end
end

local created = digits(now)
local expires = digits(now + math.min(tonumber(ARGV[5]), tonumber(ARGV[6])))
redis.call('HSET', 'session:' .. id, 'userId', user, 'device', ARGV[4], 'createdAt', created, 'lastSeenAt', created,
  'expiresAt', expires, 'endsAt', digits(now + tonumber(ARGV[6])), 'epoch', ARGV[17], 'tokenHash', ARGV[2],
  'activeDay', utc_day(now))
redis.call('SET', 'token:' .. ARGV[2], id)
redis.call('ZADD', 'expiries', expires, id)
apply_state(user, { version = ARGV[13], revision = ARGV[14], handle = ARGV[15], displayName = ARGV[16], epoch = ARGV[17],
  kept = ARGV[18] }, now, ARGV[20])
-- The oldest go, so that nobody can fill the store by logging in for ever.
local surplus = redis.call('ZCARD', 'sessions-of:' .. user) + 1 - tonumber(ARGV[7])
if surplus > 0 then
  for _, oldest in ipairs(redis.call('ZRANGE', 'sessions-of:' .. user, 0, surplus - 1)) do
    end_session(oldest, 'revoked', now, ARGV[20])
  end
end
redis.call('ZADD', 'sessions-of:' .. user, created, id)
redis.call('ZREM', 'attempts:' .. ARGV[8], 'p:' .. ARGV[10])
redis.call('ZREM', 'attempts-of:' .. ARGV[9], 'p:' .. ARGV[10])
redis.call('SET', 'familiar:' .. ARGV[8], '1', 'PX', ARGV[11])
redis.call('ZADD', 'familiar-of:' .. user, created, ARGV[8])
redis.call('PEXPIRE', 'familiar-of:' .. user, ARGV[11])
forget_familiar(user, tonumber(ARGV[12]))
emit(ARGV[19], { user = user, session = id, time = rfc3339(now) })
return { 'created', id, user, ARGV[4], created, created, expires }
