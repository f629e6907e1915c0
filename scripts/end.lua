#!lua flags=allow-oom
-- end: remove a journey's coordinates and leave a tombstone, which refuses every
-- update and every open of this journey that is still under way. The tombstone
-- holds no coordinate. It may be repeated; it never changes a newer journey.
--
-- It is allowed when the store is full, because it only frees memory: the
-- coordinates must go in any case.
--
-- KEYS
--   1  location:trainer:{<trainerId>}:session:<sessionId>   hash, the journey
-- ARGV
--   1  channel           location:live:{<trainerId>}:<sessionId>
--   2  clock_ms          Unix ms; empty for the store's own TIME
--   3  started_ms        Unix ms, the journey's identity; 0 for one that never
--                        started
--   4  tombstone_ttl_ms  ms, how long the tombstone stays
--   5  phase             sessions.Phase: where the journey stands now
-- RETURN
--   0  KEPT: a newer journey is known, or this one had ended, in this phase or in
--      a later one; nothing written
--   1  ENDED: ended now, or moved on to this phase
-- MESSAGE to the channel when ended: the version
-- COMPLEXITY O(1)
--
-- HASH: a tombstone has three fields, which are the same in every layout:
--   to       started_ms layout     no mode: this tells a tombstone
--   ended    the phase; v0.1.0 wrote 1, and only asks whether the field is there
--   seq      the version
-- So this script ends a journey of any layout.
local KEPT, ENDED = 0, 1
local RANK = {not_started = 1, arrived = 2, ended = 3}
local LAYOUT = 1

local key = KEYS[1]
local channel, clock, started, tombstone_ttl, phase = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]

local h = redis.call('HMGET', key, 'to', 'ended', 'seq')
local known = h[1] and tonumber(string.match(h[1], '%d+'))
if known and known > started then return KEPT end
if known == started and h[2] and (RANK[phase] or 0) <= (RANK[h[2]] or 0) then return KEPT end

local now = tonumber(clock)
if not now then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local seq = math.max((tonumber(h[3]) or 0) + 1, now)
redis.call('DEL', key)
redis.call('HSET', key, 'to', string.format('%d %d', started, LAYOUT), 'ended', phase, 'seq', seq)
redis.call('PEXPIRE', key, tombstone_ttl)
redis.call('SPUBLISH', channel, seq)
return ENDED
