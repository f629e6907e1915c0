#!lua
-- meta: remember a session's parties for a while.
--
-- KEYS
--   1  session:meta:<sessionId>   hash
-- ARGV
--   1  trainer   id
--   2  student   id
--   3  ttl_ms
-- RETURN
--   1  written
-- COMPLEXITY O(1)
local key = KEYS[1]
local trainer, student, ttl = ARGV[1], ARGV[2], ARGV[3]

redis.call('HSET', key, 'trainer', trainer, 'student', student)
redis.call('PEXPIRE', key, ttl)
return 1
