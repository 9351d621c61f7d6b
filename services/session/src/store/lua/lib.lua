-- What every script of the session store shares; it is put in front of each of them.
-- Keys are computed here and not declared: a session, its profile copy and the outbox commit together on one primary. Redis
-- Cluster is therefore not supported; a primary with replicas (Sentinel) is.
--
--   session:<id>          hash: userId device createdAt lastSeenAt expiresAt endsAt epoch tokenHash activeDay (times in ms)
--   token:<sha-256>       string: session id
--   sessions-of:<userId>  sorted set of session ids by creation
--   expiries              sorted set of all session ids by expiry
--   profile:<userId>      hash: version revision handle displayName epoch; of an erased person only version erasedAt
--   refill:<userId>, refilled, rebuild   the place a rebuild fills (as profile:<userId>), who is in it, and how the rebuild stands
--   profiles:<00..ff>     set of the user ids with a live copy, by audit bucket
--   watermark:<source>    string: RFC 3339
--   attempts:<hmac of name and client>, attempts-of:<hmac of the name>
--                         sorted sets of the log-ins in the last minute: p:<id> under way, f:<id> failed
--   attempts-line:<hmac of the name>
--                         sorted set of the clients that stand in line, by the moment of their turn, and the last such moment (last)
--   familiar:<hmac of name and client>   a log-in of that name from that client had succeeded
--   familiar-of:<userId>  sorted set of the person's hmacs there, by time

-- UNSAFE: defects switched on to prove that they are noticed; a line in front of this sets it.

-- The clock of Redis, in ms. It is the only clock of the sessions; it stands still during a script.
local function clock()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- YYYY-MM-DD of a time in ms (proleptic Gregorian calendar, days from civil).
local function utc_day(ms)
  local z = math.floor(ms / 86400000) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02d', year, month, doy - math.floor((153 * mp + 2) / 5) + 1)
end

local function rfc3339(ms)
  local s = math.floor(ms / 1000) % 86400
  return string.format('%sT%02d:%02d:%02d.%03dZ', utc_day(ms),
    math.floor(s / 3600), math.floor(s / 60) % 60, s % 60, ms % 1000)
end

-- Lua prints large numbers as 1.2e+12; what is stored must be digits.
local function digits(n)
  return string.format('%.0f', n)
end

-- Appends an event to the outbox and to the index of its person's entries. A template is the JSON list [outbox prefix, field, value, ...]
-- of an entry with $name$ in it.
local templates = {}
local function emit(template, values)
  local parsed = templates[template]
  if not parsed then
    parsed = cjson.decode(template)
    templates[template] = parsed
  end
  local entry = {}
  for i = 2, #parsed do
    entry[i - 1] = string.gsub(parsed[i], '%$(%a+)%$', values)
  end
  local added = redis.call('XADD', parsed[1] .. ':events', '*', unpack(entry))
  redis.call('ZADD', parsed[1] .. ':key:' .. values.user, string.match(added, '^%d+'), added)
end

-- Ends a session with its event. One that has expired ends as expired, at the moment it did, whoever comes to end it:
-- so it ends once, and for the same reason on every path. Returns whether it was there and had not expired.
local function end_session(id, reason, now, template)
  local key = 'session:' .. id
  local s = redis.call('HMGET', key, 'userId', 'tokenHash', 'createdAt', 'expiresAt')
  if not s[1] then
    redis.call('ZREM', 'expiries', id)
    return false
  end
  local at, expires = now, tonumber(s[4])
  if expires <= now then
    at, reason = expires, 'expired'
  end
  redis.call('DEL', key, 'token:' .. s[2])
  redis.call('ZREM', 'expiries', id)
  redis.call('ZREM', 'sessions-of:' .. s[1], id)
  emit(template, {
    user = s[1], session = id, reason = reason, time = rfc3339(at),
    duration = string.format('%.3f', math.max(0, at - tonumber(s[3])) / 1000),
  })
  return expires > now
end

local function bucket_of(user)
  return 'profiles:' .. string.sub(user, -2)
end

-- The set of a bucket says what the copy says, whoever changed either.
local function reindex(user)
  local held = redis.call('HMGET', 'profile:' .. user, 'version', 'erasedAt')
  if held[1] and not held[2] then redis.call('SADD', bucket_of(user), user) else redis.call('SREM', bucket_of(user), user) end
end

-- The version of a copy; -1 if there is none, or something that is no number.
local function version_of(text)
  return tonumber(text or '') or -1
end

-- The id of the rebuild under way, or false. While there is one, whatever is taken over is taken over in both places.
local filling
local function rebuild_id()
  if filling == nil then filling = redis.call('HGET', 'rebuild', 'filling') end
  return filling
end

-- Puts a state under a key unless what is held there is as new. Returns whether it did.
local function hold_state(key, p)
  local held = redis.call('HMGET', key, 'version', 'erasedAt')
  if version_of(p.version) <= version_of(held[1]) and not UNSAFE.skip_version_check then return false end
  if held[2] then redis.call('HDEL', key, 'erasedAt') end
  redis.call('HSET', key, 'version', p.version, 'revision', p.revision, 'handle', p.handle, 'displayName', p.displayName,
    'epoch', p.epoch)
  return true
end

-- The same with a tombstone: nothing of the profile is left but that it is gone.
local function hold_tombstone(key, version, erased_at)
  if version_of(version) <= version_of(redis.call('HGET', key, 'version')) then return false end
  redis.call('DEL', key)
  if not UNSAFE.forget_tombstone then redis.call('HSET', key, 'version', version, 'erasedAt', erased_at) end
  return true
end

-- Puts a state (erased_at '') or a tombstone into the place that a rebuild fills. No session hears of it: the live copy sees to that.
local function refill(user, p, erased_at)
  if erased_at == '' then hold_state('refill:' .. user, p) else hold_tombstone('refill:' .. user, p.version, erased_at) end
  redis.call('SADD', 'refilled', user)
end

-- Takes over a newer state of a user, and every consequence of it: sessions of an older credential epoch end, but for the kept
-- one. A session of a later epoch than the newest state (User came back from a backup) is held to that state's epoch from now on.
-- Returns false, having done nothing, if what is held is as new.
local function apply_state(user, p, now, template)
  if rebuild_id() then refill(user, p, '') end
  if not hold_state('profile:' .. user, p) then return false end
  redis.call('SADD', bucket_of(user), user)
  local epoch = tonumber(p.epoch)
  for _, id in ipairs(redis.call('ZRANGE', 'sessions-of:' .. user, 0, -1)) do
    local has = tonumber(redis.call('HGET', 'session:' .. id, 'epoch') or epoch)
    if has < epoch and id ~= p.kept then
      end_session(id, 'revoked', now, template)
    elseif has ~= epoch then
      redis.call('HSET', 'session:' .. id, 'epoch', p.epoch)
    end
  end
  return true
end

-- Forgets the clients a person is known to use, but for the newest so many.
local function forget_familiar(user, but)
  local key = 'familiar-of:' .. user
  for _, hmac in ipairs(redis.call('ZRANGE', key, 0, -1 - but)) do
    redis.call('DEL', 'familiar:' .. hmac)
    redis.call('ZREM', key, hmac)
  end
end

-- Takes over a tombstone, and all sessions end.
local function apply_tombstone(user, version, erased_at, now, template)
  if rebuild_id() then refill(user, { version = version }, erased_at) end
  if not hold_tombstone('profile:' .. user, version, erased_at) then return false end
  redis.call('SREM', bucket_of(user), user)
  for _, id in ipairs(redis.call('ZRANGE', 'sessions-of:' .. user, 0, -1)) do
    end_session(id, 'erased', now, template)
  end
  forget_familiar(user, 0)
  return true
end
