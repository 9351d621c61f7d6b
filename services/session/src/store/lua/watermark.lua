-- Moves the watermark of a source forward, never back. ARGV: 1 source, 2 RFC 3339 in UTC with milliseconds (sorts as text)
local key = 'watermark:' .. ARGV[1]
local held = redis.call('GET', key)
if held and held >= ARGV[2] then return 0 end
redis.call('SET', key, ARGV[2])
return 1
