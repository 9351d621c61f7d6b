-- Ends one session. ARGV: 1 session id, 2 user id or '' for anybody's, 3 reason, 4 template of ended
-- Returns 1 if it was alive and of that person, else 0.
local owner = redis.call('HGET', 'session:' .. ARGV[1], 'userId')
if not owner or (ARGV[2] ~= '' and owner ~= ARGV[2]) then return 0 end
return end_session(ARGV[1], ARGV[3], clock(), ARGV[4]) and 1 or 0
