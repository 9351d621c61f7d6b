-- Whose session a token belongs to. A use moves the expiry, but is written down only so often: every write is an fsync.
-- ARGV: 1 token hash, 2 sliding ms, 3 ms between writes, 4 template of active
local id = redis.call('GET', 'token:' .. ARGV[1])
if not id then return false end
local key = 'session:' .. id
local s = redis.call('HMGET', key, 'userId', 'lastSeenAt', 'expiresAt', 'endsAt', 'activeDay')
local now = clock()
if not s[1] or now >= tonumber(s[3]) then return false end
local today = utc_day(now)
if now - tonumber(s[2]) >= tonumber(ARGV[3]) or today ~= s[5] then
  local expires = digits(math.min(now + tonumber(ARGV[2]), tonumber(s[4])))
  -- A store that is full refuses what could make it grow; the session is still good.
  local written = redis.pcall('HSET', key, 'lastSeenAt', digits(now), 'expiresAt', expires, 'activeDay', today)
  if type(written) == 'table' and written.err then
    if string.sub(written.err, 1, 3) ~= 'OOM' then return written end
    return { id, s[1] }
  end
  redis.call('ZADD', 'expiries', expires, id)
  if today ~= s[5] then
    emit(ARGV[4], { user = s[1], session = id, time = rfc3339(now), day = today })
  end
end
return { id, s[1] }
