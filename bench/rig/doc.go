// Package rig starts real gateway processes and plays callers against them, for
// the programs under bench: what a stranger could do with the binary, the API
// and /proc, and no more.
package rig
