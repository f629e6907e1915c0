// Package scripts is the live store on Valkey: the Lua files, one verb each, a Go
// wrapper for each, and Store, which is sessions.Live on them. Package valkeyconn
// has the connections.
//
// update.lua is what an update does. The header of each script lists its keys, its
// arguments with their units and every return code, and a test reads those headers.
//
// A journey is one hash, so every script has one KEY. With two keys a cluster
// answers TRYAGAIN while it moves their slot.
package scripts
