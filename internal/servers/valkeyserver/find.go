package valkeyserver

import "os/exec"

// Kind is the server's make. Both have the protocol and the commands that the
// scripts need, and the tests run on both.
type Kind string

// The kinds, in the order Find prefers them.
const (
	Valkey Kind = "valkey"
	Redis  Kind = "redis"
)

// Kinds lists all kinds, the preferred one first.
func Kinds() []Kind { return []Kind{Valkey, Redis} }

// Find looks on the PATH for a server, valkey-server before redis-server.
func Find() (path string, kind Kind, ok bool) {
	for _, kind := range Kinds() {
		if path, ok := kind.Find(); ok {
			return path, kind, true
		}
	}
	return "", "", false
}

// Find looks on the PATH for a server of this kind.
func (k Kind) Find() (path string, ok bool) {
	path, err := exec.LookPath(k.Program())
	return path, err == nil
}

// Program is the server's command name.
func (k Kind) Program() string { return string(k) + "-server" }
