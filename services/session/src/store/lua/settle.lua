-- Ends an attempt that did not become a session. ARGV: 1 key, 2 attempt id, 3 '1' if the password was wrong, 4 window ms
redis.call('ZREM', ARGV[1], 'p:' .. ARGV[2])
if ARGV[3] == '1' then
  redis.call('ZADD', ARGV[1], digits(clock()), 'f:' .. ARGV[2])
  redis.call('PEXPIRE', ARGV[1], ARGV[4])
end
return 1
