package scripts

import "doorstep/sessions"

// The keys and the channel of CONTRACT section 2. The braces are the hash tag,
// literally: all of one trainer lies in one slot. A sessions.ID is a canonical
// UUID, so nothing in it can close a brace. No key is ever built in Lua.

// journeyKey is the hash of one journey.
func journeyKey(ref sessions.Ref) string {
	return "location:trainer:{" + string(ref.TrainerID) + "}:session:" + string(ref.SessionID)
}

// liveChannel is the sharded channel on which the scripts tell of a change.
func liveChannel(ref sessions.Ref) string {
	return "location:live:{" + string(ref.TrainerID) + "}:" + string(ref.SessionID)
}

// metaKey is the hash of a session's parties.
func metaKey(id sessions.ID) string { return "session:meta:" + string(id) }
