#!lua
-- open: make a journey active, without a location. Safe to repeat, and safe to
-- arrive late: it never wakes a journey that has ended or is older than the
-- one known.
--
-- KEYS
--   1  location:trainer:{<trainerId>}:session:<sessionId>   hash, the journey
-- ARGV
--   1  channel         location:live:{<trainerId>}:<sessionId>
--   2  clock_ms        Unix ms; empty for the store's own TIME
--   3  started_ms      the journey's identity
--   4  to              "mode lat lng": car, bike or walk, and the home, degrees
--   5  fence           the home's cover, as geo.Fence writes it
--   6  journey_ttl_ms
--   7  restored        1 when the store had this journey and lost it: the next
--                      fix will count as a re-anchor
-- RETURN
--   0  ended, older than the one known, or past its hour; nothing written
--   1  active now
--   2  was active already; nothing written
-- COMPLEXITY O(1)
local key = KEYS[1]
local channel, clock, started = ARGV[1], ARGV[2], ARGV[3]
local to, fence, journey_ttl, restored = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]

local now = tonumber(clock)
if not now then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local left = started + journey_ttl - now
if left <= 0 then return 0 end

local h = redis.call('HMGET', key, 'to', 'ended', 'seq')
local known = h[1] and tonumber(string.match(h[1], '%d+'))
if known and known > tonumber(started) then return 0 end
if known == tonumber(started) then return h[2] and 0 or 2 end

local seq = math.max((tonumber(h[3]) or 0) + 1, now)
redis.call('DEL', key)
redis.call('HSET', key, 'to', started .. ' ' .. to, 'fence', fence, 'seq', seq)
if restored == '1' then redis.call('HSET', key, 'odd', '0 ' .. now .. ' 0 0 0') end
redis.call('PEXPIRE', key, left)
redis.call('SPUBLISH', channel, seq)
return 1
