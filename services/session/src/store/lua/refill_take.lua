-- Puts the refilled copies of users in the stead of the live ones, each in one step. A copy that nothing in the log speaks for goes.
-- ARGV: 1 id of the rebuild, then user ids
if rebuild_id() ~= ARGV[1] then return -1 end
for i = 2, #ARGV do
  local user = ARGV[i]
  if redis.call('EXISTS', 'refill:' .. user) == 1 then
    redis.call('RENAME', 'refill:' .. user, 'profile:' .. user)
  elseif redis.call('SISMEMBER', 'refilled', user) == 0 then
    redis.call('UNLINK', 'profile:' .. user)
  end
  reindex(user)
end
return 1
