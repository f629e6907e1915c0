#!lua
-- move: give a running journey another home. What was said of the way to the old
-- one goes: it is not arriving, and was not seen outside the new fence yet. It may be
-- repeated. With the home that is known it only wakes the watchers, for a change
-- that the hash does not hold.
--
-- KEYS
--   1  location:trainer:{<trainerId>}:session:<sessionId>   hash, the journey
-- ARGV
--   1  channel     location:live:{<trainerId>}:<sessionId>
--   2  clock_ms    Unix ms; empty for the store's own TIME
--   3  started_ms  Unix ms, the journey's identity
--   4  home        "lat lng", degrees
--   5  fence       the home's cover, as geo.Fence writes it
-- RETURN
--   0  IGNORED: this journey is not known as running, or its layout is not known;
--      nothing written
--   1  MOVED: it goes to this home now
--   2  SAME: it went there already; a new version all the same
-- MESSAGE to the channel unless ignored: the version
-- COMPLEXITY O(1)
--
-- HASH and LAYOUT: see update.lua. The live fix keeps the time at which it was
-- accepted: its ahead_ms grows with the version. Its proof begins anew, with one fix
-- of one request, taken now.
local IGNORED, MOVED, SAME = 0, 1, 2
local LAYOUT_OLDEST, LAYOUT_NEWEST = 1, 2

local key = KEYS[1]
local channel, clock, started, home, fence = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local h = redis.call('HMGET', key, 'to', 'seq', 'fix', 'proof')
local known, layout, mode, known_home = string.match(h[1] or '', '^(%d+) (%d) (%a+) (%S+ %S+)$')
if known ~= started or tonumber(layout) < LAYOUT_OLDEST or tonumber(layout) > LAYOUT_NEWEST then return IGNORED end

local now = tonumber(clock)
if not now then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local seq = math.max(h[2] + 1, now)
redis.call('HSET', key, 'seq', string.format('%d', seq))
if h[3] then
    local place, ahead, rest = string.match(h[3], '^(%S+ %S+ %S+) (%S+) (.+)$')
    redis.call('HSET', key, 'fix', string.format('%s %d %s', place, ahead + seq - h[2], rest))
end
redis.call('SPUBLISH', channel, string.format('%d', seq))
if known_home == home then return SAME end

redis.call('HSET', key, 'to', string.format('%s %s %s %s', known, layout, mode, home), 'fence', fence)
redis.call('HDEL', key, 'last')
if h[3] then
    local guess, mock = string.match(h[4] or '0 3 2 1 0 0', '^(%d+) %d+ %d+ %d+ %S+ (%d)')
    redis.call('HSET', key, 'proof', string.format('%s 1 1 0 %d %s', guess, now - known, mock))
end
return MOVED
