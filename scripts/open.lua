#!lua
-- open: make a journey active, without a location. It may be repeated, and it
-- may arrive late: it never revives a journey that has ended, nor one that is
-- older than the one known.
--
-- KEYS
--   1  location:trainer:{<trainerId>}:session:<sessionId>   hash, the journey
-- ARGV
--   1  channel         location:live:{<trainerId>}:<sessionId>
--   2  clock_ms        Unix ms; empty for the store's own TIME
--   3  started_ms      Unix ms, the journey's identity
--   4  to              "mode lat lng": car, bike or walk, and the home, degrees
--   5  fence           the home's cover, as geo.Fence writes it
--   6  journey_ttl_ms  ms, the longest journey
--   7  restored        1 when the store had this journey and lost it: the next
--                      fix will count as a re-anchor
--   8  last            "at_ms away_dm trusted outside arriving offset_ms told_ms
--                      since_ms" of the live location of a restored journey, as in
--                      sessions.LastFix: Unix ms, the distance from the home, 0 or 1,
--                      and the phone's clock; - for none
--   9  location_ttl_ms ms, after which a live location expires
-- RETURN
--   0  REFUSED: ended, older than the one known, or has lasted JOURNEY_TTL; nothing written
--   1  OPENED: active now
--   2  ACTIVE: it was active already; nothing written
-- MESSAGE to the channel when opened: the version
-- COMPLEXITY O(1)
--
-- HASH and LAYOUT: see update.lua. A running journey whose layout is too old for
-- this release is opened anew, as if the store had lost it. One whose layout is
-- newer is active: a newer gateway serves it, and this script must not touch it.
local REFUSED, OPENED, ACTIVE = 0, 1, 2
local LAYOUT, LAYOUT_OLDEST = 1, 1

local key = KEYS[1]
local channel, clock, started = ARGV[1], ARGV[2], ARGV[3]
local to, fence, journey_ttl, restored = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local last, location_ttl = ARGV[8], tonumber(ARGV[9])

local now = tonumber(clock)
if not now then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local left = started + journey_ttl - now
if left <= 0 then return REFUSED end

local h = redis.call('HMGET', key, 'to', 'ended', 'seq')
local known = h[1] and tonumber(string.match(h[1], '%d+'))
local outdated = false
if known and known > tonumber(started) then return REFUSED end
if known == tonumber(started) then
    if h[2] then return REFUSED end
    outdated = (tonumber(string.match(h[1], '^%d+ (%d) ')) or 0) < LAYOUT_OLDEST
    if not outdated then return ACTIVE end
end

local seq = math.max((tonumber(h[3]) or 0) + 1, now)
redis.call('DEL', key)
redis.call('HSET', key, 'to', started .. ' ' .. LAYOUT .. ' ' .. to, 'fence', fence, 'seq', seq)
if restored == '1' or outdated then redis.call('HSET', key, 'odd', '0 ' .. now .. ' 0 0 0') end
if restored == '1' and last ~= '-' then
    local kept, arriving, offset, told, since = string.match(last, '^(%d+ %d+ %d %d) (%d) (%-?%d+) (%-?%d+) (%d+)$')
    if now - string.match(last, '%d+') >= location_ttl then -- it has expired after a silence, and was not lost
        redis.call('HSET', key, 'last', kept)
        if arriving == '1' then redis.call('HDEL', key, 'fence') end
    end
    if offset ~= '0' or told ~= '0' or since ~= '0' then
        redis.call('HSET', key, 'clock', string.format('%s %d %s 0 1 -', offset, offset - told, since))
    end
end
redis.call('PEXPIRE', key, left)
redis.call('SPUBLISH', channel, seq)
return OPENED
