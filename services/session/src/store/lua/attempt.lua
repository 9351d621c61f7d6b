-- Asks to check a password. Attempts under way count as if they had failed, so that many at once get no more guesses than
-- one after another. ARGV: 1 key, 2 attempt id, 3 failures allowed, 4 window ms, 5 ms after which an attempt is given up for failed
-- Returns {'go'}, {'wait'} (others must end first) or {'refused', ms until the next one may be made}.
local now, limit, window = clock(), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', ARGV[1], '-inf', digits(now - window))
local members = redis.call('ZRANGE', ARGV[1], 0, -1, 'WITHSCORES')
local failed, under_way = {}, 0
for i = 1, #members, 2 do
  local at = tonumber(members[i + 1])
  if string.sub(members[i], 1, 1) == 'p' and now - at < tonumber(ARGV[5]) then
    under_way = under_way + 1
  else
    failed[#failed + 1] = at
  end
end
if #failed >= limit then return { 'refused', digits(failed[#failed - limit + 1] + window - now) } end
if #failed + under_way >= limit then return { 'wait' } end
redis.call('ZADD', ARGV[1], digits(now), 'p:' .. ARGV[2])
redis.call('PEXPIRE', ARGV[1], ARGV[4])
return { 'go' }
