#!lua
-- meta: remember the parties of a session for a while.
--
-- KEYS
--   1  session:meta:<sessionId>   hash
-- ARGV
--   1  trainer   id
--   2  student   id
--   3  ttl_ms    ms
-- RETURN
--   1  WRITTEN
-- COMPLEXITY O(1)
--
-- HASH
--   trainer  id
--   student  id
local WRITTEN = 1

local key = KEYS[1]
local trainer, student, ttl = ARGV[1], ARGV[2], ARGV[3]

redis.call('HSET', key, 'trainer', trainer, 'student', student)
redis.call('PEXPIRE', key, ttl)
return WRITTEN
