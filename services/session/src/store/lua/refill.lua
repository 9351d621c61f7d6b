-- Applies states and tombstones to the place that a rebuild fills. ARGV: 1 id of the rebuild, then as for apply.lua from 2.
-- Returns -1, having done nothing, if another rebuild is under way or none.
if rebuild_id() ~= ARGV[1] then return -1 end
for i = 2, #ARGV, 8 do
  refill(ARGV[i], { version = ARGV[i + 1], revision = ARGV[i + 3], handle = ARGV[i + 4], displayName = ARGV[i + 5],
    epoch = ARGV[i + 6] }, ARGV[i + 2])
end
return 1
