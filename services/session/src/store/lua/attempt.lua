-- Asks to check a password. Attempts under way count as if they had failed, so that many at once get no more guesses than
-- one after another. Two counts: of the name from this client, above which it has to wait; and of the name from anywhere, above which
-- clients from which no log-in had succeeded before are let through one a second, in the order in which they came: slowed, not locked out.
-- ARGV: 1 HMAC of name and client, 2 HMAC of the name, 3 attempt id, 4 failures allowed, 5 window ms,
--       6 ms after which an attempt is given up for failed, 7 ms between two of the line, 8 how many may stand in the line
-- Returns {'go'}, {'wait'} (others must end first) or {'refused', ms until the next one may be made}.
local now, limit, window, abandoned = clock(), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local own, all, line = 'attempts:' .. ARGV[1], 'attempts-of:' .. ARGV[2], 'attempts-line:' .. ARGV[2]

-- The times of the failures, and how many attempts are under way.
local function tally(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', digits(now - window))
  local members = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  local failed, under_way = {}, 0
  for i = 1, #members, 2 do
    local at = tonumber(members[i + 1])
    if string.sub(members[i], 1, 1) == 'p' and now - at < abandoned then
      under_way = under_way + 1
    else
      failed[#failed + 1] = at
    end
  end
  return failed, under_way
end

local failed, under_way = tally(own)
if #failed >= limit then return { 'refused', digits(failed[#failed - limit + 1] + window - now) } end
if #failed + under_way >= limit then return { 'wait' } end
if redis.call('EXISTS', 'familiar:' .. ARGV[1]) == 0 then
  failed, under_way = tally(all)
  if #failed > limit then
    -- A ticket is a moment, and is kept until then and for a window after it.
    redis.call('ZREMRANGEBYSCORE', line, '-inf', digits(now - window))
    local ticket = tonumber(redis.call('ZSCORE', line, ARGV[1]) or '')
    if not ticket then
      if redis.call('ZCOUNT', line, digits(now), '+inf') > tonumber(ARGV[8]) then return { 'refused', ARGV[7] } end
      ticket = math.max(now, (tonumber(redis.call('ZSCORE', line, 'last') or '') or 0) + tonumber(ARGV[7]))
      redis.call('ZADD', line, digits(ticket), ARGV[1], digits(ticket), 'last')
      redis.call('PEXPIRE', line, digits(ticket - now + window))
    end
    if ticket > now then return { 'refused', digits(ticket - now) } end
    redis.call('ZREM', line, ARGV[1])
  elseif #failed + under_way > limit then
    return { 'wait' }
  end
end
for _, key in ipairs({ own, all }) do
  redis.call('ZADD', key, digits(now), 'p:' .. ARGV[3])
  redis.call('PEXPIRE', key, ARGV[5])
end
return { 'go' }
