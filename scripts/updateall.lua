#!lua
-- updateall: judge the fixes of one request as update does, one after the other.
-- So a phone that was offline costs one round trip, whatever it has kept.
--
-- KEYS
--   1  location:trainer:{<trainerId>}:session:<sessionId>   hash, the journey
-- ARGV
--   1  channel         location:live:{<trainerId>}:<sessionId>
--   2  clock_ms        Unix ms, sent by tests; - for the store's own TIME
-- and for each fix, in the order in which they are judged, nine words: lat to
-- sent_ms, arguments 2 to 10 of update. This script adds 4 to marks once a fix of
-- the request has been stored.
-- RETURN {reply, …}
--   what update replies to each fix; a text where it was stored
--  error LAYOUT              as update
-- COMPLEXITY O(n) in the fixes; the gateway sends 75 at most

local WORDS, MARKS, CLOCK = 9, 8, 11

-- When scripts/store.go loads this script, the text of update.lua stands here. Until
-- then nothing uses the arguments.
local function update(KEYS, ARGV) -- luacheck: ignore 212
    --[[update.lua]]
end

local channel, clock = ARGV[1], ARGV[2] ~= '-' and ARGV[2] or nil
local replies, stored = {}, false
for first = 3, #ARGV, WORDS do
    local words = {channel, unpack(ARGV, first, first + WORDS - 1)}
    if stored then words[MARKS] = words[MARKS] + 4 end
    words[CLOCK] = clock
    local reply = update(KEYS, words)
    if type(reply) == 'string' then
        stored = true
    elseif reply.err then
        return reply
    end
    replies[#replies + 1] = reply
end
return replies
