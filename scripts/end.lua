#!lua flags=allow-oom
-- end: remove a journey's coordinates and leave the mark of an ended one, which
-- refuses every update and every open of it that is still under way. The mark
-- holds no coordinate, and in `to` no more than the start, which is how an
-- ended journey is told. Safe to repeat; never touches a newer journey.
--
-- Allowed in a store that is full, as it only ever makes room: the coordinates
-- go, whatever else.
--
-- KEYS
--   1  location:trainer:{<trainerId>}:session:<sessionId>   hash, the journey
-- ARGV
--   1  channel         location:live:{<trainerId>}:<sessionId>
--   2  clock_ms        Unix ms; empty for the store's own TIME
--   3  started_ms      the journey's identity; 0 for one that never started
--   4  mark_ttl_ms     how long the mark stays
-- RETURN
--   0  a newer journey is known, or this one had ended; nothing written
--   1  ended now
-- COMPLEXITY O(1)
local key = KEYS[1]
local channel, clock, started, mark_ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

local h = redis.call('HMGET', key, 'to', 'ended', 'seq')
local known = h[1] and tonumber(string.match(h[1], '%d+'))
if known and (known > started or (known == started and h[2])) then return 0 end

local now = tonumber(clock)
if not now then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local seq = math.max((tonumber(h[3]) or 0) + 1, now)
redis.call('DEL', key)
redis.call('HSET', key, 'to', started, 'ended', 1, 'seq', seq)
redis.call('PEXPIRE', key, mark_ttl)
redis.call('SPUBLISH', channel, seq)
return 1
