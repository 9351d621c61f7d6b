-- Applies states and tombstones of users in the order given; what is not newer than what is held is passed over.
-- ARGV: 1 template of ended, then for each: user id, version, and
--       a state: '', revision, handle, displayName, epoch, kept session id or ''; a tombstone: erasedAt, '', '', '', '', ''
-- Returns how many were newer.
local now, applied = clock(), 0
for i = 2, #ARGV, 8 do
  local user, version, erased_at = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local newer
  if erased_at ~= '' then
    newer = apply_tombstone(user, version, erased_at, now, ARGV[1])
  else
    newer = apply_state(user, { version = version, revision = ARGV[i + 3], handle = ARGV[i + 4], displayName = ARGV[i + 5],
      epoch = ARGV[i + 6], kept = ARGV[i + 7] }, now, ARGV[1])
  end
  if newer then applied = applied + 1 end
end
return applied
