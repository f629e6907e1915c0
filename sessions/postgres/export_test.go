package postgres

// ClaimStatement is a claim's statement, to look at its plan.
var ClaimStatement = claimStatement
