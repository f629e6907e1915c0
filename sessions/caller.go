package sessions

// Roles is a set of roles.
type Roles uint8

// RolesOf is the set of these roles.
func RolesOf(roles ...Role) (set Roles) {
	for _, r := range roles {
		set |= r.bit()
	}
	return set
}

func (r Role) bit() Roles {
	switch r {
	case Trainer:
		return 1
	case Student:
		return 2
	case Admin:
		return 4
	}
	return 0
}

// Caller is the user who sent a request. A token proves it; it is never taken
// from a body or a query. Each call asks for the role it needs, with Has, and acts in
// that role alone, with As: events and the history name one.
type Caller struct {
	ID   ID
	Role Role
	// Also are further roles of the user. Zero: Role alone.
	Also Roles
}

// CallerOf is a user with all these roles. It acts in the first one until a call
// chooses another. roles must not be empty.
func CallerOf(id ID, roles ...Role) Caller {
	return Caller{ID: id, Role: roles[0], Also: RolesOf(roles[1:]...) &^ roles[0].bit()}
}

// Has reports whether the user has the role.
func (c Caller) Has(r Role) bool { return c.Role == r || c.Also&r.bit() != 0 }

// As is the caller in one role alone; false where it does not have that role.
func (c Caller) As(r Role) (Caller, bool) {
	if !c.Has(r) {
		return Caller{}, false
	}
	return Caller{ID: c.ID, Role: r}, true
}

// Roles are all roles of the user, in the order trainer, student, admin.
func (c Caller) Roles() (list []Role) {
	for _, r := range []Role{Trainer, Student, Admin} {
		if c.Has(r) {
			list = append(list, r)
		}
	}
	return list
}
