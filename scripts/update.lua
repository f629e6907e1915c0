#!lua
-- update: judge one fix of a running journey and, when it is believed, make it
-- the live location. The whole of an update is this one script: one round trip,
-- and nothing can happen between its guards and its writes.
--
-- KEYS
--   1  location:trainer:{<trainerId>}:session:<sessionId>   hash, the journey
-- ARGV
--   1  channel         location:live:{<trainerId>}:<sessionId>
--   2  clock_ms        Unix ms; empty for the store's own TIME
--   3  lat             degrees, 7 decimals
--   4  lng             degrees, 7 decimals
--   5  accuracy        metres, 1 decimal; 0 when the phone did not say
--   6  speed           km/h, 1 decimal; empty when the phone did not say
--   7  heading         degrees, 1 decimal; empty when the phone did not say
--   8  recorded_ms     the phone's clock, Unix ms; empty when it did not say
--   9  rate_ms         interval between two fixes
--  10  tolerance_ms    of the GCRA
--  11  location_ttl_ms
--  12  journey_ttl_ms
--  13  radius          metres, the geofence
--  14  vague           metres; a worse accuracy is not stored
--  15  limits          car,bike,walk in km/h
--  16  jump            metres
--  17  jump_window_ms
--  18  future_ms       how far ahead a phone's clock may be
--  19  stale_ms        how old a fix may be
-- RETURN {code, …}
--  {0}                                         no such journey here
--  {1}                                         the journey has ended, or had its hour
--  {2, clock_ms, retry_ms}                     too soon
--  {3, clock_ms, next_ms, version, ttl_ms, arriving}   stale; nothing written
--  {4, clock_ms, next_ms, version, ttl_ms, arriving}   too vague to store
--  {5, clock_ms, next_ms, version, ttl_ms, arriving}   implausible jump
--  {6, clock_ms, next_ms, version, ttl_ms, arriving}   implausible speed
--  {7, clock_ms, next_ms, version, ttl_ms, arriving, distance}   stored;
--      arriving 0 or 1; distance in metres as a string, 1 decimal
-- COMPLEXITY O(1)
local key = KEYS[1]
local channel, clock = ARGV[1], ARGV[2]
local lat, lng, accuracy = ARGV[3], ARGV[4], ARGV[5]
local speed, heading, recorded = ARGV[6], ARGV[7], ARGV[8]
local rate, tolerance = tonumber(ARGV[9]), tonumber(ARGV[10])
local location_ttl, journey_ttl = tonumber(ARGV[11]), tonumber(ARGV[12])
local radius, vague = tonumber(ARGV[13]), tonumber(ARGV[14])
local limits, jump, jump_window = ARGV[15], tonumber(ARGV[16]), tonumber(ARGV[17])
local future, stale_after = tonumber(ARGV[18]), tonumber(ARGV[19])

local h = redis.call('HMGET', key, 'started', 'ended', 'home_lat', 'home_lng', 'mode', 'seq',
    'tat', 'lat', 'lng', 'acc', 'fix', 'arriving')
local started = h[1]
if not started then return {0} end
if h[2] then return {1} end

local now = tonumber(clock)
if not now then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local over = started + journey_ttl
if now >= over then return {1} end

-- Rate: a GCRA. A due time further ahead than the rate can put it means that
-- the clock was set back.
local due = tonumber(h[7]) or 0
if due > now + rate + tolerance then due = now end
local wait = due - tolerance - now
if wait > 0 then return {2, now, wait} end

local seq = tonumber(h[6])
local arriving = tonumber(h[12]) or 0

-- Order: on the phone's clock where that is not in the future. A live fix from
-- the future means that the store's clock was set back: no reason to refuse.
local fix, stale = now, false
recorded = tonumber(recorded)
if recorded and recorded < now - stale_after then
    stale = true
elseif recorded and recorded <= now + future then
    fix = recorded
end
local last_fix = tonumber(h[11])
if stale or (last_fix and last_fix <= now + future and fix <= last_fix) then
    return {3, now, math.max(0, due - now), seq, redis.call('PTTL', key), arriving}
end

due = math.max(due, now) + rate
local next_in = due - now

local function refuse(code)
    redis.call('HSET', key, 'tat', due)
    return {code, now, next_in, seq, redis.call('PTTL', key), arriving}
end

local acc = tonumber(accuracy)
if acc > vague then return refuse(4) end

-- Haversine on the sphere that geo.DistanceM uses.
local rad = math.pi / 180
local function distance(lat1, lng1, lat2, lng2)
    local s1 = math.sin((lat2 - lat1) * rad / 2)
    local s2 = math.sin((lng2 - lng1) * rad / 2)
    local a = s1 * s1 + math.cos(lat1 * rad) * math.cos(lat2 * rad) * s2 * s2
    return 2 * 6371008.8 * math.asin(math.min(1, math.sqrt(a)))
end

if last_fix and fix > last_fix then
    local moved = distance(h[8], h[9], lat, lng) - h[10] - acc
    local elapsed = fix - last_fix
    if moved > jump and elapsed <= jump_window then return refuse(5) end
    local car, bike, walk = string.match(limits, '([^,]+),([^,]+),([^,]+)')
    local limit = h[5] == 'bike' and bike or h[5] == 'walk' and walk or car
    if moved * 3600 > limit * elapsed then return refuse(6) end
end

local to_home = distance(lat, lng, h[3], h[4])
if to_home <= radius then arriving = 1 end
seq = math.max(seq + 1, now)
local ttl = math.min(location_ttl, over - now)

redis.call('HSET', key, 'lat', lat, 'lng', lng, 'acc', accuracy, 'spd', speed, 'hdg', heading,
    'ts', now, 'fix', fix, 'tat', due, 'seq', seq, 'arriving', arriving)
redis.call('PEXPIRE', key, ttl)
redis.call('SPUBLISH', channel, seq)
return {7, now, next_in, seq, ttl, arriving, string.format('%.1f', to_home)}
