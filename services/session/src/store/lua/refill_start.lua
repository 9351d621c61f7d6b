-- Begins a rebuild of the profile copies. ARGV: 1 id. Returns 0 if one is under way, or still being tidied up after.
if rebuild_id() or redis.call('HEXISTS', 'rebuild', 'tidying') == 1 then return 0 end
redis.call('UNLINK', 'refilled')
redis.call('HSET', 'rebuild', 'filling', ARGV[1], 'begun', '0', 'startedAt', rfc3339(clock()))
redis.call('HDEL', 'rebuild', 'finishedAt')
return 1
