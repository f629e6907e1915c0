#!lua
-- meta: remember the parties and the region of a session for a while.
--
-- KEYS
--   1  session:meta:<sessionId>   hash
-- ARGV
--   1  trainer   id
--   2  student   id
--   3  ttl_ms    ms
--   4  region    of the session; empty where it is not decided
-- RETURN
--   1  WRITTEN
-- COMPLEXITY O(1)
--
-- HASH
--   trainer  id
--   student  id
--   region   of the session; empty, or not there, where it is not decided
local WRITTEN = 1

local key = KEYS[1]
local trainer, student, ttl, region = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

redis.call('HSET', key, 'trainer', trainer, 'student', student, 'region', region)
redis.call('PEXPIRE', key, ttl)
return WRITTEN
