package scripts

import "doorstep/sessions"

// The keys and the channel of docs/contract.md, section 2. The braces are the
// hash tag, so all keys of one trainer are in one slot. A sessions.ID is a
// canonical UUID, so nothing in it can close a brace. No key is built in Lua.

// journeyKey is the hash of one journey.
func journeyKey(ref sessions.Ref) string {
	return "location:trainer:{" + string(ref.TrainerID) + "}:session:" + string(ref.SessionID)
}

// liveChannel is the sharded channel on which the scripts publish a change.
func liveChannel(ref sessions.Ref) string {
	return "location:live:{" + string(ref.TrainerID) + "}:" + string(ref.SessionID)
}

// metaKey is the hash of a session's parties.
func metaKey(id sessions.ID) string { return "session:meta:" + string(id) }
