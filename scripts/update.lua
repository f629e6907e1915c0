#!lua
-- update: judge one fix of a running journey and, when it is believed, make it
-- the live location. All of an update happens in this one script, so it is one
-- round trip, and nothing can happen between its checks and its writes.
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
--   7  recorded_ms     the phone's clock, Unix ms; - when the phone did not say
--   8  marks           the sum of 1: the phone says that the position is
--                      simulated; 2: the point is no position; 4: another fix of
--                      the same request has been stored before; 8: it came with
--                      an arrival, whose rate is its own
--   9  cell            H3 cell of the fix, as geo.CellOf writes it
--  10  sent_ms         the phone's clock at sending, Unix ms; - when not said
--  11  clock_ms        Unix ms, sent by tests; absent: the store's own TIME
-- RETURN {code, …}, or a text
--  {0}                       UNKNOWN: no such journey here
--  {1}                       ENDED: the journey has ended, or has lasted JOURNEY_TTL
--  {2, clock_ms, retry_ms}   TOO_SOON
--  {3, …}                    STALE: nothing written; here and for 9 and 10, but
--                            what learning the phone's clock needs
--  {4, …}                    VAGUE: too inaccurate to store
--  {5, …}                    JUMP: refused
--  {6, …}                    SPEED: refused, over the mode's limit
--  {7, …}                    CEILING: refused, over the mode's ceiling
--  8                         STORED: one text, see below
--  {9, …}                    BEFORE_START: taken before the journey
--  {10, …}                   IGNORED_TOO_SOON: over the rate, and past; or its
--                            time is not known yet, see geo.Clock.Unsure
--  {11, …}                   NO_POSITION: 0,0
--      … is clock_ms, next_ms, version, ttl_ms, arriving (0 or 1; for 8 the sum
--      of that and 2: the track is trusted, 4: it was outside the fence, 8: the
--      fix is late, 16: somebody waits on the channel, at this server), flags of
--      this fix, suspicions first seen with it. A stored fix, as most are, is
--      answered by these as doubles, little-endian, and two more: moved (the way
--      from the last fix, decimetres), and ago_ms (since when the phone last sent
--      a fix that counted; -1 where the hash knows of none); and then as text the
--      field to, and, where there was or is a field clock, its first four words
--      (docs/adr/0021-one-text-for-a-stored-fix.md: a list costs 3 % more)
--  error LAYOUT              the hash has a layout that is too new for this
--                            script; nothing written
-- MESSAGE to the channel when stored: 21 words, which are all that a reader
-- needs, so a gateway that waits for a change does not have to read the hash
--   seq arriving (0 or 1), and the fields to, fix and anchor, each as the hash
--   has it after this update; and where it has a field clock, taken_ms, Unix ms
-- COMPLEXITY O(1)
--
-- HASH. Every field is under 64 bytes so that the hash stays a listpack. (Only
-- a store's clock that was set back by minutes makes `fix` longer.) Values that
-- are read and written together are one field, because a listpack is searched
-- from its beginning for each field. A value that the phone did not send is -.
--   to       started_ms layout mode lat lng
--                                          written by open.lua, as are fence and
--                                          the first seq: when the journey began
--                                          (Unix ms), the layout (see below), the
--                                          travel mode, and the home; a tombstone
--                                          (end.lua) has the first two words alone
--   fence    cells, as geo.Fence writes    removed once the phone has been inside
--   seq      the version: Unix ms by the store's clock, but always greater than
--            the one before
--   tat      Unix ms, when the next fix is due: taken at that time or later
--   fix      lat lng accuracy ahead_ms recorded_ms speed heading
--                                          the live location; it was accepted
--                                          ahead_ms before seq, which is 0 unless
--                                          the store's clock was set back; it was
--                                          taken then, or at recorded_ms if that
--                                          is earlier, where there is no clock
--   anchor   ms lat lng accuracy_dm recorded_ms pace paced_ms
--                                          where the phone was up to a minute
--                                          ago, and the ETA's speed: mm/s, and
--                                          over how many ms; taken ms after the
--                                          start; recorded_ms is -, but v0.1.0
--                                          wrote it, and ms was the arrival
--   arr      Unix ms, when the next fix with an arrival is due
--   flags    the suspicions of this journey so far
-- and mostly absent, with times in Unix ms and 0 for never:
--   odd      fast_ms reanchored_ms still_ms mismatches votes
--   rival    lat lng accuracy_dm taken_ms 0
--                                          the rival track: the last refused fix,
--                                          or the track that was replaced; read
--                                          only while odd counts votes for it;
--                                          v0.1.0 wrote the arrival, and
--                                          recorded_ms
--   clock    offset_ms drift_ms since_ms began_ms comparable taken
--                                          geo.Clock, where it is not the zero
--                                          value: drift_ms is the offset less the
--                                          one last flagged; comparable is 0 when
--                                          the phone's clock was set back after
--                                          the live fix, which was taken that many
--                                          ms after the start, or -
--   candidate  offset_ms last_ms fixes     read only while began_ms is not 0
--   proof    guess fixes requests outside begun mock
--                                          geo.Track.Guess and sessions.Evidence;
--                                          begun is when the track's first fix was
--                                          taken, in ms after the start, and 0
--                                          when outside is 1; absent beside a fix
--                                          when all is proven: 0 3 2 1 0 0
--   last     at_ms away_dm trusted outside  of a journey that expired after a
--                                          silence, written by open.lua and
--                                          removed with its first fix:
--                                          sessions.LastFix
--
-- LAYOUT (docs/adr/0011-layout-number.md). The digit in `to` is the layout of the
-- script that opened the hash. Layout 1 is that of v0.1.0. A script of layout N
-- reads N-1, N and N+1, and for the one release in which N is new it writes only
-- what N-1 can read; so gateways of two neighbouring releases share a journey
-- during a roll-out. An older hash is UNKNOWN here: the gateway asks the
-- repository and open.lua opens the journey anew. A newer one is an error: the
-- update is answered like one while the store is away, and nothing is
-- overwritten. No layout may change the first two words of `to`, `seq`, and the
-- tombstone; end.lua relies on them.
--
-- STEPS. Steps 1 to 3 and 13 to 15 are also those of sessions/memory, and 4 to 12
-- those of geo.Judge, in the same order and with the same numbers. Change both or
-- neither: a differential test plays random journeys on both.

-- Constants. When scripts/store.go loads this script, it puts the value of
-- each constant in place of its name, so a name costs a call nothing. As locals
-- they would cost 2 % of a call (callgrind). The file also runs as it is.

-- The settings, with their defaults. The gateway's own values replace them.
local RATE_MS, TOLERANCE_MS = 5000, 1000
local LOCATION_TTL_MS, JOURNEY_TTL_MS = 300000, 3600000
local RADIUS_M, STALE_MS, FUTURE_MS = 150, 300000, 2000
local LIMIT_CAR, LIMIT_BIKE, LIMIT_WALK = 120, 30, 15
local CEILING_CAR, CEILING_BIKE, CEILING_WALK = 200, 60, 30
local DEFAULT_ACCURACY_DM, MAX_ACCURACY_DM, VAGUE_DM = 250, 1000, 2000
local JUMP_M, JUMP_MS = 1000, 5000
local BANK_MS, GRACE_MS = 120000, 300000
local SHADOW_LOW_ACCURACY, SHADOW_SPEED, SHADOW_CEILING = false, false, false

-- The rest have the same names and values as in Go, which explains them; a test
-- compares the two.
-- The layouts that this script can read.
local LAYOUT_OLDEST, LAYOUT_NEWEST = 1, 2
-- The return codes: sessions.Verdict.
local UNKNOWN, ENDED, TOO_SOON, STALE, VAGUE, JUMP, SPEED, CEILING, STORED = 0, 1, 2, 3, 4, 5, 6, 7, 8
local BEFORE_START, IGNORED_TOO_SOON, NO_POSITION = 9, 10, 11
-- geo.Flags, and the rest of sessions.Suspicions.
local FLAG_FAST, FLAG_REANCHORED, FLAG_SILENCE, FLAG_CLOCK, FLAG_MISMATCH = 1, 2, 4, 8, 16
local FLAG_FROZEN, FLAG_REPEATED, FLAG_MOCK, FLAG_SHADOW, FLAG_FIRST_FIX_REPLACED = 32, 64, 128, 256, 4096
local SUSPECT_SPEED, SUSPECT_CEILING, SUSPECT_JUMP = 512, 1024, 2048
-- geo.
local EARTH_RADIUS_M, RAD_PER_DEG, MIN_DEPTH = 6371008.8, 0.017453292519943295, 1e-9
local MIN_LEG_MS, KMH_PER_DMMS, MMS_PER_DMMS = 1000, 360, 100000
local RAMP_MS, LONG_GAP_MS, VOTES_TO_REPLACE, REPLACED_TRACK_MS = 8000, 15000, 3, 120000
local MISMATCH_LEGS, MISMATCH_KMH, MISMATCH_LEG_MS = 3, 20, 12000
local FROZEN_MS, FROZEN_MOVING_MS, MOVING_KMH, REPEAT_DM = 100000, 14000, 10, 50
local ANCHOR_MS, PACE_MS = 60000, 120000
local GUESS_FIRST, GUESS_REPLACED = 2, 1
local CLOCK_STEP_MS, CANDIDATE_MS = 10000, 2000
local CANDIDATE_MIN_MS, CANDIDATE_MAX_MS, CANDIDATE_FIXES, NETWORK_MS, BACKLOG_MS = 4000, 30000, 3, 60000, 10000
-- sessions, and sessions/memory.
local EVIDENCE_FIXES, EVIDENCE_REQUESTS = 3, 2
local LONG_LEG_M, LEAST_NEXT_MS, PRESENT_MS = 100, 1000, 2000

local key = KEYS[1]
local channel, lat, lng, accuracy, speed = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local heading, recorded_text, marks, cell, sent_text, clock = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local floor, max, min = math.floor, math.max, math.min

-- Here and below, + 0 converts a text to a number. It takes a third of the
-- time of tonumber; all conversions together take 3 % of the script's time.

-- Step 1: the journey runs.
local h = redis.call('HMGET', key, 'to', 'fence', 'seq', 'tat', 'fix', 'anchor', 'odd', 'proof', 'clock')
local to, fence = h[1], h[2]
if not to then return {UNKNOWN} end
local layout, _, mode = string.byte(to, 15, 17)
if not mode then return {ENDED} end -- a tombstone
layout = layout - 48 -- the byte of '0'
if layout < LAYOUT_OLDEST or layout > 9 then return {UNKNOWN} end -- past 9: no layout
if layout > LAYOUT_NEWEST then return redis.error_reply('LAYOUT of the hash is too new') end
local started = string.sub(to, 1, 13) + 0
local now
if clock then
    now = clock + 0
else
    local t = redis.call('TIME')
    now = t[1] * 1000 + floor(t[2] / 1000)
end
local over_at = started + JOURNEY_TTL_MS
if now >= over_at then return {ENDED} end

-- The live fix.
local seq, arriving = h[3] + 0, fence and 0 or 1
local last_lat, last_lng, last_acc, last_at, last_rec, last_taken = nil, nil, 0, nil, nil, nil
if h[5] then
    local acc, ahead, rec
    last_lat, last_lng, acc, ahead, rec = string.match(h[5], '(%S+) (%S+) (%S+) (%S+) (%S+)')
    last_acc, last_at = floor(acc * 10 + 0.5), seq - ahead
    last_taken = last_at
    if rec ~= '-' then
        last_rec = rec + 0
        if last_rec < last_at then last_taken = last_rec end
    end
end

-- Step 2: when the fix was taken. This is geo.Clock.Take: nearly always the clock
-- agrees, and there is nothing to learn. Nor is there from the live fix sent again.
local clock_text, taken, recorded, comparable, odd_clock = h[9], now, nil, true, false
local new_clock, new_candidate = nil, nil -- the texts, where something was learnt
local unsure = false -- geo.Clock.Unsure
if recorded_text ~= '-' then recorded = recorded_text + 0 end
if recorded and recorded ~= last_rec then
    local sent = sent_text ~= '-' and sent_text + 0
    if sent and sent < recorded then sent = false end
    local seen, offset, near = now - (sent or recorded), 0, sent and CLOCK_STEP_MS or FUTURE_MS
    if clock_text or seen > near or seen < -FUTURE_MS or (not last_at and sent and sent < started - FUTURE_MS) then
        local drift, since, began, same, set_back = 0, 0, 0, '1', false
        if clock_text then
            local ago
            offset, drift, since, began, same, ago = string.match(clock_text, '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)')
            offset, drift, since, began = offset + 0, drift + 0, since + 0, began + 0
            if ago ~= '-' then last_taken = started + ago end
        end
        local told, said = offset - drift, sent or recorded
        local candidate, candidate_last, votes = 0, 0, '1'
        if began > 0 then
            candidate, candidate_last, votes = string.match(redis.call('HGET', key, 'candidate'), '(%S+) (%S+) ?(%d*)')
            candidate, candidate_last = candidate + 0, candidate_last + 0
        end
        local continues = began > 0 and said > candidate_last and seen - candidate <= CANDIDATE_MS and candidate - seen <= CANDIDATE_MS
        if seen < offset - near then
            offset, since, began, unsure = seen, sent and 0 or now, 0, not sent and now - started > BACKLOG_MS
        elseif sent and not last_at and sent + offset < started - FUTURE_MS then
            offset, since, began, set_back = seen, 0, 0, true
        elseif seen <= offset + near then
            if seen < offset and (offset ~= 0 or seen < -FUTURE_MS) then offset = seen end
            if sent then since = 0 end
            began = 0
        elseif sent and not last_at and offset == 0 then
            offset, since, began, set_back = seen, 0, 0, true
        elseif not continues then
            new_candidate, began = string.format('%d %d 1', seen, said), now
        else
            local lasted, certain = now - began, sent and seen - offset > NETWORK_MS
            if not sent then certain = lasted >= CANDIDATE_MIN_MS and recorded + offset < started - FUTURE_MS end
            votes = min(CANDIDATE_FIXES, (tonumber(votes) or 1) + 1)
            if certain or (lasted >= CANDIDATE_MAX_MS and votes == CANDIDATE_FIXES) then
                offset, since, began, set_back = min(seen, candidate), sent and 0 or began, 0, true
            else
                new_candidate = string.format('%d %d %d', candidate, said, votes)
            end
        end
        drift = offset - told
        if drift > CLOCK_STEP_MS or drift < -CLOCK_STEP_MS then odd_clock, drift = true, 0 end
        -- A live fix that would come from the future by the new clock is of another.
        comparable = same == '1' and not (set_back and last_rec and last_rec + offset > last_at + FUTURE_MS)
        new_clock = string.format('%d %d %d %d ', offset, drift, since, began)
    end
    taken = min(now, recorded + offset)
elseif clock_text then
    local learnt, same, ago = string.match(clock_text, '(%S+ %S+ %S+ %S+ )(%S+) (%S+)')
    new_clock, comparable = learnt, same == '1'
    if ago ~= '-' then last_taken = started + ago end
end

-- Step 3: the order, and then the rate, by GCRA on the time when the fix was
-- taken. A due time that is further ahead than the rate can put it, and a live fix
-- that is in the future, mean that the store's clock was set back: a phone does not
-- have to wait until the clock has caught up.
local code = STORED
local due = (h[4] or 0) + 0
if due > now + RATE_MS + TOLERANCE_MS then due = now end
local expires_at = last_at and last_at + LOCATION_TTL_MS
if not expires_at or expires_at > over_at then expires_at = over_at end
local ttl, next_ms = expires_at - now, max(LEAST_NEXT_MS, due - now)
if taken < min(started, now) - FUTURE_MS then
    code = BEFORE_START
    next_ms = LEAST_NEXT_MS
elseif taken < now - STALE_MS
    or (last_rec and recorded and (recorded == last_rec or (recorded < last_rec and comparable)))
    or (last_at and last_taken <= now + FUTURE_MS and (taken < last_taken or (recorded and taken == last_taken))) then
    code = STALE
elseif unsure then
    code, next_ms = IGNORED_TOO_SOON, LEAST_NEXT_MS
elseif marks ~= '0' and marks + 0 > 7 then
    local arrival_due = (redis.call('HGET', key, 'arr') or 0) + 0
    if arrival_due > now and arrival_due <= now + RATE_MS then
        code = IGNORED_TOO_SOON
    else
        redis.call('HSET', key, 'arr', now + RATE_MS)
    end
else
    local wait = due - TOLERANCE_MS - taken
    if wait > 0 and taken > now - PRESENT_MS then return {TOO_SOON, now, wait} end
    if wait > 0 then
        code = IGNORED_TOO_SOON
    else
        due = max(due, taken) + RATE_MS
    end
    next_ms = taken < now - RATE_MS and LEAST_NEXT_MS or max(LEAST_NEXT_MS, due - now)
end
local judged = code == STORED -- it counts against the rate

-- leg measures the way from one track point to another. It returns the distance
-- in dm; the reach in dm, which is the distance minus the doubts of both points,
-- at least 0; the time in ms; and the distance in metres, not rounded. The distance is
-- geo.DistanceM, the haversine. It is one function, and it refers to no local of
-- the script: each function, and each local that one refers to, costs a call as
-- much as a command's argument does.
local function leg(lat1, lng1, doubt1, taken1, lat2, lng2, doubt2, taken2)
    local math = math
    lat1, lat2 = lat1 + 0, lat2 + 0
    local s1 = math.sin((lat2 - lat1) * RAD_PER_DEG / 2)
    local s2 = math.sin((lng2 - lng1) * RAD_PER_DEG / 2)
    local a = s1 * s1 + math.cos(lat1 * RAD_PER_DEG) * math.cos(lat2 * RAD_PER_DEG) * s2 * s2
    if a > 1 then a = 1 end
    local m = 2 * EARTH_RADIUS_M * math.asin(math.sqrt(a))

    local way, ms = math.floor(m * 10 + 0.5), taken2 - taken1
    local reach = way - doubt1 - doubt2
    if reach < 0 then reach = 0 end
    if ms < MIN_LEG_MS then ms = MIN_LEG_MS end
    return way, reach, ms, m
end

-- Step 4: the fix as a track point, and the track so far.
local acc, kmh = floor(accuracy * 10 + 0.5), speed ~= '-' and speed + 0
local doubt = acc == 0 and DEFAULT_ACCURACY_DM or acc < MAX_ACCURACY_DM and acc or MAX_ACCURACY_DM
local limit, ceiling = LIMIT_CAR, CEILING_CAR
if mode == 98 then limit, ceiling = LIMIT_BIKE, CEILING_BIKE end -- 'b'
if mode == 119 then limit, ceiling = LIMIT_WALK, CEILING_WALK end -- 'w'

local odd_text, anchor_text = h[7] or '', h[6]
local fast_at, reanchored_at, still_at, mismatches, votes = 0, 0, 0, 0, 0
local r_lat, r_lng, r_doubt, r_at = nil, nil, 0, 0
if odd_text ~= '' then
    fast_at, reanchored_at, still_at, mismatches, votes = string.match(odd_text, '(%d+) (%d+) (%d+) (%d+) (%d+)')
    fast_at, reanchored_at, still_at, mismatches, votes =
        tonumber(fast_at), tonumber(reanchored_at), tonumber(still_at), tonumber(mismatches), tonumber(votes)
end
if votes > 0 then
    local r_rec
    r_lat, r_lng, r_doubt, r_at, r_rec =
        string.match(redis.call('HGET', key, 'rival'), '([%d.-]+) ([%d.-]+) (%d+) (%d+) (%d+)')
    r_doubt, r_at, r_rec = tonumber(r_doubt), tonumber(r_at), tonumber(r_rec)
    if r_rec > 0 and r_rec < r_at then r_at = r_rec end
    r_doubt = r_doubt == 0 and DEFAULT_ACCURACY_DM or min(r_doubt, MAX_ACCURACY_DM)
end

-- The evidence. A hash without it is proven, or of v0.1.0.
local proof_text = h[8] or ''
local guess, fixes, requests, outside, begun = 0, EVIDENCE_FIXES, EVIDENCE_REQUESTS, 1, 0
if proof_text ~= '' then
    guess, fixes, requests, outside, begun = string.match(proof_text, '(%d+) (%d+) (%d+) (%d+) (%S+)')
    guess, fixes, requests, outside, begun = guess + 0, fixes + 0, requests + 0, outside + 0, begun + 0
end
local mock, nowhere, continued = false, false, false
if marks ~= '0' then
    local sum = marks + 0
    mock, nowhere, continued = sum % 2 == 1, sum % 4 > 1, sum % 8 > 3
end

-- What the steps below decide. A flag is a boolean until step 13.
local moved, new_guess = 0, 0
local fast, reanchored, silent, mismatched, frozen, repeated, shadowed = false, false, false, false, false, false, false
local replaced, resumed = false, false
local seen_at = last_at -- when the phone last sent a fix that counted
local new_votes, new_rival, new_anchor = votes, nil, false
local pace, paced = 0, 0 -- the smoothed speed in mm/s, and how many ms of journey it covers

-- Step 5: what is suspicious about the fix alone. The flag mock is added in step 13.

-- Step 6: no position, or a vague one.
if code == STORED and nowhere then
    code = NO_POSITION
elseif code == STORED and acc > VAGUE_DM then
    if SHADOW_LOW_ACCURACY then shadowed = true else code = VAGUE end
end

if code == STORED and not last_at then
    -- Step 7: a first fix begins a track. There is nothing to compare it with.
    new_anchor, new_guess = true, GUESS_FIRST
    if reanchored_at ~= 0 then
        reanchored, reanchored_at = true, now
        -- After a silence only the distances from the home can be compared. A way
        -- that the mode's limit could cover is no re-anchor.
        local last_text = redis.call('HGET', key, 'last')
        if last_text then
            local at, away, trusted, was_outside = string.match(last_text, '(%d+) (%d+) (%d) (%d)')
            seen_at = at + 0
            local home_lat, home_lng = string.match(to, '%a (%S+) (%S+)')
            local way, _, ms = leg(lat, lng, 0, at + 0, home_lat, home_lng, 0, taken)
            local nearer = max(0, math.abs(way - away) - doubt - DEFAULT_ACCURACY_DM)
            if nearer * KMH_PER_DMMS <= limit * ms then
                reanchored, reanchored_at = false, 0
                silent = nearer * KMH_PER_DMMS > limit * BANK_MS
                resumed = trusted == '1' and not silent
                if resumed then new_guess, fixes, requests, outside, begun = 0, EVIDENCE_FIXES, EVIDENCE_REQUESTS, was_outside + 0, 0 end
            end
            redis.call('HDEL', key, 'last')
        end
    end
elseif code == STORED then
    -- Step 8: the speed limit of the mode.
    local last_doubt = last_acc == 0 and DEFAULT_ACCURACY_DM or last_acc < MAX_ACCURACY_DM and last_acc or MAX_ACCURACY_DM
    local way, reach, ms = leg(last_lat, last_lng, last_doubt, last_taken, lat, lng, doubt, taken)
    moved = way
    local over = reach * KMH_PER_DMMS > limit * ms
    replaced = over and guess == GUESS_FIRST

    -- The rest of the anchor is read only where it is needed.
    local a_at = started + string.match(anchor_text, '%S+')
    local look_back = taken - a_at >= ANCHOR_MS
    local a_lat, a_lng, a_doubt, a_rec
    if over or look_back then
        a_lat, a_lng, a_doubt, a_rec, pace, paced = string.match(anchor_text, ' (%S+) (%S+) (%d+) (%S+) (%d+) (%d+)')
        a_doubt = tonumber(a_doubt)
        if a_rec ~= '-' then
            a_at = min(a_at, started + a_rec)
            look_back = taken - a_at >= ANCHOR_MS
        end
        a_doubt = a_doubt == 0 and DEFAULT_ACCURACY_DM or min(a_doubt, MAX_ACCURACY_DM)
        pace, paced = tonumber(pace), tonumber(paced)
    end

    if replaced then
        -- geo.Track.replaceFirst. The place of the first fix is no suspicion.
        new_guess, new_anchor, new_votes, pace, paced = GUESS_REPLACED, true, 0, 0, 0
        fast_at, still_at, mismatches = 0, 0, 0
    elseif not over then
        if ms > BANK_MS and reach * KMH_PER_DMMS > limit * BANK_MS then silent = true end
    else
        -- Step 9: why a fix over the limit may be believed.
        local under = reach * KMH_PER_DMMS <= ceiling * ms
        local jump = not under and reach > JUMP_M * 10 and reach * KMH_PER_DMMS > JUMP_M * 3600 / JUMP_MS * ms
        local rival_agrees = false
        if votes > 0 then
            local _, r_reach, r_ms = leg(r_lat, r_lng, r_doubt, r_at, lat, lng, doubt, taken)
            rival_agrees = r_reach * KMH_PER_DMMS <= ceiling * r_ms
        end
        local explained = under and fast_at > 0 and taken - fast_at < GRACE_MS
        if under and not explained then
            local a_way, _, a_ms = leg(a_lat, a_lng, a_doubt, a_at, last_lat, last_lng, last_doubt, last_taken)
            local pace_kmh = max(pace * 36 / 10000, a_way * KMH_PER_DMMS / a_ms)
            explained = pace_kmh > 0 and reach * KMH_PER_DMMS <= (pace_kmh + (ceiling - limit) * ms / RAMP_MS) * ms
        end
        local still_ms = max(ms, min(ms + max(0, last_taken - still_at), BANK_MS))
        if explained then
            fast, silent = true, ms >= LONG_GAP_MS
        elseif still_at > 0 and not jump and reach * KMH_PER_DMMS <= limit * still_ms then
            silent = true
        elseif rival_agrees and under and votes < VOTES_TO_REPLACE then
            local _, b_reach, b_ms = leg(last_lat, last_lng, last_doubt, last_taken, r_lat, r_lng, r_doubt, r_at)
            if b_reach * KMH_PER_DMMS > ceiling * b_ms then reanchored = true else fast = true end
        elseif rival_agrees and (votes + 1 >= VOTES_TO_REPLACE or (votes == 1 and taken - r_at >= LONG_GAP_MS)) then
            reanchored = true
        elseif (under and SHADOW_SPEED) or (not under and SHADOW_CEILING) then
            shadowed = true
        else
            -- Step 10: the refusal. The fix becomes the rival, or votes for it.
            code = under and SPEED or jump and JUMP or CEILING
            new_votes = rival_agrees and votes + 1 or 1
            new_rival = lat .. ' ' .. lng .. ' ' .. acc .. ' ' .. taken .. ' 0'
        end
    end

    if code == STORED and not replaced then
        -- Step 11: what is odd about a fix that is believed.
        if kmh and ms <= MISMATCH_LEG_MS and (reach * KMH_PER_DMMS > (2 * kmh + MISMATCH_KMH) * ms
            or (kmh > MISMATCH_KMH and (2 * way - reach) * KMH_PER_DMMS <= (kmh - MISMATCH_KMH) / 2 * ms)) then
            mismatches = min(mismatches + 1, MISMATCH_LEGS)
            mismatched = mismatches == MISMATCH_LEGS
        else
            mismatches = 0
        end
        if lat ~= last_lat or lng ~= last_lng then
            still_at = 0
            -- The first find fails for most fixes, and then the text for the second is not built.
            repeated = way >= REPEAT_DM and string.find(anchor_text, lat, 1, true) ~= nil
                and string.find(anchor_text, ' ' .. lat .. ' ' .. lng .. ' ', 1, true) ~= nil
        else
            if still_at == 0 then still_at = last_taken end
            frozen = taken - still_at >= FROZEN_MS or (taken - still_at >= FROZEN_MOVING_MS and (kmh or 0) >= MOVING_KMH)
        end

        -- Step 12: the track that follows.
        if reanchored then
            new_votes = VOTES_TO_REPLACE
            new_rival = last_lat .. ' ' .. last_lng .. ' ' .. last_acc .. ' ' .. last_taken .. ' 0'
            still_at, new_anchor, pace, paced = 0, true, 0, 0
        else
            if votes < VOTES_TO_REPLACE or taken - r_at > REPLACED_TRACK_MS then new_votes = 0 end
            if look_back then
                local a_way, a_reach, a_ms = leg(a_lat, a_lng, a_doubt, a_at, lat, lng, doubt, taken)
                new_anchor = true
                pace, paced = floor((pace * paced + a_way * MMS_PER_DMMS) / (paced + a_ms)), min(PACE_MS, paced + a_ms)
                fast = fast or a_reach * KMH_PER_DMMS > limit * a_ms
                reanchored = reanchored or a_reach * KMH_PER_DMMS > ceiling * a_ms
            end
        end
        if reanchored or silent then reanchored_at = now end
        if fast then fast_at = taken end
    end
end

-- Step 13: the suspicions. All suspicions of the journey are stored; the reply
-- has only the new ones. The script ends here for a fix that is not believed,
-- which counts against the rate.
local flags = judged and mock and FLAG_MOCK or 0
if replaced then flags = flags + FLAG_FIRST_FIX_REPLACED end
if fast or reanchored or silent or odd_clock or mismatched or frozen or repeated or shadowed then
    flags = flags + (fast and FLAG_FAST or 0) + (reanchored and FLAG_REANCHORED or 0) + (silent and FLAG_SILENCE or 0)
        + (odd_clock and FLAG_CLOCK or 0) + (mismatched and FLAG_MISMATCH or 0) + (frozen and FLAG_FROZEN or 0)
        + (repeated and FLAG_REPEATED or 0) + (shadowed and FLAG_SHADOW or 0)
end
local suspicions, fresh = flags, 0
if code ~= STORED then
    suspicions = flags
        + (code == JUMP and SUSPECT_JUMP or code == SPEED and SUSPECT_SPEED or code == CEILING and SUSPECT_CEILING or 0)
end
if suspicions ~= 0 then
    local seen = tonumber(redis.call('HGET', key, 'flags')) or 0
    fresh = bit.band(suspicions, bit.bnot(seen))
    if fresh ~= 0 then redis.call('HSET', key, 'flags', bit.bor(seen, suspicions)) end
end
local new_odd = ''
if fast_at > 0 or reanchored_at > 0 or still_at > 0 or mismatches > 0 or new_votes > 0 then
    new_odd = fast_at .. ' ' .. reanchored_at .. ' ' .. still_at .. ' ' .. mismatches .. ' ' .. new_votes
end
if new_odd ~= odd_text then redis.call('HSET', key, 'odd', new_odd) end
if new_rival then redis.call('HSET', key, 'rival', new_rival) end
if new_candidate then redis.call('HSET', key, 'candidate', new_candidate) end
if code ~= STORED then
    if judged then redis.call('HSET', key, 'tat', due) end
    if new_clock then
        new_clock = new_clock .. (comparable and '1 ' or '0 ') .. (last_at and string.format('%d', last_taken - started) or '-')
        if new_clock ~= clock_text then redis.call('HSET', key, 'clock', new_clock) end
    end
    return {code, now, next_ms, seq, ttl, arriving, flags, fresh}
end

-- Step 14: the arrival, and the evidence for one. In a cell of the home's cover the
-- exact distance decides; and a long leg may have passed the fence between two
-- fixes. The field fence is the common prefix of its cells, and then the rest of each
-- cell, each after a comma. A guess says nothing about either.
if arriving == 0 and new_guess == 0 then
    local comma = string.find(fence, ',', 1, true)
    local near = string.find(fence, string.sub(cell, 1, comma - 1), 1, true) == 1
    if near then
        local length = (string.find(fence, ',', comma + 1, true) or #fence + 1) - comma - 1
        near = string.find(fence, ',' .. string.sub(cell, comma, comma + length - 1), comma, true)
    end
    local long = moved > LONG_LEG_M * 10
    if near or long then
        local home_lat, home_lng = string.match(to, '%a (%S+) (%S+)')
        local _, _, _, to_home = leg(lat, lng, 0, 0, home_lat, home_lng, 0, 0)
        if near and to_home <= RADIUS_M then
            arriving = 1
        elseif long and not reanchored and moved / 10 > to_home - RADIUS_M then
            -- geo.CrossesFence: on the plane that touches the sphere at the home
            -- great circles are straight lines.
            local sin_h, cos_h = math.sin(home_lat * RAD_PER_DEG), math.cos(home_lat * RAD_PER_DEG)
            local function gnomonic(p_lat, p_lng)
                local sin_p, cos_p = math.sin(p_lat * RAD_PER_DEG), math.cos(p_lat * RAD_PER_DEG)
                local sin_l, cos_l = math.sin((p_lng - home_lng) * RAD_PER_DEG), math.cos((p_lng - home_lng) * RAD_PER_DEG)
                local depth = sin_h * sin_p + cos_h * cos_p * cos_l
                if depth < MIN_DEPTH then return nil, nil end
                return cos_p * sin_l / depth, (cos_h * sin_p - sin_h * cos_p * cos_l) / depth
            end
            local ax, ay = gnomonic(last_lat, last_lng)
            local bx, by = gnomonic(lat, lng)
            if ax and bx then
                local dx, dy = bx - ax, by - ay
                local square, along = dx * dx + dy * dy, 0
                if square > 0 then along = min(1, max(0, -(ax * dx + ay * dy) / square)) end
                local x, y = ax + along * dx, ay + along * dy
                if EARTH_RADIUS_M * math.atan(math.sqrt(x * x + y * y)) <= RADIUS_M then arriving = 1 end
            end
        end
    end
    if arriving == 1 then redis.call('HDEL', key, 'fence') end
end
if proof_text ~= '' or mock or reanchored or not last_at then
    if (not last_at and not resumed) or reanchored or replaced then
        fixes, requests, outside, begun = 1, 1, 0, taken - started
    else
        if fixes < EVIDENCE_FIXES then fixes = fixes + 1 end
        if requests < EVIDENCE_REQUESTS and not continued then requests = requests + 1 end
    end
    if outside == 0 and new_guess == 0 then
        local home_lat, home_lng = string.match(to, '%a (%S+) (%S+)')
        local _, _, _, m = leg(lat, lng, 0, 0, home_lat, home_lng, 0, 0)
        if m <= RADIUS_M and guess > 0 and not reanchored then
            _, _, _, m = leg(last_lat, last_lng, 0, 0, home_lat, home_lng, 0, 0)
        end
        if m > RADIUS_M then outside, begun = 1, 0 end
    end
    local new_proof = ''
    if new_guess > 0 or fixes < EVIDENCE_FIXES or requests < EVIDENCE_REQUESTS or outside == 0 or mock then
        new_proof = string.format('%d %d %d %d %d %d', new_guess, fixes, requests, outside, begun, mock and 1 or 0)
    end
    if new_proof == '' then
        if proof_text ~= '' then redis.call('HDEL', key, 'proof') end
    elseif new_proof ~= proof_text then
        redis.call('HSET', key, 'proof', new_proof)
    end
end

-- Step 15: the writes, and the wake-up. A number that is a whole argument is
-- passed as a number: the server converts it in a fifth of the time that
-- string.format takes here. For a number inside a text, string.format takes
-- half the time of concatenation. The texts are concatenated, because one
-- format of seven values takes twice as long.
seq = seq < now and now or seq + 1
ttl = over_at - now
if ttl > LOCATION_TTL_MS then ttl = LOCATION_TTL_MS end
local seq_text = string.format('%d', seq)
local fix_text = lat .. ' ' .. lng .. ' ' .. accuracy .. (seq == now and ' 0 ' or string.format(' %d ', seq - now))
    .. recorded_text .. ' ' .. speed .. ' ' .. heading
redis.call('HSET', key, 'seq', seq_text, 'tat', due, 'fix', fix_text)
if new_anchor then
    anchor_text = string.format('%d %s %s %d - %d %d', taken - started, lat, lng, acc, pace, paced)
    redis.call('HSET', key, 'anchor', anchor_text)
end
redis.call('PEXPIRE', key, ttl)
local message = seq_text .. (arriving == 1 and ' 1 ' or ' 0 ') .. to .. ' ' .. fix_text .. ' ' .. anchor_text
if new_clock then
    if new_clock == '0 0 0 0 ' then
        redis.call('HDEL', key, 'clock')
    else
        redis.call('HSET', key, 'clock', new_clock .. string.format('1 %d', taken - started))
        message = message .. string.format(' %d', taken)
    end
end
if redis.call('SPUBLISH', channel, message) > 0 then arriving = arriving + 16 end
if new_guess == 0 and fixes >= EVIDENCE_FIXES and requests >= EVIDENCE_REQUESTS and not mock then arriving = arriving + 2 end
if taken < now - RATE_MS then arriving = arriving + 8 end
-- A refused or vague fix has moved tat only.
if seen_at then seen_at = now - min(now, max(seen_at, (h[4] or 0) - RATE_MS)) end
return struct.pack('<dddddddddc0', now, next_ms, seq, ttl, arriving + 4 * outside, flags, fresh, moved, seen_at or -1,
    new_clock and to .. ' ' .. new_clock or to)
