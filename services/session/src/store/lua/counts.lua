-- How many sessions (the not yet swept too) and profile copies there are.
local profiles = 0
for i = 0, 255 do
  profiles = profiles + redis.call('SCARD', string.format('profiles:%02x', i))
end
return { redis.call('ZCARD', 'expiries'), profiles }
