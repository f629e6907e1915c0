// Package scripts is all that runs inside Valkey and all that talks to it: the
// Lua files, one verb each, a wrapper for each, and Store, which is
// sessions.Live on them.
//
// A reader who wants to know what an update does reads update.lua; the header
// of each script lists its keys, its arguments with their units and every
// return code, and a test reads those headers.
//
// All of a journey is one hash, so every script has one KEY: with two, a
// cluster answers TRYAGAIN for as long as it moves the slot.
package scripts
