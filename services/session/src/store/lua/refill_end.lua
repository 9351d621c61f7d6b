-- The refilled copies are the live ones. ARGV: 1 id of the rebuild
if rebuild_id() ~= ARGV[1] then return 0 end
redis.call('HDEL', 'rebuild', 'filling', 'begun')
redis.call('HSET', 'rebuild', 'finishedAt', rfc3339(clock()), 'tidying', '1')
redis.call('UNLINK', 'refilled')
return 1
