-- Ends an attempt that did not become a session. ARGV: 1 HMAC of name and client, 2 HMAC of the name, 3 attempt id,
-- 4 '1' if the password was wrong, 5 window ms
for _, key in ipairs({ 'attempts:' .. ARGV[1], 'attempts-of:' .. ARGV[2] }) do
  redis.call('ZREM', key, 'p:' .. ARGV[3])
  if ARGV[4] == '1' then
    redis.call('ZADD', key, digits(clock()), 'f:' .. ARGV[3])
    redis.call('PEXPIRE', key, ARGV[5])
  end
end
return 1
