package sessions

import "github.com/google/uuid"

// ID is a UUID in its canonical form: 36 characters, lower case, hyphens. Only
// ParseID and NewID make one, so an ID can stand in a key, a channel name or a
// hash tag without escaping. Comparable, and usable as a map key.
type ID string

// ParseID takes the canonical form in either case. Braces, "urn:uuid:" and
// bare hex, which the uuid package would also accept, are refused: the same id
// in two spellings would be two keys. Nil UUIDs are refused too.
func ParseID(s string) (ID, bool) {
	if len(s) != 36 {
		return "", false
	}
	u, err := uuid.Parse(s)
	if err != nil || u == uuid.Nil {
		return "", false
	}
	return ID(u.String()), true
}

// NewID makes a random (version 4) id.
func NewID() ID { return ID(uuid.NewString()) }
