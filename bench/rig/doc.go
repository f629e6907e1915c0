// Package rig starts real gateway processes and calls them, for the programs under
// bench. It uses the binary, the API and /proc, and nothing of the gateway's inside.
package rig
