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
--   5  accuracy        metres, 1 decimal; 0.0 when the phone did not say
--   6  speed           km/h, 1 decimal; empty when the phone did not say
--   7  heading         degrees, 1 decimal; empty when the phone did not say
--   8  recorded_ms     the phone's clock, Unix ms; empty when it did not say
--   9  mock            1 when the phone says that the position is simulated
--  10  cell            H3 cell of the fix, as geo.CellOf writes it
-- RETURN {code, …}
--  {0}                       no such journey here
--  {1}                       the journey has ended, or had its hour
--  {2, clock_ms, retry_ms}   too soon
--  {3, …}                    stale; nothing written
--  {4, …}                    too vague to store
--  {5, …}                    refused: a jump
--  {6, …}                    refused: over the mode's limit
--  {7, …}                    refused: over the mode's ceiling
--  {8, …}                    stored
--      … is clock_ms, next_ms, version, ttl_ms, arriving (0 or 1), flags of
--      this fix, suspicions first seen with it; and for 8 also moved (the way
--      from the last fix, decimetres) and home ("lat lng")
-- COMPLEXITY O(1)
--
-- The hash, every field under 64 bytes so that it stays a listpack:
--   started mode home fence         the journey, by open.lua
--   seq tat arriving flags          version, when the next fix is due, at the
--                                   fence already, suspicions so far
--   lat lng acc spd hdg ts rec      the live location; ts is the store's clock
--                                   at acceptance, rec the phone's or 0
--   mark mark_ts                    lat lng accuracy_dm recorded_ms, and when:
--                                   where the phone was up to a minute ago
--   pace                            mm/s, and over how many ms: the ETA's speed
--   odd                             fast_ms reanchored_ms still_ms mismatches
--   rival                           votes lat lng accuracy_dm at_ms recorded_ms:
--                                   the story that refused fixes tell
--
-- From "the judgement" on this is geo.Judge, line for line: change both or
-- neither. A differential test plays random histories on the two.

-- The settings. These are the defaults; scripts/settings.go writes the
-- gateway's own values over them, which costs a call nothing, as ARGV would.
local RATE_MS, TOLERANCE_MS = 5000, 1000
local LOCATION_TTL_MS, JOURNEY_TTL_MS = 300000, 3600000
local RADIUS_M, STALE_MS, FUTURE_MS = 150, 300000, 2000
local LIMIT_CAR, LIMIT_BIKE, LIMIT_WALK = 120, 30, 15
local CEILING_CAR, CEILING_BIKE, CEILING_WALK = 200, 60, 30
local DEFAULT_ACCURACY_DM, MAX_ACCURACY_DM, VAGUE_DM = 250, 1000, 2000
local JUMP_M, JUMP_MS = 1000, 5000
local BANK_MS, CATCH_UP_MS, GRACE_MS, CLOCK_SKEW_MS = 120000, 10000, 300000, 60000
local SHADOW_LOW_ACCURACY, SHADOW_SPEED, SHADOW_CEILING = false, false, false

local key = KEYS[1]
local channel, clock = ARGV[1], ARGV[2]
local lat, lng, accuracy, speed, heading = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local recorded_text, mock, cell = ARGV[8], ARGV[9], ARGV[10]
local recorded = tonumber(recorded_text)
local floor, max, min = math.floor, math.max, math.min

local h = redis.call('HMGET', key, 'started', 'mode', 'home', 'fence', 'seq', 'tat', 'arriving',
    'lat', 'lng', 'acc', 'ts', 'rec', 'mark', 'mark_ts', 'rival', 'odd')
local started, mode, home, fence = h[1], h[2], h[3], h[4]
if not started then return {0} end
if not mode then return {1} end -- the mark of an end has none

local now = tonumber(clock)
if not now then
    local t = redis.call('TIME')
    now = t[1] * 1000 + floor(t[2] / 1000)
end
local over_at = started + JOURNEY_TTL_MS
if now >= over_at then return {1} end

-- Rate: a GCRA. A due time further ahead than the rate can put it means that
-- the clock was set back: a phone is not made to wait for it to catch up.
local due = tonumber(h[6]) or 0
if due > now + RATE_MS + TOLERANCE_MS then due = now end
local wait = due - TOLERANCE_MS - now
if wait > 0 then return {2, now, wait} end

local seq, arriving = tonumber(h[5]), tonumber(h[7]) or 0

-- Order: on the phone's clock where that is not in the future. A live fix from
-- the future means that the store's clock was set back: no reason to refuse.
local last_at, last_rec = tonumber(h[11]), tonumber(h[12]) or 0
local rec = 0
if recorded and recorded <= now + FUTURE_MS then rec = recorded end
local ttl = (last_at and min(last_at + LOCATION_TTL_MS, over_at) or over_at) - now
local fix, last_fix = rec > 0 and rec or now, last_rec > 0 and last_rec or last_at
if fix < now - STALE_MS or (last_fix and last_fix <= now + FUTURE_MS and fix <= last_fix) then
    return {3, now, max(0, due - now), seq, ttl, arriving, 0, 0}
end

due = max(due, now) + RATE_MS

-- The judgement ------------------------------------------------------------

local FAST, REANCHORED, SILENCE, CLOCK, MISMATCH, FROZEN, REPEATED, MOCK, SHADOW = 1, 2, 4, 8, 16, 32, 64, 128, 256
local fast, reanchored, silent, mismatched, frozen, repeated, shadowed = false, false, false, false, false, false, false

local acc = floor(accuracy * 10 + 0.5)
local kmh = tonumber(speed)
local odd_clock = recorded and (now - recorded > CLOCK_SKEW_MS or recorded - now > CLOCK_SKEW_MS)

local limit, ceiling = LIMIT_CAR, CEILING_CAR
if mode == 'bike' then limit, ceiling = LIMIT_BIKE, CEILING_BIKE end
if mode == 'walk' then limit, ceiling = LIMIT_WALK, CEILING_WALK end

-- distance_m is geo.DistanceM: the haversine, on a sphere of 6371008.8 m.
local rad = math.pi / 180
local function distance_m(lat1, lng1, lat2, lng2)
    local s1 = math.sin((lat2 - lat1) * rad / 2)
    local s2 = math.sin((lng2 - lng1) * rad / 2)
    local a = s1 * s1 + math.cos(lat1 * rad) * math.cos(lat2 * rad) * s2 * s2
    return 2 * 6371008.8 * math.asin(min(1, math.sqrt(a)))
end

-- leg is the way from a sighting to this fix, or to another: how far in dm,
-- how much of that no accuracy explains, how long in ms, and by how much the
-- phone's clock outran ours.
local function leg(lat1, lng1, acc1, at1, rec1, lat2, lng2, acc2, at2, rec2)
    local way, ms, ahead = floor(distance_m(lat1, lng1, lat2, lng2) * 10 + 0.5), at2 - at1, 0
    if rec1 > 0 and rec2 > rec1 then
        local phone = rec2 - rec1
        ahead = phone - ms
        ms = min(phone, ms + CATCH_UP_MS)
    end
    local doubt = (acc1 == 0 and DEFAULT_ACCURACY_DM or min(acc1, MAX_ACCURACY_DM))
        + (acc2 == 0 and DEFAULT_ACCURACY_DM or min(acc2, MAX_ACCURACY_DM))
    return way, max(0, way - doubt), max(ms, 1000), ahead
end

-- flags_now is the flags so far as their sum.
local function flags_now()
    return (fast and FAST or 0) + (reanchored and REANCHORED or 0) + (silent and SILENCE or 0)
        + (odd_clock and CLOCK or 0) + (mismatched and MISMATCH or 0) + (frozen and FROZEN or 0)
        + (repeated and REPEATED or 0) + (mock == '1' and MOCK or 0) + (shadowed and SHADOW or 0)
end

-- remember keeps what was seen in this journey, and gives what is new in it.
local function remember(bits)
    local seen = tonumber(redis.call('HGET', key, 'flags')) or 0
    local fresh = bit.band(bits, bit.bnot(seen))
    if fresh ~= 0 then redis.call('HSET', key, 'flags', bit.bor(seen, bits)) end
    return fresh
end

-- unstored ends a fix that is not believed: it counts against the rate.
local function unstored(code)
    local flags = flags_now()
    local suspicions = flags + (code == 5 and 2048 or code == 6 and 512 or code == 7 and 1024 or 0)
    local fresh = suspicions ~= 0 and remember(suspicions) or 0
    redis.call('HSET', key, 'tat', due)
    return {code, now, due - now, seq, ttl, arriving, flags, fresh}
end

if acc > VAGUE_DM then
    if not SHADOW_LOW_ACCURACY then return unstored(4) end
    shadowed = true
end

-- The rest of the track: fast_ms reanchored_ms still_ms mismatches, and the
-- rival's votes lat lng accuracy_dm at_ms recorded_ms. Both are mostly empty.
local odd_text, rival_text = h[16] or '', h[15] or ''
local fast_at, anchored_at, still_at, mismatches = 0, 0, 0, 0
if odd_text ~= '' then
    fast_at, anchored_at, still_at, mismatches = string.match(odd_text, '(%d+) (%d+) (%d+) (%d+)')
    fast_at, anchored_at, still_at, mismatches =
        tonumber(fast_at), tonumber(anchored_at), tonumber(still_at), tonumber(mismatches)
end
local votes, r_lat, r_lng, r_acc, r_at, r_rec = 0, nil, nil, 0, 0, 0
if rival_text ~= '' then
    votes, r_lat, r_lng, r_acc, r_at, r_rec =
        string.match(rival_text, '(%d+) ([%d.-]+) ([%d.-]+) (%d+) (%d+) (%d+)')
    votes, r_acc, r_at, r_rec = tonumber(votes), tonumber(r_acc), tonumber(r_at), tonumber(r_rec)
end

local mark_text, mark_at = h[13] or '', tonumber(h[14]) or 0
local last_lat, last_lng = h[8], h[9]
local moved = 0
local new_rival, new_mark, new_pace = rival_text, false, false

-- from_mark is the leg from the mark, where the phone was up to a minute ago.
local function from_mark(lat2, lng2, acc2, at2, rec2)
    local m_lat, m_lng, m_acc, m_rec = string.match(mark_text, '(%S+) (%S+) (%d+) (%d+)')
    return leg(m_lat, m_lng, tonumber(m_acc), mark_at, tonumber(m_rec), lat2, lng2, acc2, at2, rec2)
end

-- pace_so_far is the smoothed speed in mm/s, and how many ms it has seen.
local function pace_so_far()
    local pace, paced = string.match(redis.call('HGET', key, 'pace') or '', '(%d+) (%d+)')
    return tonumber(pace) or 0, tonumber(paced) or 0
end

if not last_at then
    new_mark = true
    if anchored_at ~= 0 then
        reanchored, anchored_at = true, now
    end
else
    local last_acc = floor(h[10] * 10 + 0.5)
    local way, reach, ms, ahead = leg(last_lat, last_lng, last_acc, last_at, last_rec, lat, lng, acc, now, rec)
    moved = way
    if ahead > CATCH_UP_MS then odd_clock = true end

    if reach * 360 <= limit * ms then
        if ms > BANK_MS and reach * 360 > limit * BANK_MS then silent = true end
    else
        -- Over the limit: why it may be believed, or else how it is refused.
        local under = reach * 360 <= ceiling * ms
        local jump = not under and reach > JUMP_M * 10 and reach * 360 > JUMP_M * 3600 / JUMP_MS * ms
        local code = under and 6 or jump and 5 or 7
        local rival_agrees = false
        if votes > 0 then
            local _, r_reach, r_ms = leg(r_lat, r_lng, r_acc, r_at, r_rec, lat, lng, acc, now, rec)
            rival_agrees = r_reach * 360 <= ceiling * r_ms
        end
        local explained = under and fast_at > 0 and now - fast_at < GRACE_MS
        if under and not explained then
            local m_way, _, m_ms = from_mark(last_lat, last_lng, last_acc, last_at, last_rec)
            local pace_kmh = max(pace_so_far() * 36 / 10000, m_way * 360 / m_ms)
            explained = pace_kmh > 0 and reach * 360 <= (pace_kmh + (ceiling - limit) * ms / 8000) * ms
        end
        local thawed_ms = max(ms, min(ms + max(0, last_at - still_at), BANK_MS))
        if explained then
            fast, silent = true, ms >= 15000
        elseif still_at > 0 and not jump and reach * 360 <= limit * thawed_ms then
            silent = true
        elseif rival_agrees and under and votes < 3 then
            local _, b_reach, b_ms = leg(last_lat, last_lng, last_acc, last_at, last_rec, r_lat, r_lng, r_acc, r_at, r_rec)
            if b_reach * 360 > ceiling * b_ms then reanchored = true else fast = true end
        elseif rival_agrees and (votes >= 2 or (votes == 1 and now - r_at >= 15000)) then
            reanchored = true
        elseif (under and SHADOW_SPEED) or (not under and SHADOW_CEILING) then
            shadowed = true
        else
            redis.call('HSET', key, 'rival', (rival_agrees and votes + 1 or 1) .. ' '
                .. lat .. ' ' .. lng .. ' ' .. acc .. ' ' .. now .. ' ' .. rec)
            return unstored(code)
        end
    end

    -- What is odd without refuting.
    if kmh and ms <= 30000 and (reach * 360 > (2 * kmh + 20) * ms
        or (kmh > 20 and (2 * way - reach) * 360 <= (kmh - 20) / 2 * ms)) then
        mismatches = min(mismatches + 1, 3)
        mismatched = mismatches == 3
    else
        mismatches = 0
    end
    if lat ~= last_lat or lng ~= last_lng then
        still_at = 0
        repeated = way >= 50 and string.sub(mark_text, 1, #lat) == lat
            and string.sub(mark_text, 1, #lat + #lng + 2) == lat .. ' ' .. lng .. ' '
    else
        if still_at == 0 then still_at = last_at end
        frozen = now - still_at >= 100000 or (now - still_at >= 14000 and (kmh or 0) >= 10)
    end

    -- The track that follows.
    if reanchored then
        new_rival = '3 ' .. last_lat .. ' ' .. last_lng .. ' ' .. last_acc .. ' ' .. last_at .. ' ' .. last_rec
        still_at, new_mark, new_pace = 0, true, '0 0'
    else
        if votes > 0 and (votes < 3 or now - r_at > 120000) then new_rival = '' end
        if now - mark_at >= 60000 then
            local m_way, m_reach, m_ms, m_ahead = from_mark(lat, lng, acc, now, rec)
            local pace, paced = pace_so_far()
            new_mark = true
            new_pace = floor((pace * paced + m_way * 100000) / (paced + m_ms)) .. ' ' .. min(120000, paced + m_ms)
            odd_clock = odd_clock or m_ahead > CATCH_UP_MS
            fast = fast or m_reach * 360 > limit * m_ms
            reanchored = reanchored or m_reach * 360 > ceiling * m_ms
        end
    end
    if reanchored or silent then anchored_at = now end
    if fast then fast_at = now end
end

-- Arriving: in a cell of the home's cover, the exact distance decides; and a
-- long leg may have passed the fence between two fixes.
if arriving == 0 then
    local length = (string.find(fence, ',', 1, true) or #fence + 1) - 1
    local near = string.find(fence, string.sub(cell, 1, length), 1, true)
    if near or moved > 1000 then
        local home_lat, home_lng = string.match(home, '(%S+) (%S+)')
        local to_home = distance_m(lat, lng, home_lat, home_lng)
        if near and to_home <= RADIUS_M then
            arriving = 1
        elseif moved > 1000 and not reanchored and moved / 10 > to_home - RADIUS_M then
            -- geo.CrossesFence: on a plane that touches the sphere at the home
            -- great circles are straight lines.
            local sin_h, cos_h = math.sin(home_lat * rad), math.cos(home_lat * rad)
            local function gnomonic(p_lat, p_lng)
                local sin_p, cos_p = math.sin(p_lat * rad), math.cos(p_lat * rad)
                local sin_l, cos_l = math.sin((p_lng - home_lng) * rad), math.cos((p_lng - home_lng) * rad)
                local depth = sin_h * sin_p + cos_h * cos_p * cos_l
                if depth < 1e-9 then return nil, nil end
                return cos_p * sin_l / depth, (cos_h * sin_p - sin_h * cos_p * cos_l) / depth
            end
            local ax, ay = gnomonic(last_lat, last_lng)
            local bx, by = gnomonic(lat, lng)
            if ax and bx then
                local dx, dy = bx - ax, by - ay
                local square, along = dx * dx + dy * dy, 0
                if square > 0 then along = min(1, max(0, -(ax * dx + ay * dy) / square)) end
                local x, y = ax + along * dx, ay + along * dy
                if 6371008.8 * math.atan(math.sqrt(x * x + y * y)) <= RADIUS_M then arriving = 1 end
            end
        end
    end
    if arriving == 1 then redis.call('HSET', key, 'arriving', 1) end
end

-- The writes -----------------------------------------------------------------

seq = max(seq + 1, now)
ttl = min(LOCATION_TTL_MS, over_at - now)
local flags = flags_now()
local fresh = flags ~= 0 and remember(flags) or 0
local new_odd = ''
if fast_at > 0 or anchored_at > 0 or still_at > 0 or mismatches > 0 then
    new_odd = fast_at .. ' ' .. anchored_at .. ' ' .. still_at .. ' ' .. mismatches
end

-- A number made a string once, and not by each call again: 4 % of the script,
-- by BenchmarkUpdate_server.
local now_text = string.format('%.0f', now)
local seq_text = seq == now and now_text or string.format('%.0f', seq)
redis.call('HSET', key, 'lat', lat, 'lng', lng, 'acc', accuracy, 'spd', speed, 'hdg', heading,
    'ts', now_text, 'rec', rec > 0 and recorded_text or '0', 'seq', seq_text, 'tat', due)
if new_mark then
    redis.call('HSET', key, 'mark', lat .. ' ' .. lng .. ' ' .. acc .. ' ' .. rec, 'mark_ts', now)
end
if new_pace then redis.call('HSET', key, 'pace', new_pace) end
if new_odd ~= odd_text then redis.call('HSET', key, 'odd', new_odd) end
if new_rival ~= rival_text then redis.call('HSET', key, 'rival', new_rival) end
redis.call('PEXPIRE', key, ttl)
redis.call('SPUBLISH', channel, seq_text)
return {8, now, due - now, seq, ttl, arriving, flags, fresh, moved, home}
