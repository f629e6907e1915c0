package postgres

// ClaimSQL is the statement, to look at its plan.
func (q *Queue) ClaimSQL() string { return q.claim }
