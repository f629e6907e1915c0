package scripts

import "doorstep/sessions"

// rights are the commands of the scripts and of the live read, as the user of a new
// connection must be allowed them (deploy/valkey/users.acl). They change nothing: the keys
// are nobody's, and HSET lacks a value, which the server says after it has looked at the
// rights.
func rights() [][]string {
	journey, meta := journeyKey(sessions.Ref{}), metaKey("")
	return [][]string{
		{"EVALSHA", "0000000000000000000000000000000000000000", "0"},
		{"EVAL", "return 1", "0"},
		{"HMGET", journey, "to"},
		{"HGET", journey, "to"},
		{"HSET", journey, "to", "1", "seq"},
		{"HDEL", journey, "to"},
		{"DEL", journey},
		{"PEXPIRE", journey, "1"},
		{"TIME"},
		{"SPUBLISH", liveChannel(sessions.Ref{}), "1"},
		{"HMGET", meta, "trainer"},
		{"HSET", meta, "trainer", "1", "student"},
		{"PEXPIRE", meta, "1"},
	}
}
