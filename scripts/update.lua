#!lua
-- update: judge one fix of a running journey and, when it is believed, make it
-- the live location. The whole of an update is this one script: one round trip,
-- and nothing can happen between its guards and its writes.
--
-- KEYS
--   1  location:trainer:{<trainerId>}:session:<sessionId>   hash, the journey
-- ARGV
--   1  channel         location:live:{<trainerId>}:<sessionId>
--   2  lat             degrees, 7 decimals
--   3  lng             degrees, 7 decimals
--   4  accuracy        metres, 1 decimal; 0.0 when the phone did not say
--   5  speed           km/h, 1 decimal; - when the phone did not say
--   6  heading         degrees, 1 decimal; - when the phone did not say
--   7  recorded_ms     the phone's clock, Unix ms; - when it did not say
--   8  mock            1 when the phone says that the position is simulated
--   9  cell            H3 cell of the fix, as geo.CellOf writes it
--  10  clock_ms        Unix ms, by tests; not sent for the store's own TIME
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
--      from the last fix, decimetres) and the field to
-- MESSAGE to the channel when stored, 20 words, which are all a reader needs, so
-- that one who waits is spared the read
--   seq arriving (0 or 1), and the fields to, fix and mark, each as the hash
--   has it after this update
-- COMPLEXITY O(1)
--
-- The hash, every field under 64 bytes so that it stays a listpack (but for a
-- clock set back by minutes, which makes the longest fix longer). What is
-- read and written together is one field, since a listpack is searched from its
-- beginning for each; - is what the phone did not say.
--   to       started_ms mode lat lng       by open.lua, as the next two: since
--                                          when (Unix ms), how, and where to; the
--                                          mark of an end has the first alone
--   fence    cells, as geo.Fence writes    gone once the phone has been inside
--   seq      the version: Unix ms by the store's clock, but always greater than
--            the one before
--   tat      Unix ms, when the next fix is due
--   fix      lat lng accuracy ahead_ms recorded_ms speed heading
--                                          the live location; it was accepted
--                                          ahead_ms before seq, which is 0 while
--                                          nobody sets the clock back
--   mark     ms lat lng accuracy_dm recorded_ms pace paced_ms
--                                          where the phone was up to a minute
--                                          ago, and the ETA's speed: mm/s, and
--                                          over how long; its times are since
--                                          the start, which is half as long
--   flags    suspicions so far
-- and mostly absent, with Unix ms and 0 for never:
--   odd      fast_ms reanchored_ms still_ms mismatches votes
--   rival    lat lng accuracy_dm at_ms recorded_ms
--                                          the story that refused fixes tell,
--                                          while odd counts votes for it
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
-- Texts become numbers by + 0, which costs a third of tonumber, here and below;
-- all of them together 3 % of the script.
local channel, lat, lng, accuracy, speed = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local heading, recorded_text, mock, cell, clock = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local recorded = recorded_text ~= '-' and recorded_text + 0
local floor, max, min = math.floor, math.max, math.min

local h = redis.call('HMGET', key, 'to', 'fence', 'seq', 'tat', 'fix', 'mark', 'odd')
local to, fence = h[1], h[2]
if not to then return {0} end
local mode = string.byte(to, 15)
if not mode then return {1} end -- the mark of an end has none
if mode < 97 then return {0} end -- no letter: a hash of before ADR 9, which is opened anew
local started = string.sub(to, 1, 13) + 0

local now
if clock then
    now = clock + 0
else
    local t = redis.call('TIME')
    now = t[1] * 1000 + floor(t[2] / 1000)
end
local over_at = started + JOURNEY_TTL_MS
if now >= over_at then return {1} end

-- Rate: a GCRA. A due time further ahead than the rate can put it means that
-- the clock was set back: a phone is not made to wait for it to catch up.
local due = (h[4] or 0) + 0
if due > now + RATE_MS + TOLERANCE_MS then due = now end
local wait = due - TOLERANCE_MS - now
if wait > 0 then return {2, now, wait} end

local seq, arriving = h[3] + 0, fence and 0 or 1

-- Order: on the phone's clock where that is not in the future. A live fix from
-- the future means that the store's clock was set back: no reason to refuse.
local last_lat, last_lng, last_acc, last_at, last_rec = nil, nil, 0, nil, 0
if h[5] then
    local acc, ahead, rec
    last_lat, last_lng, acc, ahead, rec = string.match(h[5], '(%S+) (%S+) (%S+) (%S+) (%S+)')
    last_acc, last_at = floor(acc * 10 + 0.5), seq - ahead
    last_rec = rec == '-' and 0 or rec + 0
end
local rec = 0
if recorded and recorded <= now + FUTURE_MS then rec = recorded end
local dies_at = last_at and last_at + LOCATION_TTL_MS
if not dies_at or dies_at > over_at then dies_at = over_at end
local ttl = dies_at - now
local fix, last_fix = rec > 0 and rec or now, last_rec > 0 and last_rec or last_at
if fix < now - STALE_MS or (last_fix and last_fix <= now + FUTURE_MS and fix <= last_fix) then
    return {3, now, max(0, due - now), seq, ttl, arriving, 0, 0}
end

if due < now then due = now end
due = due + RATE_MS

-- The judgement ------------------------------------------------------------

local code = 8 -- until something speaks against it
local fast, reanchored, silent, mismatched, frozen, repeated, shadowed = false, false, false, false, false, false, false

local acc, kmh = floor(accuracy * 10 + 0.5), speed ~= '-' and speed + 0
local odd_clock = recorded and (now - recorded > CLOCK_SKEW_MS or recorded - now > CLOCK_SKEW_MS)

local limit, ceiling = LIMIT_CAR, CEILING_CAR
if mode == 98 then limit, ceiling = LIMIT_BIKE, CEILING_BIKE end -- 'b'
if mode == 119 then limit, ceiling = LIMIT_WALK, CEILING_WALK end -- 'w'

-- leg is the way from a sighting to this fix, or to another: how far in dm,
-- how much of that the two doubts do not explain, how long in ms, and by how
-- much the phone's clock outran ours; and again how far, in metres and not rounded.
-- The distance is geo.DistanceM: the haversine, on a sphere of 6371008.8 m.
-- One function, which names globals and not the locals above: each function and
-- each local that one refers to cost a call as much as a command's argument.
local function leg(lat1, lng1, doubt1, at1, rec1, lat2, lng2, doubt2, at2, rec2)
    local math, rad = math, 0.017453292519943295
    lat1, lat2 = lat1 + 0, lat2 + 0
    local s1 = math.sin((lat2 - lat1) * rad / 2)
    local s2 = math.sin((lng2 - lng1) * rad / 2)
    local a = s1 * s1 + math.cos(lat1 * rad) * math.cos(lat2 * rad) * s2 * s2
    if a > 1 then a = 1 end
    local m = 2 * 6371008.8 * math.asin(math.sqrt(a))

    local way, ms, ahead = math.floor(m * 10 + 0.5), at2 - at1, 0
    local reach = way - doubt1 - doubt2
    if reach < 0 then reach = 0 end
    if rec1 > 0 and rec2 > rec1 then
        local phone = rec2 - rec1
        ahead = phone - ms
        ms = math.min(phone, ms + CATCH_UP_MS)
    end
    if ms < 1000 then ms = 1000 end
    return way, reach, ms, ahead, m
end

if acc > VAGUE_DM then
    if SHADOW_LOW_ACCURACY then shadowed = true else code = 4 end
end
local doubt = acc == 0 and DEFAULT_ACCURACY_DM or acc < MAX_ACCURACY_DM and acc or MAX_ACCURACY_DM

-- The rest of the track, which is mostly empty.
local odd_text = h[7] or ''
local fast_at, anchored_at, still_at, mismatches, votes = 0, 0, 0, 0, 0
local r_lat, r_lng, r_doubt, r_at, r_rec = nil, nil, 0, 0, 0
if odd_text ~= '' then
    fast_at, anchored_at, still_at, mismatches, votes = string.match(odd_text, '(%d+) (%d+) (%d+) (%d+) (%d+)')
    fast_at, anchored_at, still_at, mismatches, votes =
        tonumber(fast_at), tonumber(anchored_at), tonumber(still_at), tonumber(mismatches), tonumber(votes)
end
if votes > 0 then
    r_lat, r_lng, r_doubt, r_at, r_rec =
        string.match(redis.call('HGET', key, 'rival'), '([%d.-]+) ([%d.-]+) (%d+) (%d+) (%d+)')
    r_doubt, r_at, r_rec = tonumber(r_doubt), tonumber(r_at), tonumber(r_rec)
    r_doubt = r_doubt == 0 and DEFAULT_ACCURACY_DM or min(r_doubt, MAX_ACCURACY_DM)
end
local mark_text, m_lat, m_lng, m_doubt, m_rec = h[6], nil, nil, 0, 0
local pace, paced = 0, 0 -- the smoothed speed in mm/s, and how many ms it has seen
local moved = 0
local new_votes, new_rival, new_mark = votes, nil, false

if code == 8 and not last_at then
    new_mark = true
    if anchored_at ~= 0 then
        reanchored, anchored_at = true, now
    end
elseif code == 8 then
    local last_doubt = last_acc == 0 and DEFAULT_ACCURACY_DM or last_acc < MAX_ACCURACY_DM and last_acc or MAX_ACCURACY_DM
    local way, reach, ms, ahead = leg(last_lat, last_lng, last_doubt, last_at, last_rec, lat, lng, doubt, now, rec)
    moved = way
    local mark_at = started + string.match(mark_text, '%S+')
    local over, minute = reach * 360 > limit * ms, now - mark_at >= 60000
    if over or minute then
        m_lat, m_lng, m_doubt, m_rec, pace, paced = string.match(mark_text, ' (%S+) (%S+) (%d+) (%S+) (%d+) (%d+)')
        m_doubt, m_rec = tonumber(m_doubt), m_rec == '-' and 0 or started + m_rec
        m_doubt = m_doubt == 0 and DEFAULT_ACCURACY_DM or min(m_doubt, MAX_ACCURACY_DM)
        pace, paced = tonumber(pace), tonumber(paced)
    end
    if ahead > CATCH_UP_MS then odd_clock = true end

    if not over then
        if ms > BANK_MS and reach * 360 > limit * BANK_MS then silent = true end
    else
        -- Over the limit: why it may be believed, or else how it is refused.
        local under = reach * 360 <= ceiling * ms
        local jump = not under and reach > JUMP_M * 10 and reach * 360 > JUMP_M * 3600 / JUMP_MS * ms
        local refusal = under and 6 or jump and 5 or 7
        local rival_agrees = false
        if votes > 0 then
            local _, r_reach, r_ms = leg(r_lat, r_lng, r_doubt, r_at, r_rec, lat, lng, doubt, now, rec)
            rival_agrees = r_reach * 360 <= ceiling * r_ms
        end
        local explained = under and fast_at > 0 and now - fast_at < GRACE_MS
        if under and not explained then
            local m_way, _, m_ms = leg(m_lat, m_lng, m_doubt, mark_at, m_rec, last_lat, last_lng, last_doubt, last_at, last_rec)
            local pace_kmh = max(pace * 36 / 10000, m_way * 360 / m_ms)
            explained = pace_kmh > 0 and reach * 360 <= (pace_kmh + (ceiling - limit) * ms / 8000) * ms
        end
        local thawed_ms = max(ms, min(ms + max(0, last_at - still_at), BANK_MS))
        if explained then
            fast, silent = true, ms >= 15000
        elseif still_at > 0 and not jump and reach * 360 <= limit * thawed_ms then
            silent = true
        elseif rival_agrees and under and votes < 3 then
            local _, b_reach, b_ms = leg(last_lat, last_lng, last_doubt, last_at, last_rec, r_lat, r_lng, r_doubt, r_at, r_rec)
            if b_reach * 360 > ceiling * b_ms then reanchored = true else fast = true end
        elseif rival_agrees and (votes >= 2 or (votes == 1 and now - r_at >= 15000)) then
            reanchored = true
        elseif (under and SHADOW_SPEED) or (not under and SHADOW_CEILING) then
            shadowed = true
        else
            code, new_votes = refusal, rival_agrees and votes + 1 or 1
            new_rival = lat .. ' ' .. lng .. ' ' .. acc .. ' ' .. now .. ' ' .. rec
        end
    end

    if code == 8 then
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
            -- The first find spares most fixes the text of the second.
            repeated = way >= 50 and string.find(mark_text, lat, 1, true) ~= nil
                and string.find(mark_text, ' ' .. lat .. ' ' .. lng .. ' ', 1, true) ~= nil
        else
            if still_at == 0 then still_at = last_at end
            frozen = now - still_at >= 100000 or (now - still_at >= 14000 and (kmh or 0) >= 10)
        end

        -- The track that follows.
        if reanchored then
            new_votes, new_rival = 3, last_lat .. ' ' .. last_lng .. ' ' .. last_acc .. ' ' .. last_at .. ' ' .. last_rec
            still_at, new_mark, pace, paced = 0, true, 0, 0
        else
            if votes < 3 or now - r_at > 120000 then new_votes = 0 end
            if minute then
                local m_way, m_reach, m_ms, m_ahead = leg(m_lat, m_lng, m_doubt, mark_at, m_rec, lat, lng, doubt, now, rec)
                new_mark = true
                pace, paced = floor((pace * paced + m_way * 100000) / (paced + m_ms)), min(120000, paced + m_ms)
                odd_clock = odd_clock or m_ahead > CATCH_UP_MS
                fast = fast or m_reach * 360 > limit * m_ms
                reanchored = reanchored or m_reach * 360 > ceiling * m_ms
            end
        end
        if reanchored or silent then anchored_at = now end
        if fast then fast_at = now end
    end
end

local flags = mock == '1' and 128 or 0
if fast or reanchored or silent or odd_clock or mismatched or frozen or repeated or shadowed then
    flags = flags + (fast and 1 or 0) + (reanchored and 2 or 0) + (silent and 4 or 0) + (odd_clock and 8 or 0)
        + (mismatched and 16 or 0) + (frozen and 32 or 0) + (repeated and 64 or 0) + (shadowed and 256 or 0)
end

-- What was seen in this journey is kept, and what is new in it is told.
local suspicions, fresh = flags + (code == 5 and 2048 or code == 6 and 512 or code == 7 and 1024 or 0), 0
if suspicions ~= 0 then
    local seen = tonumber(redis.call('HGET', key, 'flags')) or 0
    fresh = bit.band(suspicions, bit.bnot(seen))
    if fresh ~= 0 then redis.call('HSET', key, 'flags', bit.bor(seen, suspicions)) end
end

local new_odd = ''
if fast_at > 0 or anchored_at > 0 or still_at > 0 or mismatches > 0 or new_votes > 0 then
    new_odd = fast_at .. ' ' .. anchored_at .. ' ' .. still_at .. ' ' .. mismatches .. ' ' .. new_votes
end
if new_odd ~= odd_text then redis.call('HSET', key, 'odd', new_odd) end
if new_rival then redis.call('HSET', key, 'rival', new_rival) end

if code ~= 8 then -- not believed: it counts against the rate
    redis.call('HSET', key, 'tat', due)
    return {code, now, due - now, seq, ttl, arriving, flags, fresh}
end

-- Arriving: in a cell of the home's cover, the exact distance decides; and a
-- long leg may have passed the fence between two fixes. A fence is the cells'
-- common beginning and then, behind a comma each, how they end.
if arriving == 0 then
    local comma = string.find(fence, ',', 1, true)
    local near = string.find(fence, string.sub(cell, 1, comma - 1), 1, true) == 1
    if near then
        local length = (string.find(fence, ',', comma + 1, true) or #fence + 1) - comma - 1
        near = string.find(fence, ',' .. string.sub(cell, comma, comma + length - 1), comma, true)
    end
    if near or moved > 1000 then
        local home_lat, home_lng = string.match(to, '%a (%S+) (%S+)')
        local _, _, _, _, to_home = leg(lat, lng, 0, 0, 0, home_lat, home_lng, 0, 0, 0)
        if near and to_home <= RADIUS_M then
            arriving = 1
        elseif moved > 1000 and not reanchored and moved / 10 > to_home - RADIUS_M then
            -- geo.CrossesFence: on a plane that touches the sphere at the home
            -- great circles are straight lines.
            local rad = math.pi / 180
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
    if arriving == 1 then redis.call('HDEL', key, 'fence') end
end

-- The writes -----------------------------------------------------------------

seq = seq < now and now or seq + 1
ttl = over_at - now
if ttl > LOCATION_TTL_MS then ttl = LOCATION_TTL_MS end
-- A number that is only an argument goes as it is, which the server makes text
-- of at a fifth of what string.format costs here. For those that are part of a
-- text, format costs half of what a concatenation makes of them; and texts are
-- concatenated, as a format of seven costs twice that.
local seq_text = string.format('%d', seq)
local fix_text = lat .. ' ' .. lng .. ' ' .. accuracy .. (seq == now and ' 0 ' or string.format(' %d ', seq - now))
    .. (rec > 0 and recorded_text or '-') .. ' ' .. speed .. ' ' .. heading
redis.call('HSET', key, 'seq', seq_text, 'tat', due, 'fix', fix_text)
if new_mark then
    mark_text = string.format('%d %s %s %d %s %d %d',
        now - started, lat, lng, acc, rec > 0 and string.format('%d', rec - started) or '-', pace, paced)
    redis.call('HSET', key, 'mark', mark_text)
end
redis.call('PEXPIRE', key, ttl)
redis.call('SPUBLISH', channel,
    seq_text .. (arriving == 1 and ' 1 ' or ' 0 ') .. to .. ' ' .. fix_text .. ' ' .. mark_text)
return {8, now, due - now, seq, ttl, arriving, flags, fresh, moved, to}
