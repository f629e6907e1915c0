// Package trace reads recorded journeys and makes up honest ones.
//
// The demo plays both through the HTTP API and the plausibility laboratory
// judges them, so they share the reader, the thinning and the generator here.
// What the project ships is generated: recordings belong to other people and
// are read from outside the repository.
//
// Everything is deterministic and does no I/O but on the reader it is given.
package trace
