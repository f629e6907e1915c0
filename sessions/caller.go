package sessions

// Role is what a caller's token says the caller is.
type Role string

// The roles a token can carry.
const (
	Trainer Role = "trainer"
	Student Role = "student"
	Admin   Role = "admin"
)

// Caller is who asks: proven by a token, never taken from a body or a query.
type Caller struct {
	ID   ID
	Role Role
}
