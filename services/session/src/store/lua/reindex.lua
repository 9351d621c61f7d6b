-- Puts users into the set of their audit bucket, or out of it, as their copies say. ARGV: user ids
for i = 1, #ARGV do reindex(ARGV[i]) end
return #ARGV
